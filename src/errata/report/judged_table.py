"""Several judgings: those of one judge and opponent in one table, test sets as columns; others apart."""

from collections.abc import Mapping, Sequence
from typing import Any

from errata.digests import digest
from errata.report.against import against, table_lines
from errata.report.beside import Beside
from errata.report.measured import COMPARED, mean_measured, measured
from errata.report.paper_parts import PaperCell, PaperRow, PaperTable
from errata.report.paper_rows import rows_of_run
from errata.report.paper_text import lettered, text_table
from errata.report.pooled import varying
from errata.report.published import Column, Row, Table
from errata.report.smoke_size import smoke_line
from errata.report.tables import TextTable, dollars
from errata.report.verdicts import verdict_tables


def judged_tables(runs: Sequence[Mapping[str, Any]], beside: Beside) -> tuple[list[TextTable], list[PaperTable], list[str]]:
    """Tables of judgings that may stand together, as text and as papers' tables; and the lines that belong to them."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for run in runs:
        groups.setdefault(_likeness(run), []).append(run)
    texts: list[TextTable] = []
    papers: list[PaperTable] = []
    lines = [f"judged apart, by another judge, opponent or test set: {', '.join(each['run'] for each in group)}"
             for group in list(groups.values())[1:]]  # fmt: skip
    for group in groups.values():
        for published, rows, whole in _asked(group, beside):
            columns = _columns(group, published)
            if not columns:  # ratings: each by itself
                texts += [
                    TextTable(f"{run['run']}: {table.title}", table.heads, table.rows)
                    for run in group
                    for table in verdict_tables(run)
                ]
                continue
            table = _table(group, columns, published, rows, whole)
            papers.append(table)
            texts.append(text_table(table))
            lines += [*lettered(table).lines, *table.notes]
    return texts, papers, lines


def _likeness(run: Mapping[str, Any]) -> str:
    """What must be the same for two judgings to be compared."""
    config, summary = run["config"], run["summary"]
    judge = {"kind": summary["kind"], "judge": config.get("judge"), "model": (config.get("instructor") or {}).get("model")}
    sizes = {name: row["items"] for name, row in summary["sets"].items()}
    return digest([judge, config.get("against"), sizes, run["questions"]])


def _asked(group: Sequence[Mapping[str, Any]], beside: Beside) -> list[tuple[Table | None, dict[str, Row], bool]]:
    """The published tables beside which a group stands, with the runs' rows, and whether all of its rows are asked for."""
    found: list[tuple[Table | None, dict[str, Row], bool]] = [
        (each.table, {run["run"]: each for run in group}, False) for each in beside.rows
    ]
    own: dict[str, dict[str, Row]] = {}
    if beside.experiments is not None and (beside.paper or beside.tables):
        for run in group:
            for each in rows_of_run(run["run"], [], run["config"], beside.experiments):
                own.setdefault(each.table.name, {})[run["run"]] = each
    found += [(whole, own.get(whole.name, {}), True) for whole in beside.tables]
    found += [(next(iter(rows.values())).table, rows, False) for rows in own.values()] if beside.paper else []
    return found or [(None, {}, False)]


def _columns(group: Sequence[Mapping[str, Any]], published: Table | None) -> list[Column]:
    if published is not None:
        return [column for column in published.columns if column.measure or column.mean_of]
    kind, sets = group[0]["summary"]["kind"], list(group[0]["summary"]["sets"])
    if kind == "comparison":
        return [Column(f"{name} {COMPARED['wr1']}", "a tie is half a win", "%", (name,), measure="wr1") for name in sets]
    if kind == "graded":
        return [Column(name, "macro average", "%", (name,), measure="macro") for name in sets]
    if kind == "turns":
        parts = [(name, turn) for name, row in group[0]["summary"]["sets"].items() for turn in (*row["turns"], "")]
        return [
            Column(f"{name} {turn or 'over all'}", "mean score", "score", (name,), part=turn, measure="mean")
            for name, turn in parts
        ]
    return []


def _table(
    group: Sequence[Mapping[str, Any]], columns: list[Column], published: Table | None, rows: Mapping[str, Row], whole: bool
) -> PaperTable:
    own = Table("", "", "", tuple(columns), {})
    made = [_row(run, own, rows.get(run["run"])) for run in group]
    if published is not None and whole:
        measured_rows = {row.row for row in made}
        for name in published.rows:
            if Row(published, name).name not in measured_rows:
                made.append(_printed(Row(published, name), columns))
    judge = str((group[0]["config"].get("judge") or {}).get("kind", "")).rpartition(".")[2] or group[0]["summary"]["kind"]
    title = f"judged by {judge}" + (f", beside {published.name}" if published is not None else "")
    spent = "; ".join(
        f"{run['run']}: {run['asked'].get('requests', 0)} requests, worth {dollars(run['asked'].get('usd', 0.0))}, "
        f"paid {dollars(run['asked'].get('paid usd', 0.0))}"
        for run in group
    )
    notes = [
        *filter(None, [smoke_line([run["run"] for run in group]), _apart(group), _without(group)]),
        f"the judge's price: {spent}",
    ]
    if published is not None:
        notes += table_lines(published)
        notes += [line for run in group if run["run"] in rows for line in against(run, rows[run["run"]])["lines"][1:]]
    return PaperTable(title, columns, made, list(dict.fromkeys(notes)), published)


def _apart(group: Sequence[Mapping[str, Any]]) -> str:
    """The settings that tell runs of several apart: their names end in a hash."""
    told = zip(group, varying([run["config"] for run in group]), strict=True)
    return "; ".join(f"{run['run']}: {settings}" for run, settings in told if settings)


def _without(group: Sequence[Mapping[str, Any]]) -> str:
    """How many items of each run are in no figure of the table; "" where all have a verdict."""
    told = []
    for run in group:
        sets = run["summary"]["sets"].values()
        missing = sum(row["no_verdict"] for row in sets)
        told += [f"{run['run']}: {missing} of {sum(row['items'] for row in sets)}"] if missing else []
    return f"items without a verdict, counted nowhere else: {'; '.join(told)}" if told else ""


def _row(run: Mapping[str, Any], own: Table, published: Row | None) -> PaperRow:
    row = PaperRow(run["run"], "arm", runs=[run["run"]], row=published.name if published is not None else "")
    for column in own.columns:
        found = mean_measured(run, own, column) if column.mean_of else measured(run, column)
        printed = published.values.get(column.name) if published is not None else None
        if isinstance(found, str):
            row.cells.append(PaperCell(column, printed=printed, missing=found))
            continue
        scale = 100 if column.unit == "%" else 1
        value, low, high = (None if each is None else scale * each for each in (found.value, found.low, found.high))
        row.cells.append(PaperCell(column, found.n, value, low, high, seeds=1, printed=printed))
    return row


def _printed(published: Row, columns: Sequence[Column]) -> PaperRow:
    cells = [
        PaperCell(column, printed=published.values[column.name], missing="no run of this row is given") for column in columns
    ]
    return PaperRow(published.own_name, "printed", row=published.name, cells=cells)
