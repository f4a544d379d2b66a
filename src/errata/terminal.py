"""What a person sees: tables on stdout, log lines and one progress bar at a time, with its ETA, on stderr."""

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, TextIO

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

_WIDTH_OF_A_FILE = 160
log = logging.getLogger("errata")


def console(stderr: bool = False) -> Console:
    """A terminal as wide as it is; a file or a pipe wide enough for the tables."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else _WIDTH_OF_A_FILE, highlight=False)


def log_to_terminal() -> None:
    """Show Errata's log lines, and of the libraries below it only their errors."""
    os.environ.setdefault("DS_LOG_LEVEL", "error")
    warnings.simplefilter("ignore", FutureWarning)
    for noisy in ("httpx2", "openai", "transformers", "pytorch_lightning", "DeepSpeed", "bitsandbytes"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    if any(not isinstance(handler, logging.FileHandler) for handler in log.handlers):
        return
    handler: logging.Handler
    if sys.stderr.isatty():
        handler = RichHandler(console=console(stderr=True), show_path=False, show_level=False, log_time_format="[%X]")
    else:
        handler = _ToStderr()
        handler.setFormatter(logging.Formatter("[%(asctime)s] %(message)s", "%X"))
    log.setLevel(logging.INFO)
    log.propagate = False
    log.addHandler(handler)


class _ToStderr(logging.StreamHandler):
    """Writes to what is standard error now, not when it was made."""

    @property
    def stream(self) -> TextIO:
        return sys.stderr

    @stream.setter
    def stream(self, _: TextIO) -> None:
        pass


class Advance(Protocol):
    """Moves the bar on."""

    def __call__(self, steps: int = 1, note: str = "") -> None:
        """Move on by `steps`, with a note (a rate, a price) behind the bar."""
        ...


@contextmanager
def bar(title: str, total: int, done: int = 0) -> Iterator[Advance]:
    """A bar that starts at `done` of `total`."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task(title, total=total, completed=done, note="")

        def advance(steps: int = 1, note: str = "") -> None:
            progress.update(task, advance=steps, note=note)

        yield advance
