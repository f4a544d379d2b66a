"""`errata ledger`: what a ledger holds, whether it is sound, and moving its replies between files."""

import contextlib
import json
import sqlite3
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from errata.errors import DataError, InstructorError
from errata.jsonl import write_atomically
from errata.ledger import BATCH, Call, Ledger, Stored, row_of, seal, trouble
from errata.processes import alive

_COLUMNS = (
    "key, asked, endpoint, model, messages, parameters, draw, text, finish_reason, prompt_tokens, completion_tokens, usd, "
    "duration_s, received_at"
)
_ACCOUNTS = (
    "INSERT OR IGNORE INTO account SELECT account, total(CASE WHEN state != 'open' THEN usd END), "
    "sum(CASE WHEN state != 'open' THEN tokens ELSE 0 END), total(CASE WHEN state = 'open' THEN usd END), "
    "sum(CASE WHEN state = 'open' THEN tokens ELSE 0 END) FROM payment GROUP BY account"
)
"""What payments of an account come to, where there is none of that name."""
_GAP = 10_000


@dataclass(frozen=True)
class Soundness:
    """What `verify` found.

    Attributes:
        replies: how many can be read and are what was stored.
        damaged: keys of those that are not (the text or another field was changed).
        unreadable: how many rows, or parts of the file, cannot be read at all.
        said: SQLite's own findings.
        lost: tables beside the replies (accounts, payments ...) of which a repair could not keep everything.
    """

    replies: int
    damaged: list[str]
    unreadable: int
    said: list[str]
    lost: tuple[str, ...] = ()

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.damaged or self.unreadable or self.said)


def show(path: Path) -> list[tuple[str, ...]]:
    """Replies, failures, tokens and money by endpoint and model: rows of a table."""
    with _opened(path) as ledger:
        found = _read(
            ledger,
            "SELECT endpoint, model, count(*), sum(prompt_tokens), sum(completion_tokens), sum(usd), sum(usd IS NULL) "
            "FROM reply GROUP BY endpoint, model ORDER BY count(*) DESC",
        )
        failed = {
            (endpoint, model): number
            for endpoint, model, number in _read(ledger, "SELECT endpoint, model, count(*) FROM failure GROUP BY 1, 2")
        }
    rows = []
    for endpoint, model, replies, asked, said, usd, unpriced in found:
        money = "unknown" if unpriced == replies else f"${usd or 0:.4f}" + (f" and {unpriced} unknown" if unpriced else "")
        lost = str(failed.pop((endpoint, model), 0))
        rows.append((endpoint, model, str(replies), lost, f"{asked:,}", f"{said:,}", money))
    return rows + [(endpoint, model, "0", str(number), "0", "0", "$0") for (endpoint, model), number in failed.items()]


def show_accounts(path: Path) -> list[tuple[str, ...]]:
    """What each account has spent, and what is set aside for calls under way: rows of a table."""
    with _opened(path) as ledger:
        found = _read(ledger, "SELECT name, usd, tokens, open_usd, open_tokens FROM account ORDER BY name")
    return [
        (name, f"${usd:.4f}", f"{tokens:,}", f"${held:.4f}", f"{waiting:,}") for name, usd, tokens, held, waiting in found
    ]


def show_runs(path: Path) -> list[tuple[str, ...]]:
    """What each run (the cells of a sweep among them) has paid: rows of a table."""
    with _opened(path) as ledger:
        found = _read(
            ledger,
            "SELECT run, account, count(*), sum(tokens), sum(usd), sum(usd IS NULL), sum(state = 'unknown') FROM payment "
            "WHERE state != 'open' GROUP BY run, account ORDER BY min(paid_at)",
        )
    return [
        (run, account, str(calls), f"{tokens:,}", "unknown" if unpriced == calls else f"${usd or 0:.4f}", str(lost))
        for run, account, calls, tokens, usd, unpriced, lost in found
    ]


def show_batches(path: Path) -> list[tuple[str, ...]]:
    """Batches that wait for their answers: rows of a table."""
    with _opened(path) as ledger:
        found = _read(ledger, "SELECT name, endpoint, batch_id, calls, made_at FROM batch ORDER BY made_at")
    return [
        (name, endpoint, batch or "not made yet", str(len(json.loads(calls))), time.strftime("%F %T", time.localtime(at)))
        for name, endpoint, batch, calls, at in found
    ]


def verify(path: Path) -> Soundness:
    """Read every reply, and compare it with the hash that was stored with it.

    Raises:
        InstructorError: there is no such file, or it is no database at all.
    """
    readable, damaged, unreadable = 0, [], 0
    with _bare(path) as db:
        said = _integrity(db)
        for row, kept, _ in _survivors(db):
            if row is None:
                unreadable += 1
            elif _is_whole(row, kept):
                readable += 1
            else:
                damaged.append(str(row[0]))
    return Soundness(readable, damaged, unreadable, said)


def repair(path: Path) -> Soundness:
    """Put every sound reply into a new file in the old one's place; the old one stays beside it, as `NAME.broken-N`.

    What cannot be read of the tables beside the replies is lost, and named. An account that is lost is added up again from
    the payments, as far as these are there.
    """
    found = verify(path)
    if found.sound:
        return found
    _refuse_while_used(path)
    fresh = path.with_name(path.name + ".repaired")
    fresh.unlink(missing_ok=True)
    lost = []
    with Ledger(fresh) as new, _bare(path) as db:
        new.db.execute("BEGIN")
        for row, kept, cached_tokens in _survivors(db):
            if row is not None and _is_whole(row, kept):
                new.put_row(row, cached_tokens)
        for table in ("failure", "account", "payment", "batch", "owner", "claim"):
            try:
                for values in db.execute(f"SELECT * FROM {table}"):
                    places = ", ".join("?" * len(values))
                    new.db.execute(f"INSERT OR IGNORE INTO {table} VALUES ({places})", values)
            except sqlite3.Error as error:
                if "no such table" not in str(error):  # a file of before there was one
                    lost.append(table)
        new.db.execute(_ACCOUNTS)
        new.db.execute("COMMIT")
        new.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    number = 1
    while (broken := path.with_name(f"{path.name}.broken-{number}")).exists():
        number += 1
    for end in ("-wal", "-shm"):
        rest = path.with_name(path.name + end)
        if rest.exists():
            rest.rename(broken.with_name(broken.name + end))
    path.rename(broken)
    fresh.rename(path)
    return replace(found, lost=tuple(lost))


def export(path: Path, to: Path) -> int:
    """Write every reply as one line of JSON; returns how many.

    The file can be read by people, shipped beside a paper, and merged into a ledger elsewhere.

    Raises:
        InstructorError: the ledger cannot be read, or a reply in it is damaged.
    """
    lines = []
    with _opened(path) as ledger:
        for row, cached_tokens in _replies(ledger):
            values = dict(zip(_COLUMNS.split(", "), row, strict=True)) | {"cached_tokens": cached_tokens}
            values["messages"], values["parameters"] = json.loads(values["messages"]), json.loads(values["parameters"])
            del values["key"], values["asked"]
            lines.append(json.dumps(values, ensure_ascii=False).encode())
    write_atomically(to, b"".join(line + b"\n" for line in lines))
    return len(lines)


def merge(path: Path, others: Sequence[Path]) -> tuple[int, int]:
    """Take in the replies of other ledgers, or of exported files: how many were new, and how many were there already.

    Raises:
        DataError: a line of an exported file is none.
        InstructorError: a ledger cannot be read, or a reply in it is damaged.
    """
    new = old = 0
    with _opened(path, must_exist=False) as ledger:
        for other in others:
            ledger.db.execute("BEGIN IMMEDIATE")
            for row, cached_tokens in _rows_of(other):
                if ledger.put_row(row, cached_tokens):
                    new += 1
                else:
                    old += 1
            ledger.db.execute("COMMIT")
    return new, old


def prune(path: Path, model: str | None = None, before_days: float | None = None, failures: bool = False) -> tuple[int, int]:
    """Delete replies (of a model, older than so many days), or all recorded failures: how many of each."""
    with _opened(path) as ledger:
        where, values = [], []
        if model is not None:
            where.append("model = ?")
            values.append(model)
        if before_days is not None:
            where.append("received_at < ?")
            values.append(str(time.time() - 86400 * before_days))
        replies = failed = 0
        if where:
            replies = ledger.db.execute(f"DELETE FROM reply WHERE {' AND '.join(where)}", values).rowcount
            ledger.db.execute("DELETE FROM seal WHERE key NOT IN (SELECT key FROM reply)")
        if failures:
            failed = ledger.db.execute("DELETE FROM failure").rowcount
        ledger.db.execute("VACUUM")
    return replies, failed


def give_up_batches(path: Path) -> int:
    """Forget the batches that wait, and release their calls: how many. What they cost counts at its highest."""
    with _opened(path) as ledger:
        names = [name for (name,) in _read(ledger, "SELECT name FROM batch")]
        for name in names:
            ledger.write_off(BATCH + name)
            ledger.end_batch(name)
    return len(names)


def _refuse_while_used(path: Path) -> None:
    """A living run would write on into the file that is put aside."""
    with _bare(path) as db, contextlib.suppress(sqlite3.Error):
        for host, pid, started in db.execute("SELECT host, pid, started FROM owner"):
            if alive(host, pid, started):
                raise InstructorError(f"process {pid} on {host} is using {path}: end it first, then repair")


@contextlib.contextmanager
def _opened(path: Path, must_exist: bool = True) -> Iterator[Ledger]:
    with Ledger(path, must_exist=must_exist) as ledger:
        try:
            yield ledger
        except sqlite3.Error as error:
            raise trouble(path, error) from error


def _read(ledger: Ledger, statement: str) -> list[Any]:
    try:
        return ledger.db.execute(statement).fetchall()
    except sqlite3.Error as error:
        raise trouble(ledger.path, error) from error


def _replies(ledger: Ledger) -> Iterator[tuple[Sequence[Any], int]]:
    """Every reply with its cached tokens, in the order in which they were received."""
    for *row, kept, cached_tokens in _read(
        ledger,
        f"SELECT {_COLUMNS}, digest, coalesce(cached_tokens, 0) FROM reply LEFT JOIN seal USING (key) "
        "ORDER BY received_at, key",
    ):
        if not _is_whole(row, kept):
            raise InstructorError(
                f"the reply {row[0]} in {ledger.path} is not what was stored: `errata ledger verify {ledger.path} --repair` "
                "keeps the others"
            )
        yield row, cached_tokens


@contextlib.contextmanager
def _bare(path: Path) -> Iterator[sqlite3.Connection]:
    """The file as it is, whatever state it is in."""
    if not path.is_file():
        raise InstructorError(f"there is no ledger at {path}")
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
        try:
            db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.Error as error:
            raise InstructorError(
                f"nothing in {path} can be read ({error}): it is no ledger, or its beginning is destroyed. "
                "Put a copy in its place, or set ledger=FILE to another one."
            ) from error
        yield db


def _integrity(db: sqlite3.Connection) -> list[str]:
    try:
        said = [str(row[0]) for row in db.execute("PRAGMA integrity_check(20)").fetchall()]
    except sqlite3.Error as error:
        return [str(error)]
    return [] if said == ["ok"] else said


def _survivors(db: sqlite3.Connection) -> Iterator[tuple[Any, str | None, int]]:
    """Every reply with its stored hash and cached tokens, read one by one; None: one, or several, that cannot be read."""
    last, gaps = 0, 0
    while True:
        try:
            row = db.execute(
                f"SELECT rowid, {_COLUMNS} FROM reply WHERE rowid > ? ORDER BY rowid LIMIT 1", (last,)
            ).fetchone()
        except sqlite3.Error:
            yield None, None, 0
            gaps += 1
            if gaps > _GAP:
                return
            last += 1  # step over what cannot be read
            continue
        if row is None:
            return
        last = row[0]
        kept, cached_tokens = None, 0
        with contextlib.suppress(sqlite3.Error):
            found = db.execute("SELECT digest, cached_tokens FROM seal WHERE key = ?", (row[1],)).fetchone()
            kept, cached_tokens = found or (None, 0)
        yield row[1:], kept, cached_tokens or 0


def _is_whole(row: Sequence[Any], kept: str | None) -> bool:
    """Whether a row's key follows from what was asked, and its hash, where it has one, from all of it."""
    with contextlib.suppress(ValueError, TypeError):
        call = Call(row[2], row[3], tuple(json.loads(row[4])), json.loads(row[5]), row[6])
        return call.key == row[0] and call.asked == row[1] and kept in (None, seal(row))
    return False


def _rows_of(path: Path) -> Iterator[tuple[Sequence[Any], int]]:
    """The replies of a ledger, or of an exported file, with their cached tokens."""
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected a ledger, or what `errata ledger export` wrote")
    with path.open("rb") as file:
        is_ledger = file.read(16) == b"SQLite format 3\x00"
    if is_ledger:
        with _opened(path) as other:
            yield from _replies(other)
        return
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            said = json.loads(line)
            call = Call(said["endpoint"], said["model"], tuple(said["messages"]), said["parameters"], said["draw"])
            usd = None if said["usd"] is None else float(said["usd"])
            reply = Stored(
                str(said["text"]), str(said["finish_reason"]), int(said["prompt_tokens"]), int(said["completion_tokens"]),
                usd, float(said["duration_s"]),
            )  # fmt: skip
            at, cached_tokens = float(said["received_at"]), int(said.get("cached_tokens", 0))
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}, line {number}: no exported reply ({type(error).__name__}: {error})") from error
        yield row_of(call, reply, at), cached_tokens
