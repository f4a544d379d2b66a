"""The judge protocol."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from errata.records import Judgement, Pair, Reply, Request


@dataclass(frozen=True)
class Item:
    """One item of a test set with the answers to it.

    Attributes:
        question: the instruction and its input; `output` is the reference answer, where there is one; `source` is the test
            set, `skill` the kind of task.
        answer: what is judged.
        against: what it is compared with, or rated beside it; None where there is no second answer.
        against_question: what `against` answers, where that is another question (the original of a revised pair).
        left_out: why it will not be judged ("": it will).
    """

    question: Pair
    answer: str
    against: str | None = None
    against_question: Pair | None = None
    left_out: str = ""


class Judge(Protocol):
    """How answers are judged: what is asked about an item, and what is read from the replies."""

    asks: bool
    """Whether it asks an instructor; one that does not gets no replies."""
    compares: bool
    """Whether an item needs a second answer."""

    def problems(self) -> list[str]:
        """What is wrong with the settings or the files, found before anything is loaded or paid."""
        ...

    def requests(self, item: Item) -> list[Request]:
        """What is asked about an item (a comparison asks both orders); `dataset` is the test set, `error_id` the item."""
        ...

    def judgement(self, item: Item, replies: Sequence[Reply]) -> Judgement:
        """What the replies (in the requests' order) say; without a readable verdict, the reason, counted."""
        ...

    def summary(self, judgements: Sequence[Judgement]) -> dict[str, object]:
        """The figures: by test set (or kind of task) and over all, as plain values for JSON and the tables."""
        ...


def shown(pair: Pair) -> str:
    """What was asked, as a judge reads it: the last turn, behind the turns before it, where there are any."""
    if not pair.history:
        return pair.prompt
    turns = [f"User: {asked}\n\nAssistant: {answered}" for asked, answered in pair.history]
    return "\n\n".join([*turns, f"User: {pair.prompt}"])
