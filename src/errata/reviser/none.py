"""No reviser: every pair goes on as it is. `errata revise reviser=none` builds a mixture and nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from errata.records import Pair, Request, Revision
from errata.reviser.base import KEPT, Desk


@dataclass
class Unrevised:
    """Keeps everything."""

    asks: ClassVar[bool] = False
    scores: ClassVar[bool] = False
    embeds: ClassVar[bool] = False

    def problems(self) -> list[str]:
        """Nothing can be wrong with it."""
        return []

    def expected(self, pairs: Sequence[Pair]) -> list[Request]:
        """Nobody is asked."""
        return []

    def revise(self, pairs: Sequence[Pair], desk: Desk) -> list[Revision]:
        """Each pair, kept."""
        return [Revision(pair.id, pair, pair, KEPT, "no_reviser") for pair in pairs]
