"""The ledger: every reply an instructor ever gave, once, in one SQLite file that all runs share.

A reply is known by what would make another call a different one: endpoint, model, messages, parameters and the draw
number. It is written in a transaction of its own the moment it arrives, so a killed run never pays for it again.
Failures are kept too, in a table of their own: they are evidence, not answers, and another run asks again.
"""

import json
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from errata.errors import InstructorError
from errata.run_folder import digest

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
"""


@dataclass(frozen=True)
class Call:
    """One question to an endpoint, with all that makes it that question."""

    endpoint: str
    model: str
    messages: tuple[dict[str, str], ...]
    parameters: dict[str, Any]
    draw: int = 0

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


class Ledger:
    """The append-only store of replies (SQLite, WAL: several processes may share it).

    Raises:
        InstructorError: the file cannot be opened, or is not a ledger.
    """

    def __init__(self, path: Path, must_exist: bool = False) -> None:
        self.path = path
        if must_exist and not path.is_file():
            raise InstructorError(f"there is no ledger at {path}: record one first, or set ledger=FILE")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=60, isolation_level=None)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.executescript(_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise InstructorError(f"cannot use the ledger {path}: {error}. Set ledger=FILE to another place.") from error

    def get(self, call: Call) -> Stored | None:
        """The reply to this very call, if it was ever received."""
        row = self._db.execute(f"SELECT {_STORED} FROM reply WHERE key = ?", (call.key,)).fetchone()
        return Stored(*row) if row else None

    def put(self, call: Call, reply: Stored) -> None:
        """Keep a reply, in a transaction of its own. A second reply to the same call is not kept."""
        self._db.execute(
            "INSERT OR IGNORE INTO reply VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                call.key, call.asked, call.endpoint, call.model, json.dumps(list(call.messages)),
                json.dumps(call.parameters, sort_keys=True), call.draw, reply.text, reply.finish_reason,
                reply.prompt_tokens, reply.completion_tokens, reply.usd, reply.duration_s, time.time(),
            ),
        )  # fmt: skip

    def fail(self, call: Call, reason: str) -> None:
        """Keep the fact that this call failed for good in this run."""
        self._db.execute(
            "INSERT INTO failure VALUES (?, ?, ?, ?, ?)", (call.key, call.endpoint, call.model, reason, time.time())
        )

    def recorded(self, asked: str, endpoint: str | None, model: str | None) -> list[tuple[str, str, str, Stored]]:
        """Replies to these messages and draw, whoever gave them: (endpoint, model, parameters, reply)."""
        where, values = ["asked = ?"], [asked]
        for column, value in (("endpoint", endpoint), ("model", model)):
            if value is not None:
                where.append(f"{column} = ?")
                values.append(value)
        rows: Sequence[Any] = self._db.execute(
            f"SELECT endpoint, model, parameters, {_STORED} FROM reply WHERE {' AND '.join(where)}", values
        ).fetchall()
        return [(row[0], row[1], row[2], Stored(*row[3:])) for row in rows]

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


_STORED = "text, finish_reason, prompt_tokens, completion_tokens, usd, duration_s"
