"""The model protocol."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self


@dataclass(frozen=True)
class Answer:
    """What a model said; `finished` is false when it was cut before its end token."""

    text: str
    finished: bool


@dataclass(frozen=True)
class Weights:
    """Where a model's weights are: a folder or hub id, and an adapter folder on top of it, if any."""

    base: str
    adapter: str | None = None


class Model(Protocol):
    """A student. Cheap to make; nothing heavy happens before `load`."""

    device: str

    @property
    def weights(self) -> Weights:
        """Base and adapter, local and complete (a first use may convert or fetch them)."""
        ...

    @property
    def fingerprint(self) -> str:
        """Hash of the weights and the tokenizer: two models with one fingerprint give the same answers."""
        ...

    def problems(self) -> list[str]:
        """What is wrong with the settings or the folder, found without loading any weights."""
        ...

    def with_weights(self, weights: Weights) -> "Model":
        """The same kind of model with other weights, as training leaves them."""
        ...

    def count_tokens(self, prompt: str, response: str) -> int:
        """Length in tokens of a training row: template, prompt, response and end token."""
        ...

    def prompt_lengths(self, prompts: Sequence[str]) -> list[int]:
        """Length in tokens of each prompt in the template."""
        ...

    def load(self) -> Self:
        """Put the weights in memory."""
        ...

    def answer(self, prompts: Sequence[str], max_new_tokens: int) -> list[Answer]:
        """Greedy answers to one batch of prompts, in their order. `load` first."""
        ...

    def unload(self) -> None:
        """Give the memory back."""
        ...


def fingerprint_folder(folder: Path) -> str:
    """Hash of a model folder: small files whole; of a weight file its size, first and last MiB."""
    from errata.run_folder import digest

    parts = []
    for path in sorted(folder.iterdir()):
        if not path.is_file() or path.suffix not in _HASHED_SUFFIXES:
            continue
        size = path.stat().st_size
        with path.open("rb") as file:
            content = file.read(1 << 20)
            if size > 2 << 20:
                file.seek(-(1 << 20), 2)
            content += file.read()
        parts.append([path.name, size, digest(content)])
    return digest(parts)


_HASHED_SUFFIXES = (".json", ".safetensors", ".bin", ".jinja", ".model", ".txt", ".gguf")
