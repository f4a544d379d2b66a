"""The mark of a run that came to its end: by it a sweep passes over a finished cell without loading anything.

A single `errata improve` does not go by it: there every stage compares its inputs.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from errata.jsonl import write_atomically
from errata.provenance import existing
from errata.version import __version__

MARK = "finished.json"
_MOST_FILES = 2000
_LARGE = 16 << 20
"""Files above this many bytes are known by size and time; smaller ones by their content."""


def inputs_of(run: Path, plain: Any) -> dict[str, dict[str, str]]:
    """In what state each local file or folder is that a run's settings name, by its path as it stands there."""
    return {given: _noted(given, run) for given in _paths(plain, run)}


def mark(run: Path, inputs: Mapping[str, Mapping[str, str]]) -> None:
    """Note that the run is finished: its stages, and its inputs as they were when it began."""
    stages = sorted(path.parent.relative_to(run).as_posix() for path in run.rglob("stage.json"))
    content = {"version": __version__, "stages": stages, "inputs": inputs}
    write_atomically(run / MARK, json.dumps(content, indent=1).encode())


def unmark(run: Path) -> None:
    """The run is under way again."""
    if (run / MARK).is_file():
        (run / MARK).unlink()


def unfinished(run: Path) -> str | None:
    """Why the run does not count as finished; None where it does."""
    if not (run / "run.json").is_file():
        return "its run folder is gone"
    try:
        found = json.loads((run / MARK).read_bytes())
        version, stages, inputs = found["version"], found["stages"], found["inputs"]
        if version != __version__:
            return f"Errata {version} has made it, this is {__version__}"
        for stage in stages:
            if not (run / stage / "stage.json").is_file():
                return f"its stage {stage} is gone"
        return next(filter(None, (_changed(given, noted, run) for given, noted in inputs.items())), None)
    except FileNotFoundError:
        return "it has not come to its end"
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{MARK} is damaged, or of an earlier form"
    except OSError as error:
        return f"{error.filename} cannot be read ({error.strerror})"


def _noted(given: str, run: Path) -> dict[str, str]:
    """Where a file or folder is, from the root and from the run, and its state."""
    path = Path(given).expanduser().absolute()
    places = {"path": str(path), "from_run": os.path.relpath(path.resolve(), run.resolve())}
    try:
        files = _files(path)
        return places | {"touched": _touched(files), "content": _content(files, path)}
    except OSError:  # it may not be read: nothing is known of it
        return places | {"touched": "", "content": ""}


def _changed(given: str, noted: Mapping[str, str], run: Path) -> str | None:
    """What is wrong with an input; None where it is as it was, also if it was moved together with the run."""
    places = Path(noted["path"]), run.resolve() / noted["from_run"]
    path = next((place for place in places if place.exists()), None)
    if path is None:
        return f"{given} is gone"
    files = _files(path)
    if noted["touched"] and noted["touched"] == _touched(files):
        return None
    return None if noted["content"] and noted["content"] == _content(files, path) else f"{given} has changed"


def _paths(part: Any, run: Path) -> Iterator[str]:
    """The settings that name something on this disk, apart from folders that hold the run itself."""
    if isinstance(part, dict | list):
        for value in part.values() if isinstance(part, dict) else part:
            yield from _paths(value, run)
    elif isinstance(part, str):
        path = existing(part)
        if path is not None and not run.resolve().is_relative_to(path.resolve()):
            yield part


def _files(path: Path) -> list[Path]:
    """The file itself, or all files of a folder, the first of them where there are very many; of a run its stages' seals."""
    if (path / "run.json").is_file():
        return sorted(path.rglob("stage.json"))
    found = sorted(path.rglob("*"))[:_MOST_FILES] if path.is_dir() else [path]
    return [file for file in found if file.is_file()]


def _touched(files: Sequence[Path]) -> str:
    """A word for the files' sizes and times, that of the last change among them: it moves where the content's is kept."""
    stats = [(str(file), file.stat()) for file in files]
    return _word(repr([(name, each.st_size, each.st_mtime_ns, each.st_ctime_ns) for name, each in stats]))


def _content(files: Sequence[Path], root: Path) -> str:
    """A word for what the files hold, by their names below the root."""
    known = []
    for file in files:
        stat = file.stat()
        held = stat.st_mtime_ns if stat.st_size > _LARGE else hashlib.sha256(file.read_bytes()).hexdigest()
        known.append((file.relative_to(root).as_posix(), stat.st_size, held))
    return _word(repr(known))


def _word(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
