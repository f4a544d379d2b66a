"""Which rows an update is made of, and how they are laid out over devices and forward passes.

An update is the same rows whatever the devices, the packing and the size of a forward pass: the loss is weighted by trained
tokens, so all layouts of one update give one gradient, up to rounding.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from errata.training.attention import boundaries
from errata.training.job import Job
from errata.training.rows import Row, Rows

Part = tuple[int, ...]
"""Places of the rows in one forward pass."""


def order(rows: int, epochs: int, seed: int) -> Iterator[int]:
    """Places of rows in the order of training: a fresh permutation an epoch, epochs joined without a gap."""
    for epoch in range(epochs):
        yield from random.Random(f"{seed} {epoch}").sample(range(rows), rows)


def updates(rows: Rows, job: Job) -> list[Part]:
    """The rows of every update of the run, in order; it depends on the seed, and not on the devices.

    With `group_by_length` updates hold rows of like length (drawn from 50 updates at a time), which saves padding.
    """
    places = np.fromiter(order(len(rows), job.epochs, job.seed), dtype=np.int64, count=len(rows) * job.epochs)
    if job.group_by_length:
        window = 50 * job.batch_size
        shuffle = random.Random(f"{job.seed} groups")
        grouped = []
        for start in range(0, len(places), window):
            part = places[start : start + window]
            part = part[np.argsort(rows.lengths[part], kind="stable")]
            cut = [part[at : at + job.batch_size] for at in range(0, len(part), job.batch_size)]
            short = [cut.pop()] if len(cut[-1]) < job.batch_size else []
            shuffle.shuffle(cut)
            grouped += [*cut, *short]
        places = np.concatenate(grouped)
    return [tuple(places[start : start + job.batch_size].tolist()) for start in range(0, len(places), job.batch_size)]


def lay_out(update: Part, lengths: np.ndarray, job: Job, ranks: int) -> list[list[Part]]:
    """The forward passes of an update, for each rank as many; one may be empty.

    Packed: the fewest passes of at most `micro_tokens` tokens, of even size (the longest row first, each to the emptiest).
    Else: rows of like length, the fewest passes of at most `micro_batch_size` rows, of even size.
    """
    falling = sorted(update, key=lambda place: (-int(lengths[place]), place))
    if not job.packing:
        count = -(-len(falling) // (job.micro_batch_size * ranks)) * ranks
        ends = [len(falling) * number // count for number in range(count + 1)]
        parts = [tuple(falling[begin:end]) for begin, end in pairwise(ends)]
        return [parts[rank::ranks] for rank in range(ranks)]
    total = int(sum(lengths[place] for place in update))
    passes = max(1, -(-total // (job.micro_tokens * ranks)))
    while True:
        packs = _packed(falling, lengths, passes * ranks, job.micro_tokens)
        if packs is not None:
            return [packs[rank::ranks] for rank in range(ranks)]
        passes += 1


def _packed(falling: Sequence[int], lengths: np.ndarray, count: int, most: int) -> list[Part] | None:
    packs: list[list[int]] = [[] for _ in range(count)]
    sizes = [0] * count
    for place in falling:
        at = min(range(count), key=lambda pack: (sizes[pack], pack))
        if sizes[at] and sizes[at] + int(lengths[place]) > most:
            return None  # a row that is longer than a pass stands alone in one
        packs[at].append(place)
        sizes[at] += int(lengths[place])
    return [tuple(pack) for pack in packs]


@dataclass  # not frozen: Lightning takes it apart
class Update:
    """What one rank does in one update.

    Attributes:
        passes: arguments of each forward pass, with `positions` and `targets` of the loss; see `tensors`.
        trained_tokens: of the whole update, over all ranks.
        tokens: of the whole update, without padding.
        padded_tokens: positions that this rank computes, padding included.
        own_tokens: tokens that this rank computes, without padding.
    """

    passes: list[dict[str, Any]]
    trained_tokens: int
    tokens: int
    padded_tokens: int
    own_tokens: int


def tensors(rows: Sequence[Row], packed: bool, pad_id: int) -> dict[str, Any]:
    """A forward pass.

    Returns:
        input_ids: (1, tokens) where packed, else (rows, longest), padded on the right; int64.
        attention_mask: (rows, longest) int64, where not packed; where packed what `attention.boundaries` gives.
        positions, targets: (trained,) int64: places, counted through all of `input_ids`, and the tokens that follow them.
    """
    lengths = [len(row.ids) for row in rows]
    longest = max(lengths)
    width = 0 if packed else longest
    positions, targets, offset = [], [], 0
    for row in rows:
        at = np.flatnonzero(row.trained[1:])
        positions.append(at + offset)
        targets.append(row.ids[at + 1])
        offset += width or len(row.ids)
    found: dict[str, Any] = {
        "positions": torch.from_numpy(np.concatenate(positions)),
        "targets": torch.from_numpy(np.concatenate(targets)),
    }
    if packed:
        found["input_ids"] = torch.from_numpy(np.concatenate([row.ids for row in rows]))[None]
        return found | boundaries(lengths)
    ids = np.full((len(rows), longest), pad_id, dtype=np.int64)
    mask = np.zeros((len(rows), longest), dtype=np.int64)
    for place, row in enumerate(rows):
        ids[place, : len(row.ids)], mask[place, : len(row.ids)] = row.ids, 1
    found["input_ids"], found["attention_mask"] = torch.from_numpy(ids), torch.from_numpy(mask)
    return found


class Loader:
    """The updates of one rank from number `start` on."""

    def __init__(
        self, rows: Rows, plan: Sequence[Part], job: Job, pad_id: int, rank: int, ranks: int, start: int = 0
    ) -> None:
        self.rows, self.plan, self.job, self.pad_id = rows, plan, job, pad_id
        self.rank, self.ranks, self.start = rank, ranks, start

    def __len__(self) -> int:
        return len(self.plan) - self.start

    def __iter__(self) -> Iterator[Update]:
        for update in self.plan[self.start :]:
            yield self.update(update)

    def update(self, update: Part) -> Update:
        """What this rank does in an update; where it has no row, one token without a loss."""
        passes = []
        own = 0
        for part in lay_out(update, self.rows.lengths, self.job, self.ranks)[self.rank]:
            rows = [self.rows[place] for place in part]
            own += sum(len(row.ids) for row in rows)
            idle = Row(np.asarray([self.pad_id]), np.asarray([False]))
            passes.append(tensors(rows or [idle], bool(self.job.packing), self.pad_id))
        places = list(update)
        return Update(
            passes,
            trained_tokens=int(self.rows.trained[places].sum()),
            tokens=int(self.rows.lengths[places].sum()),
            padded_tokens=sum(one["input_ids"].numel() for one in passes),
            own_tokens=own,
        )
