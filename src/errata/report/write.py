"""Print a report, and write it into its folder: results.json, report.md, report.html, table.tex, table.csv, figures."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.markup import escape
from rich.table import Table as Shown
from rich.text import Text

from errata.errors import DataError, RunFolderError
from errata.jsonl import write_atomically
from errata.report.against import against, against_table, list_lines
from errata.report.arms import gather
from errata.report.beside import Beside, outcomes, single_rows, views
from errata.report.figures import draw
from errata.report.judged_table import judged_tables
from errata.report.page import write_page
from errata.report.paper_latex import latex
from errata.report.paper_notes import notes_of, unfinished_line
from errata.report.paper_parts import PaperTable
from errata.report.paper_table import paper_table
from errata.report.paper_text import csv_text, lettered, text_table
from errata.report.pooled import PooledArm
from errata.report.published import Row, Table
from errata.report.results import read
from errata.report.revisions import collect_revisions, outcome_table, revision_tables
from errata.report.smoke_size import smoke_line
from errata.report.stored import Stored
from errata.report.tables import (
    TextTable,
    accuracy_tables,
    chosen_line,
    contamination_line,
    cost_line,
    cost_table,
    kinds_table,
    macro_table,
    narrow,
    practice_table,
    training_table,
)
from errata.report.verdict_plot import VERDICT_PLOT, plot_verdicts
from errata.report.verdicts import collect_verdicts, verdict_lines, verdict_tables
from errata.terminal import console

_NUMBER = re.compile(r"$|unknown$|—|[<~+$-]?\d")


@dataclass(frozen=True)
class Report:
    """What is printed and written, of one run or of several.

    Attributes:
        folder: where the files go.
        title: of report.md and of the page.
        results: of results.json.
        tables, lines: what is printed and stands in report.md; `more` stands in report.md only.
        papers: the tables of table.tex and table.csv; the latter's may have more rows (`spread`).
        runs, arms: the runs of the loop that figures are drawn of, and which of them are one arm.
        judging: what a judge said, of which there is a figure.
    """

    folder: Path
    title: str
    results: Mapping[str, Any]
    tables: Sequence[TextTable]
    lines: Sequence[str]
    more: Sequence[TextTable] = ()
    papers: Sequence[PaperTable] = ()
    spread: Sequence[PaperTable] = ()
    runs: Sequence[Stored] = ()
    arms: Mapping[str, Sequence[str]] | None = None
    judging: Mapping[str, Any] | None = None


def report(run: Path, beside: Beside | None = None, iteration: str = "last") -> None:
    """The tables in the terminal, and the files beside them: of the loop, of `errata revise` or of `errata judge`.

    Args:
        run: its folder.
        beside: published numbers to set beside what the run has measured.
        iteration: which iteration of the loop stands in table.tex: last, best (by dev), each or a number.

    Raises:
        RunFolderError: the folder is no run folder.
        DataError: the run has no scores that could stand beside a published row.
    """
    beside = beside or Beside()
    published, lines = single_rows(beside, run)
    if (run / "judge").is_dir():
        show_verdicts(run, published, lines, beside.tables, beside.experiments)
    elif (run / "corpus").is_dir():
        if beside.tables:
            names = ", ".join(whole.name for whole in beside.tables)
            raise DataError(f"{run.name} has no scores to set beside {names}: only improve, evaluate and judge measure any")
        show_revisions(run, published, lines)
    else:
        show_loop(run, published, beside, lines, iteration)


def show_revisions(run: Path, published: Sequence[Row] = (), lines: Sequence[str] = ()) -> None:
    """What a reviser did; there is nothing in it to set beside a published row."""
    results = collect_revisions(run)
    set_beside(results, published)
    tables = revision_tables(results)
    last = [*filter(None, [smoke_line([run.name])])]
    rows = results["final"].get("rows", 0)
    last += [f"{rows} rows in {run / 'final'}: errata train data={run}" if rows else "no row is left to train on"]
    if results["outcomes"]:
        last.append(f"row by row: {run / 'revise' / 'review.html'}; what is decided there: decisions=FILE, same command")
    if decided := results["final"].get("decided"):
        last.append(f"decided by people: {', '.join(f'{what} {number}' for what, number in sorted(decided.items()))}")
    last += [f"{name}: {rate:g} pairs/s" for name, rate in results["throughput"].items()]
    write_out(Report(run, run.name, results, tables, [*last, *lines]))


def show_verdicts(
    run: Path,
    published: Sequence[Row] = (),
    lines: Sequence[str] = (),
    whole: Sequence[Table] = (),
    experiments: Path | None = None,
) -> None:
    """What a judge said; `whole` are published tables shown with all rows, `experiments` tells which is the run's."""
    results = collect_verdicts(run)
    beside, notes = set_beside(results, published)
    papers: list[PaperTable] = []
    if whole:
        texts, papers, more = judged_tables([results], Beside(tables=whole, experiments=experiments))
        beside, notes = beside + texts, notes + more
    small = filter(None, [smoke_line([run.name])])
    tables, last = verdict_tables(results) + beside, [*small, *verdict_lines(results), *notes, *lines]
    write_out(Report(run, run.name, results, tables, last, papers=papers, judging=results))


def set_beside(results: dict[str, Any], published: Sequence[Row]) -> tuple[list[TextTable], list[str]]:
    """A table for each published row and the lines that belong to it; `results` gets the figures under `against`."""
    found = [against(results, row) for row in published]
    if found:
        results["against"] = found
    return [against_table(each) for each in found], [line for each in found for line in each["lines"]]


def list_published() -> None:
    """The published tables and their rows, in the terminal."""
    console().print("\n".join(list_lines()), highlight=False, markup=False, soft_wrap=True)


def write_out(report: Report) -> None:
    """The one end of every report: tables and lines to the terminal; results, Markdown, LaTeX, CSV, figures to its folder.

    Raises:
        RunFolderError: the folder cannot be written; all that is printed stands in the terminal by then.
    """
    out = console()
    for table in report.tables:
        for part in narrow(table, out.width):
            out.print(for_terminal(part))
    for line in report.lines:
        out.print(line, highlight=False, markup=False)
    try:
        names = _files(report)
    except OSError as error:
        raise RunFolderError(
            f"cannot write to {report.folder}: {error.strerror or error}. What is printed is stored nowhere. Make room, "
            "mend the folder's rights, or choose another folder with --to FOLDER"
        ) from error
    if report.more:
        out.print(f"{len(report.more)} more tables, which compare the arms in pairs, are in report.md", highlight=False)
    out.print(f"{', '.join(names[:-1])} and {names[-1]} are in {report.folder}", highlight=False, markup=False)


def _files(report: Report) -> list[str]:
    """Write all files of a report; returns their names."""
    report.folder.mkdir(parents=True, exist_ok=True)
    plots = []
    if report.judging is not None:
        plot_verdicts(report.judging, report.folder / VERDICT_PLOT)
        plots.append(VERDICT_PLOT)
    groups = gather(report.runs, report.arms)
    figures, missing = draw(groups, report.folder)
    pictures = [*plots, *(path.name for path in figures if path.suffix == ".png")]
    files = {"results.json": json.dumps(report.results, indent=1), "report.md": _markdown(report, pictures, missing)}
    if report.papers:
        files |= {"table.tex": latex(report.papers), "table.csv": csv_text(report.spread or report.papers)}
    for name, content in files.items():
        write_atomically(report.folder / name, content.encode())
    names = [*files, *plots, *(path.name for path in figures)]
    if groups:
        tables = [*report.tables, *report.more]
        names.append(write_page(groups, report.folder, report.title, tables, report.lines, figures, missing).name)
    return names


def show_loop(run: Path, published: Sequence[Row], beside: Beside, said: Sequence[str], iteration: str) -> None:
    """What the loop did."""
    stored = read(run)
    results = stored.results
    columns, notes = set_beside(results, published)
    papers, spread, paper_notes = _papers(stored, published, beside, iteration)
    tables = [text_table(paper) for paper in papers] if len(results["datasets"]) > 1 or beside.tables else []
    tables += (
        accuracy_tables(results)
        + macro_table(results)
        + kinds_table(results)
        + practice_table(results)
        + cost_table(results)
        + training_table(results)
    )
    tables += [outcome_table(part["revised"]) for part in results["practice"] if part["revised"]]
    tables += columns
    own = [
        smoke_line([run.name]),
        unfinished_line(stored),
        contamination_line(results),
        chosen_line(results),
        cost_line(results),
    ]
    lines = [*filter(None, own), *notes, *said]
    if len(results["datasets"]) > 1 or beside.tables:
        lines += [note for note in paper_notes if note not in lines]
    if published and not papers:
        lines.append("nothing is measured yet that could stand beside the published values")
    write_out(Report(run, run.name, results, tables, lines, papers=papers, spread=spread, runs=[stored]))


def _papers(
    stored: Stored, published: Sequence[Row], beside: Beside, iteration: str
) -> tuple[list[PaperTable], list[PaperTable], list[str]]:
    """A single run's paper tables, what its CSV holds, and the notes below them."""
    if not stored.results["datasets"]:
        return [], [], []
    arm = PooledArm(stored.name, [stored])
    papers, spread, notes = [], [], []
    for view in views(replace(beside, rows=outcomes(published), paper=False), [arm], iteration)[0]:
        title = f"{stored.name}: accuracy" + (f", beside {view.beside.name}" if view.beside is not None else "")
        paper = paper_table(title, [arm], view)
        paper.notes += notes_of(paper, [arm], view)
        papers.append(paper)
        spread.append(paper_table(title, [arm], replace(view, iteration="each", whole=False)))
        notes += [
            (f"beside {paper.beside.name}: {line}" if paper.beside is not None else line) for line in lettered(paper).lines
        ]
        notes += paper.notes
    return papers, spread, list(dict.fromkeys(notes))


def for_terminal(table: TextTable) -> Group:
    """The table as rich prints it: text to the left, numbers to the right; its title as wide as the terminal."""
    shown = Shown()
    for place, head in enumerate(table.heads):
        numbers = place > 0 and all(_NUMBER.match(row[place]) for row in table.rows)
        shown.add_column(escape(head), justify="right" if numbers else "left")
    for place, row in enumerate(table.rows):
        last = place == len(table.rows) - 1 and row[0] == "all"
        if last:
            shown.add_section()
        shown.add_row(*map(escape, row), style="bold" if last else None)
    return Group(Text(table.title, style="table.title"), shown)


def _markdown(report: Report, figures: Sequence[str], missing: Sequence[str]) -> str:
    lines = [f"# {_md_text(report.title)}", ""]
    for name in figures:
        lines += [f"![{name.removesuffix('.png')}]({name})", ""]
    for table in [*report.tables, *report.more]:
        lines += [f"**{_md_text(table.title)}**", "", _md_row(table.heads), "|---" * len(table.heads) + "|"]
        lines += [_md_row(row) for row in table.rows] + [""]
    return "\n".join([*lines, "\n\n".join(_md_text(line) for line in [*report.lines, *missing]), ""])


def _md_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(_md_text(cell) for cell in cells)} |"


def _md_text(text: str) -> str:
    """The text so that Markdown shows it as it is: stars, what looks like a tag, bars and line ends within a cell."""
    return re.sub(r"[*|]|<(?=[\w/!?])", lambda found: f"\\{found.group()}", text).replace("\n", "<br>")
