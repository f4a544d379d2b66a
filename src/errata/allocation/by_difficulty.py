"""More for what the student finds hard: an error counts by the share of wrong answers among the questions nearest to it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from errata.allocation.base import Allocation, Embed, Share
from errata.cases import apportion
from errata.records import Attempt


@dataclass
class ByDifficulty(Allocation):
    """Problems in proportion to the local rate of errors.

    Attributes:
        nearest: how many of the nearest questions, itself among them, say how hard a question is.
        steps: into how many steps, of equal width, the rate is grouped for the report.
    """

    nearest: int = 10
    steps: int = 4

    embeds: ClassVar[bool] = True

    def problems(self) -> list[str]:
        """A neighbourhood without neighbours, or no steps."""
        found = super().problems()
        if self.nearest < 2:
            found.append(f"allocation.nearest is {self.nearest}: it must be at least 2")
        if self.steps < 1:
            found.append(f"allocation.steps is {self.steps}: it must be at least 1")
        return found

    def spend(self, errors: Sequence[Attempt], asked: Sequence[Attempt], each: int, embed: Embed, seed: int) -> list[Share]:
        """In proportion to the rate of wrong answers nearby."""
        import faiss

        pool = embed([attempt.question.text for attempt in asked])
        questions = embed([error.question.text for error in errors])
        _, places = faiss.knn(questions, pool, min(self.nearest, len(asked)), metric=faiss.METRIC_INNER_PRODUCT)
        wrong = np.array([not attempt.correct for attempt in asked], float)
        rates = [float(wrong[near].mean()) for near in places]
        parts = apportion(each * len(errors), [max(rate, 1 / self.nearest) for rate in rates])
        named = [min(self.steps - 1, int(rate * self.steps)) for rate in rates]
        return [
            Share(problems, f"{100 * step // self.steps}-{100 * (step + 1) // self.steps} % wrong nearby")
            for problems, step in zip(parts, named, strict=True)
        ]
