"""A command as far as it could be built: what the checks read."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from errata.allocation.base import Allocation
from errata.corpus.base import Corpus
from errata.dataset.base import Dataset
from errata.gate.base import Gate
from errata.gate.consensus import Consensus
from errata.instructor.base import Instructor
from errata.judge.base import Judge
from errata.judge.recorded import Recorded
from errata.model.base import Model
from errata.retrieval.base import Retrieval
from errata.reviser.base import Reviser
from errata.reviser.coach import Coach
from errata.strategy.base import Strategy, Supply

Part = TypeVar("Part")


@dataclass
class Draft:
    """The settings and the parts of a command. None: it could not be built, or the command has none.

    Attributes:
        groups: the command's fields, so that a group without a member is told from a command without the group.
        method: the training method, which stands in `settings.training` too.
        regrade: the run whose answers stand in a model's place.
    """

    command: str
    groups: frozenset[str]
    settings: Any = None
    model: Model | None = None
    datasets: dict[str, Dataset | None] = field(default_factory=dict)
    tests: dict[str, Dataset | None] = field(default_factory=dict)
    walled: dict[str, Dataset | None] = field(default_factory=dict)
    gates: dict[str, Gate | Consensus | None] = field(default_factory=dict)
    corpora: dict[str, Corpus | None] = field(default_factory=dict)
    testsets: dict[str, Corpus | None] = field(default_factory=dict)
    strategy: Strategy | None = None
    allocation: Allocation | None = None
    retrieval: Retrieval | None = None
    reviser: Reviser | None = None
    judge: Judge | None = None
    instructor: Instructor | None = None
    method: Any = None
    regrade: str | None = None

    @property
    def asking(self) -> list[Reviser | Judge]:
        """The reviser and the judge, if they ask an instructor."""
        return [part for part in (self.reviser, self.judge) if part is not None and part.asks]

    @property
    def asks(self) -> bool:
        """Whether an instructor is asked."""
        return (self.command == "improve" and not isinstance(self.strategy, Supply)) or bool(self.asking)

    @property
    def embeds(self) -> bool:
        """Whether anything needs vectors."""
        parts = (self.allocation, *self.gates.values(), self.reviser)
        return getattr(self.strategy, "contrasts", False) or any(getattr(part, "embeds", False) for part in parts)

    @property
    def uses_model(self) -> bool:
        """Whether the run's model can change a result."""
        if self.command == "revise":
            coach = isinstance(self.reviser, Coach) and self.reviser.model is None
            return coach or (self.reviser is not None and self.reviser.scores)
        if self.command == "judge":
            return self.settings.answers is None and not isinstance(self.judge, Recorded)
        return True


def there(parts: Mapping[str, Part | None]) -> dict[str, Part]:
    """The members of a group that could be built."""
    return {name: part for name, part in parts.items() if part is not None}


def ledger_file(settings: Any) -> Path:
    """The ledger that the settings name, or the one that all runs in `output_dir` share."""
    return Path(settings.ledger or Path(settings.output_dir) / "ledger.sqlite").expanduser()
