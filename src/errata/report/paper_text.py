"""The paper's table as text (terminal, Markdown, page) and as CSV."""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from errata.report.paper_parts import PaperCell, PaperRow, PaperTable, digits
from errata.report.tables import TextTable

DASH = "—"
_START, _FIRST = ("*", "**"), ("†", "‡")
_LEVELS = ((0.01, 1), (0.05, 0))
_HEADS = (
    "table", "arm", "part", "iteration", "dataset", "split", "protocol", "unit",
    "n", "seeds", "measured", "low", "high", "sd", "by_seed",
    "printed", "difference", "printed_row", "p_start", "p_start_holm", "p_first", "p_first_holm",
    "missing", "runs",
)  # fmt: skip


@dataclass(frozen=True)
class Lettered:
    """The footnotes of a table's gaps: a letter for each reason."""

    letters: dict[str, str]

    def after(self, cell: PaperCell) -> str:
        """` (a)` behind a cell that lacks something."""
        return f" ({self.letters[cell.missing]})" if cell.missing else ""

    @property
    def lines(self) -> list[str]:
        """What the letters say."""
        return [f"({letter}) {reason}" for reason, letter in self.letters.items()]


def lettered(table: PaperTable) -> Lettered:
    """A letter for every reason why something is missing in the table."""
    reasons = dict.fromkeys(cell.missing for row in table.rows for cell in row.cells if cell.missing)
    return Lettered({reason: _letter(place) for place, reason in enumerate(reasons)})


def text_table(table: PaperTable) -> TextTable:
    """A cell holds up to three lines: the score with its marks, its interval, the printed value with the difference."""
    gaps = lettered(table)
    heads = ("", "seeds", *(column.name for column in table.columns))
    rows = []
    for row in table.rows:
        cells = ["\n".join(lines_of(table, cell, gaps)) for cell in row.cells]
        rows.append((row.label, seeds_of(row), *cells))
    if all(len(row.runs) < 2 for row in table.rows):
        heads, rows = (heads[0], *heads[2:]), [(row[0], *row[2:]) for row in rows]
    return TextTable(table.title, heads, rows)


def marks(cell: PaperCell) -> str:
    """What the corrected p-values amount to."""
    return _mark(cell.holm_start, _START) + _mark(cell.holm_first, _FIRST)


def legend(table: PaperTable) -> list[str]:
    """What cells and marks mean; of marks only those that could stand there."""
    cells = [cell for row in table.rows for cell in row.cells]
    below = ", then the printed value and what the measured one is above it" * any(
        cell.printed is not None for cell in cells
    )
    lines = [f"a cell: the mean score, its 95 % interval{below}; {DASH}: missing, the letter says why"]
    if any(cell.p_start is not None for cell in cells):
        lines.append(f"{_START[0]}, {_START[1]}: differs from its own start, p < 0.05 and p < 0.01 {_CORRECTED}")
    if any(cell.p_first is not None for cell in cells):
        first = next(row.label for row in table.rows if row.part == "arm")
        lines.append(f"{_FIRST[0]}, {_FIRST[1]}: differs from the first arm ({first}), p < 0.05 and p < 0.01 {_CORRECTED}")
    return lines


_CORRECTED = "(paired, corrected by Holm for the rows of the column)"


def csv_text(tables: Sequence[PaperTable]) -> str:
    """One line an arm, column and iteration, in full precision; empty where there is nothing."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_HEADS)
    for number, table in enumerate(tables, 1):
        for row in table.rows:
            for cell in row.cells:
                writer.writerow("" if value is None else value for value in _csv_row(number, table, row, cell))
    return out.getvalue()


def _csv_row(number: int, table: PaperTable, row: PaperRow, cell: PaperCell) -> Iterator[object]:
    iteration = cell.iteration if cell.iteration is not None else 0 if row.iteration == "start" else row.iteration
    yield from (number, row.label, row.part, iteration, cell.column.name, table.split, cell.protocol, cell.column.unit)
    yield from (cell.n, cell.seeds or None, cell.value, cell.low, cell.high, cell.sd, ";".join(map(repr, cell.by_seed)))
    yield from (cell.printed, cell.difference, row.row, cell.p_start, cell.holm_start, cell.p_first, cell.holm_first)
    yield from (cell.missing, ";".join(row.runs))


def lines_of(table: PaperTable, cell: PaperCell, gaps: Lettered) -> list[str]:
    """The lines of a cell: the score, its interval, the printed value."""
    places = digits(table, cell.column)
    if cell.value is None:
        lines = [DASH + gaps.after(cell)]
    else:
        lines = [f"{cell.value:.{places}f}{marks(cell)}{gaps.after(cell)}"]
        if cell.low is not None and cell.high is not None:
            lines.append(f"[{cell.low:.{places}f}, {cell.high:.{places}f}]")
    if cell.printed is not None:
        lines.append(f"{cell.printed:.{places}f}" + ("" if cell.difference is None else f" ({cell.difference:+.{places}f})"))
    return lines


def seeds_of(row: PaperRow) -> str:
    """How many seeds a row pools: `3`, or `2 or 3` where columns differ."""
    if not row.runs:
        return ""
    counts = sorted({cell.seeds for cell in row.cells if cell.value is not None})
    return " or ".join(map(str, counts)) if counts else "0"


def _mark(p: float | None, signs: tuple[str, str]) -> str:
    return "" if p is None else next((signs[place] for limit, place in _LEVELS if p < limit), "")


def _letter(place: int) -> str:
    return (_letter(place // 26 - 1) if place >= 26 else "") + chr(ord("a") + place % 26)
