"""The paper's table as LaTeX: as wide as the text, in parts where that would be too small to read."""

import re
from collections.abc import Iterator, Sequence

from errata.report.paper_parts import PaperRow, PaperTable
from errata.report.paper_text import DASH, Lettered, lettered, lines_of, seeds_of

_WIDEST = 500  # points; the narrowest common text is 345 wide, so no table is shrunk below 0.69
_HIGHEST = 480  # points of table and notes together, of the 550 that a page has
_LETTER, _SMALL_LETTER, _GAP = 4.5, 3.5, 8  # points
_NOTE = 88  # characters of a line of notes


def latex(tables: Sequence[PaperTable]) -> str:
    """The tables for a paper: `\\input` them; they want booktabs and graphicx.

    A table wider than the text is shrunk to it; one that would be too small then is several, below each other. Notes that a
    page has no room for beside their table are a float of their own.
    """
    lines = [r"% \usepackage{booktabs,graphicx}"]
    for number, table in enumerate(tables, 1):
        lines += _floats(table, rf"tab:errata-{number}")
    return "\n".join(lines)


def _floats(table: PaperTable, label: str) -> Iterator[str]:
    gaps = lettered(table)
    parts = _parts(table, gaps)
    notes = [*gaps.lines, *table.notes]
    apart = len(parts) > 1 or _height(table, gaps) + 9.5 * sum(1 + len(line) // _NOTE for line in notes) > _HIGHEST
    for place, part in enumerate(parts):
        yield from (r"\begin{table}", r"\centering\small\setlength{\tabcolsep}{4pt}\setlength{\belowcaptionskip}{6pt}")
        if place:
            yield rf"Table~\ref{{{label}}}, {place + 1} of {len(parts)}\par\medskip"
        else:
            yield from (
                rf"\caption{{{tex(table.title)}{f' (1 of {len(parts)})' * (len(parts) > 1)}}}",
                rf"\label{{{label}}}",
            )
        yield from _tabular(table, part, gaps)
        if not apart:
            yield from _notes(notes)
        yield from (r"\end{table}", "")
    if apart:
        yield from (r"\begin{table}", rf"{{\small Notes on table~\ref{{{label}}}\par\smallskip}}", *_notes(notes))
        yield from (r"\end{table}", "")


def _notes(notes: Sequence[str]) -> Iterator[str]:
    yield r"\begin{minipage}{\linewidth}\footnotesize\raggedright"
    yield from (tex(line) + r"\par" for line in notes)
    yield r"\end{minipage}"


def _tabular(table: PaperTable, part: slice, gaps: Lettered) -> Iterator[str]:
    columns = table.columns[part]
    fitted = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{"
    yield fitted + rf"\begin{{tabular}}{{l{'r' * len(columns)}}}"
    yield r"\toprule"
    yield " & ".join(["", *(tex(column.name) for column in columns)]) + r" \\"
    yield r"\midrule"
    for row in table.rows:
        yield from _row(table, row, part, gaps)
    yield from (r"\bottomrule", r"\end{tabular}}\par", r"\smallskip")


def _row(table: PaperTable, row: PaperRow, part: slice, gaps: Lettered) -> Iterator[str]:
    cells = [lines_of(table, cell, gaps) for cell in row.cells[part]]
    height = max(len(cell) for cell in cells)
    for line in range(height):
        texts = [tex(cell[line]) if line < len(cell) else "" for cell in cells]
        texts = [rf"{{\scriptsize {text}}}" if line and text else text for text in texts]
        yield " & ".join([tex(_label(row)) if not line else "", *texts]) + (r" \\[2pt]" if line == height - 1 else r" \\*")


def _label(row: PaperRow) -> str:
    seeds = seeds_of(row)
    return row.label + (f" ({seeds} seeds)" if len(row.runs) > 1 and seeds not in ("", "1") else "")


def _parts(table: PaperTable, gaps: Lettered) -> list[slice]:
    """The columns that stand beside each other, as equal in number as it goes."""
    label = _LETTER * max((len(_label(row)) for row in table.rows), default=0)
    wide = [label]
    for place, column in enumerate(table.columns):
        cells = [lines_of(table, row.cells[place], gaps) for row in table.rows]
        letters = [_LETTER * len(cell[0]) for cell in cells] + [
            _SMALL_LETTER * len(line) for cell in cells for line in cell[1:]
        ]
        wide.append(_GAP + max([_LETTER * len(column.name), *letters]))
    number = next(n for n in range(1, len(wide) + 1) if n == len(wide) or label + sum(wide[1:]) / n <= _WIDEST)
    abreast = max(1, -(-len(table.columns) // number))
    return [slice(begin, begin + abreast) for begin in range(0, max(1, len(table.columns)), abreast)]


def _height(table: PaperTable, gaps: Lettered) -> float:
    """Of all rows, in points."""
    return sum(2 + 11.0 * max(len(lines_of(table, cell, gaps)) for cell in row.cells) for row in table.rows)


_TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"$<$", ">": r"$>$", "|": r"$|$", DASH: "---",
    "†": r"$^{\dagger}$", "‡": r"$^{\ddagger}$", "±": r"$\pm$", "×": r"$\times$", "\n": " ",
    "[": "{[}", "]": "{]}", '"': "''",
    "≥": r"$\geq$", "≤": r"$\leq$", "→": r"$\to$",
}  # fmt: skip
_SPECIAL = re.compile("|".join(map(re.escape, _TEX)))


def tex(text: str) -> str:
    """The text as LaTeX prints it: stars as superscripts, a minus before a number as one."""
    escaped = _SPECIAL.sub(lambda found: _TEX[found.group()], text)
    escaped = re.sub(r"(?<=\d)(\*+)", r"$^{\1}$", escaped)
    return re.sub(r"(?<![\w.}])-(?=\d)", r"$-$", escaped)
