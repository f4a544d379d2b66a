"""The paper's table from stored runs: arms by datasets, each score with its interval, beside it what is printed."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from errata.report.measured import unpublished
from errata.report.paper_marks import compare_rows
from errata.report.paper_parts import PaperCell, PaperRow, PaperTable, View, moment_of
from errata.report.paper_rows import start_row
from errata.report.paper_score import score
from errata.report.pooled import Moment, PooledArm
from errata.report.published import Column, Row, Table

ORDER = ("mmlu", "arc", "gsm8k", "gsm_plus", "mbpp", "humaneval", "bbh")
"""The order of the datasets in LLMs-as-Instructors; others come after them."""
AVERAGE = "Average"


def paper_table(title: str, arms: Sequence[PooledArm], view: View) -> PaperTable:
    """The table of arms that may stand in one (`separate`).

    One arm is shown by iteration, several at the moment asked for, below their start; where the published table has its
    iterations as columns, each arm is one row.
    """
    columns = _columns(arms, view.beside)
    own = Table(title, "", "", tuple(columns), {}, name="")
    rows: list[PaperRow] = []
    moment = moment_of("last" if view.iteration == "each" else view.iteration)
    if view.beside is not None and any(column.iteration is not None for column in view.beside.columns):
        rows = [_arm_row(arm, own, view, moment) for arm in arms]  # the iterations are its columns
    elif view.iteration == "each" or (len(arms) == 1 and view.iteration == "last" and not view.whole):
        found = [(arm, row) for arm in arms for row in _by_iteration(arm, own, view, len(arms) > 1)]
        rows = [row for _, row in found]
        compare_rows([arm for arm, _ in found], rows, columns, [moment_of(str(_iteration(row))) for row in rows])
    else:
        made = [_arm_row(arm, own, view, moment) for arm in arms]
        rows = [*_starts(arms, own, view, moment), *made]
        compare_rows(arms, made, columns, [moment] * len(made))
    rows = [each for row in rows for each in (row, *_again(row, arms, view))]
    if view.whole and view.beside is not None:
        rows = _whole(view.beside, rows)
    return PaperTable(title, columns, rows, [], view.beside, arms[0].runs[0].results["split"])


def _columns(arms: Sequence[PooledArm], beside: Table | None) -> list[Column]:
    names = {name for arm in arms for run in arm.runs for name in run.results["datasets"]}
    if beside is not None:
        columns = [column for column in beside.columns if column.measure or column.mean_of]
        last = {name: part for arm in arms for name, part in arm.results(lambda run: run.last)["outcome"].items()}
        extra = dict(unpublished({"datasets": dict.fromkeys(last), "outcome": last}, beside))
        return [*columns, *(_column(name.partition(": ")[0], name.partition(": ")[2]) for name in extra)]
    ordered = [name for name in ORDER if name in names] + sorted(names - set(ORDER))
    columns = [_column(name) for name in ordered]
    if len(columns) > 1:
        columns.append(Column(AVERAGE, "mean of the datasets", "%", mean_of=tuple(ordered)))
    return columns


def _column(dataset: str, part: str = "") -> Column:
    return Column(f"{dataset}: {part}" if part else dataset, "accuracy", "%", (dataset,), part, "accuracy")


def _by_iteration(arm: PooledArm, own: Table, view: View, named: bool) -> list[PaperRow]:
    found = sorted({part["iteration"] for run in arm.runs for parts in run.results["datasets"].values() for part in parts})
    planned = {run.last for run in arm.runs if run.results["unfinished"]}
    rows = []
    for at in sorted({*found, *planned}):
        row = _arm_row(arm, own, view, moment_of(str(at))) if at else _start_row(arm, own, view)
        row.label = f"{arm.name}, " * named + (f"iteration {at}" if at else "start")
        if at and at != max(found):  # printed values are of the last iteration
            _print(row, None)
        rows.append(row)
    return rows


def _starts(arms: Sequence[PooledArm], own: Table, view: View, moment: Moment) -> list[PaperRow]:
    """A row for each start that an arm set out from; an arm that is nothing but a start has its own row."""
    rows: list[PaperRow] = []
    seen: list[tuple[Any, PaperRow]] = []
    for arm in arms:
        if all(moment(run) in (0, None) for run in arm.runs):
            continue
        scores = [run.scores.get(name, {}).get(0) for run in _distinct(arm).runs for name in _all_datasets(own)]
        if not any(scores):
            continue
        known = next((row for held, row in seen if held == scores), None)
        if known is None:
            row = _start_row(arm, own, view)
            row.label = arm.name
            seen.append((scores, row))
            rows.append(row)
        else:
            known.runs += [run.name for run in arm.runs]
    for row in rows:
        row.label = "start" if len(rows) == 1 else f"start of {row.label}"
    return rows


def _start_row(arm: PooledArm, own: Table, view: View) -> PaperRow:
    """An arm before any training, when its seeds do not differ yet."""
    row = _arm_row(_distinct(arm), own, view, moment_of("0"))
    row.part, row.runs = "start", [run.name for run in arm.runs]
    _print(row, start_row(view.beside, arm.runs[0].results["config"]) if view.beside is not None else None)
    return row


def _distinct(arm: PooledArm) -> PooledArm:
    """The arm's first run where all its runs start from the same answers, else all of them."""
    first, *others = [{name: scores.get(0) for name, scores in run.scores.items()} for run in arm.runs]
    return PooledArm(arm.name, arm.runs[:1]) if all(other == first for other in others) else arm


def _all_datasets(own: Table) -> list[str]:
    """Every dataset that the columns name."""
    return sorted({name for column in own.columns for name in column.datasets})


def _arm_row(arm: PooledArm, own: Table, view: View, moment: Moment) -> PaperRow:
    results = arm.results(moment)
    at = sorted({place for run in arm.runs if (place := moment(run)) is not None})
    row = PaperRow(arm.name, "arm", ", ".join(str(place or "start") for place in at), [run.name for run in arm.runs])
    row.cells = [score(arm, results, own, column, moment) for column in own.columns]
    _print(row, next(iter(view.rows.get(arm.name, ())), None))
    return row


def _again(row: PaperRow, arms: Sequence[PooledArm], view: View) -> list[PaperRow]:
    """The row once more for each further published row of its arm."""
    found = []
    for arm in arms:
        first, *others = view.rows.get(arm.name, ()) or (None,)
        if others and first is not None and row.row == first.name and row.runs == [run.name for run in arm.runs]:
            for other in others:
                again = replace(row, label=f"{row.label}, beside {other.own_name}", cells=[replace(c) for c in row.cells])
                _print(again, other)
                found.append(again)
    return found


def _print(row: PaperRow, published: Row | None) -> None:
    """Put the published row's values beside the measured ones."""
    row.row = published.name if published is not None else ""
    for cell in row.cells:
        cell.printed = published.values.get(cell.column.name) if published is not None else None


def _iteration(row: PaperRow) -> int:
    return 0 if row.part == "start" else int(row.iteration)


def _whole(beside: Table, rows: Sequence[PaperRow]) -> list[PaperRow]:
    """All rows of the published table in its order, measured where a run matches; then what matches none."""
    found: list[PaperRow] = []
    for own_name in beside.rows:
        published = Row(beside, own_name)
        matched = [row for row in rows if row.row == published.name]
        for row in matched:
            row.label = own_name if len(matched) == 1 else f"{own_name}: {row.label}"
        found += matched or [_only_printed(published, rows)]
    return [*found, *(row for row in rows if not any(row is other for other in found))]


def _only_printed(published: Row, rows: Sequence[PaperRow]) -> PaperRow:
    columns = [cell.column for cell in rows[0].cells] if rows else []
    row = PaperRow(published.own_name, "printed")
    row.cells = [PaperCell(column, missing="no run of this row is given") for column in columns]
    _print(row, published)
    return row
