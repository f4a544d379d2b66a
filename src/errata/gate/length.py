"""The row fits in the training length: a cut row would lose its end token, and teach the student not to stop."""

from dataclasses import dataclass

from errata.gate.base import Context, EachRow
from errata.records import Example


@dataclass
class Length(EachRow):
    """Rejects `too_long`: more tokens, template included, than `training.max_length`."""

    def check(self, row: Example, context: Context) -> tuple[str, str] | None:
        """Its length against the limit."""
        length = context.count_tokens(row.prompt, row.response)
        return None if length <= context.max_length else ("too_long", f"{length} tokens, {context.max_length} allowed")
