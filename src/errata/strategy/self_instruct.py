"""In the manner of Self-Instruct (arXiv 2212.10560): a few random questions as examples, for more of their kind.

What the student got wrong plays no part: as many requests as there are errors, each with three random training questions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random

from errata.cases import exactly
from errata.records import Attempt, Case
from errata.strategy.le import LE


@dataclass
class SelfInstruct(LE):
    """Random questions, right or wrong.

    Attributes:
        examples: how many questions each request shows.
    """

    name: str = "self_instruct"
    examples: int = 3

    def problems(self, datasets: Mapping[str, str]) -> list[str]:
        """Prompt files that are missing, or nothing to show."""
        found = super().problems(datasets)
        if self.examples < 1:
            found.append(f"strategy.examples is {self.examples}: it must be at least 1")
        return found

    def seeds(self, errors: Sequence[Attempt], successes: Sequence[Attempt], rng: Random) -> list[Attempt]:
        """As many random questions as there are errors."""
        drawn = exactly(sorted([*errors, *successes], key=lambda attempt: attempt.id), len(errors), rng)
        return rng.sample(drawn, len(drawn))

    def arranged(self, cases: Sequence[Case], rng: Random) -> list[Case]:
        """Each beside other ones."""
        pool = list({case.error.id: case.error for case in cases}.values())
        return [
            replace(case, neighbours=tuple(one for one in near if one.id != case.error.id)[: self.examples - 1])
            for case in cases
            for near in [rng.sample(pool, min(self.examples, len(pool)))]
        ]
