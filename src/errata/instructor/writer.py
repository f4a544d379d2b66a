"""The ledger's writer: a thread of its own, so that a commit never holds up the calls under way.

What arrives while one commit is under way shares the next: each piece of work is whole or not done, and its result is given
back only when it is on the disk.
"""

import asyncio
import contextlib
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self, TypeVar

from errata.ledger import Ledger, trouble

Result = TypeVar("Result")
_AT_ONCE = 128
_BEAT_S = 5.0


class Writer:
    """Does work on a ledger for the coroutines of one event loop, in the order in which it is given."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._work: queue.SimpleQueue[tuple[Callable[[Ledger], Any], asyncio.Future[Any]] | None] = queue.SimpleQueue()

    async def do(self, work: Callable[[Ledger], Result]) -> Result:
        """The work's result, once it is committed.

        Raises:
            InstructorError: the ledger cannot be written.
        """
        future: asyncio.Future[Result] = self._loop.create_future()
        self._work.put((work, future))
        return await future

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        try:
            await self.do(Ledger.join)
        except BaseException:
            self._work.put(None)
            raise
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._work.put(None)
        await asyncio.to_thread(self._thread.join)

    def _serve(self) -> None:
        try:
            ledger = Ledger(self.path)
        except Exception as error:  # noqa: BLE001 - told to whoever waits
            while (item := self._work.get()) is not None:
                self._loop.call_soon_threadsafe(_tell, [(item[1], error)])
            return
        with ledger:
            going, beaten = True, time.monotonic()
            while going:
                batch: list[tuple[Callable[[Ledger], Any], Any]] = []
                try:
                    item = self._work.get(timeout=_BEAT_S)
                    while item is not None and len(batch) < _AT_ONCE:
                        batch.append(item)
                        item = self._work.get_nowait()
                    if item is not None:  # one too many: the next commit's first
                        batch.append(item)
                    going = item is not None
                except queue.Empty:
                    pass
                if time.monotonic() - beaten > _BEAT_S:
                    batch.append((_still_here, None))
                    beaten = time.monotonic()
                self._commit(ledger, batch)
            self._commit(ledger, [(Ledger.leave, None)])

    def _commit(self, ledger: Ledger, batch: list[tuple[Callable[[Ledger], Any], Any]]) -> None:
        if not batch:
            return
        told: list[tuple[Any, Any]] = []
        try:
            ledger.db.execute("BEGIN IMMEDIATE")
            for work, future in batch:
                told.append((future, work(ledger)))
            ledger.db.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - nothing of this batch is kept: told to whoever waits
            with contextlib.suppress(sqlite3.Error):
                if ledger.db.in_transaction:
                    ledger.db.execute("ROLLBACK")
            if len(batch) > 1:  # one by one, so that only what fails is lost
                for one in batch:
                    self._commit(ledger, [one])
                return
            said = trouble(self.path, error) if isinstance(error, sqlite3.Error) else error
            told = [(future, said) for _, future in batch]
        self._loop.call_soon_threadsafe(_tell, [(future, result) for future, result in told if future is not None])


def _still_here(ledger: Ledger) -> None:
    if ledger.owner:
        ledger.beat()
        ledger.bury()


def _tell(results: list[tuple[asyncio.Future[Any], Any]]) -> None:
    for future, result in results:
        if future.done():
            continue  # its coroutine was cancelled
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)
