"""The reviser protocol."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np

from errata.model.base import Answer, Model
from errata.records import Likelihoods, Pair, Prompt, Reply, Request, Revision

REVISED, KEPT, DROPPED = "revised", "kept", "dropped"


class Desk(Protocol):
    """What a reviser works with. Each call is a stage of the run, `name`: continued after a kill, skipped when done."""

    @property
    def model(self) -> Model:
        """The model of the run: the student that scores."""
        ...

    @property
    def seed(self) -> int:
        """The run's."""
        ...

    def ask(self, name: str, requests: Sequence[Request]) -> list[Reply]:
        """The instructor's replies, in the requests' order, through the ledger and within the budget."""
        ...

    def answer(self, name: str, model: Model, prompts: Sequence[Prompt], max_new_tokens: int) -> list[Answer]:
        """A model's greedy answers, in the prompts' order."""
        ...

    def score(self, name: str, pairs: Sequence[Pair], ifd: bool, rifd: bool) -> list[Likelihoods]:
        """What the scorer (the run's model) makes of the pairs: the losses that the asked ratios need."""
        ...

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """The texts' vectors (number of texts, dimension), float32, each of length 1."""
        ...

    def relies_on(self, name: str, files: Sequence[Path]) -> None:
        """Files that decide what becomes of the pairs: with other content in them the revisions are made anew."""
        ...


class Reviser(Protocol):
    """Instruction pairs in, a `Revision` for each of them out, in their order."""

    asks: ClassVar[bool]
    """Whether it asks an instructor."""

    @property
    def scores(self) -> bool:
        """Whether the run's model has to score pairs: its weights must be at hand."""
        ...

    @property
    def embeds(self) -> bool:
        """Whether it needs vectors."""
        ...

    def problems(self) -> list[str]:
        """What is wrong with the settings or the files, found before anything is loaded or paid."""
        ...

    def expected(self, pairs: Sequence[Pair]) -> list[Request]:
        """Requests like those that will be made, at most, for the price in the plan; empty where nobody is asked."""
        ...

    def revise(self, pairs: Sequence[Pair], desk: Desk) -> list[Revision]:
        """A revision of each pair; what is not revised whole is kept whole (or dropped), with the reason."""
        ...


class AsksNobody:
    """Base of revisers that need no instructor, and of themselves no scores and no vectors."""

    asks: ClassVar[bool] = False

    @property
    def scores(self) -> bool:
        """Nothing is scored."""
        return False

    @property
    def embeds(self) -> bool:
        """Nothing is embedded."""
        return False

    def problems(self) -> list[str]:
        """Nothing can be wrong with it."""
        return []

    def expected(self, pairs: Sequence[Pair]) -> list[Request]:
        """Nobody is asked."""
        return []


class EachPair(AsksNobody):
    """Base of revisers that need to see one pair at a time."""

    def revised(self, pair: Pair) -> Pair:
        """The pair as it goes on; the same where nothing is to be done."""
        raise NotImplementedError

    def revise(self, pairs: Sequence[Pair], desk: Desk) -> list[Revision]:
        """Each pair as `revised` has it; one that it leaves as it was is kept, as `unchanged`."""
        made = [(pair, self.revised(pair)) for pair in pairs]
        return [
            Revision(old.id, old, new, REVISED) if new != old else Revision(old.id, old, old, KEPT, "unchanged")
            for old, new in made
        ]
