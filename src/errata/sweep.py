"""A sweep's folder, read: what varies, where each cell stands, which run it is.

`OUTPUT_DIR/sweeps/NAME-HASH` holds `sweep.json` (the command and the grid, from the start) and in `cells/` one small file a
run, which the process that runs it writes. Run folders are named, not copied.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from errata.errors import RunFolderError
from errata.finished import unfinished
from errata.lock import is_held
from errata.version import __version__

STATES = WAITING, RUNNING, STOPPED, FAILED, FINISHED = ("waiting", "running", "stopped", "failed", "finished")


@dataclass(frozen=True)
class Cell:
    """One combination of a sweep: the overrides that vary, its run folder (None: not known yet) and where it stands."""

    number: int
    overrides: dict[str, str]
    run: Path | None
    state: str
    error: str = ""
    host: str = ""
    pid: int = 0
    started: float = 0.0
    ended: float = 0.0


@dataclass(frozen=True)
class Sweep:
    """All cells of a sweep, by number; of one whose sampler chooses as it goes, those that there are so far."""

    path: Path
    command: str
    overrides: list[str]
    cells: list[Cell]


class Planned(msgspec.Struct, frozen=True):
    """A cell of a grid, as sweep.json holds it; `run` is the run folder's name."""

    number: int
    overrides: dict[str, str]
    run: str


class SweepRecord(msgspec.Struct, frozen=True):
    """What sweep.json holds; `known` is false where the sampler chooses the cells as it goes."""

    version: str
    command: str
    overrides: list[str]
    known: bool
    cells: list[Planned]


class CellRecord(msgspec.Struct, frozen=True):
    """What the process that runs a cell has written about it; times in seconds since the epoch."""

    number: int
    overrides: dict[str, str]
    run: str | None
    state: str
    error: str = ""
    host: str = ""
    pid: int = 0
    started: float = 0.0
    ended: float = 0.0


def read_sweep(folder: Path) -> Sweep:
    """The sweep in a folder, as it stands at this moment.

    Raises:
        RunFolderError: the folder is no sweep's, or another version of Errata has written it.
    """
    stored = sweep_record(folder)
    records = {path.stem: record for path in (folder / "cells").glob("*.json") if (record := cell_record(path)) is not None}
    planned = {cell.number: cell for cell in stored.cells}
    if not stored.known:
        planned = {
            record.number: Planned(record.number, record.overrides, record.run or name) for name, record in records.items()
        }
    cells = [_cell(folder, planned[number], records.get(planned[number].run)) for number in sorted(planned)]
    return Sweep(folder, stored.command, stored.overrides, cells)


def sweep_record(folder: Path) -> SweepRecord:
    """What a sweep's folder says of its grid.

    Raises:
        RunFolderError: as `read_sweep`.
    """
    file = folder / "sweep.json"
    if not file.is_file():
        raise RunFolderError(f"{folder} is no sweep (it has no sweep.json); expected outputs/sweeps/NAME-HASH")
    try:
        version = msgspec.json.decode(file.read_bytes())["version"]
        if version == __version__:
            return msgspec.json.decode(file.read_bytes(), type=SweepRecord)
    except (msgspec.MsgspecError, KeyError, TypeError) as error:
        raise RunFolderError(
            f"{file} cannot be read ({error}). Remove it and give the sweep's command again: the runs stay as they are."
        ) from error
    raise RunFolderError(
        f"{folder} was written by Errata {version}, this is {__version__}. Read it with the version that wrote it, or "
        "remove the folder and give the command again."
    )


def lock_of(folder: Path, run: str) -> Path:
    """The lock that whoever runs a cell holds, in whichever sweep of the output folder."""
    return folder.parent / ".locks" / f"{run}.lock"


def described(number: int, overrides: dict[str, str]) -> str:
    """A cell in a sentence: `3 (strategy=le, seed=0)`."""
    return f"{number} ({', '.join(f'{name}={value}' for name, value in overrides.items())})" if overrides else str(number)


def cell_record(path: Path) -> CellRecord | None:
    """What is written of a cell; None where nothing is, or nothing that can be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=CellRecord)
    except (OSError, msgspec.MsgspecError):
        return None


def _cell(folder: Path, planned: Planned, record: CellRecord | None) -> Cell:
    run = folder.resolve().parent.parent / planned.run
    known: dict[str, Any] = {"run": run if record is None or record.run is not None else None}
    if record is not None:
        known |= {"error": record.error, "host": record.host, "pid": record.pid}
        known |= {"started": record.started, "ended": record.ended}
    if is_held(lock_of(folder, planned.run)):
        return Cell(planned.number, planned.overrides, state=RUNNING, **known | {"error": ""})
    lacking = unfinished(run)
    if lacking is None:
        return Cell(planned.number, planned.overrides, state=FINISHED, **known | {"error": ""})
    if record is None:
        return Cell(planned.number, planned.overrides, state=WAITING, **known)
    if record.state == FINISHED:
        return Cell(planned.number, planned.overrides, state=WAITING, **known | {"error": f"to be done again: {lacking}"})
    state = STOPPED if record.state == RUNNING else record.state
    return Cell(planned.number, planned.overrides, state=state, **known)
