import multiprocessing
import sqlite3

import pytest

from errata.errors import InstructorError
from errata.ledger import Call, Ledger, Stored

MESSAGES = ({"role": "user", "content": "How many?"},)
CALL = Call("http://x/v1", "gpt", MESSAGES, {"temperature": 0.8})
REPLY = Stored("seven", "stop", 3, 1, 0.5, 0.1)


@pytest.mark.parametrize(
    "other",
    [
        Call("http://y/v1", "gpt", MESSAGES, {"temperature": 0.8}),
        Call("http://x/v1", "gpt-2", MESSAGES, {"temperature": 0.8}),
        Call("http://x/v1", "gpt", ({"role": "user", "content": "How?"},), {"temperature": 0.8}),
        Call("http://x/v1", "gpt", MESSAGES, {"temperature": 0.7}),
        Call("http://x/v1", "gpt", MESSAGES, {"temperature": 0.8}, draw=1),
    ],
)
def test_whatever_makes_another_call_makes_another_key(other, tmp_path):
    with Ledger(tmp_path / "l.sqlite") as ledger:
        ledger.put(CALL, REPLY)
        assert ledger.get(CALL) == REPLY
        assert ledger.get(other) is None
        assert other.key != CALL.key


def test_replies_outlive_the_process_and_are_never_overwritten(tmp_path):
    with Ledger(tmp_path / "l.sqlite") as ledger:
        ledger.put(CALL, REPLY)
        ledger.put(CALL, Stored("eight", "stop", 3, 1, 0.5, 0.1))
    with Ledger(tmp_path / "l.sqlite") as ledger:
        assert ledger.get(CALL).text == "seven"


def test_a_failure_is_kept_but_is_no_reply(tmp_path):
    with Ledger(tmp_path / "l.sqlite") as ledger:
        ledger.fail(CALL, "HTTP 500")
        assert ledger.get(CALL) is None
    rows = sqlite3.connect(tmp_path / "l.sqlite").execute("SELECT reason FROM failure").fetchall()
    assert rows == [("HTTP 500",)]


def _put_many(path, start):
    with Ledger(path) as ledger:
        for number in range(start, start + 100):
            ledger.put(Call("e", "m", MESSAGES, {}, draw=number), REPLY)


def test_several_processes_share_it(tmp_path):
    path = tmp_path / "l.sqlite"
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_put_many, args=(path, start)) for start in (0, 50, 100)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sqlite3.connect(path).execute("SELECT count(*) FROM reply").fetchone() == (200,)


def test_what_is_no_ledger_is_refused(tmp_path):
    (tmp_path / "l.sqlite").write_bytes(b"not a database at all, but a text" * 100)
    with pytest.raises(InstructorError, match="ledger=FILE"):
        Ledger(tmp_path / "l.sqlite")
    with pytest.raises(InstructorError, match="there is no ledger"):
        Ledger(tmp_path / "absent.sqlite", must_exist=True)


@pytest.mark.parametrize("late", [False, True], ids=["whole", "with a log beside it"])
def test_a_ledger_that_cannot_be_written_is_read(tmp_path, monkeypatch, late):
    file = tmp_path / "ledger.sqlite"
    ledger = Ledger(file)
    call = Call("http://e", "m", (), {}, 0)
    ledger.put(call, Stored("kept", "stop", 1, 1, 0.0, 0.1))
    if not late:
        ledger.close()
    monkeypatch.setattr("os.access", lambda path, mode: False)
    reader = Ledger(file, must_exist=True)
    assert reader.get(call).text == "kept"
    with pytest.raises(InstructorError, match="readonly"):
        reader.fail(call, "no")
