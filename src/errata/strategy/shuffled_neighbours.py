"""A control for LEC: each error stands beside the neighbours of another one.

What LEC gains over it is owed to nearness; what both gain over LE, to any right questions being shown.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

from errata.records import Case
from errata.strategy.lec import LEC


@dataclass
class ShuffledNeighbours(LEC):
    """LEC with the neighbours dealt out anew; its prompts are LEC's own."""

    def arranged(self, cases: Sequence[Case], rng: Random) -> list[Case]:
        """No case keeps its own neighbours, where there is more than one."""
        places = list(range(len(cases)))
        rng.shuffle(places)
        turned = dict(zip(places, places[1:] + places[:1], strict=True))  # one cycle through them all
        return [
            replace(case, neighbours=cases[turned[place]].neighbours, similarities=cases[turned[place]].similarities)
            for place, case in enumerate(cases)
        ]
