"""What `--against` asks for: published rows by name, whole tables, or each run's own row (`paper`)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from errata.report.paper_parts import View
from errata.report.paper_rows import fits, rows_of_run
from errata.report.pooled import PooledArm
from errata.report.published import Row, Table, row, table
from errata.report.results import manifest
from errata.report.stored import Stored

PAPER = "paper"


@dataclass(frozen=True)
class Beside:
    """Published numbers that are asked for; `experiments` is where the experiments' headers are."""

    rows: Sequence[Row] = ()
    tables: Sequence[Table] = ()
    paper: bool = False
    experiments: Path | None = field(default=None)

    def own_rows(self, run: Path, name: str) -> list[Row]:
        """The rows that a run is, by its experiment or its settings."""
        if self.experiments is None:
            return []
        described = manifest(run)
        return rows_of_run(name, described.get("command", []), described["config"], self.experiments)


def asked_for(names: Sequence[str], experiments: Path | None = None) -> Beside:
    """What the words after `--against` mean.

    Raises:
        DataError: a word is no table's and no row's name.
    """
    words = [name for name in names if name not in (PAPER, "list")]
    whole = [found for name in words if (found := table(name)) is not None]
    return Beside([row(name) for name in words if table(name) is None], whole, PAPER in names, experiments)


def single_rows(beside: Beside, run: Path) -> tuple[list[Row], list[str]]:
    """The published rows that a single run is set beside, and what is to be said where its own is asked for."""
    own = beside.own_rows(run, run.resolve().name) if beside.paper else []
    lines = [f"beside {PAPER}: {_none(run.resolve().name)}"] if beside.paper and not own else []
    return list({each.name: each for each in [*beside.rows, *own]}.values()), lines


def views(beside: Beside, arms: Sequence[PooledArm], iteration: str) -> tuple[list[View], list[str]]:
    """One view a published table that is asked for (one without where none is), and what is to be said of the arms."""
    found = [View(iteration, table, {arm.name: rows for arm in arms}) for table, rows in _by_table(beside.rows)]
    for whole in beside.tables:
        found.append(View(iteration, whole, _matching(beside, arms, whole), whole=True))
    lines: list[str] = []
    if beside.paper:
        by_arm = {arm.name: _by_table(_own(beside, arm.runs[0])) for arm in arms}
        tables = {table.name: table for held in by_arm.values() for table, _ in held}
        for name, table in tables.items():
            rows = {arm: rows for arm, held in by_arm.items() for other, rows in held if other.name == name}
            found.append(View(iteration, table, rows))
        without = [arm for arm, held in by_arm.items() if not held]
        if without:
            lines.append(f"beside {PAPER}: {_none(', '.join(without))}")
    return found or [View(iteration)], lines


def _by_table(rows: Sequence[Row]) -> list[tuple[Table, list[Row]]]:
    """Each table that the rows are of, with its rows."""
    return [
        (next(each.table for each in rows if each.table.name == name), [each for each in rows if each.table.name == name])
        for name in dict.fromkeys(each.table.name for each in rows)
    ]


def outcomes(rows: Sequence[Row]) -> list[Row]:
    """The rows of tables whose columns are outcomes; of those that go by iteration where there are no others."""
    return [each for each in rows if all(column.iteration is None for column in each.table.columns)] or list(rows)


def _matching(beside: Beside, arms: Sequence[PooledArm], whole: Table) -> dict[str, Sequence[Row]]:
    """Each arm's rows of a table: its experiment's, or the one that its settings fit."""
    rows: dict[str, Sequence[Row]] = {}
    for arm in arms:
        own = [each for each in _own(beside, arm.runs[0]) if each.table.name == whole.name]
        config = arm.runs[0].results["config"]
        own = own or [Row(whole, name) for name in whole.settings if fits(whole, name, config)][:1]
        if own:
            rows[arm.name] = own
    return rows


def _own(beside: Beside, run: Stored) -> list[Row]:
    return beside.own_rows(run.path, run.name)


def _none(names: str) -> str:
    return (
        f"no published row is known of {names} (neither an experiment's `# Row:` nor the settings name one); "
        "--against TABLE/ROW names one by hand, --against list shows them"
    )
