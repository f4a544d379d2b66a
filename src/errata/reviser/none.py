"""No reviser: every pair goes on as it is. `errata revise reviser=none` builds a mixture and nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass

from errata.records import Pair, Revision
from errata.reviser.base import KEPT, AsksNobody, Desk


@dataclass
class Unrevised(AsksNobody):
    """Keeps everything."""

    def revise(self, pairs: Sequence[Pair], desk: Desk) -> list[Revision]:
        """Each pair, kept."""
        return [Revision(pair.id, pair, pair, KEPT, "no_reviser") for pair in pairs]
