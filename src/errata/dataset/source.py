r"""Reading a benchmark's records: a hub id through `datasets`, or a local folder or file in any of the usual formats.

Local formats: JSON Lines, a JSON array (also one that is named .jsonl), one JSON object that holds the array, CSV, TSV and
parquet. Lines are split on "\n" only: some texts hold U+2028.
"""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from errata.errors import DataError

SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
Record = dict[str, Any]


def local_file(path: str, names: Sequence[str]) -> Path | None:
    """The file of a split: `path` itself where it is a file, else the first of `names` (with or without suffix) in it.

    Returns:
        None where `path` is no local file or folder.

    Raises:
        DataError: the folder holds none of the names.
    """
    place = Path(path).expanduser()
    if place.is_file():
        return place
    if not place.is_dir():
        return None
    for name in names:
        for file in (place / name, *(place / f"{name}{suffix}" for suffix in SUFFIXES)):
            if file.is_file():
                return file
    found = sorted(file.name for file in place.iterdir() if file.suffix in SUFFIXES)
    raise DataError(
        f"{place} holds no {' or '.join(names)} ({', '.join(SUFFIXES)}); it holds {', '.join(found) or 'nothing'}"
    )


def read_file(file: Path) -> Iterator[tuple[str, Record]]:
    """Yield (place, record), the place being `FILE, line N` or `FILE, record N`.

    Raises:
        DataError: the file is missing, empty or not what its name says; names the line.
    """
    if not file.is_file():
        raise DataError(f"{file}: no such file. Set the dataset's path to a folder or file that exists.")
    if file.suffix == ".parquet":
        yield from _read_parquet(file)
        return
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: not UTF-8 text ({error})") from error
    if file.suffix in (".csv", ".tsv"):
        yield from _read_table(file, text)
    elif text.lstrip().startswith("[") or (file.suffix == ".json" and text.lstrip().startswith("{")):
        yield from _read_array(file, text)
    else:
        yield from _read_lines(file, text)


def read_hub(path: str, subset: str | None, split: str) -> Iterator[tuple[str, Record]]:
    """Yield (place, record) of a split on the hub, downloaded and cached by `datasets`.

    Raises:
        DataError: there is no such dataset, subset or split, or no connection.
    """
    import datasets
    from datasets.exceptions import DatasetsError

    datasets.disable_progress_bars()
    try:
        rows = datasets.load_dataset(path, subset, split=split)
    except (OSError, ValueError, DatasetsError) as error:
        why = " ".join(str(error).split())[:300]
        where = f"{path}{f' ({subset})' if subset else ''}"
        raise DataError(
            f"{where}, split {split}: it is no local file or folder, and the hub gave nothing ({why}). "
            "Set the dataset's path to a local copy, or check the name and the connection."
        ) from error
    for number, row in enumerate(rows):
        yield f"{path}, {split}, record {number}", dict(row)


def _read_lines(file: Path, text: str) -> Iterator[tuple[str, Record]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            place = f"{file}, line {number}"
            try:
                record = json.loads(line)
            except ValueError as error:
                raise DataError(f"{place}: expected one JSON object, got {snippet(line)} ({error})") from error
            yield place, _object(record, place)


def _read_array(file: Path, text: str) -> Iterator[tuple[str, Record]]:
    try:
        whole = json.loads(text)
    except ValueError as error:
        if text.lstrip().startswith("{"):  # JSON Lines under the name .json
            yield from _read_lines(file, text)
            return
        raise DataError(f"{file}: expected a JSON array ({error})") from error
    if isinstance(whole, dict):  # {"examples": [...]} and the like; one flat object is a file of one record
        lists = [value for value in whole.values() if isinstance(value, list) and value and isinstance(value[0], dict)]
        whole = lists[0] if len(lists) == 1 else [whole]
    for number, record in enumerate(whole):
        yield f"{file}, record {number}", _object(record, f"{file}, record {number}")


def _read_table(file: Path, text: str) -> Iterator[tuple[str, Record]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter="\t" if file.suffix == ".tsv" else ",")
    try:
        for record in reader:
            place = f"{file}, line {reader.line_num}"
            if None in record or None in record.values():
                raise DataError(
                    f"{place}: the row has not as many fields as the head ({', '.join(reader.fieldnames or ())})"
                )
            yield place, dict(record)
    except csv.Error as error:
        raise DataError(f"{file}, line {reader.line_num}: {error}") from error


def _read_parquet(file: Path) -> Iterator[tuple[str, Record]]:
    from pyarrow import ArrowException, parquet

    try:
        table = parquet.read_table(file)
    except (OSError, ArrowException) as error:
        raise DataError(f"{file}: no parquet file ({str(error).splitlines()[0]})") from error
    for number, record in enumerate(table.to_pylist()):
        yield f"{file}, record {number}", record


def _object(record: Any, place: str) -> Record:
    if not isinstance(record, dict):
        raise DataError(f"{place}: expected one JSON object, got {snippet(json.dumps(record))}")
    return record


def snippet(text: str, length: int = 60) -> str:
    """A text as it is quoted in a message: at most `length` characters."""
    return repr(text if len(text) <= length else text[: length - 3] + "...")
