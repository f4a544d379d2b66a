"""A sample of training rows for a page, each with the chain back to the error that made it."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from errata.digests import digest
from errata.errors import ErrataError
from errata.records import Example
from errata.report.arms import Arm
from errata.report.lineage import chain
from errata.report.stored import read_lines

SAMPLED = 60
_LONGEST = 4000


def chains(arms: Sequence[Arm], sampled: int = SAMPLED) -> tuple[list[dict[str, Any]], int]:
    """Rows of practice with what they go back to, the same sample each time; and how many rows there are in all."""
    sets = [
        (run, path)
        for arm in arms
        for run in arm.runs
        for path in sorted(run.path.glob("iteration_*/mix/train.jsonl"))
    ]  # fmt: skip
    total, shown = 0, list[dict[str, Any]]()
    share = max(1, sampled // len(sets)) if sets else 0
    for number, (run, path) in enumerate(sets):
        rows = read_lines(path, Example)
        total += len(rows)
        if len(shown) < sampled:
            lowest = sorted(rows, key=lambda row: digest([number, row.id]))[: min(share, sampled - len(shown))]
            read = functools.cache(read_lines)
            shown += [_chain(run.name, run.path, row, read) for row in lowest]
    return shown, total


def _chain(run: str, place: Path, row: Example, read: Any) -> dict[str, Any]:
    try:
        steps = chain(place, row, read)
    except ErrataError as error:
        steps = [("the chain is broken", str(error))]
    cut = [(title, body if len(body) <= _LONGEST else f"{body[:_LONGEST]} ...") for title, body in steps]
    return {"run": run, "dataset": row.dataset, "iteration": row.iteration, "id": row.id, "steps": _from_error(cut)}


def _from_error(steps: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """The steps in the order in which they happened: the training row, which `errata why` shows first, comes last."""
    return [*steps[1:], steps[0]] if len(steps) > 1 else list(steps)
