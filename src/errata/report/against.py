"""A run beside a published row: measured and printed value of each column, their difference, and whether they agree."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from errata.errors import DataError
from errata.report.measured import COMPARED, Measured, mean_measured, measured, unpublished
from errata.report.published import Column, Row, Table, tables
from errata.report.tables import TextTable

_LISTED = 12


@dataclass(frozen=True)
class Cell:
    """One line of the comparison, in the unit of the published column.

    Attributes:
        column: the published column's name; empty where the row has none for what the run has measured.
        dataset: Errata's dataset or test set, its part and measure.
        digits: decimals as published.
        n, measured, low, high, iteration, protocol: of the run; None where it has not measured that.
        printed, published_n, published_iteration: of the source; None where it has not published that.
        difference: measured minus printed.
        inside: whether the printed value lies in the run's interval; None where one of them is missing.
        missing: why a side is missing.
    """

    column: str
    dataset: str
    unit: str
    digits: int = 1
    n: int | None = None
    measured: float | None = None
    low: float | None = None
    high: float | None = None
    iteration: int | None = None
    protocol: str = ""
    printed: float | None = None
    published_n: int | None = None
    published_iteration: int | None = None
    difference: float | None = None
    inside: bool | None = None
    missing: str = ""


def against(results: Mapping[str, Any], row: Row) -> dict[str, Any]:
    """The comparison of a run's results (of the loop, an evaluation or a judge) with a row, as results.json holds it.

    Raises:
        DataError: the run has no scores, as one of `errata revise`.
    """
    if "datasets" not in results and "summary" not in results:
        raise DataError(
            f"{results['run']} has no scores to set beside {row.name}: only runs of improve, evaluate and judge have them"
        )
    cells = [_cell(results, row, column) for column in row.table.columns if column.measure or column.mean_of]
    for name, found in unpublished(results, row.table):
        cells.append(_filled(Cell("", name, "%", missing="the row has no such column"), found))
    return {"row": row.name, "cells": [asdict(cell) for cell in cells], "lines": _lines(results, row, cells)}


def against_table(found: Mapping[str, Any]) -> TextTable:
    """The comparison as a table."""
    cells = [Cell(**cell) for cell in found["cells"]]
    iterations = any(cell.iteration is not None for cell in cells)
    heads = ["published as", "dataset", *(["iteration"] if iterations else []), "n"]
    heads += ["measured [95 % interval]", "printed", "difference", "printed value in the interval"]
    rows = []
    for cell in cells:
        texts = [cell.column or "missing", cell.dataset]
        texts += ["" if cell.iteration is None else str(cell.iteration or "start")] if iterations else []
        texts += ["" if cell.n is None else f"{cell.n:,}", _measured_text(cell)]
        texts += ["missing" if cell.printed is None else _text(cell.printed, cell)]
        texts += ["" if cell.difference is None else f"{cell.difference:+.{cell.digits}f}"]
        inside = "no interval" if cell.inside is None else "yes" if cell.inside else "no"
        rows.append((*texts, cell.missing or inside))
    return TextTable(f"beside {found['row']}", tuple(heads), rows)


def list_lines() -> list[str]:
    """Every published table, and below it the names of its rows."""
    lines = []
    for table in tables().values():
        heads = [column.name for column in table.columns]
        if len(heads) > _LISTED:
            heads[_LISTED - 1 :] = [f"and {len(heads) - _LISTED + 1} more"]
        lines.append(f"{table.name}: {table.title} ({table.known}; {table.place})")
        lines += [f"  columns: {', '.join(heads)}", *(f"    {table.name}/{name}" for name in table.rows)]
    return lines


def _cell(results: Mapping[str, Any], row: Row, column: Column) -> Cell:
    printed = row.values[column.name]
    found = mean_measured(results, row.table, column) if column.mean_of else measured(results, column)
    digits, missing = digits_of(row.table, column), "" if printed is not None else "not published"
    empty = Cell(
        column.name, _dataset(column), column.unit, digits, printed=printed, published_n=column.n,
        published_iteration=column.iteration, missing=missing,
    )  # fmt: skip
    if isinstance(found, str):
        return replace(empty, missing="; ".join(filter(None, [found, missing])))
    return _filled(empty, found)


def _filled(cell: Cell, found: Measured) -> Cell:
    """The cell with what the run has measured."""
    scale, printed = 100 if cell.unit == "%" else 1, cell.printed
    value, low, high = (None if part is None else scale * part for part in (found.value, found.low, found.high))
    inside = None if printed is None or low is None or high is None else low <= printed <= high
    difference = None if printed is None or value is None else value - printed
    return replace(
        cell, n=found.n, measured=value, low=low, high=high, iteration=found.iteration, protocol=found.protocol,
        difference=difference, inside=inside,
    )  # fmt: skip


def _lines(results: Mapping[str, Any], row: Row, cells: Sequence[Cell]) -> list[str]:
    """What to know before reading the differences."""
    table = row.table
    lines = [f"{row.name}: {table.place}; {table.known}; {table.citation}", *_conditions(table)]
    protocols = sorted({cell.protocol for cell in cells if cell.column and cell.protocol} - {table.protocol})
    if table.protocol and protocols:
        lines.append(
            f"the graders differ: the run's answers are graded by protocol={' and '.join(protocols)}, the published ones by "
            f"the source's own rules, which are protocol={table.protocol} "
            f"(errata evaluate regrade=RUN dataset=NAME protocol={table.protocol})"
        )
    if results.get("split", "test") != "test":
        lines.append(f"the splits differ: the run's is {results['split']}, the published values are of the test split")
    other = [
        f"{cell.dataset} {cell.n:,} of {cell.published_n:,}"
        for cell in cells
        if cell.published_n and cell.n is not None and cell.n != cell.published_n
    ]
    if other:
        lines.append(f"not as many items as the source has used: {', '.join(dict.fromkeys(other))}")
    if "summary" in results:
        kind = str((results["config"].get("judge") or {}).get("kind", "")).rpartition(".")[2] or results["summary"]["kind"]
        model = (results["config"].get("instructor") or {}).get("model")
        lines.append(
            f"the run's verdicts are by {kind}{f' with {model}' if model else ''}: a rate holds for its judge and opponent"
        )
    lines += _not_measured(table)
    lines += [
        f"slip in the source: {slip.column} is {row.values[slip.column]:g}, {slip.follows:g} follows ({slip.note})"
        for slip in row.slips
    ]
    return [*lines, *(f"note: {note}" for note in table.notes)]


def table_lines(table: Table) -> list[str]:
    """What to know of a whole published table."""
    named = f"{table.name}: {table.place}; {table.known}; {table.citation}"
    slips = [
        f"slip in the source: {slip.column} of {slip.row}, {slip.follows:g} follows ({slip.note})" for slip in table.slips
    ]
    return [named, *_conditions(table), *_not_measured(table), *slips, *(f"note: {note}" for note in table.notes)]


def _conditions(table: Table) -> list[str]:
    return [f"the published values hold under: {'; '.join(table.conditions)}"] if table.conditions else []


def _not_measured(table: Table) -> list[str]:
    left = [column.name for column in table.columns if not column.measure and not column.mean_of]
    return [f"published, and not measured by Errata: {', '.join(left)}"] if left else []


def _dataset(column: Column) -> str:
    name = " + ".join(column.datasets) if column.datasets else "mean"
    name += f": {column.part}" if column.part else ""
    return f"{name}: {COMPARED[column.measure]}" if column.measure in COMPARED else name


def digits_of(table: Table, column: Column) -> int:
    """How many decimals the column is printed with: as many as any of its values needs, at least one."""
    place = table.columns.index(column)
    values = [values[place] for values in table.rows.values()]
    return max([1, *(len(repr(value).partition(".")[2]) for value in values if isinstance(value, float))])


def _measured_text(cell: Cell) -> str:
    if cell.measured is None:
        return "missing" if cell.column else "above"
    value = _text(cell.measured, cell)
    return value if cell.low is None or cell.high is None else f"{value} [{_text(cell.low, cell)}, {_text(cell.high, cell)}]"


def _text(value: float, cell: Cell) -> str:
    return f"{value:.{cell.digits}f}{' %' if cell.unit == '%' else ''}"
