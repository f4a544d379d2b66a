"""`errata status`: how far a sweep, a run, or all of an output folder has come, while it runs and after."""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Group
from rich.live import Live

from errata.places import nothing_stored
from errata.status import folder_tables, run_state, run_table, sweep_tables
from errata.sweep import RUNNING, read_sweep
from errata.terminal import console

_QUIET = 2
"""Looks in which nothing ran, behind which the watch ends: between two cells nothing does for a moment."""


def run(arguments: Sequence[str]) -> int:
    """Print the table, once or again and again.

    Raises:
        RunFolderError: the folder is neither a sweep's nor a run's nor holds any, or another version has written it.
    """
    parser = argparse.ArgumentParser(
        prog="errata status",
        description="Show how far a sweep, a run, or everything in an output folder has come, while it runs and after.",
    )
    parser.add_argument(
        "folder", nargs="?", type=Path, default=Path("outputs"), metavar="SWEEP|RUN|OUTPUTS",
        help="outputs/sweeps/NAME-HASH, outputs/NAME-HASH, or outputs, which is taken where none is named",
    )  # fmt: skip
    parser.add_argument("--watch", action="store_true", help="draw the table again every few seconds until nothing runs")
    parser.add_argument("--every", type=float, default=5.0, metavar="SECONDS", help="with --watch (5)")
    parsed = parser.parse_args(arguments)
    if parsed.every <= 0:
        parser.error("--every must be above 0")
    if not parsed.watch:
        console().print(_shown(parsed.folder))
        return 0
    with Live(_shown(parsed.folder), console=console(), auto_refresh=False) as live:
        quiet = 0 if _runs(parsed.folder) else _QUIET
        while quiet < _QUIET:
            time.sleep(parsed.every)
            quiet = 0 if _runs(parsed.folder) else quiet + 1
            live.update(_shown(parsed.folder), refresh=True)
    return 0


def _shown(folder: Path) -> Group:
    if (folder / "sweep.json").exists():
        return Group(*sweep_tables(folder))
    if (folder / "run.json").is_file():
        return Group(run_table(folder))
    if tables := folder_tables(folder):
        return Group(*tables)
    raise nothing_stored(folder, sweeps=True)


def _runs(folder: Path) -> bool:
    """Whether anything in the folder is under way."""
    if (folder / "sweep.json").exists():
        return any(cell.state == RUNNING for cell in read_sweep(folder).cells)
    runs = [folder] if (folder / "run.json").is_file() else [path.parent for path in folder.glob("*/run.json")]
    return any(run_state(run) == RUNNING for run in runs)
