"""What is said while a job runs: a line an update in metrics.jsonl, the progress bar, and the dev loss."""

import json
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import pytorch_lightning as pl
import torch

from errata.training.checkpoint import Best
from errata.training.plan import Update


class Metrics(pl.Callback):
    """One line an update: loss, learning rate, gradient norm, tokens a second (all and trained), MFU, memory.

    Args:
        path: the file; lines of updates that have to be made again are dropped first.
        flops_per_token, peak: operations for a token, and of all devices in a second, at most.
        writes: whether this is the rank that writes it.
    """

    def __init__(self, path: Path, updates_done: int, flops_per_token: float, peak: float | None, writes: bool) -> None:
        self.path, self.flops, self.peak = path, flops_per_token, peak
        if writes and path.exists():
            lines = path.read_bytes().split(b"\n")
            path.write_bytes(b"".join(line + b"\n" for line in lines[:updates_done] if line))
        self._start = time.monotonic()

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """The clock starts."""
        self._start = time.monotonic()

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Update, batch_idx: int) -> None:
        """Write the line of an update."""
        seconds = time.monotonic() - self._start
        self._start = time.monotonic()
        module.log("loss", module.loss, prog_bar=True)
        module.log("tokens/s", batch.tokens / seconds, prog_bar=True)
        if not trainer.is_global_zero:
            return
        line = {
            "update": module.updates_done,
            "loss": module.loss,
            "learning_rate": trainer.lr_scheduler_configs[0].scheduler.get_last_lr()[0],
            "gradient_norm": module.norm,
            "tokens": batch.tokens,
            "tokens_per_s": round(batch.tokens / seconds, 1),
            "trained_tokens_per_s": round(batch.trained_tokens / seconds, 1),
            "padding": round(1 - batch.own_tokens / batch.padded_tokens, 4),
            "memory_gib": round(memory_gib(module.device), 3),
        }
        if self.peak:
            line["mfu"] = round(batch.tokens * self.flops / seconds / self.peak, 4)
        if module.skipped:
            line["skipped"] = module.skipped
        line = {
            name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in line.items()
        }
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")


class Dev(pl.Callback):
    """Measures the dev loss, keeps the best weights and ends the job when it has not been better for too long.

    Args:
        updates: this rank's forward passes over the held-out rows.
        every: updates between two measurements; the end is always one.
        patience: measurements without a better one before the end (None: never).
        best: where the best weights are kept (None: the last ones count).
    """

    def __init__(self, path: Path, updates: Sequence[Update], every: int, patience: int | None, best: Best | None) -> None:
        self.path, self.updates, self.every, self.patience, self.best = path, updates, every, patience, best

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Update, batch_idx: int) -> None:
        """Measure, when it is time."""
        if module.updates_done % self.every and module.updates_done < module.steps:
            return
        loss = module.dev_loss(self.updates)
        seen = module.dev
        better = not seen or loss < min(seen.values())
        seen[module.updates_done] = loss
        if trainer.is_global_zero:
            self.path.write_text(json.dumps([{"update": update, "loss": value} for update, value in seen.items()], indent=1))
        if better and self.best is not None:
            self.best.keep(trainer, module.model)
        self._judge(trainer, seen)

    def on_train_start(self, trainer: pl.Trainer, module: Any) -> None:
        """A job that was killed behind its end, and goes on from a checkpoint of that moment, ends there too."""
        self._judge(trainer, module.dev)

    def _judge(self, trainer: pl.Trainer, seen: dict[int, float]) -> None:
        since = len(seen) - 1 - list(seen.values()).index(min(seen.values())) if seen else 0
        if self.patience is not None and since >= self.patience:
            trainer.should_stop = True


def memory_gib(device: torch.device) -> float:
    """The most memory that this process has held on its GPU; without one, what it holds now."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return float(psutil.Process().memory_info().rss) / 2**30


def say(message: str, is_zero: bool) -> None:
    """A word to the user, of rank 0 alone; standard error is the job's log."""
    if is_zero:
        print(message, file=sys.stderr, flush=True)  # noqa: T201
