"""The real `openai` client against a real server on loopback that misbehaves."""

import asyncio
import json
import threading
from collections import Counter

import pytest
from aiohttp import web

from errata.errors import InstructorError
from errata.instructor.openai import OpenAI
from errata.instructor.replay import Replay
from errata.ledger import Ledger
from errata.records import Reply, Request
from errata.run_folder import RunFolder
from errata.stage.instruct import instruct

KEY = "sk-this-is-a-secret-key"


def completion(text="fine", finish_reason="stop"):
    message = {"role": "assistant", "content": text}
    return web.json_response(
        {
            "id": "x", "object": "chat.completion", "created": 0, "model": "m",
            "choices": [{"index": 0, "finish_reason": finish_reason, "message": message}],
            "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
        }
    )  # fmt: skip


class Server:
    """What a request meets is written in its message: `429 twice`, `500 always`, `empty`, `garbage`, `401` ..."""

    def __init__(self):
        self.seen = Counter()
        self.bodies = []
        self.at_once = self.most_at_once = 0
        self.knows_schemas, self.latency = True, 0.02
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()
        assert self._ready.wait(60)

    async def _answer(self, request):
        body = await request.json()
        self.bodies.append(body)
        self.headers = request.headers
        if "response_format" in body and not self.knows_schemas:
            return web.json_response({"error": {"message": "response_format is not supported here"}}, status=400)
        text = next(message["content"] for message in body["messages"][::-1] if message["role"] == "user")
        self.seen[text] += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(self.latency)
        self.at_once -= 1
        word, _, how = text.partition(" ")
        if word.isdigit() and (how.startswith("always") or self.seen[text] <= 2):
            error = {"error": {"message": f"no {how}: {request.headers.get('Authorization')}"}}
            return web.json_response(error, status=int(word), headers={"Retry-After": "0.05"})
        if word == "odd":
            odd = json.loads(completion("fine").text)
            odd["choices"][0]["finish_reason"] = {"why": "who knows"}
            odd["usage"] = {"prompt_tokens": 1e999, "total_tokens": 70}
            return web.json_response(odd)
        if word == "empty":
            return completion("", "content_filter")
        if word == "garbage":
            return web.Response(text='{"choices": [', content_type="application/json")
        if word == "drop" and self.seen[text] <= 1:
            request.transport.close()
        return completion(f"reply to {text}")

    def _serve(self):
        asyncio.set_event_loop(self._loop)

        async def start():
            app = web.Application()
            app.router.add_post("/v1/chat/completions", self._answer)
            runner = web.AppRunner(app, access_log=None)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
            self._ready.set()

        self._loop.run_until_complete(start())
        self._loop.run_forever()

    def stop(self):
        self._loop.call_soon_threadsafe(self._loop.stop)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    running = Server()
    yield running
    running.stop()


def requests(*texts):
    return [
        Request(f"1/toy/train/{n}", "toy", f"toy/train/{n}", ({"role": "user", "content": text},), 2)
        for n, text in enumerate(texts)
    ]


def run(tmp_path, instructor, asked, name="run"):
    with RunFolder(tmp_path / name, {}) as folder, Ledger(tmp_path / "ledger.sqlite") as ledger:
        return instruct(folder.stage("instruct", n=len(asked)), asked, instructor, ledger)


def test_one_failing_request_never_loses_the_others(server, tmp_path):
    asked = requests("hello", "429 twice", "503 twice", "500 always", "empty", "garbage", "drop once", "400 always")
    replies = run(tmp_path, OpenAI("m", server.url, timeout_s=5, max_retries=3), asked)
    assert [reply.request_id for reply in replies] == [request.id for request in asked]
    text = {request.messages[0]["content"]: reply for request, reply in zip(asked, replies, strict=True)}
    for good in ("hello", "429 twice", "503 twice", "drop once"):
        assert text[good].text == f"reply to {good}"
    for bad, said in (("500 always", "500"), ("garbage", ""), ("400 always", "400")):
        assert text[bad].text is None
        assert said in text[bad].failure
    assert (text["empty"].text, text["empty"].finish_reason) == ("", "content_filter")
    assert server.seen["500 always"] == 4
    assert server.seen["400 always"] == 1


def test_a_reply_once_received_is_never_asked_for_again(server, tmp_path):
    first = run(tmp_path, OpenAI("m", server.url), requests("a", "b"), "one")
    second = run(tmp_path, OpenAI("m", server.url), requests("a", "b", "c"), "two")
    assert [reply.text for reply in second[:2]] == [reply.text for reply in first]
    assert server.seen == {"a": 1, "b": 1, "c": 1}


def test_the_same_call_is_sent_once_whoever_asks(server, tmp_path):
    replies = run(tmp_path, OpenAI("m", server.url), requests("a", "b", "a"))
    assert [reply.text for reply in replies] == ["reply to a", "reply to b", "reply to a"]
    assert server.seen["a"] == 1


def test_draws_are_distinct_requests(server, tmp_path):
    message = ({"role": "user", "content": "again"},)
    asked = [Request(f"1/toy/train/0#{draw}", "toy", "toy/train/0", message, 2, draw) for draw in range(3)]
    run(tmp_path, OpenAI("m", server.url), asked)
    assert server.seen["again"] == 3


def test_concurrency_is_bounded(server, tmp_path):
    server.latency = 0.3
    run(tmp_path, OpenAI("m", server.url, concurrency=3), requests(*map(str, "abcdefghijkl")))
    assert server.most_at_once == 3


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refused_key_or_model_stops_at_once_and_keeps_what_came(server, tmp_path, status, caplog):
    asked = requests("a", f"{status} always", *(f"later {n}" for n in range(50)))
    with pytest.raises(InstructorError) as error:
        run(tmp_path, OpenAI("m", server.url, concurrency=2), asked)
    assert str(status) in str(error.value)
    assert KEY not in str(error.value) + caplog.text
    assert len(server.seen) < 10
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        assert ledger.get(OpenAI("m", server.url).call(asked[0].messages, 0)).text == "reply to a"


def test_an_endpoint_that_only_fails_is_given_up(server, tmp_path):
    asked = requests(*(f"400 always {n}" for n in range(100)))
    with pytest.raises(InstructorError, match="the last 20 requests all failed"):
        run(tmp_path, OpenAI("m", server.url, concurrency=4), asked)
    assert len(server.seen) < 30


def test_the_key_is_nowhere_on_disk(server, tmp_path):
    run(tmp_path, OpenAI("m", server.url, max_retries=0), requests("a", "500 always", "400 always"))
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert KEY.encode() not in path.read_bytes(), path


def test_prices_are_counted_and_unknown_stays_unknown(server, tmp_path):
    known = OpenAI("m", server.url, usd_per_million_in=10.0, usd_per_million_out=30.0)
    (reply,) = run(tmp_path, known, requests("a"), "one")
    assert reply.usd == pytest.approx((10 * 10 + 5 * 30) / 1e6)
    (reply,) = run(tmp_path, OpenAI("other", server.url), requests("a"), "two")
    assert reply.usd is None


def test_replay_answers_with_no_server_and_names_what_is_missing(server, tmp_path):
    recorded = run(tmp_path, OpenAI("m", server.url), requests("a", "b"), "one")
    server.stop()
    replayed = run(tmp_path, Replay(), requests("a", "b"), "two")
    assert [reply.text for reply in replayed] == [reply.text for reply in recorded]
    with pytest.raises(InstructorError, match="lacks 1 of 3 requests, the first: 1/toy/train/2"):
        run(tmp_path, Replay(), requests("a", "b", "c"), "three")


def test_replay_asks_which_recording_when_there_are_two(server, tmp_path):
    run(tmp_path, OpenAI("m", server.url), requests("a"), "one")
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        call = OpenAI("n", server.url).call(requests("a")[0].messages, 0)
        stored = ledger.recorded(call.asked, None, None)[0][-1]
        ledger.put(call, type(stored)("another text", "stop", 1, 1, None, 0.1))
    with pytest.raises(InstructorError, match=r"2 different replies.*model=m.*model=n"):
        run(tmp_path, Replay(), requests("a"), "two")
    (reply,) = run(tmp_path, Replay(model="n"), requests("a"), "three")
    assert isinstance(reply, Reply)
    assert reply.text == "another text"


def test_an_endpoint_where_nothing_listens_is_reported_before_anything_is_sent():
    with pytest.raises(InstructorError, match="nothing answers at"):
        OpenAI("m", "http://127.0.0.1:9/v1").probe()


def test_a_refusal_that_speaks_of_schemas_is_final_where_none_was_sent(server, tmp_path):
    replies = run(tmp_path, OpenAI("m", server.url), requests("400 always json_schema guided response_format", "a"))
    assert "HTTP 400" in replies[0].failure
    assert replies[1].text == "reply to a"
    assert sum(server.seen.values()) == 2


@pytest.mark.parametrize("status", [503, 500])
def test_an_outage_ends_the_run_instead_of_the_stage(server, tmp_path, status, monkeypatch):
    monkeypatch.setattr("errata.instructor.openai._retry_after", lambda headers: None)
    asked = requests("a", *(f"{status} always {n}" for n in range(30)))
    with pytest.raises(InstructorError, match="no answer from the instructor"):
        run(tmp_path, OpenAI("m", server.url, concurrency=4, give_up_s=2.0, max_retries=50), asked)
    with RunFolder(tmp_path / "run", {}) as folder:
        assert not folder.stage("instruct", n=len(asked)).finished


def test_one_odd_answer_loses_no_other(server, tmp_path):
    asked = requests(*(f"q{n}" for n in range(20)), "odd one", *(f"p{n}" for n in range(20)))
    replies = run(tmp_path, OpenAI("m", server.url, concurrency=32), asked)
    assert all(reply.text for reply in replies)
    assert set(server.seen.values()) == {1}
    assert (replies[20].text, replies[20].prompt_tokens) == ("fine", 0)


@pytest.mark.parametrize(
    "body", [{"auth": {"token": "x"}}, {"a": [{"api_key": "x"}]}, {"user": "sk-0123456789"}, {"x": "Bearer abc"}]
)
def test_a_secret_is_seen_at_any_depth_and_by_how_it_begins(body):
    assert "looks like a secret" in "; ".join(OpenAI("m", extra_body=body).problems([]))
    fine = {"chat_template_kwargs": {"enable_thinking": False}, "prompt_cache_key": "a", "stop_token_ids": [1]}
    assert "looks like a secret" not in "; ".join(OpenAI("m", extra_body=fine).problems([]))


def test_a_key_that_no_header_can_hold_is_told_before_anything_is_sent(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-one\n")
    assert OpenAI("m").key == "sk-one" and not OpenAI("m").problems([])
    monkeypatch.setenv("OPENAI_API_KEY", "sk-one\nsk-two")
    (said,) = OpenAI("m").problems([])
    assert "line break" in said and "sk-" not in said


def test_settings_by_which_a_budget_could_be_passed_are_refused():
    odd = OpenAI("m", "http://127.0.0.1:1/v1", extra_body={"n": 20, "max_tokens": 9, "Api-Key": "x"}, batch_discount=50.0)
    said = "; ".join(odd.problems([]))
    assert (
        "extra_body.n" in said
        and "extra_body.max_tokens" in said
        and "extra_body.Api-Key looks like a secret" in said
        and "batch_discount is 50" in said
    )
    assert "usd_per_million_in is nan" in "; ".join(OpenAI("m", usd_per_million_in=float("nan")).problems([]))
