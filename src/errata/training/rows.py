"""Rows as token ids and labels, in an order that depends on the seed alone."""

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from errata.chat import prompt_ids, response_ids

IGNORED = -100
"""The label on which no loss is taken (torch's `ignore_index`)."""


@dataclass(frozen=True)
class Row:
    """One training row: prompt and response in the model's template. Only the last `trained` tokens bear loss."""

    ids: tuple[int, ...]
    trained: int


def read_rows(path: Path, tokenizer: Any) -> list[Row]:
    """Tokenise {prompt, response} lines by the tokenizer's own chat template.

    Ids are joined, never searched for in the text: the response and its end token are exactly what bears loss.
    """
    rows = []
    for line in path.read_bytes().split(b"\n"):
        if line:
            item = json.loads(line)
            prompt, response = prompt_ids(tokenizer, item["prompt"]), response_ids(tokenizer, item["response"])
            rows.append(Row((*prompt, *response), len(response)))
    return rows


@dataclass(frozen=True)
class MicroBatch:
    """The rows of one forward pass, and the trained tokens of the whole update that it is a part of."""

    rows: tuple[Row, ...]
    update_tokens: int


def plan(rows: Sequence[Row], epochs: int, micro_batch_size: int, accumulate: int, seed: int) -> list[MicroBatch]:
    """Every micro-batch of the run, in order: a fresh permutation an epoch, epochs joined without a gap."""
    order = [row for epoch in range(epochs) for row in random.Random(f"{seed} {epoch}").sample(list(rows), len(rows))]
    parts = [tuple(order[start : start + micro_batch_size]) for start in range(0, len(order), micro_batch_size)]
    batches = []
    for start in range(0, len(parts), accumulate):
        update = parts[start : start + accumulate]
        tokens = sum(row.trained for part in update for row in part)
        batches += [MicroBatch(part, tokens) for part in update]
    return batches


def collate(batch: MicroBatch, pad_id: int) -> dict[str, torch.Tensor]:
    """Right-padded tensors: input_ids, attention_mask, labels, each (batch, length) int64; update_tokens () int64.

    Labels are the ids where loss is taken (response and end token) and IGNORED elsewhere: on the prompt and on padding.
    """
    length = max(len(row.ids) for row in batch.rows)
    ids, mask, labels = [], [], []
    for row in batch.rows:
        padding, prompt = length - len(row.ids), len(row.ids) - row.trained
        ids.append([*row.ids, *[pad_id] * padding])
        mask.append([1] * len(row.ids) + [0] * padding)
        labels.append([IGNORED] * prompt + [*row.ids[prompt:]] + [IGNORED] * padding)
    return {
        "input_ids": torch.tensor(ids),
        "attention_mask": torch.tensor(mask),
        "labels": torch.tensor(labels),
        "update_tokens": torch.tensor(batch.update_tokens),
    }


@dataclass(frozen=True)
class Loader:
    """Collated micro-batches from number `start` on."""

    batches: Sequence[MicroBatch]
    pad_id: int
    start: int = 0

    def __len__(self) -> int:
        return len(self.batches) - self.start

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        return (collate(batch, self.pad_id) for batch in self.batches[self.start :])
