"""Where each stage's records are, and how a killed run goes on.

A run folder is named by what is run, `NAME-HASH`, so the same command finds the same folder. Inside it every stage has a
folder with a `stage.json` (its inputs, and whether it finished) and its records as JSONL. While a stage works it appends
to a journal; when it ends, the records are put in order, written in one atomic step and sealed with their digest. A stage
whose inputs are unchanged is skipped, a half-done one continues after its last whole record, one whose inputs changed is
done again and says which of them changed.
"""

import fcntl
import json
import logging
import re
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Self, TypeVar

import msgspec
import yaml

from errata.digests import digest, digest_of_file
from errata.errors import RunFolderError
from errata.jsonl import Journal, decode_lines, encode_lines, write_atomically
from errata.provenance import local_files, provenance
from errata.records import StageRecord
from errata.version import __version__

Record = TypeVar("Record")
CONFIG = "config.yaml"
"""Beside run.json: every setting, resolved."""
log = logging.getLogger("errata")


class Stage:
    """One step of a run in its folder: finished, half-done, or to be done. Made by `RunFolder.stage`."""

    def __init__(self, folder: Path, name: str, inputs: dict[str, Any]) -> None:
        self.folder = folder
        self.name = name
        stored = read_stage(folder)
        inputs = json.loads(json.dumps(inputs, default=str))
        self.changed = [] if stored is None else changed_fields(stored.inputs, inputs)
        if stored is not None and not self.changed and stored.finished and not self._intact(stored):
            self.changed = ["outputs on disk"]
        if stored is None or self.changed:
            if self.changed:
                log.info("%s is done again: %s changed", name, ", ".join(self.changed))
            if folder.exists():
                shutil.rmtree(folder)
            folder.mkdir(parents=True)
            stored = StageRecord(name, inputs)
            self._save(stored)
        self.record = stored
        self._start = time.monotonic()

    @property
    def finished(self) -> bool:
        """Whether the outputs are complete and belong to these inputs."""
        return self.record.finished

    @property
    def outputs(self) -> dict[str, str]:
        """Digest of each output, by name: what a later stage names among its inputs."""
        return self.record.outputs

    def journal(self, name: str, kind: type[Record]) -> Journal[Record]:
        """The append-only file in which this stage's records land as they are made."""
        return Journal(self.folder / f"{name}.journal", kind)

    def read(self, name: str, kind: type[Record]) -> list[Record]:
        """A finished stage's records."""
        return decode_lines((self.folder / f"{name}.jsonl").read_bytes(), kind)

    def finish(self, counts: dict[str, Any], outputs: dict[str, str] | None = None, **tables: Sequence[Any]) -> None:
        """Seal the stage: write each table to NAME.jsonl, drop the journals, mark it finished, say so in one line.

        Args:
            counts: what the stage's log line and the report show.
            outputs: digests of outputs that are no tables (a model folder, say), or of tables that are in place already.
            tables: records in their final order.
        """
        outputs = dict(outputs or {})
        for name, records in tables.items():
            content = encode_lines(records)
            write_atomically(self.folder / f"{name}.jsonl", content)
            outputs[name] = digest(content)
        seconds = time.monotonic() - self._start
        self._save(StageRecord(self.name, self.record.inputs, True, outputs, counts, round(seconds, 2)))
        for journal in self.folder.glob("*.journal"):
            journal.unlink()
        log.info("%-30s %s  %.1f s", self.name, describe(counts), seconds)

    def _save(self, record: StageRecord) -> None:
        self.record = record
        write_atomically(
            self.folder / "stage.json", json.dumps(msgspec.to_builtins(record), indent=1, allow_nan=False).encode()
        )

    def _intact(self, stored: StageRecord) -> bool:
        tables = {path.stem: path for path in self.folder.glob("*.jsonl")}
        return all(
            name in tables and digest_of_file(tables[name]) == value
            for name, value in stored.outputs.items()
            if not (self.folder / name).is_dir()
        )


class RunFolder:
    """The folder of one run, held by one process at a time.

    Its run.json says what is run, by which command, and with what (see `errata.provenance`); config.yaml holds every
    setting, those too that cannot change a result, so that the run can be made again from its folder alone.

    Args:
        path: the folder.
        config: the settings that can change a result.
        command: `improve`, `evaluate` ...
        resolved: every setting.

    Raises:
        RunFolderError: the folder cannot be written, is in use, or was written by another version of Errata.
    """

    def __init__(
        self, path: Path, config: dict[str, Any], command: str = "", resolved: dict[str, Any] | None = None
    ) -> None:
        self.path = path
        self._visited: set[str] = set()
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._lock = (path / ".lock").open("w")
        except OSError as error:
            raise RunFolderError(
                f"cannot write to the run folder {path}: {error.strerror}. Choose a writable place with output_dir=FOLDER."
            ) from error
        try:
            _take(self._lock)
        except OSError as error:
            self._lock.close()
            raise RunFolderError(
                f"the run folder {path} is in use by another process. Wait for it, or stop it, then run the command again."
            ) from error
        former = self._checked_manifest()
        made_with = provenance(former.get("provenance"), local_files(resolved))
        manifest = {
            "version": __version__,
            "errata_command": command,
            "command": without_headers(sys.argv),
            "config": config,
        }
        write_atomically(path / "run.json", json.dumps(manifest | {"provenance": made_with}, indent=1).encode())
        if resolved:
            write_atomically(path / CONFIG, yaml.safe_dump(resolved, sort_keys=False, allow_unicode=True).encode())
        self._log = logging.FileHandler(path / "run.log")
        self._log.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        log.addHandler(self._log)
        log.setLevel(logging.INFO)
        stages = [read_stage(found.parent) for found in path.rglob("stage.json")]
        if stages:
            log.info(
                "continuing %s: %d stages were finished before", path, sum(s is not None and s.finished for s in stages)
            )

    def stage(self, name: str, **inputs: Any) -> Stage:
        """The stage of that name with these inputs: everything that can change its result, and nothing else."""
        self._visited.add(name)
        return Stage(self.path / name, name, {"version": __version__, **inputs})

    def drop_unvisited(self) -> None:
        """Remove stages that this run did not come by: a former one went further, with other data."""
        for found in list(self.path.rglob("stage.json")):
            name = found.parent.relative_to(self.path).as_posix()
            if name not in self._visited:
                log.info("%s belongs to a former run with other data: removed", name)
                shutil.rmtree(found.parent)

    def close(self) -> None:
        """Let go of the folder, so that another process may continue it."""
        log.removeHandler(self._log)
        self._log.close()
        self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _checked_manifest(self) -> dict[str, Any]:
        """What a former start of this run has left in run.json; nothing where this is the first."""
        if not (self.path / "run.json").exists():
            return {}
        manifest: dict[str, Any] = json.loads((self.path / "run.json").read_bytes())
        written_by = manifest["version"]
        if written_by != __version__:
            self._lock.close()
            raise RunFolderError(
                f"the run folder {self.path} was written by Errata {written_by}, this is {__version__}. "
                "Remove or rename the folder to run it afresh, or go on with the version that wrote it."
            )
        return manifest


def _take(lock: IO[str]) -> None:
    """Take the lock; a holder of less than a second only looked whether it is held (`errata status`).

    Raises:
        OSError: it is held.
    """
    for left in reversed(range(_LOOKS)):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError:
            if not left:
                raise
            time.sleep(0.05)


_LOOKS = 10


def read_stage(folder: Path) -> StageRecord | None:
    """The stage record in a folder, or None where no stage was started."""
    path = folder / "stage.json"
    return msgspec.json.decode(path.read_bytes(), type=StageRecord) if path.exists() else None


def changed_fields(before: dict[str, Any], after: dict[str, Any], prefix: str = "") -> list[str]:
    """Dotted names of the fields that differ between two sets of inputs."""
    names: list[str] = []
    for key in sorted(before.keys() | after.keys()):
        old, new = before.get(key), after.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            names += changed_fields(old, new, f"{prefix}{key}.")
        elif old != new:
            names.append(f"{prefix}{key}")
    return names


def without_headers(words: Sequence[str]) -> list[str]:
    """A command line without the values of headers: nobody knows what is in them."""
    return [_HEADERS.sub(lambda found: f"{found[1] or found[2]}(left out)", word) for word in words]


_PRICES = {"usd": "price {}", "paid usd": "paid {}", "estimated usd": "estimated {}"}
_HEADERS = re.compile(r"(?s)^(?:([^=]*\bheaders\b[^=]*=)|([^=]*=)(?=.*\bheaders\b['\"]?\s*:)).*")
"""In the name, or in a value of several settings: `instructor={headers: {X: 1}}`."""


def describe(counts: dict[str, Any]) -> str:
    """Counts as they stand in a log line: `240 questions, 37 correct (a 3, b 1)`."""
    parts: list[str] = []
    for name, value in counts.items():
        if (name in _PRICES or name == "from the ledger") and value == 0:
            continue  # nothing costs anything, or nothing was there before
        if name == "paid tokens" and value == counts.get("tokens"):
            continue
        if name in _PRICES:
            parts.append(_PRICES[name].format(f"${value:.4f}" if isinstance(value, int | float) else value))
        elif isinstance(value, dict):
            inner = ", ".join(f"{key} {number}" for key, number in sorted(value.items()))
            if inner and name == "wall":
                parts.append(f"held against the tests of {inner}")
            elif inner and parts:
                parts[-1] += f" ({inner})"
        else:
            parts.append(f"{value:g} {name}" if isinstance(value, float) else f"{value} {name}")
    return ", ".join(parts)
