"""`errata why`: where a training row came from."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from errata.report.lineage import why


def run(arguments: Sequence[str]) -> int:
    """Print a row's lineage.

    Raises:
        RunFolderError: the folder is no run folder, or has no such row.
    """
    parser = argparse.ArgumentParser(prog="errata why", description="Show where a training row came from.")
    parser.add_argument("run", type=Path, metavar="RUN", help="run folder, outputs/NAME-HASH")
    parser.add_argument("row", metavar="ROW", help="row id, or its line number in the iteration's train.jsonl")
    parser.add_argument("--iteration", type=int, default=None, help="for a line number: the iteration (the last)")
    parsed = parser.parse_args(arguments)
    why(parsed.run, parsed.row, parsed.iteration)
    return 0
