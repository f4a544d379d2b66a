"""The answer is the one that the row's own worked lines compute, and each of those holds (the dataset recomputes them)."""

from dataclasses import dataclass

from errata.gate.base import Context, EachRow
from errata.records import Example


@dataclass
class Answer(EachRow):
    """Rejects `wrong_sum`, `answer_mismatch` and, where the dataset asks for worked lines, `no_worked_line`."""

    def check(self, row: Example, context: Context) -> tuple[str, str] | None:
        """What the dataset finds when it works the answer out again."""
        return context.dataset.check(row.response, row.answer)
