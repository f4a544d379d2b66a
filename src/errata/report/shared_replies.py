"""Replies that seeds of one arm have in common: the ledger gives one reply to all who send the same request.

What the instructor would have said another time is then no part of the spread between these seeds.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec

from errata.report.pooled import PooledArm


class _Reply(msgspec.Struct, frozen=True):
    """What is looked at of a stored reply."""

    key: str = ""
    text: str | None = None


_LINES: msgspec.json.Decoder[_Reply] = msgspec.json.Decoder(_Reply)


def shared_replies(arm: PooledArm) -> tuple[int, int]:
    """How many replies to the arm's requests for practice another seed of it has too, and how many there are."""
    held = [_keys(run.path) for run in arm.runs] if len(arm.runs) > 1 else []
    seeds = Counter(key for keys in held for key in set(keys))
    return sum(seeds[key] > 1 for keys in held for key in keys), sum(map(len, held))


def shared_line(arms: Sequence[PooledArm]) -> str:
    """That seeds share replies, and what to do; empty where they do not."""
    counts = {arm.name: found for arm in arms if (found := shared_replies(arm))[0]}
    if not counts:
        return ""
    told = [f"{name} {shared:,} of {all_:,} ({100 * shared / all_:.0f} %)" for name, (shared, all_) in counts.items()]
    return (
        f"replies that seeds of an arm share: {'; '.join(told)}; their intervals leave out how far the instructor's own "
        "replies vary (instructor.seed='${seed}' asks anew for each seed)"
    )


def _keys(run: Path) -> list[str]:
    """Of the replies of all stages that asked for practice, the ledger's keys; failures have no reply."""
    files = [path for path in run.glob("iteration_*/*/instruct/replies.jsonl") if path.is_file()]
    replies = (_LINES.decode(line) for path in files for line in path.read_bytes().split(b"\n") if line)
    return [reply.key for reply in replies if reply.text is not None and reply.key]
