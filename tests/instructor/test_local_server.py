"""A server that is started and stopped by the run: first a small one of our own, then the real one."""

import asyncio
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from errata.errors import InstructorError
from errata.instructor.local_server import LocalServer

MESSAGES = ({"role": "user", "content": "What is 2 + 3?"},)
FAKE = r"""
import json, os, subprocess, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer({"status": "ok"})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if "die" in body["messages"][0]["content"]:
            print("CUDA error: out of memory", flush=True)
            os._exit(7)
        said = json.dumps([os.getpid(), worker.pid, body["model"], sorted(os.environ)])
        self.answer({
            "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": said}}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 1},
        })

    def answer(self, value):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(value).encode())

worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + FAKE


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Makes a LocalServer whose command is a small script."""

    def make(script=FAKE, **settings):
        monkeypatch.setattr(LocalServer, "_command", lambda self, port: [sys.executable, "-c", script, str(port)])
        (tmp_path / "model").mkdir(exist_ok=True)
        (tmp_path / "model" / "config.json").write_text("{}")
        return LocalServer(path=str(tmp_path / "model"), server="transformers", temperature=None, **settings)

    return make


def alive(pid):
    try:
        with Path(f"/proc/{pid}/stat").open() as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until_gone(pids):
    end = time.monotonic() + 60
    while any(map(alive, pids)):
        assert time.monotonic() < end, "still alive"
        time.sleep(0.05)


async def said(instructor, text="hello"):
    return json.loads((await instructor.reply(instructor.call(({"role": "user", "content": text},), 0))).text)


def test_it_starts_answers_and_stops_with_all_its_workers(fake, tmp_path, monkeypatch):
    for name in ("OPENAI_API_KEY", "HF_TOKEN", "my_secret"):
        monkeypatch.setenv(name, "x")
    instructor = fake()

    async def run():
        async with instructor.running():
            return await said(instructor)

    server, worker, model, environment = asyncio.run(run())
    assert model == str(tmp_path / "model")
    assert not {"OPENAI_API_KEY", "HF_TOKEN", "my_secret"} & set(environment)
    wait_until_gone([server, worker])


@pytest.mark.parametrize("error", [RuntimeError, asyncio.CancelledError, KeyboardInterrupt])
def test_it_stops_after_an_exception(fake, error):
    instructor, pids = fake(), []

    async def run():
        async with instructor.running():
            pids.extend((await said(instructor))[:2])
            raise error

    with pytest.raises(error):
        asyncio.run(run())
    wait_until_gone(pids)


def test_a_server_that_will_not_stop_is_killed(fake, monkeypatch):
    monkeypatch.setattr("errata.instructor.local_server._STOP_S", 0.5)
    instructor = fake(STUBBORN)

    async def run():
        async with instructor.running():
            return (await said(instructor))[:2]

    wait_until_gone(asyncio.run(run()))


async def enter(instructor):
    async with instructor.running():
        pytest.fail("it never answers")


def test_a_server_that_ends_at_once_is_told_with_its_last_words(fake):
    script = "import sys; print(*('line %d' % i for i in range(9)), sep='\\n'); sys.exit('no such weights')"
    with pytest.raises(InstructorError) as caught:
        asyncio.run(enter(fake(script)))
    message = str(caught.value)
    for word in ("ended with code 1 before it answered", sys.executable, "no such weights", "line 8", "start_s"):
        assert word in message
    assert "line 3" not in message


def test_a_server_that_is_killed_is_told_so(fake):
    with pytest.raises(InstructorError, match="ended with code 137"):
        asyncio.run(enter(fake("import os; os.kill(os.getpid(), 9)")))


def test_a_server_that_does_not_answer_in_time(fake):
    with pytest.raises(InstructorError, match=r"did not answer within instructor.start_s=1 s"):
        asyncio.run(enter(fake("import time; time.sleep(60)", start_s=1)))


def test_a_server_that_ends_under_way_stops_the_run(fake):
    instructor = fake()

    async def run():
        async with instructor.running():
            for _ in range(600):  # the connection breaks a moment before the process is seen to have ended
                try:
                    await said(instructor, "die")
                except InstructorError:
                    raise
                except Exception:  # noqa: BLE001
                    await asyncio.sleep(0.1)

    with pytest.raises(InstructorError, match=r"(?s)ended with code 7 while it was asked.*out of memory"):
        asyncio.run(run())


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_it_dies_with_a_killed_parent(tmp_path):
    script = f"""
import asyncio, sys
from errata.instructor.local_server import LocalServer
LocalServer._command = lambda self, port: [sys.executable, "-c", {FAKE!r}, str(port)]
async def run():
    instructor = LocalServer(path={str(tmp_path)!r}, server="transformers", temperature=None)
    async with instructor.running():
        print((await instructor.reply(instructor.call(({{"role": "user", "content": "x"}},), 0))).text, flush=True)
        await asyncio.sleep(600)
asyncio.run(run())
"""
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    try:
        pids = json.loads(parent.stdout.readline())[:2]
        assert all(map(alive, pids))
    finally:
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
        parent.stdout.close()
    wait_until_gone(pids)


def test_problems_are_found_before_anything_starts(tmp_path, monkeypatch):
    def found(**settings):
        return "\n".join(LocalServer(**{"server": "transformers", "path": "org/name", **settings}).problems(["gsm8k"]))

    monkeypatch.setattr("errata.instructor.local_server._program", lambda name: None)
    assert "no such folder, and no hub id" in found(path="/no/such/folder")
    assert "holds no model" in found(path=str(tmp_path))
    assert "pip install 'errata[serving]'" in found()
    assert "pip install vllm" in found(server="vllm")
    assert "instructor.start_s is 0" in found(start_s=0)
    assert "no Batch API" in found(mode="batch")
    for name in ("server", "device", "dtype"):
        assert f"instructor.{name} is 'wrong'" in found(**{name: "wrong"})


def test_the_command(tmp_path, monkeypatch):
    def command(**settings):
        return " ".join(LocalServer(path="org/name", extra_args=["--more"], **settings)._command(5))

    monkeypatch.setattr("errata.instructor.local_server._program", lambda name: f"/bin/{name}")
    monkeypatch.setattr("errata.instructor.local_server._has_gpu", lambda: True)
    common = "serve org/name --host 127.0.0.1 --port 5 --dtype auto"
    assert command() == f"/bin/vllm {common} --more"
    transformers = f"/bin/transformers {common} --device"
    assert command(server="transformers") == f"{transformers} auto --continuous-batching --more"
    assert command(device="cpu") == f"{transformers} cpu --continuous-batching --cb-max-memory-percent 0.1 --more"


def test_the_ledger_knows_it_by_its_weights(tmp_path):
    def key(folder, **settings):
        return LocalServer(path=str(folder), server="transformers", **settings).call(MESSAGES, 0).key

    for place, content in (("a", "{}"), ("b", "{}"), ("c", "{ }")):
        folder = tmp_path / place / "model"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(content)
    first, same, other = (tmp_path / place / "model" for place in "abc")
    assert key(first) == key(same) == key(first, device="cpu", start_s=5)
    assert len({key(first), key(other), key(first, dtype="float16"), key(first, extra_args=["--reasoning", "off"])}) == 4


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("fastapi") is None, reason="needs errata[serving]")
def test_the_real_server_answers_samples_and_stops(tiny_model):
    instructor = LocalServer(
        path=str(tiny_model), server="transformers", device="cpu", dtype="float32", max_tokens=12, temperature=1.5
    )
    assert instructor.problems(["arithmetic"]) == []

    async def run():
        async with instructor.running():
            process = instructor._process
            calls = [instructor.call(MESSAGES, draw) for draw in range(4)]
            return process, await asyncio.gather(*map(instructor.reply, calls))

    process, replies = asyncio.run(run())
    assert process.poll() is not None
    assert all(reply.prompt_tokens > 0 and 0 < reply.completion_tokens <= 12 and reply.usd == 0 for reply in replies)
    assert len({reply.text for reply in replies}) > 1  # the temperature is heeded
