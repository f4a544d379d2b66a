"""The engine against a server that misbehaves: nothing lost, nothing paid twice, nothing overspent."""

import json
import random
import re
import resource
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager

import pytest
from tests.instructor.engine_driver import instructor, requests

from errata.errors import BudgetError, InstructorError
from errata.instructor.pace import Bucket, Pace, backoff
from errata.ledger import Ledger, Purse
from errata.run_folder import RunFolder
from errata.stage.instruct import instruct


@contextmanager
def server(*arguments):
    """The flaky server's port, in a process of its own."""
    command = [sys.executable, "-m", "tests.instructor.flaky_server", *arguments]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        yield int(process.stdout.readline())
    finally:
        process.stdin.close()
        process.wait(60)


def seen(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/seen") as answer:
        return json.load(answer)


def ask(folder, port, count, purse=None, **settings):
    with RunFolder(folder / "run", {}) as run, Ledger(folder / "ledger.sqlite") as ledger:
        stage = run.stage("instruct", n=count)
        return instruct(stage, requests(count), instructor(port, **settings), ledger, purse), stage


def driver(port, folder, count, *settings):
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "tests.instructor.engine_driver", str(port), str(folder), str(count), *settings]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def rows(folder, statement):
    with Ledger(folder / "ledger.sqlite") as ledger:
        return ledger.db.execute(statement).fetchall()


@pytest.mark.parametrize("count", [100, pytest.param(10_000, marks=pytest.mark.slow)])
def test_every_request_ends_as_a_reply_or_a_recorded_failure(count, tmp_path):
    with server("--faults", "0.2") as port:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        replies, stage = ask(tmp_path, port, count, concurrency=128, timeout_s=3.0)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        told = seen(port)
    assert [reply.request_id for reply in replies] == [request.id for request in requests(count)]
    good = [reply for reply in replies if reply.text is not None]
    assert len(good) == count  # with so many attempts each comes through
    assert sum(told["seen"].values()) > 1.05 * count
    # none was sent again once its reply was in the ledger
    kept = rows(tmp_path, "SELECT messages, received_at FROM reply")
    assert all(told["last"][json.loads(messages)[0]["content"]] < at for messages, at in kept)
    assert rows(tmp_path, "SELECT count(*) FROM reply") == [(count,)]
    assert rows(tmp_path, "SELECT count(*) FROM claim") == rows(tmp_path, "SELECT count(*) FROM owner") == [(0,)]
    assert memory < 100_000 + 12 * count  # kilobytes
    mixed_up = [r.request_id for n, r in enumerate(replies) if r.text not in (f"reply to question {n}", "", "cut o")]
    assert not mixed_up
    assert stage.record.counts["replies"] == count


@pytest.mark.slow
def test_what_fails_for_good_is_recorded_and_the_others_go_on(tmp_path):
    with server("--faults", "0.5") as port:
        replies, stage = ask(tmp_path, port, 300, max_retries=0, timeout_s=3.0)
    failed = [reply for reply in replies if reply.text is None]
    assert 50 < len(failed) < 200
    assert rows(tmp_path, "SELECT count(*) FROM failure") == [(len(failed),)]
    # of those that fail, none was repeated but for a busy server
    assert all(re.search(r"\(after \d attempts\)", reply.failure) for reply in failed)
    assert not any("HTTP 429" in reply.failure or "HTTP 503" in reply.failure for reply in failed)
    assert stage.record.counts["failed"] == len(failed)


def killed_again_and_again(folder, port, count, kills, rng):
    """Requests under way at each kill, added up."""
    under_way = 0
    for _ in range(kills):
        process = driver(port, folder, count, "concurrency=16")
        while not (folder / "ledger.sqlite").exists() and process.poll() is None:
            time.sleep(0.01)
        time.sleep(rng.uniform(0.3, 1.5))
        process.kill()
        under_way += 16  # at most
        process.communicate()
        if process.returncode == 0:
            break
    last = driver(port, folder, count, "concurrency=16")
    out, err = last.communicate(timeout=300)
    assert last.returncode == 0, err
    return json.loads(out), under_way


@pytest.mark.slow
@pytest.mark.parametrize(("count", "kills"), [(200, 1), (2000, 25)])
def test_kill_nine_at_any_moment(count, kills, tmp_path):
    with server("--latency", "0.2") as port:
        done, under_way = killed_again_and_again(tmp_path / "killed", port, count, kills, random.Random(0))
        told = seen(port)
        assert done == {"replies": count, "good": count}
        assert sum(told["seen"].values()) <= count + under_way
    with server() as port:
        driver(port, tmp_path / "calm", count).communicate()
    from errata.ledger_tools import verify

    assert verify(tmp_path / "killed" / "ledger.sqlite").sound
    texts = {
        name: [
            json.loads(line)["text"] for line in (tmp_path / name / "run/instruct/replies.jsonl").read_text().splitlines()
        ]
        for name in ("killed", "calm")
    }
    assert texts["killed"] == texts["calm"]


def test_one_changed_row_costs_one_request(tmp_path):
    with server() as port:
        ask(tmp_path, port, 1000)
        assert sum(seen(port)["seen"].values()) == 1000
        changed = requests(1000)
        changed[17].messages[0]["content"] = "another question"
        with RunFolder(tmp_path / "other", {}) as run, Ledger(tmp_path / "ledger.sqlite") as ledger:
            instruct(run.stage("instruct", n=1), changed, instructor(port), ledger)
        assert sum(seen(port)["seen"].values()) == 1001


def test_two_processes_with_the_same_requests_send_each_once(tmp_path):
    with server("--latency", "0.05") as port:
        shared = f'ledger="{tmp_path / "ledger.sqlite"}"'
        both = [driver(port, tmp_path / name, 1000, shared) for name in ("one", "two")]
        ends = [process.communicate(timeout=300) for process in both]
        assert [json.loads(out) for out, _ in ends] == [{"replies": 1000, "good": 1000}] * 2
        told = seen(port)
    assert sum(told["seen"].values()) == 1000
    assert len(told["seen"]) == 1000


PRICE = {"usd_per_million_in": 10.0, "usd_per_million_out": 30.0}
EACH = (50 * 10 + 20 * 30) / 1e6


@pytest.mark.parametrize("seed", [*range(4), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(4, 20))])
def test_a_budget_is_never_passed(seed, tmp_path, flaky):
    limit = random.Random(seed).uniform(0.02, 0.12)
    purse = Purse(f"a{seed}", "r", "s", usd=limit)
    with pytest.raises(BudgetError, match="used up"):
        ask(tmp_path, flaky, 400, purse, concurrency=64, timeout_s=1.0, **PRICE)
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        spent, reserved = ledger.spent(purse.account)
        (bought,) = ledger.db.execute("SELECT sum(usd) FROM reply").fetchone()
    assert bought <= spent.usd <= limit + 1e-9
    assert (reserved.usd, reserved.tokens) == (pytest.approx(0, abs=1e-9), 0)
    # what is left is less than the next call may take at most
    assert limit - spent.usd < (100 * 30 + (len("question 399") + 16) * 10) / 1e6 + 1e-9


@pytest.fixture(scope="module")
def flaky():
    with server("--faults", "0.1") as port:
        yield port


def test_a_higher_budget_goes_on_and_counts_nothing_twice(tmp_path):
    purse = Purse("a", "r", "s", usd=0.1)
    with server() as port:
        with pytest.raises(BudgetError) as stopped:
            ask(tmp_path, port, 200, purse, **PRICE)
        first = sum(seen(port)["seen"].values())
        assert 80 < first <= 91
        assert "raise the limit" in str(stopped.value)
        replies, stage = ask(tmp_path, port, 200, Purse("a", "r", "s", usd=1.0), **PRICE)
        assert len(replies) == 200
        assert sum(seen(port)["seen"].values()) == 200
    assert stage.record.counts["usd"] == stage.record.counts["paid usd"] == pytest.approx(200 * EACH)
    assert stage.record.counts["paid tokens"] == 200 * 70
    with pytest.raises(BudgetError, match="tokens"):
        ask(tmp_path / "x", port, 5, Purse("b", "r", "s", tokens=50))


@pytest.mark.slow
def test_two_processes_share_one_budget(tmp_path):
    with server("--latency", "0.02") as port:
        words = [f'ledger="{tmp_path / "ledger.sqlite"}"', "usd=0.1", "usd_per_million_in=10", "usd_per_million_out=30"]
        # their requests overlap by half: the second asks for the same thousand and more
        both = [driver(port, tmp_path / name, count, *words) for name, count in (("one", 300), ("two", 400))]
        outs = [process.communicate(timeout=300)[0] for process in both]
    assert all("is used up" in out for out in outs)
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        spent, reserved = ledger.spent("a")
    assert 0.08 < spent.usd <= 0.1 + 1e-9
    assert reserved.tokens == 0


def test_a_server_that_is_down_ends_the_run(tmp_path):
    with pytest.raises(InstructorError, match="no answer from the instructor"):
        ask(tmp_path, 1, 50, give_up_s=1.5, max_retries=1000)  # without an end it would try for hours
    assert rows(tmp_path, "SELECT count(*) FROM payment WHERE state != 'open'") == [(0,)]  # nothing was charged


@pytest.mark.slow
def test_ctrl_c_waits_for_what_is_under_way(tmp_path):
    with server("--latency", "0.7") as port:
        process = driver(port, tmp_path / "x", 2000, "concurrency=16")
        while not seen(port)["under_way"]:
            assert process.poll() is None
            time.sleep(0.02)
        time.sleep(0.3)
        before = sum(seen(port)["seen"].values())
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=300)
        told = seen(port)
    assert "KeyboardInterrupt" in err
    sent = sum(told["seen"].values())
    assert 0 < sent < before + 20 * 16  # none is begun any more, once the signal has arrived
    assert rows(tmp_path / "x", "SELECT count(*) FROM reply") == [(sent,)]


def test_the_pace_grows_shrinks_pauses_and_keeps_to_the_buckets():
    pace = Pace(64, None, None, 0.0)
    assert pace.window == 48
    for _ in range(40):
        pace.answered(0.5)
    assert pace.window == 64
    pace.busy(10.0, 9.0, None)
    pace.busy(10.1, 9.5, 2.0)  # of the same round trip: it pauses, but shrinks no more
    assert pace.window == 32
    assert pace.wait(10.1) == pytest.approx(2.0)
    pace.busy(13.0, 12.5, None)
    assert pace.window == 16
    for _ in range(16):
        pace.answered(0.5)
    assert 16 < pace.window < 18  # from now on by one in a round trip
    full = Pace(2, None, None, 0.0)
    full.start(0)
    full.start(0)
    assert full.wait(0.0) is None

    bucket = Bucket(60.0)
    assert bucket.wait(0.0) == 0
    bucket.draw(3)
    assert bucket.wait(0.0) == pytest.approx(3 - 0.0, abs=1.1)
    assert bucket.wait(10.0) == 0
    waits = [backoff(attempt, None) for attempt in range(1, 12)]
    assert all(wait <= 90 for wait in waits)
    assert backoff(1, 33.0) == 33.0


@pytest.mark.slow
def test_requests_a_minute_are_kept(tmp_path):
    with server() as port:
        start = time.monotonic()
        ask(tmp_path, port, 40, requests_per_minute=600)
        assert time.monotonic() - start > 1.5  # ten a second, with a burst at the start
