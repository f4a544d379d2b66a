"""`errata ledger`: showing, checking, mending, shipping and pruning."""

import json
import sqlite3
from dataclasses import replace

import pytest

from errata.cli import _dispatch
from errata.errors import DataError, InstructorError
from errata.ledger import BudgetReached, Call, Cost, Ledger, Purse, Stored
from errata.ledger_tools import repair, verify


def call(number, model="m"):
    messages = ({"role": "user", "content": f"question {number} " + "with words " * 40},)
    return Call("http://x/v1", model, messages, {"temperature": 0.8})


def filled(path, numbers, model="m"):
    with Ledger(path) as ledger:
        for number in numbers:
            ledger.put(call(number, model), Stored(f"reply {number} " + "and more " * 40, "stop", 50, 20, 0.001, 0.5, 7))
        ledger.fail(call(10_000, model), "HTTP 500")
        ledger.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path


@pytest.fixture
def ledger(tmp_path):
    return filled(tmp_path / "l.sqlite", range(200))


def test_a_sound_ledger_is_shown_and_verified(ledger, capsys):
    filled(ledger, range(3), "other")
    assert _dispatch(["ledger", "show", str(ledger)]) == 0
    shown = capsys.readouterr().out
    assert "10,000" in shown and "$0.2000" in shown and "other" in shown
    assert _dispatch(["ledger", "verify", str(ledger)]) == 0
    assert "203 replies are sound" in capsys.readouterr().out


def test_a_changed_reply_is_found_and_left_out(ledger, capsys):
    with sqlite3.connect(ledger) as db:
        db.execute("UPDATE reply SET text = 'something else' WHERE rowid = 5")
        db.execute("UPDATE reply SET messages = '[]' WHERE rowid = 6")
    found = verify(ledger)
    assert (found.replies, len(found.damaged), found.unreadable) == (198, 2, 0)
    assert _dispatch(["ledger", "verify", str(ledger)]) == 1
    assert "--repair" in capsys.readouterr().out
    assert _dispatch(["ledger", "verify", str(ledger), "--repair"]) == 0
    assert verify(ledger).sound
    with Ledger(ledger) as mended:
        assert mended.get(call(4)) is None
        assert mended.get(call(7)).text.startswith("reply 7 ")
        assert mended.get(call(7)).cached_tokens == 7
    assert (ledger.parent / "l.sqlite.broken-1").is_file()


def test_a_torn_file_gives_back_what_survives(ledger, tmp_path):
    content = bytearray(ledger.read_bytes())
    middle = len(content) // 2 // 4096 * 4096
    content[middle : middle + 5 * 4096] = b"\xa5" * (5 * 4096)
    ledger.write_bytes(content)
    found = verify(ledger)
    assert not found.sound
    assert 100 < found.replies < 200
    repair(ledger)
    after = verify(ledger)
    assert after.sound
    assert after.replies == found.replies


def tear(path, *tables):
    """Destroy where these tables begin."""
    with sqlite3.connect(path) as db:
        pages = [db.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (name,)).fetchone()[0] for name in tables]
    content, size = bytearray(path.read_bytes()), 4096
    for page in pages:
        content[(page - 1) * size : page * size] = b"\xa5" * size
    path.write_bytes(content)


def test_a_lost_account_is_added_up_again_from_the_payments(ledger, capsys):
    purse, most = Purse("mine", "run-1", "instruct"), Cost(0.5, 900)
    with Ledger(ledger) as living:
        living.join()
        first, lost, unpriced, free, _ = [living.reserve(purse, call(n), most) for n in range(5)]
        living.reserve(Purse("other", "run-2", "instruct"), call(9), Cost(None, 10))
        living.settle(first, Cost(0.125, 70))
        living.settle(lost, None)
        living.settle(unpriced, Cost(None, 30))
        living.settle(free, Cost(0.0, 0))
        before = living.spent("mine"), living.spent("other")
        living.db.execute("UPDATE owner SET pid = 999999999")  # it has died since
        living.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert before == ((Cost(0.625, 1000), Cost(0.5, 900)), (Cost(0.0, 0), Cost(0.0, 10)))
    tear(ledger, "account")
    assert _dispatch(["ledger", "verify", str(ledger), "--repair"]) == 0
    assert "Budgets count all that was paid before" in capsys.readouterr().out
    with Ledger(ledger) as mended:
        assert (mended.spent("mine"), mended.spent("other")) == before
        with pytest.raises(BudgetReached):
            mended.reserve(replace(purse, usd=1.2), call(10), Cost(0.1, 1))


@pytest.mark.parametrize(
    ("tables", "so"),
    [
        (("account",), "added up again from the payments"),
        (("account", "payment"), "lower budget.usd"),
        (("payment",), "Budgets still count all"),
    ],
)
def test_a_repair_that_loses_what_was_paid_says_so(tables, so, ledger, capsys):
    tear(ledger, *tables)
    assert _dispatch(["ledger", "verify", str(ledger), "--repair"]) == 0
    said = capsys.readouterr().out
    assert "200 replies are sound" in said
    assert f"Not all of these tables could be read: {', '.join(tables)}." in said
    assert so in said


def test_repair_keeps_what_runs_have_claimed_and_refuses_while_one_lives(ledger):
    with Ledger(ledger) as living:
        living.join()
        living.claim(call(5000))
        living.db.execute("UPDATE reply SET text = 'something else' WHERE rowid = 5")
        with pytest.raises(InstructorError, match="is using"):
            repair(ledger)
        living.db.execute("UPDATE owner SET pid = 999999999")  # it has died since
    repair(ledger)
    with Ledger(ledger) as mended:
        assert mended.db.execute("SELECT count(*) FROM claim").fetchone() == (1,)
        mended.join()
        assert mended.claim(call(5000)) is True
    assert not list(ledger.parent.glob("*.broken-2*"))
    repair(ledger)  # nothing to do
    assert not list(ledger.parent.glob("*.broken-2*"))


def test_what_is_no_database_says_so(tmp_path):
    (tmp_path / "l.sqlite").write_bytes(b"\x00" * 9000)
    (tmp_path / "text").write_text("not a ledger, " * 1000)
    with pytest.raises(InstructorError, match=r"nothing in .* can be read"):
        verify(tmp_path / "text")
    with pytest.raises(InstructorError, match="errata ledger verify"):
        Ledger(tmp_path / "text")
    with pytest.raises(InstructorError, match="there is no ledger"):
        verify(tmp_path / "nothing")


def test_a_recording_is_exported_and_merged_elsewhere(ledger, tmp_path, capsys):
    out = tmp_path / "replies.jsonl"
    assert _dispatch(["ledger", "export", str(ledger), str(out)]) == 0
    lines = out.read_text().splitlines()
    assert len(lines) == 200
    assert json.loads(lines[0])["messages"][0]["role"] == "user"
    other = filled(tmp_path / "other.sqlite", range(190, 210))
    assert _dispatch(["ledger", "merge", str(other), str(out), str(ledger)]) == 0
    assert "190 replies are new, 210 were there already" in capsys.readouterr().out
    assert verify(other).sound
    with Ledger(other) as merged:
        assert merged.get(call(3)).text.startswith("reply 3 ")
        assert merged.recorded(call(3).asked, None, "m")[0][3].usd == 0.001
        assert merged.get(call(3)).cached_tokens == 7
    of_ledgers = tmp_path / "of_ledgers.sqlite"
    assert _dispatch(["ledger", "merge", str(of_ledgers), str(ledger)]) == 0
    with Ledger(of_ledgers) as merged:
        assert merged.get(call(3)).cached_tokens == 7
    del (old := json.loads(lines[5]))["cached_tokens"]  # as it was exported by a former version
    out.write_text(json.dumps(old))
    assert _dispatch(["ledger", "merge", str(tmp_path / "of_old.sqlite"), str(out)]) == 0
    with Ledger(tmp_path / "of_old.sqlite") as merged:
        assert merged.get(call(5)).cached_tokens == 0
    out.write_text(lines[0] + "\n{}\n")
    with pytest.raises(DataError, match="line 2: no exported reply"):
        _dispatch(["ledger", "merge", str(other), str(out)])


@pytest.mark.parametrize("how", [["export", "LEDGER", "OUT"], ["merge", "OUT", "LEDGER"]])
def test_a_damaged_reply_is_not_handed_on_as_a_sound_one(how, ledger, tmp_path):
    with sqlite3.connect(ledger) as db:
        db.execute("UPDATE reply SET text = 'something else' WHERE rowid = 5")
    out = tmp_path / "out"
    words = [{"LEDGER": str(ledger), "OUT": str(out)}.get(word, word) for word in how]
    with pytest.raises(InstructorError, match=r"is not what was stored: .*--repair"):
        _dispatch(["ledger", *words])
    assert not out.exists() or verify(out).replies == 0


def test_pruning_says_what_is_gone(ledger, capsys):
    filled(ledger, range(5), "old")
    assert _dispatch(["ledger", "prune", str(ledger), "--model", "old", "--failures"]) == 0
    assert "5 replies, 2 failures and 0 batches are gone" in capsys.readouterr().out
    assert verify(ledger).replies == 200
    assert _dispatch(["ledger", "prune", str(ledger), "--older-than", "1"]) == 0
    assert verify(ledger).replies == 200
    with pytest.raises(Exception, match="nothing to prune"):
        _dispatch(["ledger", "prune", str(ledger)])


def test_a_ledger_of_the_first_version_is_taken_over(tmp_path):
    path = tmp_path / "l.sqlite"
    with sqlite3.connect(path) as db:
        db.executescript(
            "CREATE TABLE reply (key TEXT PRIMARY KEY, asked TEXT NOT NULL, endpoint TEXT NOT NULL, model TEXT NOT NULL, "
            "messages TEXT NOT NULL, parameters TEXT NOT NULL, draw INTEGER NOT NULL, text TEXT NOT NULL, "
            "finish_reason TEXT NOT NULL, prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, usd REAL, "
            "duration_s REAL NOT NULL, received_at REAL NOT NULL); CREATE INDEX reply_asked ON reply (asked); "
            "CREATE TABLE failure (key TEXT NOT NULL, endpoint TEXT NOT NULL, model TEXT NOT NULL, reason TEXT NOT NULL, "
            "failed_at REAL NOT NULL);"
        )
        one = call(1)
        values = (one.key, one.asked, one.endpoint, one.model, json.dumps(list(one.messages)), json.dumps(one.parameters))
        db.execute(
            f"INSERT INTO reply VALUES ({', '.join('?' * 14)})", (*values, 0, "an old reply", "stop", 3, 1, None, 0.1, 1.0)
        )
    with Ledger(path) as ledger:
        assert ledger.get(one) == Stored("an old reply", "stop", 3, 1, None, 0.1)
        ledger.put(call(2), Stored("a new one", "stop", 3, 1, None, 0.1))
    assert verify(path).sound
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version=99")
    with pytest.raises(InstructorError, match="later version"):
        Ledger(path)


def test_a_locked_ledger_and_a_full_disk_end_in_one_message(ledger, monkeypatch):
    from errata.ledger import trouble

    assert "locked by another program" in str(trouble(ledger, sqlite3.OperationalError("database is locked")))
    with Ledger(ledger) as full:
        pages = full.db.execute("PRAGMA page_count").fetchone()[0]
        full.db.execute(f"PRAGMA max_page_count={pages}")
        with pytest.raises(InstructorError, match="make room on the disk"):
            for number in range(1000, 3000):
                full.put(call(number), Stored("x" * 5000, "stop", 1, 1, None, 0.1))
    assert verify(ledger).sound
