"""Reading a benchmark's records: a hub id through `datasets`, or a local folder or file in any of the usual formats.

Local formats: those of `errata.record_files`, and one JSON object that holds the array.
"""

from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path

from errata.errors import DataError
from errata.record_files import Record, read

SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet")


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
        DataError: the file is missing, or not what its name says; names the line or record.
    """
    if not file.is_file():
        raise DataError(f"{file}: no such file. Set the dataset's path to a folder or file that exists.")
    records = read(file)
    if file.suffix == ".json":
        first = list(islice(records, 2))
        records = _members(file, first[0][1]) if len(first) == 1 else chain(first, records)
    yield from records


def _members(file: Path, whole: Record) -> Iterator[tuple[str, Record]]:
    """The records of {"examples": [...]} and the like; an object that holds no such list is a file of one record."""
    lists = [value for value in whole.values() if isinstance(value, list) and value and isinstance(value[0], dict)]
    for number, record in enumerate(lists[0] if len(lists) == 1 else [whole]):
        yield f"{file}, record {number}", record


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
