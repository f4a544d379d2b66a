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
        against: what it is compared with ("" where a judge rates answers by themselves).
    """

    question: Pair
    answer: str
    against: str = ""


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
