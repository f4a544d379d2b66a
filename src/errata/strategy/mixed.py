"""Several strategies in one run: each error goes to one of them, in stated shares."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random

from errata.cases import apportion
from errata.records import Attempt, Case, Request
from errata.strategy.auggpt import AugGPT
from errata.strategy.le import LE
from errata.strategy.lec import LEC

PARTS = {"le": LE, "le_informed": LE, "lec": LEC, "lec_informed": LEC, "auggpt": AugGPT}


@dataclass
class Mixed:
    """Parts of the requests by LE, parts by LEC ...

    Attributes:
        name: what the report calls it.
        shares: share of the errors that each strategy gets; they add up to 1.
        prompts_dir, structured: as in LE, for all parts.
    """

    name: str = "le_lec"
    shares: dict[str, float] = field(default_factory=dict)
    prompts_dir: str | None = None
    structured: bool = False

    @property
    def contrasts(self) -> bool:
        """Whether any part does."""
        return any(share and name in PARTS and PARTS[name].contrasts for name, share in self.shares.items())

    def problems(self, datasets: Mapping[str, str]) -> list[str]:
        """Shares that do not add up, strategies that cannot be mixed, prompts that are missing."""
        unknown = sorted(self.shares.keys() - PARTS.keys())
        found = [f"strategy.shares names {name!r}: choose of {', '.join(PARTS)}" for name in unknown]
        if not math.isclose(sum(self.shares.values()), 1, abs_tol=1e-6) or min(self.shares.values(), default=0) < 0:
            given = " + ".join(f"{share:g}" for share in self.shares.values() if share)
            found.append(
                f"strategy.shares: {given or 'nothing'} does not add up to 1; give each strategy a share from 0 to 1"
            )
        return found + [
            problem for name in sorted(PARTS) if self.shares.get(name) for problem in self._part(name).problems(datasets)
        ]

    def seeds(self, errors: Sequence[Attempt], successes: Sequence[Attempt], rng: Random) -> list[Attempt]:
        """Every error once."""
        return list(errors)

    def arranged(self, cases: Sequence[Case], rng: Random) -> list[Case]:
        """Each case given to a strategy; what does not contrast gets no neighbours."""
        counts = apportion(len(cases), list(self.shares.values()))
        deal = [name for name, count in zip(self.shares, counts, strict=True) for _ in range(count)]
        rng.shuffle(deal)
        return [
            replace(case, strategy=name)
            if PARTS[name].contrasts
            else replace(case, strategy=name, neighbours=(), similarities=())
            for case, name in zip(cases, deal, strict=True)
        ]

    def request(self, case: Case, layout: str) -> Request:
        """The request of the case's strategy."""
        return self._part(case.strategy or next(iter(self.shares))).request(case, layout)

    def _part(self, name: str) -> LE:
        return PARTS[name](name=name, prompts_dir=self.prompts_dir, structured=self.structured)
