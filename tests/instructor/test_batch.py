"""The Batch API against a server on loopback that has files and batches."""

import asyncio
import json
import threading
import time
from collections import Counter

import pytest
from aiohttp import web
from tests.instructor.engine_driver import instructor, requests

from errata.errors import BudgetError, InstructorError
from errata.instructor import batch as batches
from errata.ledger import Ledger, Purse
from errata.run_folder import RunFolder
from errata.stage.instruct import instruct

PRICE = {"usd_per_million_in": 10.0, "usd_per_million_out": 30.0}


class Endpoint:
    """Files and batches. `rule(custom_id, body)` gives the (status, body) of a call, or None for no answer at all."""

    def __init__(self, rule=None):
        self.rule = rule or (lambda key, body: (200, completion(body["messages"][-1]["content"])))
        self.files, self.batches, self.asked = {}, {}, Counter()
        self.calls = Counter()
        self.polls_until_done, self.status = 2, "completed"
        self.stop_before = None
        self._loop = asyncio.new_event_loop()
        ready = threading.Event()
        threading.Thread(target=self._serve, args=(ready,), daemon=True).start()
        assert ready.wait(60)

    def _serve(self, ready):
        asyncio.set_event_loop(self._loop)

        async def start():
            app = web.Application()
            app.router.add_post("/v1/files", self.upload)
            app.router.add_get("/v1/files", self.list_files)
            app.router.add_get("/v1/files/{id}/content", self.content)
            self.on_create = self.create
            app.router.add_post("/v1/batches", lambda request: self.on_create(request))
            app.router.add_get("/v1/batches", self.list_batches)
            app.router.add_get("/v1/batches/{id}", self.retrieve)
            runner = web.AppRunner(app, access_log=None)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.port = runner.addresses[0][1]
            ready.set()

        self._loop.run_until_complete(start())
        self._loop.run_forever()

    async def upload(self, request):
        form = await request.post()
        name = f"file-{len(self.files)}"
        self.files[name] = (form["file"].filename, form["file"].file.read())
        self.asked["upload"] += 1
        return web.json_response(self._file(name))

    def _file(self, name):
        filename, content = self.files[name]
        shape = {"object": "file", "bytes": len(content), "created_at": 0, "purpose": "batch", "status": "processed"}
        return {"id": name, "filename": filename, **shape}

    async def list_files(self, request):
        return web.json_response({"object": "list", "data": [self._file(name) for name in self.files], "has_more": False})

    async def content(self, request):
        return web.Response(body=self.files[request.match_info["id"]][1])

    async def create(self, request):
        body = await request.json()
        name = f"batch-{len(self.batches)}"
        self.asked["create"] += 1
        self.batches[name] = {
            "id": name, "object": "batch", "endpoint": body["endpoint"], "input_file_id": body["input_file_id"],
            "completion_window": body["completion_window"], "status": "in_progress", "created_at": 0,
            "metadata": body["metadata"], "polls": 0,
        }  # fmt: skip
        return web.json_response(self.batches[name])

    async def list_batches(self, request):
        return web.json_response({"object": "list", "data": list(self.batches.values()), "has_more": False})

    async def retrieve(self, request):
        made = self.batches[request.match_info["id"]]
        made["polls"] += 1
        if made["polls"] >= self.polls_until_done and made["status"] == "in_progress":
            self.finish(made)
        return web.json_response(made)

    def finish(self, made):
        good, bad = [], []
        for line in self.files[made["input_file_id"]][1].decode().splitlines():
            call = json.loads(line)
            self.calls[call["custom_id"]] += 1
            answer = self.rule(call["custom_id"], call["body"])
            if answer is not None:
                status, body = answer
                entry = {"id": "r", "custom_id": call["custom_id"], "response": {"status_code": status, "body": body}}
                (good if status == 200 else bad).append(json.dumps({**entry, "error": None}))
        for kind, lines in (("output", good), ("error", bad)):
            if lines:
                name = f"file-{len(self.files)}"
                self.files[name] = (f"{kind}.jsonl", "\n".join(lines).encode())
                made[f"{kind}_file_id"] = name
        made["status"] = self.status


def completion(text, usage=True):
    message = {"role": "assistant", "content": f"reply to {text}"}
    body = {"choices": [{"index": 0, "finish_reason": "stop", "message": message}]}
    return {**body, "usage": {"prompt_tokens": 50, "completion_tokens": 20, "total_tokens": 70}} if usage else body


def ask(folder, endpoint, count, purse=None, **settings):
    with RunFolder(folder / "run", {}) as run, Ledger(folder / "ledger.sqlite") as ledger:
        stage = run.stage("instruct", n=count)
        giver = instructor(endpoint.port, mode="batch", batch_poll_s=0.05, **settings)
        return instruct(stage, requests(count), giver, ledger, purse), stage


def test_a_batch_is_uploaded_once_and_costs_half(tmp_path):
    endpoint = Endpoint()
    replies, stage = ask(tmp_path, endpoint, 30, **PRICE)
    assert [reply.text for reply in replies] == [f"reply to question {n}" for n in range(30)]
    assert endpoint.asked == {"upload": 1, "create": 1}
    assert stage.record.counts["usd"] == stage.record.counts["paid usd"] == pytest.approx(30 * (500 + 600) / 1e6 / 2)
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        for table in ("batch", "claim", "owner"):
            assert ledger.db.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
    # the same call is known, however it was asked
    with RunFolder(tmp_path / "other", {}) as run, Ledger(tmp_path / "ledger.sqlite") as ledger:
        again = instruct(run.stage("instruct", n=1), requests(30), instructor(endpoint.port), ledger)
    assert [reply.text for reply in again] == [reply.text for reply in replies]


def test_what_a_batch_leaves_out_goes_into_the_next_and_what_it_refuses_is_recorded(tmp_path):
    endpoint = Endpoint()
    asked = Counter()

    def rule(key, body):
        asked[key] += 1
        number = int(body["messages"][-1]["content"].split()[-1])
        if number == 3:
            return 400, {"error": {"message": "no such thing"}}
        if number == 4:
            return None  # never answered
        if number % 5 == 0 and asked[key] == 1:
            return (500, {"error": {"message": "oh dear"}}) if number % 2 else None
        return 200, completion(f"question {number}")

    endpoint.rule, endpoint.status = rule, "expired"
    replies, stage = ask(tmp_path, endpoint, 20)
    assert [n for n, reply in enumerate(replies) if reply.text is None] == [3, 4]
    assert "no such thing" in replies[3].failure
    assert "no answer in 3 batches, the last one expired" in replies[4].failure
    assert endpoint.asked == {"upload": 3, "create": 3}
    assert stage.record.counts["replies"] == 18


@pytest.mark.parametrize("moment", ["before the upload", "after the upload", "after the batch was made", "while it waits"])
def test_a_killed_run_finds_its_batch_again(moment, tmp_path, monkeypatch):
    endpoint = Endpoint()
    real = batches._Batches._known
    steps = iter(["after the upload", "after the batch was made"])

    async def known(self, batch, file_id, batch_id):
        if next(steps, None) == moment:  # the endpoint has it, the ledger does not know yet
            raise KeyboardInterrupt
        return await real(self, batch, file_id, batch_id)

    async def stop(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(batches._Batches, "_known", known)
    if moment == "before the upload":
        monkeypatch.setattr(batches._Batches, "_created", stop)
    if moment == "while it waits":
        monkeypatch.setattr(batches._Batches, "_ended", stop)
    with pytest.raises(BaseException):  # noqa: B017 - however it comes out of the loop
        ask(tmp_path, endpoint, 10, **PRICE)
    monkeypatch.undo()
    with pytest.raises(InstructorError, match="mode=batch"), Ledger(tmp_path / "ledger.sqlite") as ledger:
        with RunFolder(tmp_path / "impatient", {}) as run:
            instruct(run.stage("instruct", n=1), requests(10), instructor(endpoint.port), ledger)
    replies, stage = ask(tmp_path, endpoint, 10, **PRICE)
    assert all(reply.text for reply in replies)
    assert endpoint.asked == {"upload": 1, "create": 1}
    assert set(endpoint.calls.values()) == {1}
    assert stage.record.counts["paid usd"] == stage.record.counts["usd"]


def test_two_processes_share_a_batch(tmp_path):
    endpoint = Endpoint()
    endpoint.polls_until_done = 10
    results = {}

    def run(name):
        (tmp_path / name).mkdir()
        with RunFolder(tmp_path / name / "run", {}) as folder, Ledger(tmp_path / "ledger.sqlite") as ledger:
            giver = instructor(endpoint.port, mode="batch", batch_poll_s=0.05)
            results[name] = instruct(folder.stage("instruct", n=1), requests(12), giver, ledger)

    threads = [threading.Thread(target=run, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
        time.sleep(0.15)
    for thread in threads:
        thread.join(60)
    assert [reply.text for reply in results["one"]] == [reply.text for reply in results["two"]]
    assert endpoint.asked == {"upload": 1, "create": 1}


def test_the_budget_bounds_a_batch(tmp_path):
    endpoint = Endpoint()
    each_at_most = (100 * 30 + 30 * 10) / 1e6 / 2
    limit = 10 * each_at_most
    with pytest.raises(BudgetError):
        ask(tmp_path, endpoint, 100, Purse("a", "r", "s", usd=limit), **PRICE)
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        spent, reserved = ledger.spent("a")
    assert limit - 1.1 * each_at_most < spent.usd <= limit
    assert reserved.tokens == 0
    replies, _ = ask(tmp_path, endpoint, 100, Purse("a", "r", "s", usd=1.0), **PRICE)
    assert len(replies) == 100
    assert set(endpoint.calls.values()) == {1}


def test_an_endpoint_without_batches_is_told_apart(tmp_path):
    endpoint = Endpoint()
    with pytest.raises(InstructorError, match=r"Batch API .* fails.*mode=now"):
        ask(tmp_path, type("Nowhere", (), {"port": f"{endpoint.port}/nothing"}), 3)


def test_a_batch_that_was_made_though_the_answer_was_lost_is_not_made_again(tmp_path):
    endpoint = Endpoint()
    real, failures = endpoint.create, iter([True])

    async def create(request):
        made = await real(request)
        return web.Response(status=502) if next(failures, False) else made

    endpoint.on_create = create
    replies, stage = ask(tmp_path, endpoint, 5, **PRICE)
    assert all(reply.text for reply in replies)
    assert endpoint.asked == {"upload": 1, "create": 1}
    assert stage.record.counts["paid tokens"] == 5 * 70


def test_answers_without_a_count_of_tokens_count_at_their_highest(tmp_path):
    endpoint = Endpoint(
        lambda key, body: (200, completion("x", usage=False)) if "1" in str(body) else (200, {"no": "reply"})
    )
    ask(tmp_path, endpoint, 12, Purse("a", "r", "s", usd=1.0), **PRICE)
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        spent, reserved = ledger.spent("a")
    assert spent.tokens > 12 * 100
    assert reserved.tokens == 0


def test_odd_lines_and_keys_in_them_do_no_harm(tmp_path, monkeypatch):
    monkeypatch.setenv("MY_KEY", "sk-a-secret-in-a-line")
    endpoint = Endpoint(
        lambda key, body: (
            (400, {"error": "your key sk-a-secret-in-a-line is fine"}) if "3" in str(body) else (200, completion("x"))
        )
    )
    finish = endpoint.finish

    def with_odd_lines(made):
        finish(made)
        name, content = endpoint.files[made["output_file_id"]]
        endpoint.files[made["output_file_id"]] = (name, content + b'\nnot json\n{"custom_id": 5}\n[]\n')

    endpoint.finish = with_odd_lines
    replies, _ = ask(tmp_path, endpoint, 6, api_key_env="MY_KEY")
    assert [n for n, reply in enumerate(replies) if reply.text is None] == [3]
    assert "***" in replies[3].failure
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or b"sk-a-secret-in-a-line" not in path.read_bytes()
