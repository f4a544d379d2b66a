"""Hostile programs: none may pass, hang, or leave anything behind. And honest ones, which must not be wronged."""

import os
import time
from pathlib import Path

import pytest

from errata.sandbox import Limits, Program, Sandbox

TESTS = "def check(candidate):\n    assert candidate(2) == 4\n    assert candidate(5) == 10\n"
WALL_S = 1.5


@pytest.fixture(scope="module", params=[(), ("namespaces",)], ids=["all walls", "without namespaces"])
def box(request):
    with Sandbox(
        Limits(wall_s=WALL_S, memory_mb=512), workers=1, **({"_without": request.param} if request.param else {})
    ) as made:
        yield made


def run(box, code, tests=TESTS, setup=""):
    return box.run(Program(code, setup, tests, "f"))


HOSTILE = {
    "endless loop": "def f(x):\n    while True: pass",
    "endless loop at import": "while True: pass",
    "endless loop in C": "def f(x): return 10 ** 10 ** 10",
    "hopeless regular expression": "import re\ndef f(x): return re.match('(a+)+$', 'a' * 40 + 'b')",
    "sleeps": "import time\ndef f(x): time.sleep(60)",
    "fork bomb": "import os\ndef f(x):\n    while True: os.fork()",
    "thread bomb": "import threading, time\ndef f(x):\n    while True: threading.Thread(target=time.sleep, args=(60,)).start()",
    "memory hog": "def f(x): return bytearray(1 << 36)",
    "slow memory hog": "def f(x):\n    a = []\n    while True: a.append(bytearray(1 << 24))",
    "disk filler": "def f(x):\n    with open('big', 'wb') as file:\n        while True: file.write(bytes(1 << 20))",
    "many files": "def f(x):\n    for n in range(10 ** 9): open(str(n), 'w').close()",
    "sys.exit(0)": "import sys\nsys.exit(0)",
    "sys.exit(0) in the call": "import sys\ndef f(x): sys.exit(0)",
    "os._exit(0)": "import os\ndef f(x): os._exit(0)",
    "patched builtins": "import builtins\nbuiltins.AssertionError = Exception\nbuiltins.all = lambda *_: True\ndef f(x): return 0",
    "an object that equals everything": "class A:\n    def __eq__(self, other): return True\n    __hash__ = None\ndef f(x): return A()",
    "an int that equals everything": "class A(int):\n    def __eq__(self, other): return True\n    def __hash__(self): return 0\ndef f(x): return A(0)",
    "a hostile __reduce__": "class A:\n    def __reduce__(self): return (print, ('passed',))\ndef f(x): return A()",
    "a false check": "def check(candidate): pass\ndef f(x): return 0",
    "reads the tests from the stack": "import sys\ndef f(x):\n    frame = sys._getframe()\n    while frame:\n        if 'candidate' in frame.f_globals or 'check' in frame.f_globals: return 2 * x\n        frame = frame.f_back",
    "reads the tests from memory": "import gc\ndef f(x):\n    return 2 * x if any('candidate(5)' in o for o in gc.get_objects() if isinstance(o, str)) else 0",
    "reads the tests from other processes": "import glob\ndef f(x):\n    return 2 * x if any(b'candidate(5)' in open(p, 'rb').read() for p in glob.glob('/proc/[0-9]*/cmdline')) else 0",
    "kills its parent": "import os, signal\ndef f(x): os.kill(os.getppid(), signal.SIGKILL)",
    "kills everything": "import os, signal\ndef f(x): os.kill(-1, signal.SIGKILL)",
    "swallows KeyboardInterrupt": "def f(x):\n    while True:\n        try:\n            while True: pass\n        except BaseException: pass",
    "ignores signals": "import signal\nfor n in (1, 2, 3, 14, 15, 24): signal.signal(n, signal.SIG_IGN)\ndef f(x):\n    while True: pass",
    "leaves threads behind": "import threading\ndef loop():\n    while True: pass\nthreading.Thread(target=loop).start()\ndef f(x): return 0",
    "leaves a daemon behind": "import os\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        while True: pass\ndef f(x): return 0",
    "huge output": "def f(x):\n    while True: print('x' * 10 ** 6)",
    "huge result": "def f(x): return 'x' * 10 ** 9",
    "endless generator": "import itertools\ndef f(x): return itertools.count()",
    "deletes the work folder": "import os, shutil\ndef f(x):\n    shutil.rmtree(os.getcwd())\n    return 0",
    "closes the work folder": "import os\ndef f(x):\n    open('a', 'w')\n    os.chmod('.', 0)\n    return 0",
    "opens a socket": "import socket\ndef f(x):\n    socket.create_connection(('127.0.0.1', 22), 1)\n    return 2 * x",
    "opens a unix socket": "import socket\ndef f(x):\n    socket.socket(socket.AF_UNIX).bind('s')\n    return 2 * x",
    "resolves a name": "import socket\ndef f(x):\n    socket.getaddrinfo('example.org', 80)\n    return 2 * x",
    "writes to HOME": "import pathlib\ndef f(x):\n    pathlib.Path('{home}/canary').write_text('x')\n    return 2 * x",
    "writes to /tmp": "def f(x):\n    open('{tmp}/canary', 'w').write('x')\n    return 2 * x",
    "overwrites the checkout": "def f(x):\n    open('{here}', 'a').write('#')\n    return 2 * x",
    "reads a key from the environment": "import os\ndef f(x): return 2 * x if os.environ['OPENAI_API_KEY'] else 0",
    "crashes in C": "import ctypes\ndef f(x): ctypes.string_at(0)",
    "writes a verdict to every descriptor": "import os\nfor n in range(64):\n    try: os.write(n, b'{\"status\": \"passed\"}\\n' * 9)\n    except OSError: pass\ndef f(x): return 0",
    "runs a shell": "import subprocess\ndef f(x): return 2 * x if subprocess.run(['/bin/sh', '-c', 'true']).returncode == 0 else 0",
    "atexit": "import atexit, os\natexit.register(lambda: os._exit(0))\nraise SystemExit(0)",
    "deep recursion": "import sys\nsys.setrecursionlimit(10 ** 9)\ndef f(x): return f(x)",
    "forgets the function": "g = 1",
    "no Python": "def f(x: return 2",
}  # fmt: skip


@pytest.mark.parametrize("code", HOSTILE.values(), ids=HOSTILE.keys())
def test_no_hostile_program_passes_hangs_or_leaves_anything_behind(box, code, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    here = Path(__file__)
    before = here.read_bytes()
    for mark, value in {"{home}": Path.home(), "{tmp}": tmp_path, "{here}": here}.items():
        code = code.replace(mark, str(value))
    start = time.monotonic()
    outcome = run(box, code)
    assert outcome.status != "passed"
    assert outcome.detail or outcome.exception
    assert time.monotonic() - start < WALL_S + 8
    assert here.read_bytes() == before
    assert not (Path.home() / "canary").exists()
    assert list(tmp_path.iterdir()) == []
    assert run(box, "def f(x): return 2 * x").status == "passed"  # the worker, or the one in its place, goes on


def test_nothing_is_left_of_a_closed_sandbox():
    others = set(workers())
    box = Sandbox(Limits(wall_s=0.5), workers=2)
    statuses = [
        outcome.status for outcome in box.run_all([Program(code, "", TESTS, "f") for code in list(HOSTILE.values())[:6]])
    ]
    assert "passed" not in statuses
    box.close()
    deadline = time.monotonic() + 5
    while (left := set(workers()) - others) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left == set()


def workers():
    """Command lines of sandbox processes that are children of this one."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if f"\nPPid:\t{os.getpid()}\n" in (path / "status").read_text():
                line = path.name.encode() + (path / "cmdline").read_bytes()
                found += [line] if b"sandbox_child" in line else []
        except OSError:
            continue
    return found


HONEST = [
    ("def f(x): return 2 * x", TESTS),
    ("def f(x):\n    for n in range(x): yield n", "def check(candidate):\n    assert list(candidate(3)) == [0, 1, 2]\n"),
    (
        "from collections import Counter\ndef f(x): return Counter(x)",
        "def check(candidate):\n    assert candidate('aab') == {'a': 2, 'b': 1}\n",
    ),
    (
        "def f(x): x.sort()",
        "def check(candidate):\n    a = [3, 1]\n    assert candidate(a) is None\n    assert a == [1, 3]\n",
    ),
    (
        "def f(x): raise ValueError('no')",
        "def check(candidate):\n    try:\n        candidate(1)\n    except ValueError as e:\n        assert str(e) == 'no'\n    else:\n        assert False\n",
    ),
    (
        "def f(x): return float('inf'), -0.1, 10 ** 5000, {1: {2}}",
        "def check(candidate):\n    a, b, c, d = candidate(1)\n    assert a == float('inf') and b == -0.1 and c == 10 ** 5000 and d == {1: {2}}\n",
    ),
    (
        "def f(g): return [g(n) for n in range(3)]",
        "def check(candidate):\n    assert candidate(lambda n: n * n) == [0, 1, 4]\n",
    ),
    ("def f(x):\n    print('hello')\n    return 2 * x", TESTS),
    ("import random, math, re, itertools, functools, heapq, datetime\ndef f(x): return 2 * x", TESTS),
    ("def f(x): return g(x)\ndef g(x): return 2 * x", TESTS),
]


@pytest.mark.parametrize(("code", "tests"), HONEST)
def test_an_honest_program_passes(box, code, tests):
    outcome = run(box, code, tests)
    assert outcome.status == "passed", outcome


def test_the_tests_may_use_what_the_prompt_defines_and_the_name_of_the_function(box):
    tests = "def check(candidate):\n    assert double(candidate(1)) == 4\n    assert f(1) == 2\n"
    assert run(box, "def f(x): return 2 * x", tests, "def double(x): return 2 * x\ndef f(x): pass").status == "passed"


def test_a_map_is_no_list(box):
    assert (
        run(box, "def f(x): return map(abs, [1])", "def check(candidate):\n    assert candidate(1) == [1]\n").status
        == "failed_test"
    )


@pytest.mark.parametrize(
    ("code", "status", "exception", "detail"),
    [
        ("def f(x): return x", "failed_test", "", "candidate(2) == 4"),
        ("def f(x): return [][x]", "exception", "IndexError", "list index out of range"),
        ("def f(x): return undefined", "exception", "NameError", "undefined"),
        ("def f(x: return 2", "exception", "SyntaxError", ""),
        ("def f(x):\n    while True: pass", "timeout", "", ""),
        ("def f(x): return None + 1", "exception", "TypeError", "NoneType"),
    ],
)
def test_what_happened_is_said_with_its_evidence(box, code, status, exception, detail):
    outcome = run(box, code)
    assert (outcome.status, outcome.exception) == (status, exception)
    assert detail in outcome.detail


def test_which_walls_stand_is_said(box):
    assert "socket" in box.isolation or "network" in box.isolation
