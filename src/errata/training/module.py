"""The Lightning module: causal language modelling on responses, AdamW, cosine with warm-up, exact resume."""

import json
import os
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from transformers import get_cosine_schedule_with_warmup

from errata.training.job import Job
from errata.training.rows import IGNORED


class FineTuning(pl.LightningModule):
    """Trains what requires gradients in `model` (all of it, or an adapter).

    Args:
        model: a transformers causal language model, maybe wrapped by PEFT.
        job: the settings.
        steps: updates in the whole run.
    """

    def __init__(self, model: torch.nn.Module, job: Job, steps: int) -> None:
        super().__init__()
        self.model = model
        self.job = job
        self.steps = steps
        self.warmup_steps = min(job.warmup_steps, steps // 10)

    def training_step(self, batch: dict[str, torch.Tensor], index: int) -> torch.Tensor:
        """Loss of a micro-batch, weighted so that an update takes the mean over all its trained tokens.

        Differs from the source (mean over each micro-batch, padding included): rows count by their trained tokens, and
        accumulating over k micro-batches equals one batch k times the size.
        """
        logits = self.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        total = torch.nn.functional.cross_entropy(
            logits[:, :-1].flatten(0, 1).float(), batch["labels"][:, 1:].flatten(), ignore_index=IGNORED, reduction="sum"
        )
        loss: torch.Tensor = total / batch["update_tokens"] * self.job.accumulate  # Lightning divides by it again
        if not torch.isfinite(loss):
            raise FloatingPointError(f"the loss is {float(loss)}: lower training.learning_rate, or train in 32-true")
        self.log("loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self) -> Any:
        """AdamW on the trained parameters; cosine to zero after a linear warm-up, one step an update."""
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(
            trained, lr=self.job.learning_rate, betas=self.job.betas, weight_decay=self.job.weight_decay
        )
        schedule = get_cosine_schedule_with_warmup(optimizer, self.warmup_steps, self.steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Checkpoints(pl.Callback):
    """Saves all that an exact continuation needs (trained weights, optimizer, schedule, RNG, place) in one atomic step."""

    def __init__(self, path: Path, every: int, batches_done: int) -> None:
        self.path = path
        self.every = every
        self.batches_done = batches_done

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Continue from the checkpoint, where there is one; `restore_weights` has seen to the weights."""
        if not self.path.exists():
            return
        state = torch.load(self.path, map_location=module.device, weights_only=True)
        trainer.optimizers[0].load_state_dict(state["optimizer"])
        trainer.lr_scheduler_configs[0].scheduler.load_state_dict(state["schedule"])
        torch.set_rng_state(state["rng"].cpu())

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        """Save behind every so many updates."""
        self.batches_done += 1
        accumulate = trainer.accumulate_grad_batches
        if self.batches_done % (accumulate * self.every):
            return
        state = {
            "weights": {name: parameter.detach() for name, parameter in _trained(module)},
            "optimizer": trainer.optimizers[0].state_dict(),
            "schedule": trainer.lr_scheduler_configs[0].scheduler.state_dict(),
            "rng": torch.get_rng_state(),
            "batches_done": self.batches_done,
        }
        partial = self.path.with_suffix(".partial")
        with partial.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self.path)


class Metrics(pl.Callback):
    """One line an update to metrics.jsonl: loss, learning rate, gradient norm, tokens/s (all and trained)."""

    def __init__(self, path: Path, updates_done: int) -> None:
        self.path = path
        lines = path.read_bytes().split(b"\n")[:updates_done] if path.exists() else []
        path.write_bytes(b"".join(line + b"\n" for line in lines))
        self.update = updates_done
        self._loss, self._tokens, self._trained, self._start = 0.0, 0, 0, time.monotonic()
        self._norm = 0.0

    def on_before_optimizer_step(self, trainer: pl.Trainer, module: pl.LightningModule, optimizer: Any) -> None:
        """Take the gradient norm before it is clipped."""
        gradients = [parameter.grad for _, parameter in _trained(module) if parameter.grad is not None]
        self._norm = float(torch.nn.utils.get_total_norm(gradients))

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        """Gather over an update; write a line when it is complete."""
        self._loss += float(outputs["loss"])
        self._tokens += int(batch["attention_mask"].sum())
        self._trained += int((batch["labels"] != IGNORED).sum())
        if (index + 1) % trainer.accumulate_grad_batches and index + 1 < trainer.num_training_batches:
            return
        self.update += 1
        seconds = time.monotonic() - self._start
        line = {
            "update": self.update,
            "loss": self._loss,
            "learning_rate": trainer.lr_scheduler_configs[0].scheduler.get_last_lr()[0],
            "gradient_norm": self._norm,
            "tokens_per_s": round(self._tokens / seconds, 1),
            "trained_tokens_per_s": round(self._trained / seconds, 1),
            "tokens": self._tokens,
        }
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        self._loss, self._tokens, self._trained, self._start = 0.0, 0, 0, time.monotonic()


def restore_weights(module: pl.LightningModule, checkpoint: Path) -> None:
    """Put a checkpoint's trained weights into the module, where there is a checkpoint."""
    if not checkpoint.exists():
        return
    trained = dict(_trained(module))
    for name, value in torch.load(checkpoint, map_location="cpu", weights_only=True)["weights"].items():
        trained[name].data.copy_(value)


def _trained(module: pl.LightningModule) -> list[tuple[str, torch.nn.Parameter]]:
    return [(name, parameter) for name, parameter in module.named_parameters() if parameter.requires_grad]
