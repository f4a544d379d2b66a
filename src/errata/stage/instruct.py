"""instruct: requests in, the instructor's replies out, each paid for once."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence

from errata.errors import InstructorError
from errata.instructor.base import Instructor
from errata.instructor.batch import send_batches
from errata.instructor.engine import Engine
from errata.instructor.openai import OpenAI
from errata.ledger import Call, Ledger, Purse, Stored
from errata.records import Reply, Request
from errata.run_folder import Stage
from errata.terminal import bar


def instruct(
    stage: Stage, requests: Sequence[Request], instructor: Instructor, ledger: Ledger, purse: Purse | None = None
) -> list[Reply]:
    """Get a reply, or a recorded failure, for every request, in the requests' order.

    What the ledger holds is not asked again; each new reply is in the ledger before anything else happens to it. One
    failing request never loses the others. `purse` says who pays, and how far.

    Raises:
        BudgetError: the purse is empty; the stage stays open.
        InstructorError: every call is refused or fails, or a recording lacks some of the requests. The stage stays open.
    """
    if stage.finished:
        return stage.read("replies", Reply)
    purse = purse or Purse(stage.name, stage.name, stage.name)
    calls = [instructor.call(request.messages, request.draw, request.schema) for request in requests]
    found = [held(call, instructor, ledger) for call in calls]
    failed: dict[str, Reply] = {}
    if not instructor.sends:
        unheld = {
            request.id: (request, call)
            for request, call, stored in zip(requests, calls, found, strict=True)
            if stored is None
        }
        reasons = {name: ledger.failed(call) or ledger.failed(call.plain) for name, (_, call) in unheld.items()}
        failed = {name: _failure(*unheld[name], reason) for name, reason in reasons.items() if reason is not None}
        missing = [name for name in unheld if name not in failed]
        if missing:
            raise InstructorError(
                f"{ledger.path} lacks {len(missing)} of {len(requests)} requests, the first: {', '.join(missing[:3])}"
            )
    replies: dict[str, Reply] = failed | {
        request.id: _reply(request, call, stored)
        for request, call, stored in zip(requests, calls, found, strict=True)
        if stored is not None
    }
    pending: dict[str, tuple[Call, list[Request]]] = {}  # by key: the same call is sent once, whoever asks
    for request, call in zip(requests, calls, strict=True):
        if request.id not in replies:
            pending.setdefault(call.key, (call, []))[1].append(request)
    known = len(replies) - len(failed)
    if pending:
        asyncio.run(_send(stage.name, pending, instructor, ledger, purse, replies, len(requests)))
    if requests and all(reply.text is None for reply in replies.values()):
        raise InstructorError(f"none of the {len(requests)} requests got a reply: {replies[requests[0].id].failure}")
    ordered = [replies[request.id] for request in requests]
    counts = _counts(ordered, known, ledger, purse)
    if instructor.sends:
        distinct = {call.key: request for call, request in zip(calls, requests, strict=True)}
        asked, said, usd = estimate(list(distinct.values()), instructor)
        counts |= {"estimated tokens": asked + said, "estimated usd": "unknown" if usd is None else round(usd, 6)}
    stage.finish(counts, requests=requests, replies=ordered)
    return ordered


def held(call: Call, instructor: Instructor, ledger: Ledger) -> Stored | None:
    """What the ledger holds: for the call, or for the one without a schema that its endpoint made of it."""
    stored = instructor.stored(call, ledger)
    return instructor.stored(call.plain, ledger) if stored is None and "response_format" in call.parameters else stored


async def _send(
    title: str,
    pending: dict[str, tuple[Call, list[Request]]],
    instructor: Instructor,
    ledger: Ledger,
    purse: Purse,
    replies: dict[str, Reply],
    total: int,
) -> None:
    """Send what is pending; `replies` grows as outcomes come in."""
    cached, start, tokens, failed, answered = len(replies), time.monotonic(), 0, 0, 0
    usd: float | None = 0.0
    with bar(title, total, cached) as advance:

        def outcome(call: Call, result: Stored | str, from_another: bool) -> None:
            nonlocal tokens, failed, answered, usd
            asking = pending[call.key][1]
            if isinstance(result, str):
                failed += 1
                replies.update({request.id: _failure(request, call, result) for request in asking})
            else:
                replies.update({request.id: _reply(request, call, result) for request in asking})
                if not from_another:
                    answered += 1
                    tokens += result.prompt_tokens + result.completion_tokens
                    usd = None if result.usd is None or usd is None else usd + result.usd
            seconds = max(time.monotonic() - start, 0.001)
            notes = [f"{failed} failed"] if failed else []
            notes += [f"{cached} from the ledger"] if cached else []
            notes += [f"{(answered + failed) / seconds:.1f} requests/s", f"{tokens / seconds:.0f} tokens/s"]
            if usd is None:
                notes.append("price unknown")
            elif usd and answered:
                notes.append(f"${usd:.2f} of about ${usd / answered * len(pending):.2f}")
            advance(len(asking), ", ".join(notes))

        calls = [call for call, _ in pending.values()]
        async with instructor.running():
            if isinstance(instructor, OpenAI) and instructor.mode == "batch":
                await send_batches(calls, instructor, ledger.path, purse, outcome)
            else:
                await Engine(instructor, ledger.path, purse, outcome).send(calls)


def _reply(request: Request, call: Call, stored: Stored) -> Reply:
    return Reply(
        request.id, request.dataset, request.error_id, call.key, stored.text, stored.finish_reason, None,
        stored.prompt_tokens, stored.completion_tokens, stored.usd, stored.duration_s,
    )  # fmt: skip


def _failure(request: Request, call: Call, reason: str) -> Reply:
    return Reply(request.id, request.dataset, request.error_id, call.key, None, failure=reason)


def estimate(requests: Sequence[Request], instructor: Instructor) -> tuple[int, int, float | None]:
    """Tokens of the prompts and of the replies to expect, and their price (None: unknown)."""
    prompt = sum(instructor.prompt_tokens(request.messages) for request in requests)
    reply = sum(request.expected_tokens for request in requests)
    return prompt, reply, instructor.price(prompt, reply)


def _counts(replies: Sequence[Reply], held: int, ledger: Ledger, purse: Purse) -> dict[str, object]:
    """Totals over all replies; `usd` is what they cost when they were bought, `paid` what this stage has paid itself."""
    good = [reply for reply in replies if reply.text is not None]
    failures = Counter((reply.failure or "").partition(":")[0] for reply in replies if reply.text is None)
    counts: dict[str, object] = {"requests": len(replies), "replies": len(good), "from the ledger": held}
    if failures:
        counts |= {"failed": sum(failures.values()), "failures": dict(failures)}
    distinct = {reply.key: reply for reply in good}.values()  # requests that share a call share its price
    counts["tokens"] = sum(reply.prompt_tokens + reply.completion_tokens for reply in distinct)
    known = all(reply.usd is not None for reply in distinct)
    counts["usd"] = round(sum(reply.usd or 0.0 for reply in distinct), 6) if known else "unknown"
    paid, unknown = ledger.paid(purse.run, purse.stage)
    counts["paid tokens"] = paid.tokens
    counts["paid usd"] = "unknown" if paid.usd is None else round(paid.usd, 6)
    if unknown:
        counts["answers lost on the way, counted at their highest price"] = unknown
    return counts
