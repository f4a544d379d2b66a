"""An instruction set's files, and its records as they come from the hub."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from errata.errors import DataError
from errata.record_files import ENDINGS, Record, ending, read_stream


def files_of(path: str) -> list[Path]:
    """The file, or the files of a known ending anywhere under the folder, sorted by name; none where there are none."""
    place = Path(path).expanduser()
    if place.is_dir():
        found = (file for file in place.rglob("*") if file.is_file() and not file.name.startswith("."))
        return sorted(file for file in found if ending(file.name))
    return [place] if place.is_file() else []


def hash_of(files: list[Path]) -> str:
    """Short hex hash over the files' bytes, in their order."""
    total = hashlib.sha256()
    for file in files:
        with file.open("rb") as source:
            total.update(hashlib.file_digest(source, "sha256").digest())
    return total.hexdigest()[:16]


def read_hub(hub: str, files: str | None, split: str, revision: str | None) -> Iterator[tuple[str, Record]]:
    """Yield (place, record) of a set on the hub as it comes in: of its files of that pattern, or else of the split.

    The files go through our own readers: `datasets` would hold a JSON array whole, and takes no two files that
    differ in their fields.

    Raises:
        DataError: no such set, files or split, or no connection.
    """
    import datasets
    from datasets.exceptions import DatasetsError
    from httpx2 import HTTPError  # what the hub's client raises where there is no connection
    from huggingface_hub import HfFileSystem

    where = f"{hub}{f' ({files})' if files else ''}"
    try:
        if files:
            system = HfFileSystem()
            found = sorted(str(path) for path in system.glob(f"datasets/{hub}@{revision or 'main'}/{files}"))
            chosen = [path for path in found if ending(Path(path).name)]
            if not chosen:
                raise DataError(f"{where}: the hub has no such {', '.join(ENDINGS)} files. Set hub_files, or path.")
            for path in chosen:
                with system.open(path, "rb") as source:
                    yield from read_stream(path.removeprefix("datasets/"), source)
            return
        for number, record in enumerate(datasets.load_dataset(hub, split=split, revision=revision, streaming=True)):
            yield f"{where}, record {number}", dict(record)
    except (OSError, ValueError, RuntimeError, DatasetsError, HTTPError) as error:
        why = " ".join(str(error).split())[:300]
        raise DataError(f"{where}: cannot be read from the hub: {why}. Download it and set path to its folder.") from error
