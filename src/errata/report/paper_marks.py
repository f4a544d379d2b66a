"""P-values of a paper's table: each row against its own start and against the first arm, corrected by the column."""

from collections.abc import Sequence
from typing import Any

from errata.report.paper_parts import PaperRow
from errata.report.paper_score import datasets_of, parts_of
from errata.report.pooled import Moment, PooledArm, p_of
from errata.report.published import Column, Table
from errata.report.statistics import holm


def compare_rows(
    arms: Sequence[PooledArm], rows: Sequence[PaperRow], columns: Sequence[Column], moments: Sequence[Moment]
) -> None:
    """P-values of each row's scores against its arm's own start, and against the first arm at the same moment."""
    table = Table("", "", "", tuple(columns), {})
    for place, column in enumerate(columns):
        parts = parts_of(table, column)
        if column.iteration is not None or any(part.part or part.measure != "accuracy" for part in parts):
            continue
        names = datasets_of(table, column)
        starts: list[float | None] = []
        first: list[float | None] = []
        for row, arm, moment in zip(rows, arms, moments, strict=True):
            after = arm.scores(names, moment)
            shown, later = row.cells[place].value is not None, any(moment(run) for run in arm.runs)
            starts.append(p_of(_common(arm.scores(names, lambda _: 0), after), after) if shown and later else None)
            other = arms[0].scores(names, moment) if shown and later and arm is not arms[0] else []
            first.append(p_of(other, after))
        for row, start, other_p, start_h, other_h in zip(
            rows, starts, first, _corrected(starts), _corrected(first), strict=True
        ):
            cell = row.cells[place]
            cell.p_start, cell.p_first, cell.holm_start, cell.holm_first = start, other_p, start_h, other_h


def _common(before: list[list[Any]], after: list[list[Any]]) -> list[list[Any]]:
    """The starts; one where they are all the same, since seeds differ only after it."""
    return [[each[0]] if after and each and all(one == each[0] for one in each) else each for each in before]


def _corrected(values: Sequence[float | None]) -> list[float | None]:
    known = iter(holm([value for value in values if value is not None]))
    return [None if value is None else next(known) for value in values]
