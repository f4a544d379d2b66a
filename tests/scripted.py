"""Fakes at the borders: a student that answers by rule, for tests of the loop around it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from errata.model.base import Answer, Weights


@dataclass
class Scripted:
    """Answers each prompt by `rule`; counts what it was asked."""

    rule: Callable[[str], str]
    name: str = "scripted"
    asked: list[str] = field(default_factory=list)
    loads: int = 0
    device: str = "cpu"

    @property
    def weights(self) -> Weights:
        return Weights(self.name)

    @property
    def fingerprint(self) -> str:
        return self.name

    def problems(self) -> list[str]:
        return []

    def with_weights(self, weights: Weights) -> "Scripted":
        return Scripted(self.rule, weights.base)

    def count_tokens(self, prompt: str, response: str) -> int:
        return len(prompt.split()) + len(response.split())

    def prompt_lengths(self, prompts: Sequence[str]) -> list[int]:
        return [len(prompt.split()) for prompt in prompts]

    def load(self) -> "Scripted":
        self.loads += 1
        return self

    def answer(self, prompts: Sequence[str], max_new_tokens: int) -> list[Answer]:
        self.asked += prompts
        texts = [self.rule(prompt) for prompt in prompts]
        return [Answer(text.removesuffix("..."), not text.endswith("...")) for text in texts]

    def unload(self) -> None:
        pass
