"""Print a run's report, and write results.json, report.md and accuracy.png into its folder."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from errata.report.against import against, against_table, list_lines
from errata.report.compare import comparison_tables
from errata.report.plot import plot_accuracy
from errata.report.published import Row
from errata.report.results import collect
from errata.report.revisions import collect_revisions, outcome_table, revision_tables
from errata.report.tables import (
    TextTable,
    accuracy_tables,
    chosen_line,
    contamination_line,
    cost_line,
    cost_table,
    kinds_table,
    macro_table,
    practice_table,
    training_table,
)
from errata.report.verdict_plot import VERDICT_PLOT, plot_verdicts
from errata.report.verdicts import collect_verdicts, verdict_lines, verdict_tables
from errata.run_folder import write_atomically
from errata.terminal import console

_NUMBER = re.compile(r"$|unknown$|[<~+$-]?\d")


def report(run: Path, published: Sequence[Row] = ()) -> None:
    """The tables in the terminal, and the files beside them: of the loop, of `errata revise` or of `errata judge`.

    Args:
        run: its folder.
        published: rows to set beside what the run has measured.

    Raises:
        RunFolderError: the folder is no run folder.
        DataError: the run has no scores that could stand beside a published row.
    """
    if (run / "judge").is_dir():
        show_verdicts(run, published)
    elif (run / "corpus").is_dir():
        show_revisions(run, published)
    else:
        show_loop(run, published)


def show_revisions(run: Path, published: Sequence[Row] = ()) -> None:
    """What a reviser did; there is nothing in it to set beside a published row."""
    results = collect_revisions(run)
    set_beside(results, published)
    tables = revision_tables(results)
    last = [f"{results['final'].get('rows', 0)} rows in {run / 'final'}: errata train data={run}"]
    if results["outcomes"]:
        last.append(f"row by row: {run / 'revise' / 'review.html'}; what is decided there: decisions=FILE, same command")
    if decided := results["final"].get("decided"):
        last.append(f"decided by people: {', '.join(f'{what} {number}' for what, number in sorted(decided.items()))}")
    last += [f"{name}: {rate:g} pairs/s" for name, rate in results["throughput"].items()]
    write_out(run, results, tables, last)


def show_verdicts(run: Path, published: Sequence[Row] = ()) -> None:
    """What a judge said."""
    results = collect_verdicts(run)
    beside, notes = set_beside(results, published)
    plot_verdicts(results, run / VERDICT_PLOT)
    write_out(run, results, verdict_tables(results) + beside, verdict_lines(results) + notes, VERDICT_PLOT)


def set_beside(results: dict[str, Any], published: Sequence[Row]) -> tuple[list[TextTable], list[str]]:
    """A table for each published row and the lines that belong to it; `results` gets the figures under `against`."""
    found = [against(results, row) for row in published]
    if found:
        results["against"] = found
    return [against_table(each) for each in found], [line for each in found for line in each["lines"]]


def list_published() -> None:
    """The published tables and their rows, in the terminal."""
    console().print("\n".join(list_lines()), highlight=False, markup=False, soft_wrap=True)


def write_out(
    run: Path, results: Mapping[str, Any], tables: Sequence[TextTable], last: Sequence[str], plot: str = ""
) -> None:
    """Tables and closing lines to the terminal, and with the figures into the run folder."""
    out = console()
    for table in tables:
        out.print(for_terminal(table))
    for line in last:
        out.print(line, highlight=False)
    write_atomically(run / "results.json", json.dumps(results, indent=1).encode())
    write_atomically(run / "report.md", _markdown(run, plot, tables, last).encode())
    files = ["results.json", "report.md", *([plot] if plot else [])]
    out.print(f"{', '.join(files[:-1])} and {files[-1]} are in {run}", highlight=False)


def show_loop(run: Path, published: Sequence[Row] = ()) -> None:
    """What the loop did."""
    results = collect(run)
    beside, notes = set_beside(results, published)
    tables = (
        accuracy_tables(results)
        + macro_table(results)
        + kinds_table(results)
        + practice_table(results)
        + cost_table(results)
        + training_table(results)
    )
    tables += [outcome_table(part["revised"]) for part in results["practice"] if part["revised"]]
    tables += beside
    last = [line for line in (contamination_line(results), chosen_line(results), cost_line(results)) if line] + notes
    if results["datasets"]:
        plot_accuracy(results, run / "accuracy.png")
    write_out(run, results, tables, last, "accuracy.png" if results["datasets"] else "")


def compare(runs: Sequence[Path]) -> None:
    """The tables that set runs side by side.

    Raises:
        RunFolderError: a folder is no run folder.
    """
    for table in comparison_tables(runs):
        console().print(for_terminal(table))


def for_terminal(table: TextTable) -> Table:
    """The table as rich prints it: text to the left, numbers to the right."""
    shown = Table(title=table.title, title_justify="left")
    for place, head in enumerate(table.heads):
        numbers = place > 0 and all(_NUMBER.match(row[place]) for row in table.rows)
        shown.add_column(head, justify="right" if numbers else "left")
    for place, row in enumerate(table.rows):
        last = place == len(table.rows) - 1 and row[0] == "all"
        if last:
            shown.add_section()
        shown.add_row(*row, style="bold" if last else None)
    return shown


def _markdown(run: Path, plot: str, tables: Sequence[TextTable], last: Sequence[str]) -> str:
    lines = [f"# {run.name}", ""]
    if plot:
        lines += [f"![{plot.removesuffix('.png')}]({plot})", ""]
    for table in tables:
        lines += [f"**{table.title}**", "", f"| {' | '.join(table.heads)} |", "|---" * len(table.heads) + "|"]
        lines += [f"| {' | '.join(row)} |" for row in table.rows] + [""]
    return "\n".join([*lines, "\n\n".join(last), ""])
