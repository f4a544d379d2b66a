"""How far runs and sweeps have come, read from what they have written: stages, counts, cells."""

import re
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from errata.errors import RunFolderError
from errata.finished import unfinished
from errata.lock import is_held
from errata.records import StageRecord
from errata.run_folder import describe, read_stage
from errata.sweep import FAILED, FINISHED, RUNNING, STATES, STOPPED, Cell, read_sweep

_COLOURS = {RUNNING: "cyan", STOPPED: "yellow", FAILED: "red", FINISHED: "green"}
_NAMED = 3
"""Datasets whose accuracies stand in one cell; of more only the mean has room."""


@dataclass(frozen=True)
class Progress:
    """How far one run has come; `accuracy` is that of its last iteration measured, by dataset."""

    stages: list[tuple[StageRecord, bool]]
    place: str
    accuracy: dict[str, float]
    requests: int
    paid_usd: float | None
    seconds: float


def progress(run: Path) -> Progress:
    """What a run's stages say.

    Raises:
        RunFolderError: a stage's record cannot be read.
    """
    stages: list[tuple[float, StageRecord]] = []
    for path in run.rglob("stage.json"):
        try:
            if (record := read_stage(path.parent)) is not None:
                stages.append((path.stat().st_mtime, record))
        except FileNotFoundError:  # done again at this moment
            continue
        except msgspec.MsgspecError as error:
            raise RunFolderError(
                f"{path} cannot be read ({error}): remove its folder, and the run does that stage again"
            ) from error
    ordered = [record for _, record in sorted(stages, key=lambda stage: stage[0])]
    asked = [record.counts for record in ordered if "requests" in record.counts]
    prices = [counts.get("paid usd", 0.0) for counts in asked]
    return Progress(
        [(record, record.finished) for record in ordered],
        next((record.name for record in reversed(ordered) if not record.finished), ordered[-1].name if ordered else ""),
        _accuracy(ordered),
        sum(int(counts["requests"]) for counts in asked),
        None if any(isinstance(price, str) for price in prices) else sum(prices),
        sum(record.seconds for record in ordered if record.finished),
    )


def _accuracy(stages: list[StageRecord]) -> dict[str, float]:
    """Accuracy by dataset in the last iteration that measured it; `practice` of an iteration is asked on other splits."""
    last: dict[str, tuple[int, float]] = {}
    for record in stages:
        found = re.fullmatch(r"iteration_(\d+)/([^/]+)/(test|dev|train)", record.name)
        counts = record.counts
        if not found or not record.finished or not counts.get("questions"):
            continue
        number, name, split = int(found.group(1)), found.group(2), found.group(3)
        if split != "test" and any(other.name.endswith("/test") for other in stages):
            continue
        if name not in last or last[name][0] <= number:
            last[name] = (number, counts["right"] / counts["questions"])
    return {name: accuracy for name, (_, accuracy) in sorted(last.items())}


def run_state(run: Path) -> str:
    """Where a run stands."""
    if is_held(run / ".lock"):
        return RUNNING
    return FINISHED if unfinished(run) is None else STOPPED


def sweep_tables(folder: Path) -> list[RenderableType]:
    """A sweep's cells, one a row, and their sums; what is wrong with any stands below.

    Raises:
        RunFolderError: the folder is no sweep's, or another version's.
    """
    sweep = read_sweep(folder)
    names = list(dict.fromkeys(name for cell in sweep.cells for name in cell.overrides))
    counted = Counter(cell.state for cell in sweep.cells)
    states = ", ".join(f"{counted[state]} {state}" for state in STATES if counted[state])
    table = Table(
        title=f"{escape(folder.name)} (errata {sweep.command}): {len(sweep.cells)} cells, {states or 'none yet'}",
        title_justify="left",
    )
    for head in ("cell", *map(escape, names), "state", "at"):
        table.add_column(head)
    for head in ("accuracy, %", "requests", "paid, USD", "seconds"):
        table.add_column(head, justify="right")
    table.add_column("run")
    runs = {cell.run: progress(cell.run) for cell in sweep.cells if cell.run is not None}
    seen: set[Path] = set()
    for cell in sweep.cells:
        found = runs.get(cell.run) if cell.run is not None else None
        again = cell.run in seen
        table.add_row(
            str(cell.number),
            *(escape(cell.overrides.get(name, "")) for name in names),  # corpus=[belle] is no markup
            f"[{_COLOURS.get(cell.state, 'dim')}]{cell.state}[/]",
            _where(cell, found),
            *(_figures(found) if found is not None and found.stages else ["", "", "", ""]),
            (cell.run.name if cell.run is not None else "") + (" (the same)" if again else ""),
        )
        if cell.run is not None:
            seen.add(cell.run)
    prices = [found.paid_usd for found in runs.values()]
    table.add_section()
    table.add_row(
        "all", *("" for _ in names), "", "", "",
        str(sum(found.requests for found in runs.values())),
        "unknown" if None in prices else f"{sum(filter(None, prices)):.4f}",
        f"{sum(found.seconds for found in runs.values()):.0f}",
    )  # fmt: skip
    return [table, *(Text(f"cell {cell.number}: {cell.error}") for cell in sweep.cells if cell.error)]


def _where(cell: Cell, found: Progress | None) -> str:
    if cell.state == FINISHED or found is None or not found.place:
        return ""
    host = f" on {cell.host}, process {cell.pid}" if cell.state == RUNNING and cell.host else ""
    return found.place + host


def _figures(found: Progress) -> list[str]:
    price = "unknown" if found.paid_usd is None else f"{found.paid_usd:.4f}"
    return [_accuracies(found.accuracy), str(found.requests), price, f"{found.seconds:.0f}"]


def _accuracies(by_dataset: Mapping[str, float]) -> str:
    """`62.5` of one dataset; of several each by its name, or, where they are many, their mean alone."""
    if len(by_dataset) < 2:
        return "".join(f"{100 * value:.1f}" for value in by_dataset.values())
    mean = f"{100 * sum(by_dataset.values()) / len(by_dataset):.1f}"
    if len(by_dataset) > _NAMED:
        return f"mean of {len(by_dataset)} datasets {mean}"
    return ", ".join([*(f"{name} {100 * value:.1f}" for name, value in by_dataset.items()), f"mean {mean}"])


def run_table(run: Path) -> Table:
    """A run's stages, in the order of their work."""
    found = progress(run)
    table = Table(title=f"{escape(run.name)}: {run_state(run)}", title_justify="left")
    for head in ("stage", "state", "counts"):
        table.add_column(head)
    table.add_column("seconds", justify="right")
    under_way = RUNNING if is_held(run / ".lock") else STOPPED
    for record, finished in found.stages:
        state = FINISHED if finished else under_way
        table.add_row(
            record.name, f"[{_COLOURS[state]}]{state}[/]", escape(describe(record.counts)), f"{record.seconds:.0f}"
        )
    return table


def folder_tables(outputs: Path) -> list[Table]:
    """The sweeps and the runs of an output folder, the latest last."""
    tables = []
    if sweeps := sorted(outputs.glob("sweeps/*/sweep.json"), key=lambda path: path.stat().st_mtime):
        table = Table(title="sweeps", title_justify="left")
        for head in ("sweep", "cells", "states"):
            table.add_column(head)
        for path in sweeps:
            table.add_row(*map(escape, (path.parent.name, *_summary(path.parent))))
        tables.append(table)
    if runs := sorted(outputs.glob("*/run.json"), key=lambda path: path.stat().st_mtime):
        table = Table(title="runs", title_justify="left")
        for head in ("run", "begun or continued", "state", "at"):
            table.add_column(head)
        for head in ("accuracy, %", "requests", "paid, USD", "seconds"):
            table.add_column(head, justify="right")
        for path in runs:
            state = run_state(path.parent)
            begun = time.strftime("%Y-%m-%d %H:%M", time.localtime(path.stat().st_mtime))
            row = [escape(path.parent.name), begun, f"[{_COLOURS[state]}]{state}[/]"]
            try:
                found = progress(path.parent)
            except RunFolderError as error:  # the others are shown all the same
                table.add_row(*row, escape(str(error)))
                continue
            table.add_row(*row, "" if state == FINISHED else found.place, *_figures(found))
        tables.append(table)
    return tables


def _summary(folder: Path) -> list[str]:
    try:
        cells = read_sweep(folder).cells
    except RunFolderError as error:
        return ["", str(error)]
    counted: dict[str, Any] = Counter(cell.state for cell in cells)
    return [str(len(cells)), ", ".join(f"{counted[state]} {state}" for state in STATES if counted[state])]
