"""`report.html`: a report as one file that holds everything it shows and asks no network for anything.

Verdict and figures first, then tables, every test question before and after (to be searched and filtered), a sample of
training rows with the chain back to their errors, and what the runs were made with.
"""

import base64
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from markupsafe import Markup

from errata.jsonl import write_atomically
from errata.report.answers import answers
from errata.report.arms import Arm
from errata.report.chains import chains
from errata.report.figures import described
from errata.report.gains import gains_table, verdict
from errata.report.html import filled, inert
from errata.report.run_facts import fact_tables, key_figures
from errata.report.tables import TextTable

PAGE = "report.html"
_PLACE = "report/templates"
_LONG, _LONGEST_NUMBER = 20, 34  # characters of a cell
_COLUMNS = ("run", "dataset", "question", "gold", "before", "after", "verdict", "kind_before", "kind_after", "skill", "id")


def write_page(
    groups: Sequence[Sequence[Arm]],
    folder: Path,
    title: str,
    tables: Sequence[TextTable],
    lines: Sequence[str],
    figures: Sequence[Path] = (),
    missing: Sequence[str] = (),
) -> Path:
    """Write report.html into the folder; returns where it is.

    Args:
        groups: arms by what may be compared (see `errata.report.arms.gather`).
        title: what the report is called.
        tables, lines: what the report says elsewhere too.
        figures: as they were drawn; the SVG files of them are shown.
        missing: why a figure was not drawn, a line each.
    """
    arms = [arm for group in groups for arm in group]
    rows, (sample, practised) = answers(arms), chains(arms)
    gains = gains_table(arms) if len(arms) > 1 or any(len(arm.datasets) > 1 for arm in arms) else []
    content = filled(
        _PLACE,
        "report.jinja",
        title=title,
        style=_own("report.css"),
        script=_own("report.js"),
        verdict=[f"{told}{sentence}" for told, group in _told(groups) for sentence in verdict(group)],
        key_figures=key_figures(arms),
        figures=[_shown(path) for path in figures if path.suffix == ".svg"],
        missing=missing,
        tables=[*gains, *tables],
        lines=lines,
        facts=fact_tables(arms),
        column_kinds=_column_kinds,
        held=len(rows.rows),
        rows=rows.total,
        sampled=len(sample),
        practised=practised,
        data=inert({"columns": _COLUMNS, "rows": rows.rows, "texts": rows.texts, "chains": sample}),
    )
    write_atomically(folder / PAGE, content)
    return folder / PAGE


def _told(groups: Sequence[Sequence[Arm]]) -> list[tuple[str, Sequence[Arm]]]:
    """Each group, and what its sentences begin with where there are several."""
    return [("" if len(groups) == 1 else f"Table {number}: ", group) for number, group in enumerate(groups, 1)]


def _own(name: str) -> Markup:
    return Markup((files("errata") / _PLACE / name).read_text(encoding="utf-8"))


def _shown(svg: Path) -> dict[str, str]:
    title, words = described(svg)
    return {"name": svg.stem, "title": title, "words": words, "data": base64.b64encode(svg.read_bytes()).decode()}


def _column_kinds(table: TextTable) -> list[str]:
    """How each column is set: numbers to the right, long texts with room for some words a line."""
    columns = [[row[place] for row in table.rows] for place in range(len(table.heads))]
    return [
        "number" if place and all(map(_is_number, cells)) else "long" if any(len(cell) > _LONG for cell in cells) else ""
        for place, cells in enumerate(columns)
    ]


def _is_number(cell: str) -> bool:
    return not cell or cell == "unknown" or (cell[0] in "0123456789+-<$~" and len(cell) < _LONGEST_NUMBER)
