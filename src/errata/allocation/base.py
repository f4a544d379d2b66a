"""The allocation protocol: N, and how a total of N problems an error is spent."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from errata.records import Attempt

Embed = Callable[[Sequence[str]], np.ndarray]
"""Texts to vectors of length 1."""


@dataclass(frozen=True)
class Share:
    """How many problems one error gets (0: it is not asked about), and the group it was counted to."""

    problems: int
    group: str = ""


@dataclass
class Allocation:
    """Base of the options.

    Attributes:
        rule: `paper`: N = ceil(sample size / errors) + 1 in every iteration (2, 6 and 14 for the paper's GSM8K, MMLU and
            MBPP errors), so N grows as errors vanish; `first`: the N of the first iteration throughout.
    """

    rule: str = "first"

    embeds: ClassVar[bool] = False
    """Whether it needs the errors' vectors."""

    def problems(self) -> list[str]:
        """A rule that does not exist."""
        return [] if self.rule in ("first", "paper") else [f"allocation.rule is {self.rule!r}: choose first or paper"]

    def each(self, sample_size: int, errors: int, first: int | None) -> int:
        """N, the problems an error gets on average; `first` is the N of the first iteration (None: this is it)."""
        if self.rule == "first" and first is not None:
            return first
        return math.ceil(sample_size / errors) + 1

    def fitted(self, errors: Sequence[Attempt]) -> "Allocation":
        """The same for what few errors are left."""
        return self

    def spend(self, errors: Sequence[Attempt], asked: Sequence[Attempt], each: int, embed: Embed, seed: int) -> list[Share]:
        """The share of each error, in their order; they add up to `each` times the errors.

        Args:
            errors: what is asked about.
            asked: every attempt that the errors come from, right and wrong.
            each: N.
            embed: vectors of question texts.
            seed: of whatever is drawn.

        Raises:
            DataError: the settings do not fit these errors.
        """
        raise NotImplementedError
