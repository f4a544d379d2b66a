"""Where each stage's records are, and how a killed run goes on.

A run folder is named by what is run, `NAME-HASH`, so the same command finds the same folder. Inside it every stage has a
folder with a `stage.json` (its inputs, and whether it finished) and its records as JSONL. While a stage works it appends
to a journal; when it ends, the records are put in order, written in one atomic step and sealed with their digest. A stage
whose inputs are unchanged is skipped, a half-done one continues after its last whole record, one whose inputs changed is
done again and says which of them changed.
"""

import fcntl
import hashlib
import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Generic, Self, TypeVar

import msgspec

from errata.errors import RunFolderError
from errata.records import StageRecord
from errata.version import __version__

Record = TypeVar("Record")
log = logging.getLogger("errata")


def digest(value: Any) -> str:
    """Short hex hash of bytes, of a text, or of anything JSON can hold (keys sorted)."""
    if not isinstance(value, bytes):
        value = value.encode() if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str).encode()
    return hashlib.sha256(value).hexdigest()[:16]


def storable(text: str) -> str:
    """The text as UTF-8 can hold it: half a surrogate (JSON may escape one, no file can keep it) becomes "?"."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def digest_of_file(path: Path) -> str:
    """What `digest` says of the file's bytes, of which only a part is in memory at a time."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def fingerprint_folder(folder: Path) -> str:
    """Hash of a model folder: small files whole; of a weight file its size, first and last MiB."""
    parts = []
    for path in sorted(folder.iterdir()):
        if not path.is_file() or path.suffix not in _HASHED_SUFFIXES:
            continue
        size = path.stat().st_size
        with path.open("rb") as file:
            content = file.read(1 << 20)
            if size > 2 << 20:
                file.seek(-(1 << 20), 2)
            content += file.read()
        parts.append([path.name, size, digest(content)])
    return digest(parts)


_HASHED_SUFFIXES = (".json", ".safetensors", ".bin", ".jinja", ".model", ".txt", ".gguf")


def encode_lines(records: Iterable[Any]) -> bytes:
    """Records as JSON Lines."""
    return b"".join(msgspec.json.encode(record) + b"\n" for record in records)


def decode_lines(content: bytes, kind: type[Record]) -> list[Record]:
    r"""Records from JSON Lines, split on "\n" only: some texts hold U+2028."""
    return [msgspec.json.decode(line, type=kind) for line in content.split(b"\n") if line]


def write_atomically(path: Path, content: bytes) -> None:
    """Replace the file in one step: a reader, or a kill, sees the old content or the new, never a part."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


@contextmanager
def streamed(path: Path) -> Iterator[BinaryIO]:
    """A file that is written as a stream and is there, under its name, only when it is whole."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


class Journal(Generic[Record]):
    """An append-only JSONL file of one kind of record, good after a kill at any moment.

    Opening it drops a half-written last line; `records` then holds what was kept.
    """

    def __init__(self, path: Path, kind: type[Record]) -> None:
        self.path = path
        content = path.read_bytes() if path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            log.info("%s: dropped a half-written record", path.name)
            os.truncate(path, len(whole))
        self.records = decode_lines(whole, kind)

    def append(self, records: Sequence[Record]) -> None:
        """Write the records and have them on the disk before returning."""
        with self.path.open("ab") as file:
            file.write(encode_lines(records))
            file.flush()
            os.fsync(file.fileno())
        self.records.extend(records)


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

    Raises:
        RunFolderError: the folder cannot be written, is in use, or was written by another version of Errata.
    """

    def __init__(self, path: Path, config: dict[str, Any]) -> None:
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
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.close()
            raise RunFolderError(
                f"the run folder {path} is in use by another process. Wait for it, or stop it, then run the command again."
            ) from error
        self._check_version()
        manifest = {"version": __version__, "command": sys.argv, "config": config}
        write_atomically(path / "run.json", json.dumps(manifest, indent=1).encode())
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

    def _check_version(self) -> None:
        manifest = self.path / "run.json"
        if not manifest.exists():
            return
        written_by = json.loads(manifest.read_bytes())["version"]
        if written_by != __version__:
            self._lock.close()
            raise RunFolderError(
                f"the run folder {self.path} was written by Errata {written_by}, this is {__version__}. "
                "Remove or rename the folder to run it afresh, or go on with the version that wrote it."
            )


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


def describe(counts: dict[str, Any]) -> str:
    """Counts as they stand in a log line: `240 questions, 37 correct (a 3, b 1)`."""
    parts: list[str] = []
    for name, value in counts.items():
        if isinstance(value, dict):
            inner = ", ".join(f"{key} {number}" for key, number in sorted(value.items()))
            if inner and parts:
                parts[-1] += f" ({inner})"
        else:
            parts.append(f"{value:g} {name}" if isinstance(value, float) else f"{value} {name}")
    return ", ".join(parts)
