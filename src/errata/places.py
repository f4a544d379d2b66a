"""What to say of a place that is not what it was given as: a path that is no id on the hub either, a folder of no run."""

import re
from pathlib import Path

from errata.errors import RunFolderError

_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
_FILES = (".json", ".jsonl", ".parquet", ".csv", ".tsv", ".gguf")


def no_hub_id(path: str, bare: bool = False) -> str:
    """Why a path that is not there is not meant for the hub either; empty where it may be.

    Decided by its looks, before the hub is asked. It is meant as a place of this machine where it begins with a dot, a
    slash or a tilde, has several slashes, ends as a file of records or weights does, or begins with a folder that is here.

    Args:
        path: what the setting says; nothing of that name exists.
        bare: whether the hub has such things under one word too (`gsm8k`).
    """
    first, slash, _ = path.partition("/")
    if not _ID.fullmatch(path) or path.endswith(_FILES):
        return "and no hub id (org/name) either"
    if not (slash or bare):
        return "and no hub id (org/name) either; what the hub has under one word has an owner too, as openai-community/gpt2"
    if slash and Path(first).is_dir():
        return (
            f"and not asked of the hub: {first}/ is a folder here, which has no such thing. If the hub's is meant, run the "
            f"command from a folder without {first}/"
        )
    return ""


def nothing_stored(place: Path, sweeps: bool = False) -> RunFolderError:
    """The error for a place that was given as a stored run and is none: a file, a sweep, another folder, or not there.

    Args:
        place: what was given.
        sweeps: whether a sweep, or a folder of runs, would have done as well.
    """
    wanted = "outputs/NAME-HASH" + (", outputs/sweeps/NAME-HASH or outputs" if sweeps else "")
    if place.is_file():
        run = next((folder for folder in place.parents if (folder / "run.json").is_file()), None)
        instead = f"name the run that it is of, {run}" if run is not None else f"a folder is expected, {wanted}"
        return RunFolderError(f"{place} is a file: {instead}")
    if not place.exists():
        return RunFolderError(f"{place} is not there; expected {wanted}")
    if (place / "sweep.json").is_file():
        return RunFolderError(f"{place} is a sweep: name one of its runs, which `errata status {place}` lists")
    what = ", no sweep (no sweep.json) and holds no runs" if sweeps else ""
    return RunFolderError(f"{place} is no run folder (it has no run.json){what}; expected {wanted}")
