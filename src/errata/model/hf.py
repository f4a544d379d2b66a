"""Any causal language model that transformers can load: a folder, a hub id or a GGUF file, maybe with an adapter."""

import gc
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from errata.chat import ChatTemplateError, end_token_id, prompt_ids, response_ids
from errata.digests import digest, fingerprint_folder
from errata.errors import ConfigError
from errata.identity import neutral
from errata.model.base import TOO_LONG, Answer, Weights
from errata.model.folder import attention_problems, code_problems, folder_problems, gguf_problems, has_template
from errata.places import no_hub_id
from errata.records import Prompt
from errata.weights import apply_adapter, load_network, load_tokenizer, no_template, template_text

_CACHE_SHARE = {"cpu": 0.25, "cuda": 0.6}  # of the free memory, for keys and values
_MOST_TOKENS = {"cpu": 1 << 17, "cuda": 1 << 21}
log = logging.getLogger("errata")


@dataclass
class HF:
    """A transformers model.

    Attributes:
        path: a folder with weights, tokenizer and chat template, a hub id (`org/name`), or a `.gguf` file.
        adapter: a PEFT adapter folder on top of it.
        dtype: `auto` takes bfloat16 on a GPU that has it and float32 elsewhere.
        device: `auto` takes every GPU there is, or the CPU; or one (`cuda:1`), or several (`cuda:0,cuda:1`), each of which
            then answers its share of the questions in a process of its own.
        stop_tokens: tokens that end a response, beside the end token of the chat template and the tokenizer's own.
        token_budget: how many tokens the cache of keys and values may hold (None: as many as a share of the free memory).
        revision, remote_code, gguf, template, system, attention: see `Weights`.
    """

    path: str = "???"
    adapter: str | None = None
    dtype: str = field(default="auto")
    device: str = neutral("auto")
    token_budget: int | None = neutral(None)
    stop_tokens: list[str] = field(default_factory=list)
    revision: str | None = None
    remote_code: bool = False
    gguf: str | None = None
    template: str | None = None
    system: str | None = None
    attention: str | None = None

    trains = True

    def __post_init__(self) -> None:
        self._model: Any = None

    @property
    def weights(self) -> Weights:
        """Where they are, and how they are to be read."""
        base, gguf = self.path, self.gguf
        if self._is_local:
            place = Path(self.path).expanduser()
            base, gguf = (str(place.parent), place.name) if _is_gguf(place) else (str(place), gguf)
        return self._weights(base, gguf)

    def _weights(self, base: str, gguf: str | None = None) -> Weights:
        return Weights(
            base, self._adapter, self.revision, self.remote_code, gguf, self.template, self.system, self.attention
        )  # fmt: skip

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the folder's files (for a hub id: the id), of the adapter's, and of what is said around a question."""
        weights = self.weights
        place = Path(weights.base)
        base = weights.base
        if self._is_local:
            base = fingerprint_folder(place) if weights.gguf is None else _fingerprint_file(place / weights.gguf)
        elif weights.gguf is not None:
            base = f"{base}/{weights.gguf}"
        base += f"@{self.revision}" if self.revision is not None else ""
        if self.template is not None or self.system is not None:
            base += f"+{digest([self.template and template_text(self.template), self.system])}"
        return base if weights.adapter is None else f"{base}+{fingerprint_folder(Path(weights.adapter))}"

    def problems(self) -> list[str]:
        """What is wrong with the folder (absent, without weights, a tokenizer or a template) or with a setting."""
        found = self._adapter_problems() + self._setting_problems()
        if not self._is_local:
            if why := no_hub_id(self.path):
                found.append(f"model.path is {self.path!r}: no such folder or GGUF file, {why}")
            return found + self._template_problems()
        if self.revision is not None:
            found.append(f"model.revision is {self.revision!r}: {self.path} is a local folder, which has one version only")
        weights = self.weights
        folder = Path(weights.base)
        broken = folder_problems(folder) if weights.gguf is None else gguf_problems(folder / weights.gguf)
        if not broken and weights.gguf is None:
            if self.template is None and not has_template(folder):
                broken = [no_template(str(folder))]
            broken += code_problems(folder, self.remote_code)
        return found + (broken or self._reading_problems())

    def on_one_device(self) -> "HF":
        """The same model where there is one device; else one of its own on the first of them."""
        return self if len(self._devices) == 1 else replace(self, device=self._devices[0])

    def with_weights(self, weights: Weights) -> "HF":
        """A model of the same settings on other weights."""
        read = asdict(weights)
        kept = {item.name: getattr(self, item.name) for item in fields(HF)}
        return HF(**kept | {"path": read.pop("base")} | read)

    def count_tokens(self, prompt: str, response: str) -> int:
        """Length of a training row."""
        return len(prompt_ids(self.tokenizer, prompt, self.system)) + len(response_ids(self.tokenizer, response))

    @cached_property
    def tokenizer(self) -> Any:
        """The model's tokenizer with the template that is asked for, padding on the left.

        Raises:
            ConfigError: it cannot be loaded, or has no chat template.
        """
        tokenizer = load_tokenizer(self.weights)
        tokenizer.padding_side = "left"
        return tokenizer

    @property
    def network(self) -> Any:
        """The transformers model, once it is loaded."""
        return self._model

    def load(self) -> Self:
        """Put weights and adapter in memory, on the device."""
        import torch
        from transformers import GenerationConfig
        from transformers.utils import logging as transformers_logging

        from errata.packed import pack

        transformers_logging.disable_progress_bar()
        if self._model is not None or len(self._devices) > 1:
            return self
        (device,) = self._devices
        fast = device.startswith("cuda") and torch.cuda.is_bf16_supported()
        dtype = getattr(torch, self.dtype) if self.dtype != "auto" else torch.bfloat16 if fast else torch.float32
        model = load_network(self.weights, dtype)
        model.generation_config = GenerationConfig()  # greedy means greedy: no penalties of the model's own
        if self._adapter is not None:
            model = apply_adapter(model, self._adapter)
            model.generation_config = GenerationConfig()
        self._model = model.to(device).eval()
        pack(self._model)
        return self

    def answers(
        self, prompts: Sequence[Prompt], max_new_tokens: int, stop: Sequence[str] = ()
    ) -> Iterator[tuple[int, Answer]]:
        """Greedy answers as they are finished; a prompt that leaves no room for a token in the context is TOO_LONG."""
        if len(self._devices) > 1:
            from errata.model.parallel import answer_on

            yield from answer_on(self, self._devices, prompts, max_new_tokens, stop)
            return
        yield from self.complete([self._prompt_ids(prompt) for prompt in prompts], max_new_tokens, stop)

    def complete(
        self, ids: Sequence[Sequence[int]], max_new_tokens: int, stop: Sequence[str] = ()
    ) -> Iterator[tuple[int, Answer]]:
        """Like `answers`, from token ids as they are, without a chat template; on one device."""
        from errata.model.decoding import context_of

        context = context_of(self._model)
        fitting = [place for place, prompt in enumerate(ids) if context is None or len(prompt) < context]
        for place in sorted(set(range(len(ids))) - set(fitting)):
            yield place, Answer("", False, TOO_LONG)
        for tokens, place, stopped in self._generated(ids, fitting, max_new_tokens, stop):
            yield place, self._answer(tokens, stopped, stop)

    def _generated(
        self, ids: Sequence[Sequence[int]], places: Sequence[int], max_new_tokens: int, stop: Sequence[str]
    ) -> Iterator[tuple[list[int], int, bool]]:
        """(Tokens, place, whether it was stopped) of each prompt; a GPU out of memory is asked for less at once."""
        import torch

        from errata.model.decoding import decode, generate_plainly, supported

        ends = self._ends(stop) if stop else None
        generate, budget, pending = generate_plainly, 0, list(places)
        if supported(self._model):
            generate, budget = decode, self.token_budget or self._affordable()
        while pending:
            try:
                waiting = [ids[place] for place in pending]
                done: set[int] = set()
                for row in generate(self._model, waiting, max_new_tokens, self._stops, budget, ends):
                    done.add(pending[row.place])
                    yield row.tokens, pending[row.place], row.stopped
                return
            except torch.OutOfMemoryError:
                pending = [place for place in pending if place not in done]
                budget //= 2
                if budget < len(min(waiting, key=len)):
                    raise ConfigError(
                        [f"model {self.path}: not enough memory on {self._devices[0]} for one question at a time"]
                    ) from None
                log.warning("out of memory on %s: going on with token_budget=%d", self._devices[0], budget)
            torch.cuda.empty_cache()

    def _prompt_ids(self, prompt: Prompt) -> list[int]:
        prefill = self.tokenizer(prompt.prefill, add_special_tokens=False)["input_ids"] if prompt.prefill else []
        return [*prompt_ids(self.tokenizer, prompt.user, self.system, prompt.history), *prefill]

    def _answer(self, tokens: list[int], stopped: bool, stop: Sequence[str]) -> Answer:
        text: str = self.tokenizer.decode(tokens, skip_special_tokens=True)
        cuts = [text.index(word) for word in stop if word in text]
        return Answer(text[: min(cuts)] if cuts else text, stopped, tokens=len(tokens) + (stopped and not cuts))

    def _ends(self, stop: Sequence[str]) -> Callable[[list[int]], bool]:
        """Whether a row's newest tokens complete a stop string; a token is at least a byte, so few need be decoded."""
        tail = max(len(word.encode()) for word in stop) + 4

        def ends(tokens: list[int]) -> bool:
            text = self.tokenizer.decode(tokens[-tail:], skip_special_tokens=True)
            return any(word in text for word in stop)

        return ends

    def _affordable(self) -> int:
        """Tokens whose keys and values take a share of the available memory (the system's file cache gives way)."""
        import psutil
        import torch

        from errata.model.decoding import bytes_per_token

        device = self._model.device
        kind = device.type
        free = torch.cuda.mem_get_info(device)[0] if kind == "cuda" else psutil.virtual_memory().available
        tokens = int(_CACHE_SHARE.get(kind, 0.25) * free) // bytes_per_token(self._model)
        return max(1024, min(tokens, _MOST_TOKENS.get(kind, 1 << 17)))

    @cached_property
    def _devices(self) -> list[str]:
        import torch

        if self.device != "auto":
            return [name.strip() for name in self.device.split(",")]
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        return [f"cuda:{number}" for number in range(count)] if count > 1 else ["cuda" if count else "cpu"]

    def unload(self) -> None:
        """Drop the weights."""
        if self._model is None:
            return
        import torch

        self._model = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()  # the training process needs it

    @cached_property
    def _stops(self) -> set[int]:
        extra = {self.tokenizer.convert_tokens_to_ids(token) for token in self.stop_tokens}
        return {end_token_id(self.tokenizer)} | ({self.tokenizer.eos_token_id} - {None}) | extra

    def _setting_problems(self) -> list[str]:
        """What is wrong with the settings by themselves."""
        found = []
        if self.dtype not in ("auto", "float32", "bfloat16", "float16"):
            found.append(f"model.dtype is {self.dtype!r}: choose auto, float32, bfloat16 or float16")
        if self.token_budget is not None and self.token_budget < 1:
            found.append(
                f"model.token_budget is {self.token_budget}: it must be at least 1, or null for a share of the memory"
            )
        if self.gguf is not None and _is_gguf(Path(self.path).expanduser()):
            found.append(f"model.gguf is {self.gguf!r}, but model.path is a GGUF file already: leave one of them out")
        if self.remote_code and self.weights.gguf is not None:
            found.append("model.remote_code is true: a GGUF file brings no code; leave it out")
        return found

    def _template_problems(self) -> list[str]:
        try:
            if self.template is not None:
                template_text(self.template)
        except ChatTemplateError as error:
            return [str(error)]
        return []

    def _reading_problems(self) -> list[str]:
        """What the tokenizer and the architecture cannot do of what is asked; they are looked at only when it is asked."""
        try:
            if self.template is not None or self.system is not None or self.stop_tokens:
                _ = self.tokenizer  # for its errors
        except ConfigError as error:
            return list(error.problems)
        return self._stop_problems() + self._attention_problems()

    def _stop_problems(self) -> list[str]:
        if not self.stop_tokens:
            return []
        known = self.tokenizer.get_vocab()
        lacking = [token for token in self.stop_tokens if token not in known]
        special = ", ".join(self.tokenizer.all_special_tokens)
        return [
            f"model.stop_tokens: the tokenizer has no token {token!r}; its special ones are {special}" for token in lacking
        ]

    def _attention_problems(self) -> list[str]:
        """Whether the architecture can compute attention so, asked of a model without weights."""
        if self.attention is None or self.weights.gguf is not None or self.remote_code:
            return []
        if self.attention.startswith("flash_attention") and not all(name.startswith("cuda") for name in self._devices):
            return [f"model.attention is {self.attention!r}: it needs a GPU, and model.device is {self.device}"]
        return attention_problems(self.weights.base, self.attention)

    @property
    def _adapter(self) -> str | None:
        return None if self.adapter is None else str(Path(self.adapter).expanduser())

    def _adapter_problems(self) -> list[str]:
        if self.adapter is None or (Path(self.adapter).expanduser() / "adapter_config.json").is_file():
            return []
        return [f"model.adapter is {self.adapter!r}: no PEFT adapter folder there (it holds an adapter_config.json)"]

    @property
    def _is_local(self) -> bool:
        return Path(self.path).expanduser().exists()


def _is_gguf(path: Path) -> bool:
    return path.suffix == ".gguf" and path.is_file()


def _fingerprint_file(path: Path) -> str:
    """Hash of a weight file's size, first and last MiB."""
    with path.open("rb") as file:
        content = file.read(1 << 20)
        file.seek(max(0, path.stat().st_size - (1 << 20)))
        return digest([path.stat().st_size, digest(content + file.read())])
