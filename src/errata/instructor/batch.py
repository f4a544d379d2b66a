"""The Batch API: calls uploaded as a file, answered within a day, at half the price.

What is known of a batch stands in the ledger before the next step is taken; its file and the batch itself carry its name.
So a run that was killed at any moment finds its batch again instead of uploading it a second time, and of two processes
with the same calls one drives the batch and the other waits for its replies.
"""

import asyncio
import json
import logging
import uuid
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from errata.errors import InstructorError
from errata.instructor.engine import Outcome, highest_cost, used_up
from errata.instructor.openai import UNREADABLE, OpenAI
from errata.instructor.pace import backoff
from errata.instructor.writer import Writer
from errata.ledger import BATCH, Batch, BudgetReached, Call, Cost, Ledger, Purse, Stored

if TYPE_CHECKING:
    import openai

_ROUNDS = 3
_ENDED = ("completed", "failed", "expired", "cancelled")
_CALLS_A_BATCH = 50_000
_UNREADABLE = "UnreadableAnswer"
log = logging.getLogger("errata")


async def send_batches(
    calls: Sequence[Call], instructor: OpenAI, path: Path, purse: Purse, outcome: Outcome, most: int = _CALLS_A_BATCH
) -> None:
    """Send the calls in batches of at most `most`, and tell `outcome` of every call's end.

    A call that a batch did not answer (it expired, or the endpoint failed) goes into the next one, three times at most.

    Raises:
        BudgetError: no call fits into the purse.
        InstructorError: the endpoint refuses the key, or has no Batch API.
    """
    async with Writer(path) as writer:
        await _Batches(instructor, writer, purse, outcome, most).send(calls)


class _Batches:
    def __init__(self, instructor: OpenAI, writer: Writer, purse: Purse, outcome: Outcome, most: int) -> None:
        self.instructor, self.writer, self.purse, self.outcome, self.most = instructor, writer, purse, outcome, most
        self.tried: Counter[str] = Counter()

    async def send(self, calls: Sequence[Call]) -> None:
        todo = {call.key: call for call in calls}
        while todo:
            there, batches = await self.writer.do(lambda ledger: self._prepare(ledger, list(todo.values())))
            for key, stored in there.items():
                self.outcome(todo.pop(key), stored, True)
            if not todo:
                return
            ended = await asyncio.gather(*(self._drive(batch) for batch in batches))
            for key, result in (pair for part in ended for pair in part.items()):
                if key in todo and result is not None:
                    self.outcome(todo.pop(key), result, False)
            if not batches:
                await asyncio.sleep(min(1.0, self.instructor.batch_poll_s))  # another process drives them

    def _prepare(self, ledger: Ledger, calls: Sequence[Call]) -> tuple[dict[str, Stored], list[Batch]]:
        """Replies that are there by now, and the batches that we are to drive: found again, or made of free calls."""
        there: dict[str, Stored] = {}
        waiting: set[str] = set()
        fresh: list[tuple[str, list[Call]]] = []
        refused: Cost | None = None
        for call in calls:
            name, members = fresh[-1] if fresh and len(fresh[-1][1]) < self.most else (uuid.uuid4().hex, [])
            claimed = ledger.claim(call, BATCH + name)
            if isinstance(claimed, Stored):
                there[call.key] = claimed
            elif not claimed:
                if (name_of := ledger.batch_of(call)) is not None:
                    waiting.add(name_of)
            elif refused is None:
                cost = highest_cost(self.instructor, call)
                try:
                    ledger.reserve(self.purse, call, cost, BATCH + name)
                except BudgetReached:
                    refused = cost
                    ledger.release(call, BATCH + name)
                else:
                    members.append(call)
                    if len(members) == 1:
                        fresh.append((name, members))
            else:
                ledger.release(call, BATCH + name)
        made = [Batch(name, self.instructor.base_url, members) for name, members in fresh]
        for batch in made:
            ledger.open_batch(batch)
        driven = [found for name in sorted(waiting) if (found := ledger.drive(name)) is not None]
        if refused is not None and not (made or waiting or there):
            raise used_up(self.purse, *ledger.spent(self.purse.account), refused)
        return there, [*driven, *made]

    async def _drive(self, batch: Batch) -> dict[str, Stored | str | None]:
        """See a batch to its end: what became of each of its calls (None: to be sent again)."""
        import openai

        client: openai.AsyncOpenAI = self.instructor.client.with_options(max_retries=self.instructor.max_retries)
        try:
            ended = await self._ended(client, await self._created(client, batch))
            files = [file for file in (ended.output_file_id, ended.error_file_id) if file]
            lines = [line for file in files for line in (await client.files.content(file)).content.split(b"\n")]
        except openai.OpenAIError as error:
            raise InstructorError(
                f"the Batch API of {self.instructor.base_url} fails: {self.instructor.say(error)}. The batch {batch.name} "
                "is in the ledger: the same command goes on with it; instructor.mode=now sends each call for itself."
            ) from None
        if ended.status != "completed":
            errors = [str(one.message) for one in (ended.errors.data if ended.errors else None) or []]
            said = self.instructor.hide(" ".join(errors))
            log.warning("batch %s is %s, with %d lines. %s", ended.id, ended.status, len(lines), said)
        found = dict(self._read(line) for line in lines if line.strip())
        results: dict[str, Stored | str | None] = {}
        for call in batch.calls:
            result = found.get(call.key)
            if result is None:
                self.tried[call.key] += 1
                if self.tried[call.key] >= _ROUNDS:
                    result = f"no answer in {_ROUNDS} batches, the last one {ended.status}"
            results[call.key] = result
        await self.writer.do(lambda ledger: _keep(ledger, batch, results))
        return results

    async def _created(self, client: "openai.AsyncOpenAI", batch: Batch) -> str:
        """The batch's id: as it is known, as it is found by its name, or newly made."""
        import openai

        if batch.batch_id:
            return batch.batch_id
        once, tried = client.with_options(max_retries=0), 0
        while True:
            try:
                return await self._create(client, once, batch)
            except (openai.APIConnectionError, openai.InternalServerError):  # it may have come to pass all the same
                tried += 1
                if tried > self.instructor.max_retries:
                    raise
                await asyncio.sleep(backoff(tried, None))

    async def _create(self, client: "openai.AsyncOpenAI", once: "openai.AsyncOpenAI", batch: Batch) -> str:
        """Upload and create what the endpoint does not have yet under the batch's name."""
        file_id, name = batch.file_id, f"errata-{batch.name}.jsonl"
        async for made in client.batches.list(limit=100):
            if (made.metadata or {}).get("errata") == batch.name:
                return await self._known(batch, made.input_file_id, made.id)
        if file_id is None:
            async for file in client.files.list(purpose="batch"):
                if file.filename == name:
                    file_id = file.id
        if file_id is None:
            where = {"method": "POST", "url": "/v1/chat/completions"}
            lines = [{"custom_id": call.key, **where, "body": self.instructor.body(call)} for call in batch.calls]
            content = "".join(json.dumps(line) + "\n" for line in lines).encode()
            file_id = (await once.files.create(file=(name, content), purpose="batch")).id
            await self._known(batch, file_id, None)
        created = await once.batches.create(
            input_file_id=file_id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"errata": batch.name}
        )
        log.info("batch %s: %d calls uploaded; answers are due within 24 hours", created.id, len(batch.calls))
        return await self._known(batch, file_id, created.id)

    async def _known(self, batch: Batch, file_id: str | None, batch_id: str | None) -> str:
        known = Batch(batch.name, batch.endpoint, batch.calls, file_id, batch_id)
        await self.writer.do(lambda ledger: ledger.open_batch(known))
        return batch_id or ""

    async def _ended(self, client: "openai.AsyncOpenAI", batch_id: str) -> Any:
        while (batch := await client.batches.retrieve(batch_id)).status not in _ENDED:
            counts = batch.request_counts
            if counts is not None:
                log.info("batch %s: %s, %d of %d answered", batch_id, batch.status, counts.completed, counts.total)
            await asyncio.sleep(self.instructor.batch_poll_s)
        return batch

    def _read(self, line: bytes) -> tuple[str, Stored | str | None]:
        """A line of a result file: its call's key, and a reply, a failure for good, or None for one that may pass."""
        try:
            entry = json.loads(line)
            key, response = str(entry["custom_id"]), entry.get("response") or {}
            status = int(response.get("status_code") or 0)
        except UNREADABLE as error:
            log.warning("a line of a batch's answers cannot be read: %s", self.instructor.hide(str(error)))
            return "", None
        if status == 200:
            try:
                return key, self.instructor.read(response["body"], 0.0)
            except UNREADABLE as error:
                return key, self.instructor.hide(f"{_UNREADABLE}: {type(error).__name__}: {error}")
        if status in (0, 408, 409, 429) or status >= 500:
            return key, None
        said = json.dumps(response.get("body") or entry.get("error"))
        return key, self.instructor.hide(f"HTTP {status}: {said}")


def _keep(ledger: Ledger, batch: Batch, results: dict[str, Stored | str | None]) -> None:
    for call in batch.calls:
        result = results[call.key]
        if isinstance(result, Stored):
            ledger.put(call, result)
            tokens = result.prompt_tokens + result.completion_tokens
            ledger.settle_in_batch(batch.name, call, Cost(result.usd, tokens) if tokens else None)
        elif result is not None:
            ledger.fail(call, result)
            if result.startswith(_UNREADABLE):
                ledger.settle_in_batch(batch.name, call, None)  # charged all the same
    ledger.end_batch(batch.name)
