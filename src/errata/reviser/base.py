"""The reviser protocol."""

from collections.abc import Sequence
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


class Reviser(Protocol):
    """Instruction pairs in, a `Revision` for each of them out, in their order."""

    asks: ClassVar[bool]
    """Whether it asks an instructor."""
    scores: ClassVar[bool]
    """Whether the run's model has to score pairs: its weights must be at hand."""

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
