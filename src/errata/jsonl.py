"""Records as JSON Lines, and files that are whole after a kill at any moment."""

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeVar

import msgspec

Record = TypeVar("Record")
log = logging.getLogger("errata")


def storable(text: str) -> str:
    """The text as UTF-8 can hold it: half a surrogate (JSON may escape one, no file can keep it) becomes "?"."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def encode_lines(records: Iterable[Any]) -> bytes:
    """Records as JSON Lines."""
    return b"".join(msgspec.json.encode(record) + b"\n" for record in records)


def decode_lines(content: bytes, kind: type[Record]) -> list[Record]:
    r"""Records from JSON Lines, split on "\n" only: some texts hold U+2028."""
    return [msgspec.json.decode(line, type=kind) for line in content.split(b"\n") if line]


def write_atomically(path: Path, content: bytes) -> None:
    """Replace the file in one step: a reader, or a kill, sees the old content or the new, never a part."""
    with streamed(path) as file:
        file.write(content)


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
