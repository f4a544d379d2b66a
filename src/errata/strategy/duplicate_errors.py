"""A control for every strategy that asks: the errors themselves, with the benchmark's own answers, again and again.

What LE gains over it at equal training tokens is owed to the practice being new. Nobody is asked.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from errata.records import Attempt, Question
from errata.strategy.finetune import FineTune


@dataclass
class DuplicateErrors(FineTune):
    """The rows of the questions that were wrong; they come again until the training set is full."""

    name: str = "duplicate_errors"

    repeats: ClassVar[bool] = True

    def chosen(self, errors: Sequence[Attempt], questions: Sequence[Question]) -> list[Question]:
        """Those that were wrong."""
        return [error.question for error in errors]
