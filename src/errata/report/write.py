"""Print a run's report, and write results.json, report.md and accuracy.png into its folder."""

import json
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from errata.report.compare import comparison_tables
from errata.report.plot import plot_accuracy
from errata.report.results import collect
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
from errata.run_folder import write_atomically
from errata.terminal import console


def report(run: Path) -> None:
    """The tables in the terminal, and the files beside them.

    Raises:
        RunFolderError: the folder is no run folder.
    """
    results = collect(run)
    tables = (
        accuracy_tables(results)
        + macro_table(results)
        + kinds_table(results)
        + practice_table(results)
        + cost_table(results)
        + training_table(results)
    )
    out = console()
    for table in tables:
        out.print(_for_terminal(table))
    last = [line for line in (contamination_line(results), chosen_line(results), cost_line(results)) if line]
    for line in last:
        out.print(line, highlight=False)

    write_atomically(run / "results.json", json.dumps(results, indent=1).encode())
    if results["datasets"]:
        plot_accuracy(results, run / "accuracy.png")
    write_atomically(run / "report.md", _markdown(run, results["datasets"] != {}, tables, last).encode())
    out.print(f"results.json, report.md{' and accuracy.png' if results['datasets'] else ''} are in {run}", highlight=False)


def compare(runs: Sequence[Path]) -> None:
    """The tables that set runs side by side.

    Raises:
        RunFolderError: a folder is no run folder.
    """
    for table in comparison_tables(runs):
        console().print(_for_terminal(table))


def _for_terminal(table: TextTable) -> Table:
    shown = Table(title=table.title, title_justify="left")
    for place, head in enumerate(table.heads):
        shown.add_column(
            head,
            justify="left"
            if place == 0 or head in ("dataset", "rejected", "kinds", "protocol", "first", "second", "runs")
            else "right",
        )
    for place, row in enumerate(table.rows):
        last = place == len(table.rows) - 1 and row[0] == "all"
        if last:
            shown.add_section()
        shown.add_row(*row, style="bold" if last else None)
    return shown


def _markdown(run: Path, has_plot: bool, tables: list[TextTable], last: list[str]) -> str:
    lines = [f"# {run.name}", ""]
    if has_plot:
        lines += ["![accuracy by iteration](accuracy.png)", ""]
    for table in tables:
        lines += [f"**{table.title}**", "", f"| {' | '.join(table.heads)} |", "|---" * len(table.heads) + "|"]
        lines += [f"| {' | '.join(row)} |" for row in table.rows] + [""]
    return "\n".join([*lines, "\n\n".join(last), ""])
