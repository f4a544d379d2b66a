"""The row fits in the training length: a cut row would lose its end token, and teach the student not to stop."""

from dataclasses import dataclass
from typing import ClassVar

from errata.gate.base import Check, Context
from errata.records import Example


@dataclass
class Length:
    """Rejects `too_long`: more tokens, template included, than `training.max_length`."""

    remembers: ClassVar[bool] = False

    def problems(self) -> list[str]:
        """Nothing can be wrong with it."""
        return []

    def open(self, context: Context) -> Check:
        """The check; it remembers nothing."""

        def check(row: Example) -> tuple[str, str] | None:
            length = context.count_tokens(row.prompt, row.response)
            return None if length <= context.max_length else ("too_long", f"{length} tokens, {context.max_length} allowed")

        return check
