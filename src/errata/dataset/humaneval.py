"""HumanEval: 164 functions to complete (github.com/openai/human-eval, MIT); for testing only.

A real item: `def has_close_elements(numbers: List[float], threshold: float) -> bool:` with the docstring "Check if in given
list of numbers, are any two numbers closer to each other than given threshold." and seven asserts.
"""

from dataclasses import dataclass

from errata.dataset.coding import Coding
from errata.record_files import Record
from errata.records import Question


@dataclass
class HumanEval(Coding):
    """HumanEval: fields `task_id`, `prompt`, `canonical_solution`, `test` (defines `check(candidate)`) and `entry_point`."""

    @property
    def known_fields(self) -> tuple[str, ...]:
        """The required fields, the id and the solution."""
        return (*self.required, "task_id", "canonical_solution")

    def question(self, record: Record, place: str, name: str, split: str) -> Question:
        """The gold is the prompt with the canonical solution behind it."""
        body = record.get("canonical_solution")
        return self._question(record, place, name, split, f"{record['prompt']}{body}" if body else "")
