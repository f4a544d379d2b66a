"""The engine: sends many calls at the endpoint's pace, each paid for once, never beyond the purse, none lost."""

import asyncio
import contextlib
import heapq
import itertools
import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from errata.errors import BudgetError, ErrataError, InstructorError
from errata.instructor.base import FailedCall, Instructor, PassingTrouble, SchemaRefused
from errata.instructor.pace import Pace, backoff
from errata.instructor.writer import Writer
from errata.ledger import BudgetReached, Call, Cost, Ledger, Purse, Stored

FAIL_IN_A_ROW = 20
"""So many calls that the endpoint declines one after the other, and none has succeeded since: it will decline all."""
_TROUBLE_IN_A_ROW = 10
_OTHERS_S = 0.25
_LAST_S = 30.0
log = logging.getLogger("errata")
Outcome = Callable[[Call, Stored | str, bool], None]
"""Told of each call's end: the reply or why there is none, and whether another process had sent it."""


@dataclass
class _Item:
    asked: Call
    call: Call
    tokens: int
    most: Cost
    due: float = 0.0
    attempts: int = 0
    refused: int = 0
    first_sent: float | None = None


class Engine:
    """One stage's sending.

    Args:
        instructor: whom to ask; it is running.
        path: the ledger's file.
        purse: who pays, and how far.
        outcome: told of every call's end, after it is committed.
    """

    def __init__(self, instructor: Instructor, path: Path, purse: Purse, outcome: Outcome) -> None:
        self.instructor, self.purse, self.outcome = instructor, purse, outcome
        self._path = path
        self._fatal: Exception | None = None
        self._delayed: list[tuple[float, int, _Item]] = []
        self._numbers = itertools.count()
        self._tasks: set[asyncio.Task[None]] = set()
        self._declined = self._troubled = 0
        self._plain = False

    async def send(self, calls: Sequence[Call]) -> None:
        """Send them all.

        Raises:
            BudgetError: a call could cost more than the purse has left; what was received is kept.
            InstructorError: the endpoint refuses every call or is down, or the ledger cannot be written.
            asyncio.CancelledError: Ctrl-C; calls under way were waited for, up to half a minute.
        """
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._well_at = now = self._loop.time()
        limits = self.instructor.requests_per_minute, self.instructor.tokens_per_minute
        self._pace = Pace(self.instructor.concurrency, *limits, now)
        waiting = deque(
            _Item(call, call, self.instructor.expected_tokens(call), highest_cost(self.instructor, call)) for call in calls
        )
        async with Writer(self._path) as self._writer:
            try:
                await self._dispatch(waiting)
            except asyncio.CancelledError:
                await self._wait_for_the_last()
                raise
            finally:
                for task in self._tasks:
                    task.cancel()
                await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._fatal:
            raise self._fatal

    async def _dispatch(self, waiting: deque[_Item]) -> None:
        while True:
            now = self._loop.time()
            while self._delayed and self._delayed[0][0] <= now:
                waiting.append(heapq.heappop(self._delayed)[2])
            pause: float | None = None
            while waiting and not self._fatal and (pause := self._pace.wait(now)) == 0:
                item = waiting.popleft()
                self._pace.start(item.tokens)
                task = self._loop.create_task(self._one(item))
                self._tasks.add(task)
                task.add_done_callback(self._ended)
            if not self._tasks and (self._fatal or not (waiting or self._delayed)):
                return
            self._changed.clear()
            times = [now + pause] if pause and waiting else []
            times += [self._delayed[0][0]] if self._delayed else []
            alarm = self._loop.call_at(min(times), self._changed.set) if times else None
            await self._changed.wait()
            if alarm:
                alarm.cancel()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fatal = self._fatal or (error if isinstance(error, Exception) else InstructorError(str(error)))
        self._changed.set()

    async def _wait_for_the_last(self) -> None:
        """Ctrl-C: nothing new is sent, and what is under way (and paid for) may still come in."""
        self._fatal = self._fatal or InstructorError("stopped")
        if self._tasks:
            log.warning("stopping: waiting up to %g s for %d calls under way (again: leave them)", _LAST_S, len(self._tasks))
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait(self._tasks, timeout=_LAST_S)

    def _later(self, item: _Item, seconds: float) -> None:
        heapq.heappush(self._delayed, (self._loop.time() + seconds, next(self._numbers), item))

    async def _one(self, item: _Item) -> None:
        """One attempt at a call."""
        item.call = item.asked.plain if self._plain else item.asked
        used = 0
        try:
            found = await self._writer.do(lambda ledger: self._begin(ledger, item))
            if isinstance(found, Stored):
                self.outcome(item.asked, found, True)
            elif found is None:  # another process is asking this very thing, or money is set aside that may come back
                self._later(item, _OTHERS_S)
            elif isinstance(found, ErrataError):
                self._fatal = self._fatal or found
            else:
                used = await self._attempt(item, found)
        finally:
            self._pace.end(item.tokens, used)

    def _begin(self, ledger: Ledger, item: _Item) -> Stored | int | ErrataError | None:
        """A reply that is there by now; the number of our payment; None to try again later; or what ends it all."""
        claimed = ledger.claim(item.call)
        if isinstance(claimed, Stored):
            return claimed
        if not claimed:
            if (batch := ledger.batch_of(item.call)) is not None:
                return InstructorError(
                    f"this call waits in the batch {batch}: go on with instructor.mode=batch, or give the batch up with "
                    f"errata ledger prune {ledger.path} --batches"
                )
            return None
        try:
            return ledger.reserve(self.purse, item.call, item.most)
        except BudgetReached:
            ledger.release(item.call)
            spent, reserved = ledger.spent(self.purse.account)
            if ledger.may_come_back(self.purse.account):
                return None
            return used_up(self.purse, spent, reserved, item.most)

    async def _attempt(self, item: _Item, payment: int) -> int:
        """Send the call; returns the tokens that it used."""
        call, sent_at = item.call, self._loop.time()
        item.first_sent = sent_at if item.first_sent is None else item.first_sent
        left = item.first_sent + self.instructor.deadline_s - sent_at
        if left <= 0:
            why = f"no answer within {self.instructor.deadline_s:g} s (after {item.attempts} attempts)"
            await self._give_up(item, payment, why, charged=False)
            return 0
        item.attempts += 1
        try:
            async with asyncio.timeout(max(0.01, min(self.instructor.timeout_s, left))):
                stored = await self.instructor.reply(call)
        except TimeoutError:
            trouble = PassingTrouble(f"Timeout: no whole answer within {self.instructor.timeout_s:g} s", charged=True)
        except PassingTrouble as passing:
            trouble = passing
        except FailedCall as failed:
            await self._give_up(item, payment, str(failed), failed.charged, declined=True)
            return 0
        except SchemaRefused as refused:
            await self._writer.do(lambda ledger: _withdraw(ledger, call, payment))
            if not self._plain:
                log.warning("the endpoint knows no JSON schema (%s): asking for the plain layout instead", refused)
            self._plain = True
            self._later(item, 0.0)
            return 0
        except Exception:
            await self._writer.do(lambda ledger: _withdraw(ledger, call, payment))
            raise
        else:
            tokens = stored.prompt_tokens + stored.completion_tokens
            cost = Cost(stored.usd, tokens) if tokens else None  # one without a count was charged all the same
            stored = await self._writer.do(lambda ledger: _keep(ledger, call, payment, stored, cost))
            self._declined = self._troubled = 0
            self._well_at = self._loop.time()
            self._pace.answered(self._well_at - sent_at)
            self._rest()
            self.outcome(item.asked, stored, False)
            return tokens
        await self._again(item, payment, trouble, sent_at)
        return 0

    async def _again(self, item: _Item, payment: int, trouble: PassingTrouble, sent_at: float) -> None:
        """After trouble that may pass: later, or, where that was the last attempt, never."""
        now = self._loop.time()
        if trouble.busy:
            self._pace.busy(now, sent_at, trouble.after)
            self._well_at = max(self._well_at, now if trouble.after else 0.0)  # it is there, and says when to come back
        self._rest()
        self._troubled += trouble.down
        wait = backoff(item.attempts, trouble.after)
        past = (item.first_sent or now) + self.instructor.deadline_s
        item.refused += trouble.busy  # being busy uses up a call's time, not its attempts
        if item.attempts - item.refused <= self.instructor.max_retries and now + wait < past:
            await self._writer.do(lambda ledger: ledger.settle(payment, None if trouble.charged else Cost(0.0, 0)))
            self._later(item, wait)
        else:
            await self._give_up(item, payment, f"{trouble} (after {item.attempts} attempts)", trouble.charged)
        if self._troubled >= _TROUBLE_IN_A_ROW and now - self._well_at > self.instructor.give_up_s:
            seconds = f"{now - self._well_at:.0f}"
            self._fatal = self._fatal or InstructorError(
                f"no answer from the instructor for {seconds} s, and the last {self._troubled} attempts failed: {trouble}. "
                "What was received is kept; the same command goes on from there."
            )

    async def _give_up(self, item: _Item, payment: int, why: str, charged: bool, declined: bool = False) -> None:
        """The call gets no reply: write that down, and tell. `declined`: the endpoint does not want it."""
        cost = None if charged else Cost(0.0, 0)

        def failed(ledger: Ledger) -> None:
            ledger.settle(payment, cost)
            ledger.fail(item.call, why)
            ledger.release(item.call)

        await self._writer.do(failed)
        self._declined += declined
        self.outcome(item.asked, why, False)
        if self._declined >= FAIL_IN_A_ROW:
            self._fatal = self._fatal or InstructorError(f"the last {self._declined} requests all failed: {why}")

    def _rest(self) -> None:
        """Wait as long as the endpoint's own count of what is left asks for."""
        if self.instructor.pause_s:
            self._pace.pause(self._loop.time(), self.instructor.pause_s)
            self.instructor.pause_s = 0.0


def highest_cost(instructor: Instructor, call: Call) -> Cost:
    """What a call can cost at most."""
    prompt, reply = instructor.most_tokens(call)
    return Cost(instructor.price(prompt, reply), prompt + reply)


def used_up(purse: Purse, spent: Cost, reserved: Cost, most: Cost) -> BudgetError:
    """The error that ends a run at its limit, with the sums."""
    limits = [f"budget.usd={purse.usd:g}"] if purse.usd is not None else []
    limits += [f"budget.tokens={purse.tokens}"] if purse.tokens is not None else []
    money = f"${spent.usd or 0:.4f}, " if purse.usd is not None else ""
    price = f"${most.usd:.4f}, " if most.usd else ""
    aside = f", {reserved.tokens} set aside for calls that wait in a batch" if reserved.tokens else ""
    return BudgetError(
        f"the budget of {purse.account!r} is used up: {money}{spent.tokens} tokens spent{aside} of {' and '.join(limits)}, "
        f"and the next call may take {price}{most.tokens} tokens. What was received is kept: raise the limit, "
        "and the same command goes on from there."
    )


def _withdraw(ledger: Ledger, call: Call, payment: int) -> None:
    ledger.settle(payment, Cost(0.0, 0))
    ledger.release(call)


def _keep(ledger: Ledger, call: Call, payment: int, stored: Stored, cost: Cost | None) -> Stored:
    ledger.put(call, stored)
    ledger.settle(payment, cost)
    ledger.release(call)
    return ledger.get(call) or stored
