"""One cell of a sweep: passed over where its run is finished, else run, and what becomes of it written down."""

import gc
import json
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from traceback import format_exception
from typing import TYPE_CHECKING, Any

import msgspec

from errata.digests import digest
from errata.errors import ErrataError
from errata.finished import inputs_of, mark, unfinished, unmark
from errata.jsonl import write_atomically
from errata.lock import is_held, locked
from errata.run_folder import without_headers
from errata.secrets import Scrubber, configs_of, known_by
from errata.sweep import FAILED, FINISHED, RUNNING, CellRecord, Planned, cell_record, described, lock_of, sweep_record
from errata.terminal import muted, said_once
from errata.tracking.tracker import SWEEP

if TYPE_CHECKING:
    from errata.setup import Setup

log = logging.getLogger("errata")


@dataclass(frozen=True)
class Place:
    """Which cell this process is to run: the sweep's folder, the launcher's number for it, and all its overrides."""

    folder: Path
    number: int
    words: list[str]


def run_cell(place: Place, checked: "Callable[[], Setup]", command: "Callable[[Setup], object]") -> float | None:
    """Run a cell, or go on with it; the best accuracy on dev that its iterations reached, where dev was measured.

    In a grid a failure is written down and the other cells go on; the sweep's end names it. A cell that another process
    runs at this moment is left to that one.

    Raises:
        ErrataError: a cell that a sampler has chosen failed: it cannot choose on without the outcome.
    """
    sweep = sweep_record(place.folder)
    try:
        with said_once(anew=False):
            setup = checked()
    except ErrataError as error:
        _Record(place, sweep.known).failed(error)
        return None
    record = _Record(place, sweep.known, setup)
    lock = lock_of(place.folder, setup.folder.name)
    if sweep.known and is_held(lock):
        log.info("cell %s is under way in another process: left to that", record.title)
        return None
    with locked(lock):
        if getattr(setup.settings, "decisions", None) is None and unfinished(setup.folder) is None:
            log.info("cell %s is finished", record.title)
            return _dev_accuracy(setup.folder)
        try:
            record.write(RUNNING)
            log.info("cell %s", record.title)
            with _named(place.folder.name), muted():
                run(setup, command)
        except Exception as error:  # noqa: BLE001 - whatever ends a cell, the others go on
            record.failed(error)
            return None
        finally:
            gc.collect()  # what a model held is free for the next cell
        record.write(FINISHED)
        return _dev_accuracy(setup.folder)


def run(setup: "Setup", command: "Callable[[Setup], object]") -> None:
    """Run a command; a run that came to its end carries the mark of it."""
    settings = setup.settings
    with known_by(setup.resolved):
        if settings.dry_run or getattr(settings, "preview", None) is not None:
            command(setup)
            return
        setup = replace(setup, over=unfinished(setup.folder) is None)
        unmark(setup.folder)
        inputs = inputs_of(setup.folder, setup.plain)  # before it is read: what changes under the run is not what it read
        command(setup)
    if not getattr(settings, "prepare", False) and (setup.folder / "run.json").is_file():
        mark(setup.folder, inputs)


@contextmanager
def _named(sweep: str) -> Iterator[None]:
    """Tell what runs in this process, and below it, which sweep it belongs to."""
    os.environ[SWEEP] = sweep
    try:
        yield
    finally:
        os.environ.pop(SWEEP, None)


def one_line(error: BaseException, config: Any = None) -> str:
    """An error as one line, without the secrets that the environment holds, or a file that the config names."""
    said = " ".join(str(error).split())
    text = said if isinstance(error, ErrataError) else f"{type(error).__name__}: {said}".removesuffix(": ")
    text = Scrubber([config, configs_of(error)]).text(text)
    return text if len(text) <= 500 else f"{text[:499]}…"


class _Record:
    """The file of one cell."""

    def __init__(self, place: Place, known: bool, setup: "Setup | None" = None) -> None:
        self.known, self.started = known, time.time()
        self.config = setup.resolved if setup is not None else {}
        run = setup.folder if setup is not None else None
        planned = _planned(place, run)
        self.number, self.overrides, self.run = planned.number, planned.overrides, run
        self.path = place.folder / "cells" / f"{run.name if run is not None else planned.run}.json"
        self.title = described(self.number, self.overrides)

    def write(self, state: str, error: str = "") -> None:
        """Write down where the cell stands."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        name = self.run.name if self.run is not None else None
        ended = 0.0 if state == RUNNING else time.time()
        host, pid = socket.gethostname(), os.getpid()
        record = CellRecord(self.number, self.overrides, name, state, error, host, pid, self.started, ended)
        write_atomically(self.path, msgspec.json.format(msgspec.json.encode(record), indent=1))

    def failed(self, error: Exception) -> None:
        """Write down that the cell failed; in a grid that is all."""
        said = one_line(error, self.config)
        trace = [] if isinstance(error, ErrataError) else format_exception(error)
        log.error(
            "cell %s failed: %s",
            self.title,
            Scrubber(self.config).text("".join([said, *(f"\n{part}".rstrip() for part in trace)])),
        )
        try:
            self.write(FAILED, said)
        except OSError as full:  # the sweep's end names the cell all the same
            log.error("cell %s: this cannot be written down: %s", self.title, full)
            if self.known:
                with suppress(OSError):
                    self.path.unlink(missing_ok=True)  # it may still say that the cell has finished once
        if not self.known:
            raise ErrataError(f"cell {self.title} failed: {said}") from None


def _planned(place: Place, run: Path | None) -> Planned:
    """The cell as the grid has it; of a sampler's cell, its next free number and what the sampler chose."""
    sweep = sweep_record(place.folder)
    if sweep.known:
        return next(cell for cell in sweep.cells if cell.number == place.number)
    overrides = dict(word.split("=", 1) for word in without_headers(place.words) if word not in sweep.overrides)
    name = run.name if run is not None else f"{sweep.command}-{digest(overrides)[:8]}"
    cells = place.folder / "cells"
    with locked(cells / ".numbers"):
        earlier = cell_record(cells / f"{name}.json")
        if earlier is not None:
            return Planned(earlier.number, overrides, name)
        numbers = [record.number for path in cells.glob("*.json") if (record := cell_record(path)) is not None]
        number = max(numbers, default=-1) + 1
        taken = CellRecord(number, overrides, name if run is not None else None, RUNNING)
        write_atomically(cells / f"{name}.json", msgspec.json.encode(taken))
    return Planned(number, overrides, name)


def _dev_accuracy(run: Path) -> float | None:
    """The best accuracy on dev after an iteration of training: what a sampler goes by."""
    file = run / "results.json"
    results: dict[str, Any] = json.loads(file.read_bytes()) if file.is_file() else {}
    return max((float(part["accuracy"]) for part in results.get("dev", []) if part["iteration"]), default=None)
