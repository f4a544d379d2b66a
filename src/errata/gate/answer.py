"""The answer is the one that the row's own worked lines compute, and each of those holds (the dataset recomputes them)."""

from dataclasses import dataclass
from typing import ClassVar

from errata.gate.base import Check, Context
from errata.records import Example


@dataclass
class Answer:
    """Rejects `wrong_sum`, `answer_mismatch` and, where the dataset asks for worked lines, `no_worked_line`."""

    remembers: ClassVar[bool] = False

    def problems(self) -> list[str]:
        """Nothing can be wrong with it."""
        return []

    def open(self, context: Context) -> Check:
        """The check; it remembers nothing."""

        def check(row: Example) -> tuple[str, str] | None:
            return context.dataset.check(row.response, row.answer)

        return check
