"""The gate protocol."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from errata.dataset.base import Dataset
from errata.records import Example, Question

Check = Callable[[Example], tuple[str, str] | None]
"""Given a row, the (reason, evidence) it is rejected for, or None. May remember the rows it has let through."""


@dataclass(frozen=True)
class Context:
    """What gates may look at.

    Attributes:
        dataset: the rows' dataset.
        train: its train questions (a row should not merely repeat one).
        tests: the test questions of every dataset of the run.
        earlier: rows kept in earlier iterations.
        count_tokens: length of a (prompt, response) row in the student's tokens.
        max_length: longest row that training takes, in tokens.
        embed: texts to vectors of length 1, where a gate's settings ask for that.
    """

    dataset: Dataset
    train: Sequence[Question]
    tests: Sequence[Question]
    earlier: Sequence[Example]
    count_tokens: Callable[[str, str], int]
    max_length: int
    embed: Callable[[Sequence[str]], np.ndarray] | None = None


class Gate(Protocol):
    """One check, with its settings."""

    remembers: bool
    """Whether a verdict depends on the rows before it."""

    def problems(self) -> list[str]:
        """What is wrong with the settings."""
        ...

    def open(self, context: Context) -> Check:
        """The check for one batch of rows, fed in order."""
        ...


class EachRow:
    """Base of gates that look at one row at a time, whatever came before it."""

    remembers: ClassVar[bool] = False

    def problems(self) -> list[str]:
        """Nothing can be wrong with it."""
        return []

    def check(self, row: Example, context: Context) -> tuple[str, str] | None:
        """The (reason, evidence) a row is rejected for, or None."""
        raise NotImplementedError

    def open(self, context: Context) -> Check:
        """The check; it remembers nothing."""
        return lambda row: self.check(row, context)


def words(text: str) -> list[str]:
    """Lower-case words and numbers, without punctuation: what texts are compared by."""
    return re.findall(r"\w+", text.lower())
