"""instruct: requests in, the instructor's replies out, each paid for once."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence

from errata.errors import InstructorError
from errata.instructor.base import FailedCall, Instructor
from errata.ledger import Call, Ledger, Stored
from errata.records import Reply, Request
from errata.run_folder import Stage
from errata.terminal import Advance, bar

_GIVE_UP_AFTER = 20
"""So many calls that all fail in a row, and none has succeeded since: the endpoint is down."""


def instruct(stage: Stage, requests: Sequence[Request], instructor: Instructor, ledger: Ledger) -> list[Reply]:
    """Get a reply, or a recorded failure, for every request, in the requests' order.

    What the ledger holds is not asked again; each new reply is in the ledger before anything else happens to it. One
    failing request never loses the others.

    Raises:
        InstructorError: every call is refused or fails, or a recording lacks some of the requests. The stage stays open.
    """
    if stage.finished:
        return stage.read("replies", Reply)
    calls = [instructor.call(request.messages, request.draw) for request in requests]
    found = [instructor.stored(call, ledger) for call in calls]
    missing = [request.id for request, stored in zip(requests, found, strict=True) if stored is None]
    if missing and not instructor.sends:
        raise InstructorError(
            f"{ledger.path} lacks {len(missing)} of {len(requests)} requests, the first: {', '.join(missing[:3])}"
        )
    replies: dict[str, Reply] = {
        request.id: _reply(request, call, stored)
        for request, call, stored in zip(requests, calls, found, strict=True)
        if stored is not None
    }
    pending: dict[str, tuple[Call, list[Request]]] = {}  # by key: the same call is sent once, whoever asks
    for request, call in zip(requests, calls, strict=True):
        if request.id not in replies:
            pending.setdefault(call.key, (call, []))[1].append(request)
    held = len(replies)
    if pending:
        with bar(stage.name, len(requests), len(replies)) as advance:
            asyncio.run(_send(list(pending.values()), instructor, ledger, replies, advance))
    if requests and all(reply.text is None for reply in replies.values()):
        raise InstructorError(f"none of the {len(requests)} requests got a reply: {replies[requests[0].id].failure}")
    ordered = [replies[request.id] for request in requests]
    stage.finish(_counts(ordered, held), requests=requests, replies=ordered)
    return ordered


async def _send(
    pending: Sequence[tuple[Call, list[Request]]],
    instructor: Instructor,
    ledger: Ledger,
    replies: dict[str, Reply],
    advance: Advance,
) -> None:
    """Work through the pending calls, `concurrency` at a time; a fatal one stops the sending, not what is in flight."""
    queue = iter(pending)
    fatal: list[InstructorError] = []
    failed_in_a_row = 0
    held, start, tokens = len(replies), time.monotonic(), 0
    usd: float | None = 0.0

    async def worker() -> None:
        nonlocal failed_in_a_row, tokens, usd
        for call, asking in queue:
            if fatal:
                return
            try:
                # another run that shares the ledger may have asked meanwhile
                stored = instructor.stored(call, ledger) or await instructor.reply(call)
            except FailedCall as error:
                ledger.fail(call, str(error))
                for request in asking:
                    replies[request.id] = Reply(
                        request.id, request.dataset, request.error_id, call.key, None, failure=str(error)
                    )
                failed_in_a_row += 1
                if failed_in_a_row >= _GIVE_UP_AFTER:
                    fatal.append(InstructorError(f"the last {failed_in_a_row} requests all failed: {error}"))
            except InstructorError as error:
                fatal.append(error)
            else:
                ledger.put(call, stored)
                stored = ledger.get(call) or stored
                replies.update({request.id: _reply(request, call, stored) for request in asking})
                failed_in_a_row = 0
                tokens += stored.prompt_tokens + stored.completion_tokens
                usd = None if stored.usd is None or usd is None else usd + stored.usd
            rate = (len(replies) - held) / (time.monotonic() - start)
            money = "price unknown" if usd is None else f"${usd:.2f}"
            advance(len(asking), f"{rate:.1f} requests/s, {tokens} tokens, {money}")

    async with instructor.running():
        await asyncio.gather(*(worker() for _ in range(min(instructor.concurrency, len(pending)))))
    if fatal:
        raise fatal[0]


def _reply(request: Request, call: Call, stored: Stored) -> Reply:
    return Reply(
        request.id,
        request.dataset,
        request.error_id,
        call.key,
        stored.text,
        stored.finish_reason,
        None,
        stored.prompt_tokens,
        stored.completion_tokens,
        stored.usd,
        stored.duration_s,
    )


def _counts(replies: Sequence[Reply], held: int) -> dict[str, object]:
    """Totals over all replies, whether this process received them or the ledger held them."""
    good = [reply for reply in replies if reply.text is not None]
    failures = Counter((reply.failure or "").partition(":")[0] for reply in replies if reply.text is None)
    counts: dict[str, object] = {"requests": len(replies), "replies": len(good), "from the ledger": held}
    if failures:
        counts |= {"failed": sum(failures.values()), "failures": dict(failures)}
    paid = {reply.key: reply for reply in good}.values()  # requests that share a call share its price
    counts["tokens"] = sum(reply.prompt_tokens + reply.completion_tokens for reply in paid)
    known = all(reply.usd is not None for reply in paid)
    counts["usd"] = round(sum(reply.usd or 0.0 for reply in paid), 6) if known else "unknown"
    return counts
