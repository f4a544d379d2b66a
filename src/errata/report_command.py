"""`errata report`: the tables, figures and files of stored runs."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from errata.errors import RunFolderError
from errata.report.beside import asked_for
from errata.report.chosen import choose
from errata.report.several import report_several
from errata.report.write import list_published, report


def run(arguments: Sequence[str]) -> int:
    """Report one run into its folder, several or a sweep as one table; beside what is published.

    Raises:
        RunFolderError: a folder is no run's and no sweep's, nothing is measured in any of them, or `--to` cannot be written.
        DataError: there is no such published row, or a run has nothing to set beside it.
    """
    parser = argparse.ArgumentParser(
        prog="errata report",
        description=(
            "One run: its tables, and into its folder results.json, report.md, table.tex, table.csv and figures. "
            "Several runs, a sweep or a folder of runs: one table, arms by datasets, seeds pooled, with intervals and "
            "paired tests; what cannot be compared (other protocols, splits, questions) stands apart. --against sets each "
            "beside what is printed."
        ),
    )
    parser.add_argument(
        "runs", nargs="*", type=Path, metavar="RUN",
        help="run folder (outputs/NAME-HASH), sweep (outputs/sweeps/NAME-HASH) or a folder of runs",
    )  # fmt: skip
    parser.add_argument(
        "--against", action="append", default=[], metavar="paper|TABLE/ROW|TABLE",
        help="paper: each run's own published row; or a row, or all rows of a table (again for more); `list` names them all",
    )  # fmt: skip
    parser.add_argument("--to", type=Path, metavar="FOLDER", help="where the files of several runs go")
    parser.add_argument(
        "--iteration", default="last", type=_iteration, metavar="N|last|best|each",
        help="which iteration of each run is compared: the last, the best by dev, a number (0: the start), or each",
    )  # fmt: skip
    parsed = parser.parse_args(arguments)
    beside = asked_for(parsed.against, _experiments() if parsed.against else None)
    if "list" in parsed.against:
        list_published()
        if not parsed.runs:
            return 0
    if not parsed.runs:
        parser.error("the following arguments are required: RUN")
    if parsed.to is not None:
        _check_writable(parsed.to)
    chosen = choose(parsed.runs)
    if len(chosen.runs) == 1 and chosen.sweep is None and parsed.to is None:
        report(chosen.runs[0].path, beside, parsed.iteration)
    else:
        report_several(chosen, beside, parsed.iteration, parsed.to)
    return 0


def _check_writable(folder: Path) -> None:
    """Find out before the work that there can be no such folder; it is not made yet."""
    there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    if not there.is_dir():
        raise RunFolderError(f"--to {folder}: {there} is a file; choose another folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise RunFolderError(f"--to {folder}: {there} may not be written to; choose another folder")


def _iteration(word: str) -> str:
    if word not in ("last", "best", "each") and not (word.isascii() and word.isdigit()):
        raise argparse.ArgumentTypeError(f"{word!r} is no iteration: a number, last, best or each")
    return word


def _experiments() -> Path:
    from errata.config import config_folder

    return config_folder() / "experiments"
