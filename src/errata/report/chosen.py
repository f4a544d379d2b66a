"""Which runs `errata report` is asked about: run folders, a sweep's cells, the runs in a folder; each once, by a name."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from errata.errors import RunFolderError
from errata.places import nothing_stored
from errata.report.results import manifest
from errata.report.smoke_size import is_smoke
from errata.sweep import FAILED, FINISHED, STATES, Cell, read_sweep
from errata.version import __version__


@dataclass(frozen=True)
class Place:
    """A run that is asked about: its folder, how it is called, and what a sweep varies for it."""

    path: Path
    name: str = ""
    overrides: Mapping[str, str] = field(default_factory=dict)
    state: str = ""


@dataclass(frozen=True)
class Absent:
    """A cell of a sweep that has no run folder yet, why, and what the sweep varies for it."""

    label: str
    reason: str
    overrides: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Chosen:
    """What was found.

    Attributes:
        runs: each once, in the order given.
        absent: cells that have nothing to show.
        lines: what the reader must know of the choice.
        sweep: the folder, where it is one sweep that is asked about.
    """

    runs: list[Place] = field(default_factory=list)
    absent: list[Absent] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    sweep: Path | None = None


def choose(places: Sequence[Path]) -> Chosen:
    """The runs in these places.

    Raises:
        RunFolderError: a place is no run, no sweep and holds no runs; a sweep's cell and its run disagree; nothing is left.
    """
    chosen = Chosen(sweep=places[0] if len(places) == 1 and (places[0] / "sweep.json").is_file() else None)
    found: list[Place] = []
    for place in places:
        found += _runs_in(place, chosen)
    by_path: dict[Path, Place] = {}
    for each in found:
        first = by_path.setdefault(each.path.resolve(), each)
        if first is not each and first.overrides and each.overrides:
            alike = f"{_described(first.overrides)} and {_described(each.overrides)}"
            chosen.lines.append(f"{alike} are one run, {each.path.name}: what differs changes nothing in it; it counts once")
        elif first is not each:
            chosen.lines.append(f"{each.path} is given twice and counts once")
    chosen.runs = _named(list(by_path.values()))
    if not chosen.runs:
        states = "; ".join(f"{each.label}: {each.reason}" for each in chosen.absent)
        raise RunFolderError(
            f"there is no run to report in {', '.join(map(str, places)) or 'nothing'}" + (f" ({states})" if states else "")
        )
    versions: dict[str, list[str]] = {}
    for each in chosen.runs:
        versions.setdefault(str(manifest(each.path)["version"]), []).append(each.name)
    if len(versions) > 1:
        told = "; ".join(f"{version}: {', '.join(names)}" for version, names in versions.items())
        chosen.lines.append(f"the runs are of several versions of Errata ({told}); this is {__version__}")
    return chosen


def _runs_in(place: Path, chosen: Chosen) -> list[Place]:
    if (place / "run.json").is_file():
        return [Place(place)]
    if (place / "sweep.json").is_file():
        cells = read_sweep(place).cells
        counts = Counter(cell.state for cell in cells)
        if counts[FINISHED] < len(cells):
            told = ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])
            chosen.lines.append(f"the sweep is not complete: of {len(cells)} cells {told}")
        return [found for cell in cells if (found := _cell(place, cell, chosen)) is not None]
    inside = sorted((found.parent for found in place.glob("*/run.json")), key=_in_order) if place.is_dir() else []
    if not inside:
        raise nothing_stored(place, sweeps=True)
    return [Place(found) for found in inside]


def _in_order(run: Path) -> list[tuple[int, str]]:
    """By name, but `k_10` after `k_2`."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", run.name)]


def _cell(sweep: Path, cell: Cell, chosen: Chosen) -> Place | None:
    label = f"cell {cell.number} ({_described(cell.overrides)})"
    said = f"{cell.state}: {cell.error}" if cell.error else cell.state
    if cell.run is None or not (cell.run / "run.json").is_file():
        chosen.absent.append(Absent(label, said, cell.overrides))
        return None
    if cell.state != FINISHED:
        chosen.lines.append(f"{label} {'has' if cell.state == FAILED else 'is'} {said}")
    config = manifest(cell.run)["config"]
    for name, value in cell.overrides.items():
        held = _setting(config, name)
        if held is not _NO_SCALAR and not is_smoke(cell.run.name) and not _agrees(value, held):
            raise RunFolderError(
                f"{sweep} says {name}={value} of {label}, and its run {cell.run} has {name}={held}: the sweep is of another "
                "config than its runs. Give the sweep's command again, or report the run folders themselves"
            )
    return Place(cell.run, overrides=cell.overrides, state=said)


def _described(overrides: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in overrides.items())


_NO_SCALAR = object()


def _setting(config: Any, name: str) -> Any:
    """The scalar under a dotted name, or `_NO_SCALAR`: a chosen option of a group cannot be compared with its name."""
    for part in name.lstrip("+").split("."):
        if not isinstance(config, dict) or part not in config:
            return _NO_SCALAR
        config = config[part]
    return _NO_SCALAR if isinstance(config, dict | list) else config


def _agrees(value: str, held: Any) -> bool:
    """Whether an override, as it is written (`True`, `.5`, `'a b'`, `${seed}`), may have set what the config holds."""
    plain = value.strip("'\"")
    if "${" in plain or plain.lower() == ("null" if held is None else str(held).lower()):
        return True
    try:
        return float(plain) == float(held)
    except (TypeError, ValueError):
        return False


def _named(places: Sequence[Place]) -> list[Place]:
    """The places by their folders' names, with as many parents as it takes to tell them apart."""
    named = {place.path: place.path.resolve().name for place in places}
    for depth in range(2, 12):
        counts: dict[str, int] = {}
        for name in named.values():
            counts[name] = counts.get(name, 0) + 1
        alike = [path for path, name in named.items() if counts[name] > 1]
        if not alike:
            break
        named |= {path: "/".join(path.resolve().parts[-depth:]) for path in alike}
    return [replace(place, name=named[place.path]) for place in places]
