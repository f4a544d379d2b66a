"""The numbers that the source systems have published: one JSON file a system in `published/`; tests recompute what they can.

A file is an object: `system`, `citation`, and `tables` by name. A table has the fields of `Table`: `columns` of `Column`,
`rows` with a list of values each (in the columns' order, null for what is missing), `slips` of `Slip`. A row is called
SYSTEM/TABLE/ROW, as in `llms_as_instructors/main/Mistral-7b-Instruct-v0.2/LE`.
"""

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files

import msgspec

from errata.errors import DataError


@dataclass(frozen=True)
class Column:
    """What a column holds, and where Errata measures the same.

    Attributes:
        name: as in the source, or by its words.
        metric, unit: what is measured, in words, and in what (`%`, `ratio`, `items` ...).
        datasets: Errata's names of the datasets or test sets; several are pooled. Empty where Errata has none.
        part: the skill or category of that dataset; empty for the whole.
        measure: Errata's: `accuracy` of the loop's reports, `wr1`, `wr2`, `qs`, `headline`, `win_rate_se` of comparisons,
            `mean` and `macro` of graded answers, `mean` of scores by turn. Empty where Errata has none.
        iteration: of the loop; None for the last.
        n: how many items the source has used, where it is known.
        mean_of: the columns of which this is the mean, each counting the same.
        known: how it is known, where that differs from the table (see `Table`).
    """

    name: str
    metric: str
    unit: str
    datasets: tuple[str, ...] = ()
    part: str = ""
    measure: str = ""
    iteration: int | None = None
    n: int | None = None
    mean_of: tuple[str, ...] = ()
    known: str = ""


@dataclass(frozen=True)
class Slip:
    """A printed value that does not follow from the others of its table, and the value that does."""

    row: str
    column: str
    follows: float
    note: str = ""


@dataclass(frozen=True)
class Table:
    """A published table or figure.

    Attributes:
        name: SYSTEM/TABLE; filled in when it is read.
        citation: of the system; filled in when it is read.
        place: the table or figure, and where it stands.
        known: `printed`, `digitised` (read off a figure), `recovered` (the only numbers that give the printed ones) or
            `recomputed` (by the source's formula from what it prints).
        protocol: the grading protocol of ours that does as the source; empty where it makes no difference.
        conditions: what the values hold under.
        notes: what else to know before comparing.
        settings: of rows, the student (`model`, the last part of its id) and the `strategy` (null: before any training) by
            which a run of the loop is known to be that row's.
    """

    title: str
    place: str
    known: str
    columns: tuple[Column, ...]
    rows: Mapping[str, tuple[float | None, ...]]
    conditions: tuple[str, ...] = ()
    slips: tuple[Slip, ...] = ()
    notes: tuple[str, ...] = ()
    protocol: str = ""
    settings: Mapping[str, Mapping[str, str | None]] = field(default_factory=dict)
    name: str = ""
    citation: str = ""


@dataclass(frozen=True)
class Row:
    """One row of a table."""

    table: Table
    own_name: str

    @property
    def name(self) -> str:
        """SYSTEM/TABLE/ROW."""
        return f"{self.table.name}/{self.own_name}"

    @property
    def values(self) -> dict[str, float | None]:
        """The values by column."""
        return dict(zip((column.name for column in self.table.columns), self.table.rows[self.own_name], strict=True))

    @property
    def slips(self) -> list[Slip]:
        """The slips in this row."""
        return [slip for slip in self.table.slips if slip.row == self.own_name]


@cache
def tables() -> dict[str, Table]:
    """Every table by its name, SYSTEM/TABLE."""
    found: dict[str, Table] = {}
    for file in sorted((files("errata.report") / "published").iterdir(), key=lambda file: file.name):
        if file.name.endswith(".json"):
            system = json.loads(file.read_bytes())
            for name, table in system["tables"].items():
                given = {**table, "name": f"{file.name.removesuffix('.json')}/{name}", "citation": system["citation"]}
                found[given["name"]] = msgspec.convert(given, Table)
    return found


def row(name: str) -> Row:
    """The row that is called so.

    Raises:
        DataError: there is none; the message names those that are near.
    """
    known = tables()
    place = "/".join(name.split("/")[:2])
    own_name = name[len(place) + 1 :]
    if place in known and own_name in known[place].rows:
        return Row(known[place], own_name)
    if place in known:
        names: Sequence[str] = list(known[place].rows)
        said = f"{place} is a table, no row" if not own_name else f"{place} has no row {own_name!r}"
        raise DataError(f"{said}.{_near(own_name, names)} Its rows: {'; '.join(names)}")
    names = [each.name for each in rows()]
    raise DataError(
        f"there is no published row {name!r}.{_near(name, [*names, *known])} The tables: {', '.join(known)}. "
        "`errata report --against list` lists their rows"
    )


def table(name: str) -> Table | None:
    """The table that is called so; None where the name is no table's."""
    return tables().get(name.rstrip("/"))


def rows() -> list[Row]:
    """Every row of every table."""
    return [Row(table, name) for table in tables().values() for name in table.rows]


def _near(name: str, names: Sequence[str]) -> str:
    by_lower = {each.lower(): each for each in names}
    near = [by_lower[each] for each in difflib.get_close_matches(name.lower(), by_lower, 3)]
    return f" Did you mean {', '.join(near)}?" if near else ""
