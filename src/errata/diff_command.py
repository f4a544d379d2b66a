"""`errata diff`: two stored runs side by side."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from errata.errors import RunFolderError
from errata.report.diff import environment_lines, environment_table, kind, settings_tables, show
from errata.report.diff_results import result_tables
from errata.report.results import manifest

_KINDS = {"loop": "the loop, of an evaluation or of training", "judge": "`errata judge`", "revise": "`errata revise`"}


def run(arguments: Sequence[str]) -> int:
    """Print what two runs were told, were made with and found, where they differ.

    Raises:
        RunFolderError: a folder is no run folder, or both are one.
    """
    parser = argparse.ArgumentParser(
        prog="errata diff",
        description=(
            "Set two runs side by side: the settings that differ, the versions and machines that differ, and the results: "
            "accuracies with an exact McNemar test on the questions that both were asked, practice and cost, or a judge's "
            "or a reviser's figures. The difference is always the second minus the first."
        ),
    )
    parser.add_argument("first", type=Path, metavar="RUN", help="run folder, outputs/NAME-HASH")
    parser.add_argument("second", type=Path, metavar="RUN", help="another")
    parser.add_argument("--all", action="store_true", help="show what is the same as well")
    parsed = parser.parse_args(arguments)
    first, second = parsed.first, parsed.second
    told = [manifest(folder) for folder in (first, second)]
    if first.resolve() == second.resolve():
        raise RunFolderError(f"{first} and {second} are one folder: name two runs")
    settings = settings_tables(first, second, parsed.all)
    made_with = environment_table(first, second, parsed.all)
    found = result_tables(first, second)
    lines = []
    if not settings:
        lines.append("no setting differs")
    lines += environment_lines(first, second)
    if not made_with and all(one.get("provenance") for one in told):
        lines.append("versions, machine and local files are the same")
    if kind(first) != kind(second):
        lines.append(
            f"no results side by side: {first.name} is a run of {_KINDS[kind(first)]}, {second.name} of "
            f"{_KINDS[kind(second)]}"
        )
    elif not found:
        lines.append("neither has measured anything yet")
    show([*settings, *made_with, *found], lines)
    return 0
