"""Fakes at the borders: a student that answers by rule, for tests of the loop around it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from errata.model.base import Answer, Weights
from errata.records import Prompt


@dataclass
class Scripted:
    """Answers each prompt by `rule`, cut where the rule's answer ends in `...`; counts what it was asked."""

    rule: Callable[[str], str]
    name: str = "scripted"
    asked: list[str] = field(default_factory=list)
    loads: int = 0
    device: str = "cpu"
    trains: bool = True

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

    def load(self) -> "Scripted":
        self.loads += 1
        return self

    def answers(
        self, prompts: Sequence[Prompt], max_new_tokens: int, stop: Sequence[str] = ()
    ) -> Iterator[tuple[int, Answer]]:
        for place, prompt in enumerate(prompts):
            self.asked.append(prompt.user)
            text = self.rule(prompt.user)
            yield place, Answer(text.removesuffix("..."), not text.endswith("..."))

    def unload(self) -> None:
        pass
