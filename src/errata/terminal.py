"""What a person sees: tables on stdout, log lines and one progress bar at a time, with its ETA, on stderr."""

import logging
import os
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, TextIO

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

_WIDTH_OF_A_FILE = 160
_SECONDS_BETWEEN_LINES = 60.0
_muted = False
_said: set[str] = set()
log = logging.getLogger("errata")


def console(stderr: bool = False) -> Console:
    """A terminal as wide as it is; a file or a pipe wide enough for the tables."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else _WIDTH_OF_A_FILE
    return Console(stderr=stderr, width=width, highlight=False, quiet=_muted and not stderr)


@contextmanager
def muted() -> Iterator[None]:
    """No tables on stdout: those of a sweep's cells are in their folders, and one table at its end says more."""
    global _muted
    before, _muted = _muted, True
    try:
        yield
    finally:
        _muted = before


@contextmanager
def said_once(anew: bool = True) -> Iterator[None]:
    """Log lines that come again are not shown again: what holds for every cell of a sweep is told once.

    Args:
        anew: false: neither are those of the former time, in this process.
    """
    if anew:
        _said.clear()

    def new(record: logging.LogRecord) -> bool:
        line = record.getMessage()
        again = line in _said
        _said.add(line)
        return not again

    log.addFilter(new)
    try:
        yield
    finally:
        log.removeFilter(new)


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


class Lines:
    """Says how far something has come where there is no terminal to draw a bar on: in a line a minute at most."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def say(self, text: str) -> None:
        """Write the line to standard error, if a minute has gone by since the last; run.log does not get it."""
        now = time.monotonic()
        if now - self._last >= _SECONDS_BETWEEN_LINES:
            self._last = now
            print(f"[{time.strftime('%X')}] {text}", file=sys.stderr, flush=True)  # noqa: T201


@contextmanager
def bar(title: str, total: int, done: int = 0) -> Iterator[Advance]:
    """A bar that starts at `done` of `total`; without a terminal a line now and then."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    drawn, lines = sys.stderr.isatty(), Lines()
    with Progress(*columns, console=console(stderr=True), transient=True, disable=not drawn) as progress:
        task = progress.add_task(title, total=total, completed=done, note="")

        def advance(steps: int = 1, note: str = "") -> None:
            progress.update(task, advance=steps, note=note)
            if not drawn:
                reached = f"{progress.tasks[task].completed:.0f}" + (f" of {total}" if total else "")
                lines.say(f"{title:<30} {reached}{'  ' * bool(note)}{note}")

        yield advance
