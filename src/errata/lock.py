"""Locks between processes: files that the system unlocks by itself when their holder ends, however it ends."""

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def locked(path: Path, waiting: Callable[[], None] = lambda: None) -> Iterator[IO[str]]:
    """The lock on `path`, a file that stays; `waiting` is called once where another process holds it.

    The file is open for reading and writing: its text, a note from holder to holder, is nobody else's business.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        yield file


def is_held(path: Path) -> bool:
    """Whether a process holds the lock on `path` now."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
