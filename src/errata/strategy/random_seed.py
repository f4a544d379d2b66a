"""A control for LE: a question that the student got right stands in the place of each error.

As many requests, of the same form, for as many problems: what LE gains over it is owed to the errors.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from errata.cases import exactly
from errata.records import Attempt
from errata.strategy.le import LE


@dataclass
class RandomSeed(LE):
    """Practice for what is right already."""

    name: str = "random_seed"

    def seeds(self, errors: Sequence[Attempt], successes: Sequence[Attempt], rng: Random) -> list[Attempt]:
        """As many successes as there are errors, drawn without repeating one before all have come."""
        return exactly(successes, len(errors), rng)
