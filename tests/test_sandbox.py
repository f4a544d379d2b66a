"""Programs that mean harm, and honest ones that a sandbox could get wrong."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from errata.sandbox import Limits, Program, Sandbox

SHARED = Path(os.environ.get("ERRATA_DATA", Path(__file__).parents[2] / "shared" / "data"))
HUMANEVAL = SHARED / "humaneval" / "test.jsonl"
SECRET = "730168429"  # what candidate(1) must give; whoever returns it has read the tests
CHECK = f"def check(candidate):\n    assert candidate(1) == {SECRET}\n    assert candidate(2) == {SECRET} + 1"
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="the walls are Linux's")


def program(code, tests=CHECK, setup="", entry_point="f"):
    return Program(textwrap.dedent(code), setup, textwrap.dedent(tests), entry_point)


def sandbox_processes():
    """Process id and parent of every process of a sandbox on this machine that descends from this one."""
    parents, names = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text().rpartition(")")[2].split()
                parents[int(entry.name)] = int(stat[1])
                names[int(entry.name)] = b"errata.sandbox_child" in (entry / "cmdline").read_bytes() or stat[0] == "Z"
            except OSError:
                continue

    def ours(pid):
        while pid in parents and pid != os.getpid():
            pid = parents[pid]
        return pid == os.getpid()

    return {pid for pid, is_one in names.items() if is_one and ours(pid)}


# Each returns REACHED where it got what it wanted (beside passing). {canary} is a folder that anyone may write to.
HOSTILE = {
    "endless loop": "def f(x):\n while True: pass",
    "endless loop at import": "while True: pass",
    "endless loop in C": "def f(x): return 10**10**10",
    "catastrophic regex": "import re\ndef f(x): return re.match(r'(a+)+$', 'a' * 60 + 'b')",
    "endless sum in C": "import itertools\ndef f(x): return sum(itertools.repeat(0))",
    "fork bomb": "import os\ndef f(x):\n while True:\n  os.fork()",
    "fork bomb that ignores refusals": """
        import os
        def f(x):
            while True:
                try: os.fork()
                except OSError: pass
    """,
    "thread bomb": """
        import threading, time
        def f(x):
            while True:
                threading.Thread(target=time.sleep, args=(1000,)).start()
    """,
    "memory hog": "def f(x): return len([0] * 10**10)",
    "memory hog, bit by bit": "def f(x):\n a = []\n while True: a.append(bytearray(10**6))",
    "memory hog that catches": """
        def f(x):
            a = []
            while True:
                try: a.append(bytearray(10**6))
                except MemoryError: pass
    """,
    "disk filler": """
        def f(x):
            with open('big', 'wb') as file:
                while True: file.write(bytes(10**6))
    """,
    "many small files": """
        def f(x):
            for i in range(10**9):
                open(f'file{{i}}', 'w').write('x')
    """,
    "sys.exit(0)": "import sys\ndef f(x): sys.exit(0)",
    "sys.exit(0) at import": "import sys\nsys.exit(0)",
    "os._exit(0)": "import os\ndef f(x): os._exit(0)",
    "raise SystemExit in disguise": "class E(SystemExit): pass\ndef f(x): raise E(0)",
    "raise KeyboardInterrupt": "def f(x): raise KeyboardInterrupt",
    "atexit": "import atexit, os\natexit.register(os._exit, 0)\ndef f(x): return 0",
    "patched builtins": """
        import builtins
        builtins.AssertionError = type('Quiet', (Exception,), {{}})
        builtins.exec = builtins.compile = builtins.eval = lambda *a: None
        builtins.isinstance = lambda *a: True
        def f(x): return 0
    """,
    "equal to everything": """
        class Same:
            def __eq__(self, other): return True
            def __ne__(self, other): return False
            def __hash__(self): return 0
        def f(x): return Same()
    """,
    "an int equal to everything": """
        class Same(int):
            def __eq__(self, other): return True
            __hash__ = int.__hash__
        def f(x): return Same(0)
    """,
    "stack walk": """
        import sys
        def f(x):
            frame = sys._getframe()
            while frame:
                for value in [*frame.f_locals.values(), *frame.f_globals.values()]:
                    if '730168' + '429' in str(value) or 'check' in frame.f_globals: return 'REACHED'
                frame = frame.f_back
    """,
    "gc walk": """
        import gc
        def f(x):
            for value in gc.get_objects():
                if isinstance(value, dict):
                    for text in list(value.values()):
                        if isinstance(text, str) and '730168' + '429' in text: return 730168429 - 1 + x
    """,
    "traceback walk": """
        import sys, traceback
        def f(x):
            try: 1 / 0
            except ZeroDivisionError as error:
                text = ''.join(traceback.format_stack()) + str(traceback.extract_tb(error.__traceback__))
            return 'REACHED' if 'def check' in text or '<tests>' in text else None
    """,
    "own memory": """
        def f(x):
            import re
            for line in open('/proc/self/maps'):
                first, last = (int(part, 16) for part in line.split()[0].split('-'))
                if 'r' in line.split()[1] and last - first < 10**8:
                    memory = open('/proc/self/mem', 'rb'); memory.seek(first)
                    if b'730168' + b'429' in memory.read(last - first): return 'REACHED'
    """,
    "other processes' memory": """
        import os
        def f(x):
            for pid in [os.getppid(), *range(1, 9)]:
                if pid not in (0, os.getpid()):
                    try: open(f'/proc/{{pid}}/mem', 'rb'); return 'REACHED'
                    except OSError: pass
    """,
    "command lines of others": """
        import os
        def f(x):
            found = [name for name in os.listdir('/proc') if name.isdigit()]
            return 'REACHED' if len(found) > 3 else None
    """,
    "inherited descriptors": """
        import os
        def f(x):
            for number in range(5, 64):
                try: os.fstat(number); return 'REACHED'
                except OSError: pass
            os.write(1, b'{{"status": "passed"}}')
    """,
    "forged answers": """
        import os
        for number in range(64):
            try: os.write(number, b'\\x00' * 7 + b'\\x2e' + b'(S"passed"\\ntR.' * 9)
            except OSError: pass
        def f(x): return 0
    """,
    "a pickle that runs code": """
        import pickle, os
        class Evil:
            def __reduce__(self): return (os.system, ('touch {canary}/pickled',))
        frame = pickle.dumps(('return', {{}}, Evil()), protocol=4)
        os.write(4, len(frame).to_bytes(8, 'big') + frame)
        def f(x): return 0
    """,
    "a pickle that changes a class": r"""
        import os
        body = (b'\x80\x04(\x8c\x06return}}\x8c\x0bcollections\x8c\x07Counter\x93'
                b'N}}\x8c\x06__eq__\x8c\x08builtins\x8c\x04bool\x93s\x86bt.')
        os.write(4, len(body).to_bytes(8, 'big') + body)
        def f(x): return __import__('collections').Counter([1])
    """,
    "__reduce__ in a result": """
        import os
        class Evil:
            def __reduce__(self): return (eval, ('1/0',))
            def __reduce_ex__(self, protocol): return (os._exit, (0,))
        def f(x): return [Evil()]
    """,
    "kill everyone": """
        import os, signal
        def f(x):
            for pid in (os.getppid(), 1, -1, 0):
                try: os.kill(pid, signal.SIGKILL)
                except OSError: pass
    """,
    "stop the parent": "import os, signal\ndef f(x): os.kill(os.getppid() or 2, signal.SIGSTOP); return 'REACHED'",
    "swallows everything": """
        def f(x):
            while True:
                try:
                    while True: pass
                except BaseException: pass
    """,
    "signals ignored": """
        import signal
        for number in set(signal.Signals) - {{signal.SIGKILL, signal.SIGSTOP}}:
            signal.signal(number, signal.SIG_IGN)
        def f(x):
            while True: pass
    """,
    "alarm": "import signal\nsignal.alarm(1)\ndef f(x): signal.pause()",
    "threads left behind": """
        import threading
        def spin():
            while True: pass
        for _ in range(3): threading.Thread(target=spin, daemon=False).start()
        def f(x): return 0
    """,
    "daemon left behind": """
        import os, time
        def f(x):
            if os.fork() == 0:
                os.setsid()
                if os.fork() == 0:
                    time.sleep(1000)
                os._exit(0)
            return 0
    """,
    "huge output": "def f(x):\n while True: print('x' * 10**6)",
    "huge result": "def f(x): return 'x' * 400_000_000",
    "work folder removed": "import os, shutil\ndef f(x): shutil.rmtree(os.getcwd()); return 0",
    "work folder closed": "import os\ndef f(x):\n os.makedirs('a/b'); os.chmod('a', 0); os.chmod('.', 0); return 0",
    "internet": """
        import socket
        def f(x):
            with socket.socket() as line: line.settimeout(9); line.connect(('1.1.1.1', 80)); return 'REACHED'
    """,
    "this machine's ports": """
        import socket
        def f(x):
            with socket.create_connection(('127.0.0.1', {port})): return 'REACHED'
    """,
    "unix sockets": """
        import socket
        def f(x):
            with socket.socket(socket.AF_UNIX) as line: line.connect('{canary}/socket'); return 'REACHED'
    """,
    "name look-up": "import socket\ndef f(x): socket.getaddrinfo('example.org', 80); return 'REACHED'",
    "writing to home": "import pathlib\ndef f(x): pathlib.Path('{home}/errata_canary').write_text('x'); return 'REACHED'",
    "writing elsewhere": "def f(x): open('{canary}/canary', 'w').write('x'); return 'REACHED'",
    "appending elsewhere": "def f(x): open('{canary}/canary', 'a').write('x'); return 'REACHED'",
    "removing elsewhere": "import os\ndef f(x): os.unlink('{canary}/canary'); return 'REACHED'",
    "modes elsewhere": "import os\ndef f(x): os.chmod('{canary}/canary', 0); return 'REACHED'",
    "folders elsewhere": "import shutil\ndef f(x): shutil.rmtree('{canary}'); return 'REACHED'",
    "reading elsewhere": "def f(x): return 'REACHED ' + open('{canary}/canary').read()",
    "links out of the folder": """
        import os
        def f(x):
            os.symlink('{canary}/canary', 'link')
            open('link', 'w').write('x')
            return 'REACHED'
    """,
    "the passwords": "def f(x): return 'REACHED' + open('/etc/shadow').read()",
    "the environment": "import os\ndef f(x): return 'REACHED' if 'ERRATA_SECRET' in str(os.environ) else None",
    "the parent's environment": """
        import glob
        def f(x):
            for name in glob.glob('/proc/*/environ'):
                try:
                    if b'ERRATA_SECRET' in open(name, 'rb').read(): return 'REACHED'
                except OSError: pass
    """,
    "segmentation fault": "import ctypes\ndef f(x): ctypes.string_at(0)",
    "stack overflow": """
        import sys
        sys.setrecursionlimit(10**9)
        class A:
            def __repr__(self): return repr([self])
        def f(x): return repr(A())
    """,
    "subprocess": "import subprocess\ndef f(x): return 'REACHED' + subprocess.check_output(['/bin/sh', '-c', 'id'], text=True)",
    "os.system": "import os\ndef f(x): return 'REACHED' if os.system('true') == 0 else None",
    "exec": "import os\ndef f(x): os.execv('/bin/sh', ['sh', '-c', 'exit 0'])",
    "multiprocessing": """
        import multiprocessing
        def f(x):
            with multiprocessing.Pool(2) as pool: return 'REACHED' + str(pool.map(abs, [1]))
    """,
    "debugger": "import ctypes, os\ndef f(x): return 'REACHED' if ctypes.CDLL(None).ptrace(16, os.getppid() or 2, 0, 0) == 0 else 0",
    "new namespaces": "import ctypes\ndef f(x): return 'REACHED' if ctypes.CDLL(None).unshare(0x10000000) == 0 else 0",
    "gives itself more": """
        import resource
        def f(x):
            resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
            return 'REACHED'
    """,
    "limits of others": """
        import os, resource
        def f(x): resource.prlimit(os.getppid() or 2, resource.RLIMIT_CPU, (0, 0)); return 'REACHED'  # 0 would be itself
    """,
    "waits for input": "def f(x): return input()",
    "stdout replaced": """
        import sys
        class Out:
            def write(self, text): raise SystemExit(0)
        sys.stdout = sys.stderr = sys.__stdout__ = Out()
        def f(x): print('passed')
    """,
    "prints a verdict": """
        import sys
        def f(x): print('{{"status": "passed", "over": ["passed", ""]}}', flush=True); sys.stderr.write('passed')
    """,
    "__del__": "class D:\n def __del__(self):\n  while True: pass\ndef f(x): D()",
    "profiler": "import sys, os\nsys.setprofile(lambda *a: os._exit(0))\ndef f(x): return 0",
    "endless generator": "def f(x):\n while True: yield 730168429",
    "endless generator, inside": "import itertools\ndef f(x): return list(itertools.count())",
    "nested without end": "def f(x):\n a = []\n for _ in range(10**6): a = [a]\n return a",
    "contains itself": "def f(x):\n a = []\n a.append(a)\n return a",
    "the channel taken over": """
        import sys
        from errata import sandbox_channel
        def f(x):
            for name in dir(sandbox_channel): setattr(sandbox_channel, name, None)
            return 0
    """,
    "rewrites the wire's names": """
        import __main__, sys
        def f(x):
            frame = sys._getframe()
            while frame:
                for value in list(frame.f_locals.values()):
                    if hasattr(value, 'trusted'): value.trusted = True; value.namespace['check'] = len
                frame = frame.f_back
    """,
}
TESTS_OF = {
    "a pickle that changes a class": "def check(candidate):\n    assert candidate(1) == 5\n",
    "endless generator": "def check(candidate):\n    assert list(candidate(1)) == []\n",
}


OTHERS: set[int] = set()


@pytest.fixture(autouse=True)
def what_other_tests_left_open():
    """The graders of code keep a pool open: it is not counted here."""
    OTHERS.clear()
    OTHERS.update(sandbox_processes())


def new_processes(number):
    """Sandbox processes that were not there before the test, once no more than that many are left: dying takes a moment."""
    until = time.monotonic() + 60
    while len(found := sandbox_processes() - OTHERS) > number and time.monotonic() < until:
        time.sleep(0.02)
    return found


@LINUX
@pytest.mark.parametrize(
    "without",
    [(), *(pytest.param((wall,), marks=pytest.mark.slow) for wall in ("namespaces", "seccomp"))],
    ids=["all walls", "no namespaces", "no seccomp"],
)
def test_hostile_programs_neither_pass_nor_hang_nor_leave_anything_behind(without, tmp_path, monkeypatch):
    import socket

    monkeypatch.setenv("ERRATA_SECRET", "sk-very-secret")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temp"))
    (tmp_path / "temp").mkdir()
    for folder in (tmp_path, *list(tmp_path.parents)[:2]):
        folder.chmod(0o755)
    (tmp_path / "temp").chmod(0o755)
    (canary := tmp_path / "canary").mkdir()
    canary.chmod(0o777)
    (canary / "canary").write_text("alive")
    (canary / "canary").chmod(0o666)
    before = (canary / "canary").stat()
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.socket(socket.AF_UNIX) as local,
        Sandbox(Limits(wall_s=0.5, memory_mb=256), workers=2, _without=without) as sandbox,
    ):
        local.bind(str(tmp_path / "socket"))
        local.listen()
        if "namespaces" in without and "refused (seccomp)" not in sandbox.isolation:
            pytest.skip(f"nothing holds these programs here: {sandbox.isolation}")
        if "seccomp" in without and "no namespaces" in sandbox.isolation:
            pytest.skip(f"nothing holds these programs here: {sandbox.isolation}")
        hide = {"own memory", "other processes' memory", "command lines of others"} if "namespaces" in without else set()
        names = [name for name in HOSTILE if name not in hide]
        workers = 2 if "no namespaces" in sandbox.isolation else 6  # a zygote each, its parent outside, its tester
        port = server.getsockname()[1]
        programs = []
        for name in names:
            code = textwrap.dedent(HOSTILE[name]).replace("{{", "\0").replace("}}", "\1")
            code = (
                code.replace("{canary}", str(canary))
                .replace("{port}", str(port))
                .replace("{home}", str(Path.home()))
                .replace("\0", "{")
                .replace("\1", "}")
            )
            programs.append(program(code, TESTS_OF.get(name, CHECK)))
        outcomes = dict(zip(names, sandbox.run_all(programs), strict=True))
        passed = [name for name, outcome in outcomes.items() if outcome.status == "passed"]
        reached = {
            name: outcome.detail for name, outcome in outcomes.items() if "REACHED'" in outcome.detail.split("gave")[-1]
        }
        # harmless to others: it stays within its walls, or takes from its own tester
        allowed = {"new namespaces", "limits of others"} if "seccomp" in without else set()
        assert not passed
        assert not reached.keys() - allowed, reached
        left = new_processes(workers)
        assert len(left) <= workers
        # the same workers still tell right from wrong
        good = program("def f(x): return 730168428 + x")
        found = [sandbox.run(good).status]
        while found[-1] == "timeout" and len(found) < 50:  # half a second can be too short on a busy machine
            found.append(sandbox.run(good).status)
        assert found[-1] == "passed"
        assert {item.name for item in canary.iterdir()} == {"canary"}
        after = (canary / "canary").stat()
        assert (canary / "canary").read_text() == "alive"
        assert (after.st_mode, after.st_mtime_ns) == (before.st_mode, before.st_mtime_ns)
        assert not (Path.home() / "errata_canary").exists()
        assert all(not list(folder.iterdir()) for folder in (tmp_path / "temp").iterdir())
    assert not new_processes(0) & left
    assert not list((tmp_path / "temp").iterdir())


STATUS = {
    "endless loop": "timeout", "endless loop at import": "timeout", "memory hog": "memory", "sys.exit(0)": "exited",
    "os._exit(0)": "exited", "raise SystemExit in disguise": "exited", "segmentation fault": "killed",
    "equal to everything": "failed_test", "waits for input": "exception", "a pickle that runs code": "killed",
}  # fmt: skip


def test_the_status_says_what_happened():
    found = {}
    for endless in (True, False):  # what ends by itself has all the time that a busy machine takes
        names = [name for name, status in STATUS.items() if (status == "timeout") == endless]
        with Sandbox(Limits(wall_s=1.0 if endless else 60.0, memory_mb=256), workers=2) as sandbox:
            programs = [program(HOSTILE[name].replace("{{", "{").replace("}}", "}")) for name in names]
            found |= {name: outcome.status for name, outcome in zip(names, sandbox.run_all(programs), strict=True)}
    assert found == STATUS


@LINUX
def test_without_any_wall_descendants_and_scratch_folders_still_go(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    tame = [
        "daemon left behind", "work folder closed", "work folder removed", "os._exit(0)", "memory hog", "endless loop",
        "sys.exit(0)", "threads left behind", "huge output", "many small files",
    ]  # fmt: skip
    limits = Limits(wall_s=0.5, memory_mb=256)
    with Sandbox(limits, workers=2, _without=("namespaces", "landlock", "seccomp")) as sandbox:
        assert "NETWORK OPEN" in sandbox.isolation
        outcomes = list(sandbox.run_all(program(HOSTILE[name].replace("{{i}}", "{i}")) for name in tame))
        assert "passed" not in {outcome.status for outcome in outcomes}
        assert len(new_processes(2)) <= 2
        assert all(not list(folder.iterdir()) for folder in tmp_path.iterdir())
    assert not list(tmp_path.iterdir())


# name: (program, body of check[, setup]); each passes in one process, so it must pass here
HONEST = {
    "the same value": ("def f(x): return x", "assert f(5) == 5 and candidate('\\ud800\\0') == '\\ud800\\0'"),
    "a generator": ("def f(n):\n yield from range(n)", "assert list(candidate(3)) == [0, 1, 2] and candidate(3) != [0, 1, 2]"),
    "an endless generator": (
        "def f():\n n = 0\n while True:\n  yield n\n  n += 1",
        "import itertools\nassert list(itertools.islice(candidate(), 5)) == [0, 1, 2, 3, 4]",
    ),
    "a generator that fails late": (
        "def f():\n yield 1\n yield 2\n raise KeyError('k')",
        "got = []\ntry:\n    for item in candidate(): got.append(item)\nexcept KeyError: got.append('K')\nassert got == [1, 2, 'K']",
    ),
    "map is no list": ("def f(x): return map(abs, x)", "assert candidate([-1]) != [1] and list(candidate([-1])) == [1]"),
    "views": (
        "def f(d, what): return getattr(d, what)()",
        "d = {1: 2}\nassert candidate(d, 'keys') == {1} and candidate(d, 'keys') != [1] and sorted(candidate(d, 'values')) == [2]\n"
        "assert candidate(d, 'items') == {(1, 2)}",
    ),
    "Counter": ("from collections import *\ndef f(x): return Counter(x)", "assert candidate('aab') == {'a': 2, 'b': 1}"),
    "defaultdict": (
        "from collections import *\ndef f():\n d = defaultdict(lambda: 7)\n d[1] = 2\n return d",
        "got = candidate()\nassert got == {1: 2} and got['new'] == 7",
    ),
    "OrderedDict and deque": (
        "from collections import *\ndef f(): return OrderedDict(b=1, a=2), deque([1, 2], 2)",
        "od, dq = candidate()\nassert list(od) == ['b', 'a'] and od == {'a': 2, 'b': 1} and list(dq) == [1, 2] and dq != [1, 2]",
    ),
    "namedtuple": ("from collections import *\ndef f(): return namedtuple('P', 'x y')(1, 2)", "assert candidate() == (1, 2)"),
    "IntEnum and bool": (
        "import enum\nclass E(enum.IntEnum): A = 3\nclass S(str, enum.Enum): B = 'b'\ndef f(): return E.A, True, S.B",
        "assert candidate() == (3, 1, 'b') and candidate()[1] is True",
    ),
    "subclass of list": ("class L(list): pass\ndef f(): return L([1, 2])", "assert candidate() == [1, 2]"),
    "sets and complex": ("def f(): return {1}, frozenset([2]), 1j, range(3), slice(1), bytearray(b'x'), None, ...",
                         "assert candidate() == ({1}, {2}, 1j, range(3), slice(1), b'x', None, ...)"),
    "decimals, fractions, dates": (
        "from decimal import *\nfrom fractions import *\nimport datetime\n"
        "def f(): return Decimal('1.10'), Fraction(1, 3), datetime.date(2020, 2, 29), datetime.timedelta(1)",
        "import decimal, fractions, datetime\nassert candidate() == (decimal.Decimal('1.1'), fractions.Fraction(1, 3), "
        "datetime.date(2020, 2, 29), datetime.timedelta(1))",
    ),
    "sorting in place": ("def f(x): x.sort()", "x = [3, 1, 2]\nassert candidate(x) is None and x == [1, 2, 3]"),
    "nested in place": (
        "def f(d):\n d['a'].append(d['s'])\n d['s'].add(9)\n del d['z']\n d['b'] = d['a']",
        "d = {'a': [1], 's': {2}, 'z': 0}\na = d['a']\ncandidate(d)\n"
        "assert d == {'a': [1, {2, 9}], 's': {2, 9}, 'b': [1, {2, 9}]} and d['b'] is a and a[1] is d['s']",
    ),
    "the argument itself": ("def f(x): return [x]", "x = [1]\nassert candidate(x)[0] is x"),
    "in place, then an error": (
        "def f(x):\n x.append(1)\n raise ValueError",
        "x = []\ntry: candidate(x)\nexcept ValueError: pass\nassert x == [1]",
    ),
    "exceptions by type": (
        "def f(kind):\n if kind: raise KeyError('gone')\n raise ValueError('bad', 3)",
        "for kind, error, args in ((1, KeyError, ('gone',)), (0, ValueError, ('bad', 3))):\n"
        "    try: candidate(kind)\n    except error as e: assert e.args == args\n    else: assert False",
    ),
    "an exception of its own": (
        "class Odd(LookupError): pass\ndef f(): raise Odd('x')",
        "try: candidate()\nexcept LookupError as e: assert str(e) == 'x'\nelse: assert False",
    ),
    "an assertion of its own": (
        "def f(x): assert x > 0, 'positive'",
        "try: candidate(-1)\nexcept AssertionError as e: assert str(e) == 'positive'\nelse: assert False",
    ),
    "an exception of the setup": (
        "class Odd(Exception): pass\ndef f(): raise Odd('x')",
        "try: candidate()\nexcept Odd: pass\nelse: assert False",
        "class Odd(Exception): pass",
    ),
    "too deep": ("def f(n): return f(n + 1)", "try: candidate(0)\nexcept RecursionError: pass\nelse: assert False"),
    "deep enough": ("def f(n): return n and 1 + f(n - 1)", "assert candidate(900) == 900"),
    "floats": (
        "def f(x): return x",
        "import math\nassert candidate(0.1) == 0.1 and candidate(math.inf) == math.inf and math.isnan(candidate(math.nan))\n"
        "assert str(candidate(-0.0)) == '-0.0'",
    ),
    "huge integers": ("def f(n): return 7 ** n", "assert candidate(20000) == 7 ** 20000"),
    "a callback": ("def f(g, xs): return [g(x) for x in xs]", "k = 3\nassert candidate(lambda x: x * k, [1, 2]) == [3, 6]"),
    "a callback that fails": (
        "def f(g):\n try: g()\n except ZeroDivisionError: return 'caught'",
        "assert candidate(lambda: 1 / 0) == 'caught'",
    ),
    "builtin functions and types": (
        "def f(g, kind, x): return g(v for v in x if isinstance(v, kind)), kind",
        "assert candidate(sum, int, [1, 'a', 2]) == (3, int)",
    ),
    "a function as result": (
        "def f(n): return lambda x: x + n",
        "g = candidate(2)\nassert g(3) == 5 and callable(g) and [*map(g, [1])] == [3]",
    ),
    "default and named arguments": ("def f(a, *b, c=3, **d): return a, b, c, d", "assert candidate(1, 2, e=5) == (1, (2,), 3, {'e': 5})"),
    "an iterator as argument": ("def f(it): return next(it), list(it)", "assert candidate(iter([1, 2, 3])) == (1, [2, 3])"),
    "an object of its own": (
        "class Node:\n def __init__(s, v): s.v = v\nkept = Node(1)\ndef f(x=None): return kept if x is None else x.v",
        "node = candidate()\nassert node is candidate() and node != 1 and candidate(node) == 1",
    ),
    "an object of the setup": (
        "class Pair:\n def __init__(s, a, b): s.a, s.b = a, b\n def total(s): return s.a + s.b\ndef f(x): return [p.total() for p in x]",
        "assert candidate([Pair(1, 2), Pair(3, 4)]) == [3, 7]",
        "class Pair:\n def __init__(s, a, b): s.a, s.b = a, b",
    ),
    "a helper of the setup": ("def f(x): return -x", "assert helper(candidate(3)) == 9", "def helper(x): return x * x"),
    "a setup that is no Python": ("def f(x): return x", "assert candidate(1) == 1", "def f(x):\n \"\"\" never closed"),
    "a failing setup": ("def f(x): return x", "assert candidate(1) == 1", "1 / 0"),
    "state between calls": ("n = 0\ndef f():\n global n\n n += 1\n return n", "assert [candidate(), candidate()] == [1, 2]"),
    "no __main__": ("def f(): return 1\nif __name__ == '__main__':\n raise SystemExit", "assert candidate() == 1"),
    "prints": ("def f():\n print('x' * 10**6)\n return 1", "assert candidate() == 1"),
    "sys.stdout gone": ("import sys\nsys.stdout = None\ndef f(): return 1", "assert candidate() == 1"),
    "files in its folder": (
        "import os, tempfile\ndef f():\n open('a.txt', 'w').write('hi')\n"
        " with tempfile.TemporaryFile(dir='.') as t: t.write(b'x')\n return open(os.path.expanduser('~/a.txt')).read()",
        "assert candidate() == 'hi'",
    ),
    "threads": (
        "from concurrent.futures import ThreadPoolExecutor\ndef f(x):\n with ThreadPoolExecutor(4) as p: return list(p.map(abs, x))",
        "assert candidate([-1, -2]) == [1, 2]",
    ),
    "asyncio": ("import asyncio\nasync def g(): await asyncio.sleep(0); return 4\ndef f(): return asyncio.run(g())",
                "assert candidate() == 4"),
    "rare imports": ("import sqlite3, zoneinfo, difflib, xml.dom.minidom, secrets\ndef f(): return len(secrets.token_hex(2))",
                     "assert candidate() == 4"),
    "dataclasses and typing": (
        "from __future__ import annotations\nfrom dataclasses import dataclass\nfrom typing import *\n"
        "@dataclass\nclass A:\n x: int = 1\n y: ClassVar[int] = 2\nclass N(NamedTuple):\n x: int\ndef f() -> List[int]: return [A().x, N(2).x]",
        "assert candidate() == [1, 2]",
    ),
    "a class": ("class f:\n def __init__(s, x): s.x = x\n def __call__(s): return s.x", "assert candidate(3)() == 3"),
    "lambda": ("f = lambda x: x + 1", "assert candidate(1) == 2"),
}  # fmt: skip
FAILING = {
    "a map where a list is asked": ("def f(): return map(abs, [1])", "assert candidate() == [1]", "failed_test", ""),
    "wrong value": ("def f(x): return x", "assert candidate(\n        2) == 4, 'no'", "failed_test", "assert candidate( 2) == 4, 'no'; f(2) gave 2"),
    "none": ("def f(x): pass", "assert candidate(2)[0] == 4", "exception", "TypeError: 'NoneType' object is not subscriptable (in the tests, at"),
    "error": ("def f(x):\n\n return 1 // x", "assert candidate(0) == 1", "exception", "ZeroDivisionError: integer division or modulo by zero (line 3 of the program), at assert candidate(0) == 1"),
    "own error": ("class Odd(Exception): pass\ndef f(): raise Odd('x')", "candidate()", "exception", "Odd: x (line 2 of the program)"),
    "no syntax": ("def f(x:\n return", "candidate(1)", "exception", "SyntaxError: "),
    "null bytes": ("def f():\0 return", "candidate()", "exception", "SyntaxError: "),
    "surrogates": ("def f(): return '\ud800'", "assert candidate() == 1", "exception", "UnicodeEncodeError: "),
    "no function": ("def g(x): return", "candidate(1)", "exception", "NameError: name 'f' is not defined"),
    "no module": ("import numpy\ndef f(): return 1", "candidate()", "exception", "ModuleNotFoundError: No module named 'numpy'"),
    "end of input": ("def f(): return input()", "candidate()", "exception", "EOFError: "),
    "bare except does not save it": (
        "import os\ndef f(): os._exit(0)", "try: candidate()\nexcept: pass", "exited", "the program ended its process (code 0)",
    ),
    "an endless test": ("def f(): return 1", "while candidate(): pass", "timeout", "no end after 1 s"),
    "main counts": ("def f(): return 1\nraise SystemExit(3)", "assert candidate() == 1", "exited", "the program raised SystemExit: 3"),
}  # fmt: skip


def checked(code, body, setup=""):
    return program(code, "def check(candidate):\n" + textwrap.indent(body, "    "), setup)


@pytest.mark.parametrize("without", [(), ("namespaces",), ("namespaces", "landlock", "seccomp")])
def test_honest_programs_pass(without):
    with Sandbox(Limits(wall_s=60), workers=2, _without=without) as sandbox:
        outcomes = zip(HONEST, sandbox.run_all(checked(*row) for row in HONEST.values()), strict=True)
        assert {name: outcome for name, outcome in outcomes if outcome.status != "passed"} == {}


@pytest.mark.parametrize("name", HONEST)
def test_honest_programs_pass_in_one_process_too(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("sys.stdout", sys.stdout)
    one, namespace = checked(*HONEST[name]), {}
    if name not in ("a setup that is no Python", "a failing setup"):
        exec(one.setup, namespace)
    exec(compile(one.code, "<program>", "exec", dont_inherit=True), namespace)
    exec(one.tests, namespace)
    namespace["check"](namespace["f"])


def test_what_fails_is_told_with_its_line():
    for endless in (True, False):
        rows = {name: row for name, row in FAILING.items() if (row[2] == "timeout") == endless}
        with Sandbox(Limits(wall_s=1.0 if endless else 60.0), workers=2) as sandbox:
            outcomes = sandbox.run_all(checked(code, body) for code, body, _, _ in rows.values())
            for (name, (_, _, status, said)), outcome in zip(rows.items(), outcomes, strict=True):
                assert (outcome.status, outcome.detail[: len(said)]) == (status, said), (name, outcome)


def test_a_worker_that_dies_is_replaced():
    with Sandbox(Limits(wall_s=60), workers=2) as sandbox:
        good = program("def f(x): return 730168428 + x")
        assert [outcome.status for outcome in sandbox.run_all([good] * 4)] == ["passed"] * 4
        slow = [program("import time\ndef f(x): time.sleep(50)")]
        results = []
        thread = threading.Thread(target=lambda: results.extend(sandbox.run_all(slow)))
        thread.start()
        time.sleep(0.5)
        for pid in sandbox_processes() - OTHERS:
            with contextlib.suppress(FileNotFoundError):  # another test's, which has ended since
                if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1] == str(os.getpid()):
                    os.kill(pid, signal.SIGKILL)
        thread.join()
        assert [outcome.status for outcome in results] == ["killed"]
        assert [outcome.status for outcome in sandbox.run_all([good] * 4)].count("passed") >= 3
        assert sandbox.run(good).status == "passed"


@LINUX
def test_nothing_is_left_when_the_main_process_is_killed(tmp_path):
    script = f"""
import sys, tempfile
tempfile.tempdir = {str(tmp_path)!r}
from errata.sandbox import *
code = "def f(x):\\n while True: pass"
sandbox = Sandbox(Limits(wall_s=60), workers=2, _without=sys.argv[1:])
print(sandbox.isolation, flush=True)
list(sandbox.run_all([Program(code, "", "def check(c): c(1)", "f")] * 2))
"""
    for without in ((), ("namespaces",)):
        process = subprocess.Popen([sys.executable, "-c", script, *without], stdout=subprocess.PIPE)
        each = 3 if b"no namespaces" in process.stdout.readline() else 4  # the zygote, its parent outside, tester, candidate
        until = time.monotonic() + 60
        while len(mine := descendants(process.pid)) < 2 * each and time.monotonic() < until:
            time.sleep(0.05)
        assert len(mine) == 2 * each
        process.kill()
        process.communicate()
        until = time.monotonic() + 60
        while (left := [pid for pid in mine if alive(pid)]) and time.monotonic() < until:
            time.sleep(0.05)
        assert not left
        assert not list(tmp_path.iterdir())


def test_a_worker_whose_main_process_died_while_it_started_leaves_no_folder(tmp_path):
    without = ["namespaces", "landlock", "seccomp"]
    theirs, ours = os.pipe()
    heard, said = os.pipe()
    os.close(heard)  # nobody is there to be told that it is ready
    settings = {"limits": asdict(Limits(cpu_s=1)), "without": without, "folder": str(tmp_path), "tests": theirs}
    code = "from errata.sandbox_child import main; main()"
    worker = subprocess.Popen(
        [sys.executable, "-c", code, json.dumps(settings)], stdin=subprocess.DEVNULL, stdout=said, pass_fds=[theirs]
    )
    for end in (theirs, ours, said):
        os.close(end)
    assert worker.wait(60) == 0
    assert not list(tmp_path.iterdir())


def descendants(pid):
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == pid:
                    found += [int(entry.name), *descendants(int(entry.name))]
            except OSError:
                continue
    return found


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(
    not HUMANEVAL.is_file(), reason="the real HumanEval file is not beside this checkout (or in ERRATA_DATA)"
)
def test_humanevals_own_solutions_pass():
    items = [json.loads(line) for line in HUMANEVAL.read_text().split("\n") if line]
    assert len(items) == 164
    programs = [
        Program(item["prompt"] + item["canonical_solution"], item["prompt"], item["test"], item["entry_point"])
        for item in items
    ]
    with Sandbox(Limits(wall_s=60), workers=2) as sandbox:
        outcomes = list(sandbox.run_all(programs))
    assert [(i["task_id"], o) for i, o in zip(items, outcomes, strict=True) if o.status != "passed"] == []


TRACES = {
    "a changed builtin": "import builtins\ndef check(candidate):\n    builtins.oct = lambda value: 731\n    assert candidate(1)",
    "a changed module": "import math\nmath.floor = lambda value: 731\ndef check(candidate):\n    assert candidate(1)",
    "a thread": "import threading, time\nthreading.Thread(target=time.sleep, args=(9,), daemon=True).start()\n"
    "def check(candidate):\n    assert candidate(1)",
    "a seed": "import random\nrandom.seed(1)\ndef check(candidate):\n    assert candidate(1)",
    "a depth": "import sys\nsys.setrecursionlimit(80)\ndef check(candidate):\n    assert candidate(1)",
    "a file": "open('left', 'w').write('x')\ndef check(candidate):\n    assert candidate(1)",
    "an environment": "import os\nos.environ['LEFT'] = 'x'\ndef check(candidate):\n    assert candidate(1)",
    "another folder": "import os\nos.chdir('/')\ndef check(candidate):\n    assert candidate(1)",
    "a handler": "import signal\nsignal.signal(signal.SIGTERM, lambda *_: None)\ndef check(candidate):\n    assert candidate(1)",
}
STATE = """
    import builtins, math, os, random, signal, sys, threading
    def check(candidate):
        state = (oct(8), math.floor(2.5), threading.active_count(), random.random(), sys.getrecursionlimit() > 900,
                 os.listdir("."), "LEFT" in os.environ, signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
        raise ValueError(state)
"""


@pytest.mark.parametrize("trace", TRACES)
def test_what_tests_leave_behind_does_not_reach_the_next_program(trace):
    honest, state = "def f(x): return 1", program("def f(x): return x", STATE)
    with Sandbox(Limits(wall_s=60), workers=1) as fresh:
        expected = fresh.run(state)
    with Sandbox(Limits(wall_s=60), workers=1) as sandbox:
        assert sandbox.run(program(honest, TRACES[trace])).status == "passed"
        assert sandbox.run(state) == expected
