"""Every error the same: N problems each (LLMs-as-Instructors)."""

from collections.abc import Sequence
from dataclasses import dataclass

from errata.allocation.base import Allocation, Embed, Share
from errata.records import Attempt


@dataclass
class Uniform(Allocation):
    """N problems for each error."""

    def spend(self, errors: Sequence[Attempt], asked: Sequence[Attempt], each: int, embed: Embed, seed: int) -> list[Share]:
        """N for each."""
        return [Share(each, error.kind or "") for error in errors]
