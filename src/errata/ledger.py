"""The ledger: every reply an instructor ever gave, once, in one SQLite file that all runs share.

A reply is known by what would make another call a different one: endpoint, model, messages, parameters and the draw
number. It is committed before anything else happens to it, so a killed run never pays for it again. Failures are kept too,
in a table of their own: they are evidence, not answers, and another run asks again.

Several processes may share the file. Whoever sends a call claims it first; the others wait for the reply instead of asking
again, unless the claimant has died. What a call may cost at most is reserved before it is sent, so no account is overspent.
"""

import json
import os
import socket
import sqlite3
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

from errata.digests import digest
from errata.errors import InstructorError
from errata.processes import alive, started_at

VERSION = 2
_SCHEMA = """
CREATE TABLE IF NOT EXISTS reply (
    key TEXT PRIMARY KEY, asked TEXT NOT NULL, endpoint TEXT NOT NULL, model TEXT NOT NULL, messages TEXT NOT NULL,
    parameters TEXT NOT NULL, draw INTEGER NOT NULL, text TEXT NOT NULL, finish_reason TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, usd REAL, duration_s REAL NOT NULL,
    received_at REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS reply_asked ON reply (asked);
CREATE TABLE IF NOT EXISTS failure (
    key TEXT NOT NULL, endpoint TEXT NOT NULL, model TEXT NOT NULL, reason TEXT NOT NULL, failed_at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS seal (key TEXT PRIMARY KEY, digest TEXT NOT NULL, cached_tokens INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS owner (
    id TEXT PRIMARY KEY, host TEXT NOT NULL, pid INTEGER NOT NULL, started REAL NOT NULL, seen REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS claim (key TEXT PRIMARY KEY, owner TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS account (
    name TEXT PRIMARY KEY, usd REAL NOT NULL, tokens INTEGER NOT NULL, open_usd REAL NOT NULL, open_tokens INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS payment (
    id INTEGER PRIMARY KEY, account TEXT NOT NULL, run TEXT NOT NULL, stage TEXT NOT NULL, key TEXT NOT NULL,
    owner TEXT NOT NULL, state TEXT NOT NULL, usd REAL, tokens INTEGER NOT NULL, paid_at REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS payment_run ON payment (run, stage);
CREATE INDEX IF NOT EXISTS payment_open ON payment (owner) WHERE state = 'open';
CREATE TABLE IF NOT EXISTS batch (
    name TEXT PRIMARY KEY, endpoint TEXT NOT NULL, calls TEXT NOT NULL, driver TEXT NOT NULL, file_id TEXT, batch_id TEXT,
    made_at REAL NOT NULL
);
"""
_SILENT_S = 60.0
"""An owner on another machine that has not been seen for so long is taken for dead."""
BATCH = "batch:"
"""Begins the owner of what belongs to a batch."""
OPEN, PAID, UNKNOWN = "open", "paid", "unknown"
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Call:
    """One question to an endpoint, with all that makes it that question."""

    endpoint: str
    model: str
    messages: tuple[dict[str, str], ...]
    parameters: dict[str, Any]
    draw: int = 0

    @property
    def plain(self) -> "Call":
        """The same call without a JSON schema for its reply."""
        return replace(self, parameters={key: value for key, value in self.parameters.items() if key != "response_format"})

    @property
    def asked(self) -> str:
        """Hash of the messages and the draw alone: what replay looks for."""
        return digest([list(self.messages), self.draw])

    @property
    def key(self) -> str:
        """Hash of the whole call: what the ledger knows a reply by."""
        return digest([self.endpoint, self.model, list(self.messages), self.parameters, self.draw])


@dataclass(frozen=True)
class Stored:
    """A reply as the ledger holds it; `usd` is None where the price was unknown."""

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    usd: float | None
    duration_s: float
    cached_tokens: int = 0


@dataclass(frozen=True)
class Purse:
    """Who pays for a stage's calls, and how far.

    Attributes:
        account: what is limited; sweep cells and restarts of one name share it.
        run, stage: where the money goes, for the sums.
        usd, tokens: the limits (None: none).
    """

    account: str
    run: str
    stage: str
    usd: float | None = None
    tokens: int | None = None


@dataclass(frozen=True)
class Cost:
    """Money and tokens; `usd` is None where a price is unknown."""

    usd: float | None
    tokens: int


@dataclass(frozen=True)
class Batch:
    """Calls that were uploaded together.

    Attributes:
        name: file and batch carry it at the endpoint.
        calls: what was asked.
        file_id, batch_id: what the endpoint calls them, as far as that is known.
    """

    name: str
    endpoint: str
    calls: list[Call]
    file_id: str | None = None
    batch_id: str | None = None


class BudgetReached(Exception):  # noqa: N818 - a fact, not a fault
    """A call was not sent: it could cost more than is left."""


class Ledger:
    """The store of replies (SQLite, WAL). One object a thread; `errata.instructor.writer` writes from a running loop.

    Raises:
        InstructorError: the file cannot be opened, is not a ledger, or cannot be written.
    """

    def __init__(self, path: Path, must_exist: bool = False) -> None:
        """Open the file. One that must exist is only read from where it may not be written: nothing will be sent."""
        self.path = path
        if must_exist and not path.is_file():
            raise InstructorError(f"there is no ledger at {path}: record one first, or set ledger=FILE")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            read_only = must_exist and not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK))
            self.db = sqlite3.connect(
                _to_read(path) if read_only else path,
                timeout=60,
                isolation_level=None,
                check_same_thread=False,
                uri=read_only,
            )
            if not read_only:
                _patiently(lambda: self.db.execute("PRAGMA journal_mode=WAL"))
                self.db.execute("PRAGMA synchronous=FULL")
            found = self.db.execute("PRAGMA user_version").fetchone()[0]
            if found > VERSION:
                raise InstructorError(f"the ledger {path} was written by a later version of Errata: update Errata to use it")
            if found < VERSION:
                self.db.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version={VERSION}; COMMIT;")
        except (OSError, sqlite3.Error) as error:
            raise trouble(path, error) from error
        self.owner = ""

    # What is known.

    def get(self, call: Call) -> Stored | None:
        """The reply to this very call, if it was ever received."""
        row = self._one(f"SELECT {STORED} FROM reply LEFT JOIN seal USING (key) WHERE key = ?", call.key)
        return Stored(*row) if row else None

    def recorded(self, asked: str, endpoint: str | None, model: str | None) -> list[tuple[str, str, str, Stored]]:
        """Replies to these messages and draw, whoever gave them: (endpoint, model, parameters, reply)."""
        where, values = ["asked = ?"], [asked]
        for column, value in (("endpoint", endpoint), ("model", model)):
            if value is not None:
                where.append(f"{column} = ?")
                values.append(value)
        rows: Sequence[Any] = self._all(
            f"SELECT endpoint, model, parameters, {STORED} FROM reply LEFT JOIN seal USING (key) "
            f"WHERE {' AND '.join(where)}",
            *values,
        )
        return [(row[0], row[1], row[2], Stored(*row[3:])) for row in rows]

    def failed(self, call: Call) -> str | None:
        """Why this call failed when it was sent last, if it did."""
        row = self._one("SELECT reason FROM failure WHERE key = ? ORDER BY failed_at DESC LIMIT 1", call.key)
        return str(row[0]) if row else None

    def spent(self, account: str) -> tuple[Cost, Cost]:
        """What an account has spent, and what is reserved for calls under way."""
        row = self._one("SELECT usd, tokens, open_usd, open_tokens FROM account WHERE name = ?", account) or (0.0, 0, 0.0, 0)
        return Cost(row[0], row[1]), Cost(row[2], row[3])

    def may_come_back(self, account: str) -> bool:
        """Whether money is set aside that calls under way may leave over soon (those in a batch take a day)."""
        return self._one(
            "SELECT 1 FROM payment WHERE account = ? AND state = ? AND owner NOT LIKE ? LIMIT 1", account, OPEN, BATCH + "%"
        ) is not None  # fmt: skip

    def paid(self, run: str, stage: str) -> tuple[Cost, int]:
        """What a stage has paid, over all its starts, and how many calls of unknown outcome are in it at their highest."""
        row = self._one(
            "SELECT sum(usd), sum(tokens), sum(usd IS NULL), sum(state = ?) FROM payment "
            "WHERE run = ? AND stage = ? AND state != ?", UNKNOWN, run, stage, OPEN,
        )  # fmt: skip
        usd = None if row[2] else row[0] or 0.0
        return Cost(usd, row[1] or 0), row[3] or 0

    # What changes. Each of these is one transaction, or a part of the writer's.

    def put(self, call: Call, reply: Stored) -> None:
        """Keep a reply. A second reply to the same call is not kept."""
        self.put_row(row_of(call, reply, time.time()), reply.cached_tokens)

    def put_row(self, row: Sequence[Any], cached_tokens: int = 0) -> bool:
        """Keep a reply that is a row of the table, sealed; whether there was none to the same call."""
        new = self._run("INSERT OR IGNORE INTO reply VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", *row)
        if new:
            self._run("INSERT OR REPLACE INTO seal VALUES (?, ?, ?)", row[0], seal(row), cached_tokens)
        return bool(new)

    def fail(self, call: Call, reason: str) -> None:
        """Keep the fact that this call failed for good in this run."""
        self._run("INSERT INTO failure VALUES (?, ?, ?, ?, ?)", call.key, call.endpoint, call.model, reason, time.time())

    def join(self) -> None:
        """Enter this process among the owners of claims, and clear away what dead ones have left."""
        self.owner = uuid.uuid4().hex
        self.beat()
        self.bury()

    def beat(self) -> None:
        """Say that this process is alive (again, where another has taken it for dead)."""
        values = (self.owner, socket.gethostname(), os.getpid(), started_at(os.getpid()), time.time())
        self._run("INSERT OR REPLACE INTO owner VALUES (?, ?, ?, ?, ?)", *values)

    def leave(self) -> None:
        """Give up this process's claims."""
        if self.owner:
            self._bury(self.owner)

    def bury(self) -> None:
        """Release the claims of dead processes. What they had under way may have been charged: it counts at its highest."""
        for owner, host, pid, started, seen in self._all("SELECT * FROM owner WHERE id != ?", self.owner):
            if not (alive(host, pid, started) if host == socket.gethostname() else time.time() - seen <= _SILENT_S):
                self._bury(owner)
        for (owner,) in self._all(
            "SELECT owner FROM claim UNION SELECT owner FROM payment WHERE state = ?1", OPEN
        ):  # of owners that nobody knows (any more)
            if not owner.startswith(BATCH) and not self._one("SELECT 1 FROM owner WHERE id = ?", owner):
                self._bury(owner)

    def _bury(self, owner: str) -> None:
        self.write_off(owner)
        self._run("DELETE FROM claim WHERE owner = ?", owner)
        self._run("DELETE FROM owner WHERE id = ?", owner)

    def write_off(self, owner: str) -> None:
        """Count what an owner has under way at its highest."""
        for number, account, usd, tokens in self._all(
            "SELECT id, account, usd, tokens FROM payment WHERE owner = ? AND state = ?", owner, OPEN
        ):
            self._close(number, account, Cost(usd, tokens), Cost(usd, tokens), UNKNOWN)

    def claim(self, call: Call, owner: str = "") -> Stored | bool:
        """The reply, where there is one by now; else whether the call is ours to send (False: another has claimed it)."""
        if (stored := self.get(call)) is not None:
            return stored
        self._run("INSERT OR IGNORE INTO claim VALUES (?, ?)", call.key, owner or self.owner)
        row = self._one("SELECT owner FROM claim WHERE key = ?", call.key)
        return row is not None and row[0] == (owner or self.owner)

    def release(self, call: Call, owner: str = "") -> None:
        """Give a claim back."""
        self._run("DELETE FROM claim WHERE key = ? AND owner = ?", call.key, owner or self.owner)

    def reserve(self, purse: Purse, call: Call, most: Cost, owner: str = "") -> int:
        """Set aside what a call may cost at most; returns the payment's number.

        Raises:
            BudgetReached: that is more than the purse's limits leave.
        """
        usd = most.usd or 0.0
        self._run("INSERT OR IGNORE INTO account VALUES (?, 0, 0, 0, 0)", purse.account)
        done = self._run(
            "UPDATE account SET open_usd = open_usd + ?1, open_tokens = open_tokens + ?2 WHERE name = ?3 "
            "AND (?4 IS NULL OR usd + open_usd + ?1 <= ?4) AND (?5 IS NULL OR tokens + open_tokens + ?2 <= ?5)",
            usd, most.tokens, purse.account, None if purse.usd is None else purse.usd + _ROUNDING, purse.tokens,
        )  # fmt: skip
        if not done:
            raise BudgetReached
        cursor = self.db.execute(
            "INSERT INTO payment (account, run, stage, key, owner, state, usd, tokens, paid_at) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (purse.account, purse.run, purse.stage, call.key, owner or self.owner, OPEN, most.usd, most.tokens, time.time()),
        )  # fmt: skip
        return cursor.lastrowid or 0

    def settle(self, payment: int, cost: Cost | None) -> None:
        """Replace a reservation by what the call has cost: None where nobody can know, and then it counts at its highest."""
        row = self._one("SELECT account, usd, tokens FROM payment WHERE id = ? AND state = ?", payment, OPEN)
        if row is None:
            return  # another process has taken us for dead
        reserved = Cost(row[1], row[2])
        self._close(payment, row[0], reserved, cost or reserved, PAID if cost else UNKNOWN)

    def _close(self, payment: int, account: str, reserved: Cost, cost: Cost, state: str) -> None:
        self._run(
            "UPDATE account SET usd = usd + ?, tokens = tokens + ?, open_usd = max(0, open_usd - ?), "
            "open_tokens = max(0, open_tokens - ?) WHERE name = ?",
            cost.usd or 0.0, cost.tokens, reserved.usd or 0.0, reserved.tokens, account,
        )  # fmt: skip
        if cost.tokens == 0 and not cost.usd and state == PAID:
            self._run("DELETE FROM payment WHERE id = ?", payment)
        else:
            self._run(
                "UPDATE payment SET state = ?, usd = ?, tokens = ? WHERE id = ?", state, cost.usd, cost.tokens, payment
            )

    # Batches. A batch owns its claims and payments itself, so that they outlive the process that made it.

    def open_batch(self, batch: Batch) -> None:
        """Write down a batch, with this process as its driver."""
        calls = json.dumps([asdict(call) for call in batch.calls])
        values = (batch.name, batch.endpoint, calls, self.owner, batch.file_id, batch.batch_id, time.time())
        self._run("INSERT OR REPLACE INTO batch VALUES (?, ?, ?, ?, ?, ?, ?)", *values)

    def drive(self, name: str) -> Batch | None:
        """Take over a batch whose driver is dead (or is this process); None where it is gone, or driven by a living one."""
        row = self._one("SELECT endpoint, calls, driver, file_id, batch_id FROM batch WHERE name = ?", name)
        if row is None:
            return None
        if row[2] != self.owner:
            self.bury()
            if self._one("SELECT 1 FROM owner WHERE id = ?", row[2]):
                return None
            self._run("UPDATE batch SET driver = ? WHERE name = ?", self.owner, name)
        calls = [Call(**{**call, "messages": tuple(call["messages"])}) for call in json.loads(row[1])]
        return Batch(name, row[0], calls, row[3], row[4])

    def batch_of(self, call: Call) -> str | None:
        """The name of the batch in which a call waits."""
        row = self._one("SELECT owner FROM claim WHERE key = ?", call.key)
        return row[0].removeprefix(BATCH) if row and row[0].startswith(BATCH) else None

    def end_batch(self, name: str) -> None:
        """Forget a batch; what it still holds is released, and costs nothing."""
        for (number,) in self._all("SELECT id FROM payment WHERE owner = ? AND state = ?", BATCH + name, OPEN):
            self.settle(number, Cost(0.0, 0))
        self._run("DELETE FROM claim WHERE owner = ?", BATCH + name)
        self._run("DELETE FROM batch WHERE name = ?", name)

    def settle_in_batch(self, name: str, call: Call, cost: Cost | None) -> None:
        """Replace the reservation for a call of a batch by what it has cost."""
        for (number,) in self._all(
            "SELECT id FROM payment WHERE owner = ? AND key = ? AND state = ?", BATCH + name, call.key, OPEN
        ):
            self.settle(number, cost)

    def close(self) -> None:
        """Close the file."""
        self.db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _run(self, statement: str, *values: Any) -> int:
        try:
            return self.db.execute(statement, values).rowcount
        except sqlite3.Error as error:
            raise trouble(self.path, error) from error

    def _one(self, statement: str, *values: Any) -> Any:
        try:
            return self.db.execute(statement, values).fetchone()
        except sqlite3.Error as error:
            raise trouble(self.path, error) from error

    def _all(self, statement: str, *values: Any) -> list[Any]:
        try:
            return self.db.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise trouble(self.path, error) from error


STORED = "text, finish_reason, prompt_tokens, completion_tokens, usd, duration_s, coalesce(cached_tokens, 0)"


def _to_read(path: Path) -> str:
    """The address of a ledger that cannot be written; without a log of late changes beside it, it needs no lock either."""
    late = path.with_name(path.name + "-wal")
    return f"{path.resolve().as_uri()}?{'mode=ro' if late.is_file() and late.stat().st_size else 'immutable=1'}"


def row_of(call: Call, reply: Stored, received_at: float) -> tuple[Any, ...]:
    """A reply as a row of its table."""
    return (
        call.key, call.asked, call.endpoint, call.model, json.dumps(list(call.messages)),
        json.dumps(call.parameters, sort_keys=True), call.draw, reply.text, reply.finish_reason,
        reply.prompt_tokens, reply.completion_tokens, reply.usd, reply.duration_s, received_at,
    )  # fmt: skip


def seal(row: Sequence[Any]) -> str:
    """Hash of a stored reply, by which a damaged one is found."""
    return digest(list(row))


def trouble(path: Path, error: Exception) -> InstructorError:
    """What SQLite or the system says, with the remedy."""
    said = str(error)
    if "locked" in said:
        return InstructorError(f"the ledger {path} is locked by another program for more than a minute: end that, and go on")
    if "full" in said or "disk I/O" in said:
        return InstructorError(
            f"the ledger {path} cannot be written ({said}): make room on the disk. What it holds is kept; the same command "
            "goes on from there."
        )
    if "malformed" in said or "not a database" in said:
        return InstructorError(
            f"the ledger {path} is damaged ({said}). `errata ledger verify {path}` says which replies survive, and with "
            "--repair keeps them; or set ledger=FILE to another place."
        )
    return InstructorError(f"cannot use the ledger {path}: {said}. Set ledger=FILE to another place.")


def _patiently(work: Callable[[], Any]) -> None:
    """Switching to WAL does not wait for others by itself."""
    until = time.monotonic() + 60
    while True:
        try:
            work()
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > until:
                raise
            time.sleep(0.02)
