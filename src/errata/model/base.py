"""The model protocol."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

from errata.records import TOO_LONG, Prompt
from errata.weights import Weights

__all__ = ["NO_RESPONSE", "TOO_LONG", "Answer", "AnswersOnly", "Model", "Weights"]
NO_RESPONSE = "no_response"


@dataclass(frozen=True)
class Answer:
    """What a model said.

    Attributes:
        text: the response, without the end token, the stop string and what follows it, and without the prompt's prefill.
        finished: false when it was cut at `max_new_tokens`.
        failure: why there is no response: TOO_LONG (the prompt and the new tokens do not fit the context; nothing was
            generated), NO_RESPONSE (recorded answers hold none for this question), or an endpoint's error in words.
        tokens: how many tokens were generated, the end token included (0: unknown).
    """

    text: str
    finished: bool
    failure: str | None = None
    tokens: int = 0


class Model(Protocol):
    """A student. Cheap to make; nothing heavy happens before `load`."""

    trains: bool
    """Whether it can be trained here: its weights are at hand."""
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

    def load(self) -> Self:
        """Put the weights in memory."""
        ...

    def answers(
        self, prompts: Sequence[Prompt], max_new_tokens: int, stop: Sequence[str] = ()
    ) -> Iterator[tuple[int, Answer]]:
        """Greedy answers, each as soon as it is finished, as (place in `prompts`, answer); every place comes once.

        A response ends at the end token of the model's chat template or before the first of the `stop` strings. The
        model schedules its own batches: give it everything that is to be answered. `load` first.
        """
        ...

    def unload(self) -> None:
        """Give the memory back."""
        ...


class AnswersOnly:
    """Base of the students whose weights are out of reach: they can be evaluated, not trained."""

    trains = False
    device = "cpu"

    @property
    def weights(self) -> Weights:
        """There are none here."""
        raise TypeError(f"{type(self).__name__} has no weights here")

    def with_weights(self, weights: Weights) -> Model:
        """It cannot take any."""
        raise TypeError(f"{type(self).__name__} takes no weights")

    def count_tokens(self, prompt: str, response: str) -> int:
        """About: it has no tokenizer here, so a token is taken for four characters."""
        return (len(prompt) + len(response)) // 4 + 8

    def load(self) -> Self:
        """Nothing to load."""
        return self

    def unload(self) -> None:
        """Nothing to give back."""
