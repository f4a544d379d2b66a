"""Streams the records of JSON, JSON Lines, CSV, TSV and parquet files (gzipped too), never holding a file whole.

A JSON array goes through the decoder of the standard library one object at a time. An event parser (ijson) is two to three
times as fast, but stops at NaN, which published files hold (PandaLM's test set). Lines are split on "\\n" only: some texts
hold U+2028.
"""

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, BinaryIO, cast

import msgspec

from errata.errors import DataError

ENDINGS = (".json", ".jsonl", ".csv", ".tsv", ".parquet")
Record = dict[str, Any]

_CHUNK = 1 << 20
_GAP = re.compile(r"[\s,]*")
_LONGEST_WORD = 16  # characters at the end of a chunk that may be the first half of a number, `false` or `\u1234`


def ending(name: str) -> str:
    """What a file's name says of its format: `.json` for `x.json` and `x.json.gz`; "" where we do not know it."""
    found = Path(name.removesuffix(".gz")).suffix
    return found if found in ENDINGS and not name.endswith(".parquet.gz") else ""


def read(file: Path) -> Iterator[tuple[str, Record]]:
    """Yield (place, record) one by one, the place being `FILE, line N` or `FILE, record N`.

    Raises:
        DataError: the file is missing, or not what its name says; names the line or record.
    """
    try:
        with file.open("rb") as source:
            yield from read_stream(str(file), source)
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error})") from error


def read_stream(file: str, source: BinaryIO) -> Iterator[tuple[str, Record]]:
    """The records of an open file; its name says its format."""
    kind = ending(Path(file).name)
    try:
        if kind == ".parquet":
            yield from _parquet(file, source)
            return
        with gzip.open(source) if file.endswith(".gz") else nullcontext(source) as opened:
            text = cast(BinaryIO, opened)
            if kind in (".csv", ".tsv"):
                yield from _table(file, text, "," if kind == ".csv" else "\t")
            elif kind == ".jsonl" and not _begins_with_bracket(text):
                yield from _lines(file, text)
            else:
                yield from _objects(file, text)
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: not UTF-8 text ({error.reason})") from error
    except (EOFError, zlib.error) as error:
        raise DataError(f"{file}: cannot be read ({error})") from error


def _begins_with_bracket(source: BinaryIO) -> bool:
    """Whether a .jsonl file is in truth one JSON array, as some are."""
    head = source.read(_CHUNK).removeprefix(b"\xef\xbb\xbf").lstrip()
    source.seek(0)
    return head.startswith(b"[")


def _lines(file: str, source: BinaryIO) -> Iterator[tuple[str, Record]]:
    for number, line in enumerate(source, 1):
        line = line.removeprefix(b"\xef\xbb\xbf").strip()
        if not line:
            continue
        place = f"{file}, line {number}"
        try:
            record = msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            try:
                record = json.loads(line)  # which also takes NaN and half a surrogate
            except ValueError as error:
                raise DataError(
                    f"{place}: expected one JSON object, got {snippet(line.decode(errors='replace'))}"
                ) from error
        yield place, _object(record, place)


def _objects(file: str, source: BinaryIO) -> Iterator[tuple[str, Record]]:
    """The objects of a JSON array, or objects that follow each other without one."""
    text_of = io.TextIOWrapper(source, encoding="utf-8-sig", newline="")
    decode = json.JSONDecoder().raw_decode
    text, at, number, closed = "", 0, 0, None

    def refill() -> bool:
        """Read on, twice as much where one record fills the text; whether there was more."""
        nonlocal text, at
        more = text_of.read(max(_CHUNK, len(text) - at))
        text, at = text[at:] + more, 0
        return bool(more)

    while True:
        place = f"{file}, record {number}"
        gap = _GAP.match(text, at)
        at = gap.end() if gap else at
        if at == len(text):
            if refill():
                continue
            if closed is False:
                raise DataError(f"{place}: the file ends before its array does; it was cut short")
            return
        if text[at] == "[" and closed is None and number == 0:
            closed, at = False, at + 1
        elif text[at] == "]" and closed is False:
            closed, at = True, at + 1
        elif text[at] != "{" or closed:
            raise DataError(f"{place}: expected one JSON object, got {snippet(text[at : at + 200])}")
        else:
            try:
                record, end = decode(text, at)
            except json.JSONDecodeError as error:
                cut = error.msg.startswith("Unterminated string") or error.pos >= len(text) - _LONGEST_WORD
                if cut and refill():
                    continue
                why = "the file ends within it" if cut else error.msg
                raise DataError(f"{place}: {why}, near {snippet(text[max(at, error.pos - 30) : error.pos + 30])}") from error
            yield place, record
            at, number = end, number + 1


def _table(file: str, source: BinaryIO, delimiter: str) -> Iterator[tuple[str, Record]]:
    csv.field_size_limit(1 << 30)  # the library's 128 KiB are less than a long answer
    reader = csv.DictReader(io.TextIOWrapper(source, encoding="utf-8-sig", newline=""), delimiter=delimiter)
    try:
        for record in reader:
            place = f"{file}, line {reader.line_num}"
            if None in record or None in record.values():
                heads = ", ".join(reader.fieldnames or ())
                raise DataError(f"{place}: the row has not as many fields as the head ({heads})")
            yield place, dict(record)
    except csv.Error as error:
        raise DataError(f"{file}, line {reader.line_num}: {error}") from error


def _parquet(file: str, source: BinaryIO) -> Iterator[tuple[str, Record]]:
    from pyarrow import ArrowException, parquet

    number = 0
    try:
        for batch in parquet.ParquetFile(source).iter_batches(batch_size=1000):
            for record in batch.to_pylist():
                yield f"{file}, record {number}", record
                number += 1
    except ArrowException as error:
        raise DataError(f"{file}: no parquet file ({str(error).splitlines()[0]})") from error


def _object(record: Any, place: str) -> Record:
    if not isinstance(record, dict):
        raise DataError(f"{place}: expected one JSON object, got {snippet(json.dumps(record))}")
    return record


def snippet(text: str, length: int = 60) -> str:
    """A text as it is quoted in a message: at most `length` characters."""
    return repr(text if len(text) <= length else text[: length - 3] + "...")
