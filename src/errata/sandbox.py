"""Runs a program that a model wrote against a benchmark's tests, and says what happened.

Each worker is a small process (`errata.sandbox_child`) that forks a candidate for every program, beside a tester. Only the
candidate executes the program, only the tester knows the tests, and the verdict comes over a pipe that the candidate does
not hold. `docs/sandbox.md` says what this stops and what it does not.
"""

import json
import os
import queue
import secrets
import select
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from errata.errors import ErrataError
from errata.sandbox_channel import write_frame

_START = "import sys; sys.path.insert(0, {!r}); from errata.sandbox_child import main; del sys.path[0]; main()"
_START_S, _ANSWER_S = 30.0, 10.0  # how long a worker may take to start, and to answer beyond a program's wall time


class SandboxError(ErrataError):
    """The sandbox cannot start on this machine."""


@dataclass(frozen=True)
class Limits:
    """What one program may use.

    Attributes:
        wall_s: time by the clock, all its tests included.
        cpu_s: processor time of all its threads; 0 means a little more than the wall time.
        memory_mb: address space.
        processes: threads (and processes, where the kernel cannot refuse them altogether).
        file_mb: size of one file; four times that for all files together, where they lie in memory.
        open_files: open descriptors.
    """

    wall_s: float = 3.0
    cpu_s: int = 0
    memory_mb: int = 512
    processes: int = 32
    file_mb: int = 16
    open_files: int = 64


@dataclass(frozen=True)
class Program:
    """A program and its tests.

    Attributes:
        code: what the student wrote; nothing in it is trusted.
        setup: what the tests need beside it, such as the benchmark's prompt with its helper functions; may be "". What of
            it does not run is left out.
        tests: defines `check(candidate)`.
        entry_point: name of the function that `check` is called with; the tests know it by this name too.
    """

    code: str
    setup: str
    tests: str
    entry_point: str


@dataclass(frozen=True)
class Outcome:
    """What happened.

    Attributes:
        status: "passed"; "failed_test" (an assert of the tests); "exception" (from the program, or in the tests because of
            what it gave); "timeout" (wall or processor time); "memory"; "exited" (the program ended its process, or raised
            SystemExit or KeyboardInterrupt); "killed" (its process or its worker died of a signal, or talked nonsense).
        detail: the failing test or the exception, for people to read.
        exception: type name of the exception, "" where there was none.
    """

    status: str
    detail: str = ""
    exception: str = ""


class _WorkerError(Exception):
    """The worker is of no more use."""


class _Worker:
    """A zygote, and the pipes to and from it."""

    def __init__(self, limits: Limits, without: frozenset[str]) -> None:
        self._wall_s, self._rest = limits.wall_s, b""
        settings: dict[str, Any] = {
            "limits": {**asdict(limits), "cpu_s": limits.cpu_s or int(limits.wall_s) + 2},
            "without": sorted(without),
        }
        source = str(Path(__file__).resolve().parents[1])
        # -P, -s, -S and an empty environment isolate like -I, which would forbid the fixed hash seed
        command = [sys.executable, "-P", "-s", "-S", "-B", "-W", "ignore", "-c", _START.format(source)]
        theirs, self._tests = os.pipe()
        settings |= {"folder": tempfile.gettempdir(), "tests": theirs}
        self._process = subprocess.Popen(
            [*command, json.dumps(settings)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0, pass_fds=[theirs],
            env={"PYTHONHASHSEED": "0"}, cwd="/", start_new_session=True,
        )  # fmt: skip
        os.close(theirs)
        self._folder = ""
        try:
            hello = self._line(time.monotonic() + _START_S)
        except _WorkerError:
            self.close()
            raise
        self.isolation: str = hello["isolation"]
        self._folder = hello["folder"]

    def run(self, program: Program) -> Outcome:
        """Run one program; `_WorkerError` where the worker died of it."""
        assert self._process.stdin is not None
        nonce = secrets.token_hex(16)
        code = {"code": program.code, "entry_point": program.entry_point}
        rest = {"nonce": nonce, "setup": program.setup, "tests": program.tests, "entry_point": program.entry_point}
        try:
            for line, part in ((self._process.stdin.fileno(), code), (self._tests, rest)):
                write_frame(line, json.dumps(part).encode())
        except OSError as error:
            raise _WorkerError(str(error)) from error
        until, verdict = time.monotonic() + self._wall_s + _ANSWER_S, None
        while "over" not in (said := self._line(until)):
            if secrets.compare_digest(said["nonce"], nonce):
                verdict = Outcome(said["status"], said["detail"], said["exception"])
        return verdict or Outcome(*said["over"])

    def close(self) -> None:
        """End the process; all that it started ends with it."""
        self._process.kill()
        self._process.communicate()
        os.close(self._tests)
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _line(self, until: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        ready = select.poll()
        ready.register(self._process.stdout, select.POLLIN)
        while b"\n" not in self._rest:
            if not ready.poll(max(0.0, until - time.monotonic()) * 1000):
                raise _WorkerError("no answer")
            part = os.read(self._process.stdout.fileno(), 1 << 16)
            if not part:
                raise _WorkerError("it died")
            self._rest += part
        line, _, self._rest = self._rest.partition(b"\n")
        said: dict[str, Any] = json.loads(line)
        return said


class Sandbox:
    """A pool of workers, each started when it is first needed and replaced when it dies. Safe to use from threads.

    Args:
        limits: what each program may use.
        workers: how many programs run at the same time; as many as there are processors by default.

    Raises:
        SandboxError: (by `run`, `run_all` and `isolation`) no worker can be started.
    """

    def __init__(self, limits: Limits = Limits(), workers: int | None = None, _without: Iterable[str] = ()) -> None:
        self._limits = limits
        self._count = workers or os.cpu_count() or 1
        self._without = frozenset(_without)  # walls to leave out: for tests of the others
        self._isolation = ""
        self._lock = threading.Lock()
        self._idle: queue.LifoQueue[_Worker | None] = queue.LifoQueue()
        for _ in range(self._count):
            self._idle.put(None)

    @property
    def isolation(self) -> str:
        """What this machine's kernel allows, in a sentence."""
        if not self._isolation:
            worker = self._idle.get()
            try:
                worker = worker or self._start()
            finally:
                self._idle.put(worker)
        return self._isolation

    def run(self, program: Program) -> Outcome:
        """Run one program; waits for a free worker and for the program's end."""
        worker = self._idle.get()
        try:
            worker = worker or self._start()
            return worker.run(program)
        except _WorkerError:
            if worker is not None:
                worker.close()
            worker = None
            return Outcome("killed", "the sandbox's worker died")
        except BaseException:  # Ctrl-C in mid-program: the answer would come to the next one
            if worker is not None:
                worker.close()
            worker = None
            raise
        finally:
            self._idle.put(worker)

    def run_all(self, programs: Iterable[Program]) -> Iterator[Outcome]:
        """Run many, all workers busy; the outcomes come in the programs' order."""
        with ThreadPoolExecutor(self._count) as threads:
            yield from threads.map(self.run, programs)

    def close(self) -> None:
        """End all workers; one that is busy ends after its program. The sandbox may be used again."""
        for worker in [self._idle.get() for _ in range(self._count)]:
            if worker is not None:
                worker.close()
            self._idle.put(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _start(self) -> _Worker:
        """A worker behind all walls that there are: namespaces are the one that can only be tried, not asked for.

        They are tried twice: a machine that stalls is no machine without them.
        """
        failed: _WorkerError | None = None
        with self._lock:
            for without in (self._without, self._without, self._without | {"namespaces"}):
                try:
                    worker = _Worker(self._limits, without)
                except _WorkerError as error:
                    failed = error
                else:
                    self._without, self._isolation = without, worker.isolation
                    return worker
        raise SandboxError(f"the sandbox's worker does not start: {failed}") from failed
