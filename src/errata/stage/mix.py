"""mix: each dataset's rows in, one shuffled training set out."""

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from errata.jsonl import encode_lines, write_atomically
from errata.records import Example
from errata.run_folder import Stage


@dataclass(frozen=True)
class Blend:
    """What of one dataset goes into a training set.

    Attributes:
        rows: this iteration's practice, to draw from.
        size: how many rows are drawn.
        tokens: how many tokens the drawn rows have together, exactly, instead of a number of rows.
        always: rows of former iterations that stay in on top of them (`policy.data=all`).
        replayed: rows to draw the replayed share from.
        share: the replayed share of `size` (or of `tokens`).
        again: whether rows may come again when there are not enough of them.
    """

    rows: Sequence[Example]
    size: int
    tokens: int | None = None
    always: Sequence[Example] = ()
    replayed: Sequence[Example] = ()
    share: float = 0.0
    again: bool = False
    count: Callable[[str, str], int] = field(default=lambda prompt, response: 0, compare=False)


def mix(stage: Stage, blends: Mapping[str, Blend], seed: int) -> list[Example]:
    """Draw each dataset's rows without replacement, and shuffle them all.

    The set is also written as chat messages (`train.messages.jsonl`) and in Alpaca's form (`train.alpaca.json`). Differs
    from the source: seeded, and fewer rows than wanted are a smaller set, not an assertion.
    """
    if stage.finished:
        return stage.read("train", Example)
    rng = random.Random(f"{seed} {stage.name}")
    drawn = {name: draw(blends[name], rng) for name in sorted(blends)}
    chosen = [row for rows in drawn.values() for row in rows]
    rng.shuffle(chosen)
    counts: dict[str, object] = {"rows": len(chosen), "by dataset": {name: len(rows) for name, rows in drawn.items()}}
    if repeated := len(chosen) - len({row.id for row in chosen}):
        counts["of them again"] = repeated
    exact = {name: blend for name, blend in blends.items() if blend.tokens is not None}
    if exact:
        counts["tokens"] = {
            name: sum(blend.count(*_pair(row)) for row in drawn[name][len(blend.always) :]) for name, blend in exact.items()
        }
    write_atomically(stage.folder / "train.messages.jsonl", encode_lines([_messages(row) for row in chosen]))
    write_atomically(stage.folder / "train.alpaca.json", json.dumps([_alpaca(row) for row in chosen], indent=1).encode())
    stage.finish(counts, train=chosen)
    return chosen


def draw(blend: Blend, rng: random.Random) -> list[Example]:
    """One dataset's part of the training set."""
    taken = {row.prompt for row in blend.always}
    rows = [row for row in blend.rows if row.prompt not in taken]
    order = rng.sample(rows, len(rows))
    old = [row for row in blend.replayed if row.prompt not in taken]
    old = rng.sample(old, len(old))
    if blend.tokens is None:
        fresh = blend.size - min(len(old), round(blend.share * blend.size))
        while blend.again and order and len(order) < fresh:
            order += rng.sample(rows, len(rows))
        drawn = {row.prompt for row in order[:fresh]}
        replayed = [row for row in old if row.prompt not in drawn][: blend.size - fresh]
        return [*blend.always, *order[:fresh], *replayed]
    replayed = _fill(old, round(blend.share * blend.tokens), blend.count)
    left = blend.tokens - sum(blend.count(*_pair(row)) for row in replayed)
    drawn = {row.prompt for row in replayed}
    order = [row for row in order if row.prompt not in drawn] or order
    return [*blend.always, *_exactly(order, left, blend.count, rng), *replayed]


def _pair(row: Example) -> tuple[str, str]:
    return row.prompt, row.response


def _fill(rows: Sequence[Example], tokens: int, count: Callable[[str, str], int]) -> list[Example]:
    """Rows from the front for as long as they fit."""
    taken = []
    for row in rows:
        length = count(*_pair(row))
        if length <= tokens:
            taken.append(row)
            tokens -= length
    return taken


def _exactly(rows: Sequence[Example], tokens: int, count: Callable[[str, str], int], rng: random.Random) -> list[Example]:
    """Rows that have exactly so many tokens together: from the front, the last few chosen so that the sum comes out.

    Rows come again where there are not enough. Where no choice of the last rows gives the sum, it stays a few tokens below.
    """
    if not rows:
        return []
    lengths = [max(1, count(*_pair(row))) for row in rows]
    longest, taken, place = max(lengths), [], 0
    order = list(range(len(rows)))
    while tokens > 8 * longest:
        if place == len(order):
            order += rng.sample(range(len(rows)), len(rows))
        taken.append(order[place])
        tokens -= lengths[order[place]]
        place += 1
    rest = order[place:] or rng.sample(range(len(rows)), len(rows))
    rest += [] if sum(lengths[one] for one in rest) > 2 * tokens else rng.sample(range(len(rows)), len(rows)) * 8
    reached: dict[int, tuple[int, ...]] = {0: ()}  # sums, and the rows that give them
    for one in rest:
        if tokens in reached:
            break
        for total, path in list(reached.items()):
            if (bigger := total + lengths[one]) <= tokens and bigger not in reached:
                reached[bigger] = (*path, one)
    return [rows[one] for one in (*taken, *reached[max(reached)])]


def _messages(row: Example) -> dict[str, object]:
    turns = [{"role": "user", "content": row.prompt}, {"role": "assistant", "content": row.response}]
    return {"id": row.id, "messages": turns}


def _alpaca(row: Example) -> dict[str, str]:
    return {"instruction": row.prompt, "input": "", "output": row.response}
