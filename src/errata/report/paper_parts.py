"""What a paper's table is made of: cells, rows, the table itself, and the view that is asked for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from errata.report.against import digits_of
from errata.report.pooled import Moment
from errata.report.published import Column, Row, Table
from errata.report.results import best_by_dev


@dataclass
class PaperCell:
    """A score in the unit of its column.

    Attributes:
        value, low, high: measured; None where it is missing.
        iteration: after which; of several seeds that ended apart, the latest.
        seeds, by_seed, sd: what was pooled.
        printed: of the source; None where it has none.
        p_start, p_first: of the difference from the same arm's start, and from the first arm at the same moment.
        holm_start, holm_first: the same, corrected (Holm) for the rows of the column.
        missing: why there is no value, or not all of it.
    """

    column: Column
    n: int | None = None
    value: float | None = None
    low: float | None = None
    high: float | None = None
    iteration: int | None = None
    protocol: str = ""
    seeds: int = 0
    by_seed: list[float] = field(default_factory=list)
    sd: float | None = None
    printed: float | None = None
    p_start: float | None = None
    p_first: float | None = None
    holm_start: float | None = None
    holm_first: float | None = None
    missing: str = ""

    @property
    def difference(self) -> float | None:
        """Measured minus printed."""
        return None if self.value is None or self.printed is None else self.value - self.printed


@dataclass
class PaperRow:
    """A row: an arm at a moment, a published row, or both; `part` is start, arm, printed or absent."""

    label: str
    part: str
    iteration: str = ""
    runs: list[str] = field(default_factory=list)
    row: str = ""
    cells: list[PaperCell] = field(default_factory=list)


@dataclass
class PaperTable:
    """One table; `beside` is the published table whose columns it has."""

    title: str
    columns: list[Column]
    rows: list[PaperRow]
    notes: list[str]
    beside: Table | None = None
    split: str = "test"


@dataclass(frozen=True)
class View:
    """What is asked for: which iteration, and which published rows, mostly one, stand beside which arm."""

    iteration: str = "last"
    beside: Table | None = None
    rows: Mapping[str, Sequence[Row]] = field(default_factory=dict)
    whole: bool = False


def moment_of(iteration: str) -> Moment:
    """The iteration of a run that `--iteration` asks for: `last`, `best` (by dev) or a number."""
    if iteration == "last":
        return lambda run: run.last
    if iteration == "best":
        return lambda run: best_by_dev(run.results)
    return lambda _: int(iteration)


def digits(table: PaperTable, column: Column) -> int:
    """How many decimals a column is shown with."""
    if table.beside is not None and column in table.beside.columns:
        return digits_of(table.beside, column)
    return 2 if column.unit == "score" else 1
