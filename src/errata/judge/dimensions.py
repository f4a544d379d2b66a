"""The dimensions of a rubric, what a reply says of them, and the one score that follows.

The rule is ours, with the caps of CoachLM's technical report: the levels are gone through from the most serious on, and
the first level in which a dimension stays below the top of its range decides, with its lowest dimension. So an unsafe
response gets at most 40, one with a basic flaw at most 80, a flawless but bare one what its richness deserves (80 to 90),
and only then does the human tone count (90 to 100).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from errata.judge.reading import rating

INSTRUCTION, RESPONSE = "instruction", "response"
LEVELS = ("red line", "basic", "advanced")


@dataclass(frozen=True)
class Dimension:
    """One thing that is looked at.

    Attributes:
        side: `instruction` or `response`.
        name: as the judge shall write it.
        level: `red line`, `basic` or `advanced`.
        low, high: its range; scores below `low` are for what fails altogether (not on the advanced level).
        checks: what is checked.
    """

    side: str
    name: str
    level: str
    low: float
    high: float
    checks: str

    @property
    def least(self) -> float:
        """The lowest score that can be given."""
        return self.low if self.level == "advanced" else 0


def read_dimensions(text: str, dimensions: Sequence[Dimension]) -> dict[str, float | None]:
    """Each dimension's score, from the line that begins with its name; None where there is none within its range."""
    found: dict[str, float | None] = {dimension.name: None for dimension in dimensions}
    for line in text.splitlines():
        name, colon, said = line.strip(" \t-*_`#>|•\"'").replace(":", ":").partition(":")
        for dimension in dimensions:
            if colon and name.strip(" *_`\"'").lower() == dimension.name.lower() and found[dimension.name] is None:
                found[dimension.name] = rating(said.strip(" *_`\"',|"), dimension.least, dimension.high)
    return found


def overall(dimensions: Sequence[Dimension], scores: Mapping[str, float | None]) -> float | None:
    """The one score that the dimensions' give (see above); None where a score that may decide is missing."""
    decided: float | None = None
    steps = sorted({(LEVELS.index(d.level), d.high) for d in dimensions})
    for level, high in steps:
        step = [d for d in dimensions if (LEVELS.index(d.level), d.high) == (level, high)]
        found = [scores[d.name] for d in step]
        known = [score for score in found if score is not None]
        if len(known) < len(found):
            return None
        decided = min(known)
        if decided < high:
            return decided
    return decided
