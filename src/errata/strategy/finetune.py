"""Fine-tuning on the original training set: the paper's first baseline. Nobody is asked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from errata.dataset.base import Dataset
from errata.errors import DataError
from errata.records import Attempt, Example, Question
from errata.strategy.base import originals


@dataclass
class FineTune:
    """Every original training row, right or wrong.

    Attributes:
        name: what the report calls it.
    """

    name: str = "finetune"

    repeats: ClassVar[bool] = False

    def problems(self, datasets: Mapping[str, str]) -> list[str]:
        """Nothing can be wrong with it."""
        return []

    def rows(
        self, errors: Sequence[Attempt], questions: Sequence[Question], dataset: Dataset, iteration: int
    ) -> list[Example]:
        """The questions with the benchmark's own worked answers.

        Raises:
            DataError: the benchmark has none.
        """
        found = originals(self.chosen(errors, questions), dataset, iteration)
        if not found:
            raise DataError(f"strategy={self.name} trains on worked answers, and the records of {dataset.name} hold none")
        return found

    def chosen(self, errors: Sequence[Attempt], questions: Sequence[Question]) -> list[Question]:
        """Which questions."""
        return list(questions)
