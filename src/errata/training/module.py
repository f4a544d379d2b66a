"""The Lightning module: causal language modelling on responses, an update at a time, under any strategy."""

import statistics
from collections import deque
from typing import Any

import pytorch_lightning as pl
import torch
from transformers import get_scheduler

from errata.errors import TrainingError
from errata.training.job import Job
from errata.training.loss import response_loss
from errata.training.plan import Update
from errata.training.strategies import before_pass, engine, shard
from errata.training.watch import say

_COUNTERS = ("updates_done", "skipped", "dev")
_IMPORTANCE = ("ipt", "exp_avg_ipt", "exp_avg_unc")


class FineTuning(pl.LightningModule):
    """Trains what requires gradients in `model` (all of it, or an adapter).

    One Lightning batch is one update: its forward passes, which `plan` has laid out, are run here, so that an update is the
    same under every strategy. The loss is the mean over all trained tokens of the update, on all ranks together.
    Differs from the source (mean over each micro-batch, padding included): rows count by their trained tokens.

    Args:
        model: a transformers causal language model, maybe wrapped by PEFT.
        job: the settings.
        steps: updates in the whole run.
        warmup_steps: updates of linear warm-up among them.
        fused: whether the loss may go past the model's own head (not where parameters are sharded).
    """

    def __init__(self, model: Any, job: Job, steps: int, warmup_steps: int, fused: bool) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.model = model
        self.job = job
        self.steps = steps
        self.warmup_steps = warmup_steps
        self.fused = fused
        self.updates_done = 0
        self.skipped = 0
        self.norm = 0.0
        self.loss = 0.0
        self.dev: dict[int, float] = {}
        self._usual: deque[float] = deque(maxlen=20)
        self._sharded = False

    def progress(self) -> dict[str, Any]:
        """How far it is, for a checkpoint: counters, and what AdaLoRA knows of the importance of its ranks."""
        found = {name: getattr(self, name) for name in _COUNTERS} | {"usual": list(self._usual)}
        allocator = self._allocator()
        if allocator is not None:
            found["importance"] = {name: getattr(allocator, name) for name in _IMPORTANCE}
            found["rank_pattern"] = self.model.peft_config["default"].rank_pattern
        return found

    def load_progress(self, found: dict[str, Any]) -> None:
        """Go on from there."""
        for name in _COUNTERS:
            setattr(self, name, found[name])
        self._usual.extend(found["usual"])
        allocator = self._allocator()
        if allocator is not None:
            for name, value in found["importance"].items():
                setattr(allocator, name, {key: tensor.to(self.device) for key, tensor in value.items()})
            self.model.peft_config["default"].rank_pattern = found["rank_pattern"]

    def _allocator(self) -> Any:
        return getattr(getattr(self.model, "base_model", None), "rankallocator", None)

    def configure_model(self) -> None:
        """Share the weights out, where the strategy is FSDP."""
        mesh = self.device_mesh
        if mesh is not None and not self._sharded:
            shard(self.model, mesh["data_parallel"], half=self.job.precision == "bf16-mixed")
            self._sharded = True

    def transfer_batch_to_device(self, batch: Update, device: torch.device, dataloader_idx: int) -> Update:
        """An update's tensors on the device."""
        passes = [
            {name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in one.items()}
            for one in batch.passes
        ]
        return Update(passes, batch.trained_tokens, batch.tokens, batch.padded_tokens, batch.own_tokens)

    def training_step(self, batch: Update, index: int) -> None:
        """One update.

        Raises:
            TrainingError: a loss that is not finite or has jumped, where `bad_loss` is stop.
        """
        optimizer: Any = self.optimizers()
        ranks = self.trainer.world_size
        mine = torch.zeros((), dtype=torch.float32, device=self.device)
        for number, one in enumerate(batch.passes):
            with before_pass(self.trainer, last=number == len(batch.passes) - 1):
                total = self.token_loss(one)
                self.manual_backward(total * ranks / batch.trained_tokens + self.penalty() / len(batch.passes))
            mine += total.detach()
        self.loss = float(self.trainer.strategy.reduce(mine, reduce_op="sum") if ranks > 1 else mine) / batch.trained_tokens
        if self._is_good(self.loss):
            optimizer.step()
            self._after_step()
        else:
            self.skipped += 1
        if engine(self.trainer) is None:
            optimizer.zero_grad(set_to_none=True)
        schedule: Any = self.lr_schedulers()
        schedule.step()
        self.updates_done += 1

    def token_loss(self, one: dict[str, Any]) -> torch.Tensor:
        """Sum of the losses of a forward pass's trained tokens; () float32."""
        inputs = {name: value for name, value in one.items() if name not in ("positions", "targets")}
        return response_loss(self.model, inputs, one["positions"], one["targets"], fused=self.fused)

    def penalty(self) -> Any:
        """What the method adds to the loss of an update (0 for most): AdaLoRA keeps its factors orthogonal."""
        config = getattr(self.model, "peft_config", {}).get("default")
        weight = getattr(config, "orth_reg_weight", 0.0)
        if not weight:
            return 0.0
        parts = [
            torch.linalg.matrix_norm(gram - torch.eye(len(gram), device=gram.device))
            for name, value in self.model.named_parameters()
            if ("lora_A" in name or "lora_B" in name) and value.requires_grad
            for gram in [value @ value.T if "lora_A" in name else value.T @ value]
        ]
        return weight * torch.stack(parts).mean()

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        """The gradient norm, and clipping by it; DeepSpeed does both itself."""
        if engine(self.trainer) is not None:
            return
        gradients = [value.grad for value in self.model.parameters() if value.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        self.norm = float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)
        if self.job.clip and self.norm > self.job.clip:
            for gradient in gradients:
                gradient.mul_(self.job.clip / (self.norm + 1e-6))

    def configure_optimizers(self) -> Any:
        """AdamW on the trained parameters; a schedule with linear warm-up, one step an update."""
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(
            trained, lr=self.job.learning_rate, betas=self.job.betas, weight_decay=self.job.weight_decay
        )
        schedule = get_scheduler(self.job.schedule, optimizer, self.warmup_steps, self.steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _after_step(self) -> None:
        found = engine(self.trainer)
        if found is not None:
            norm = found.get_global_grad_norm()
            self.norm = float(norm) if norm is not None else 0.0
        if self._allocator() is not None:  # AdaLoRA
            self.model.base_model.update_and_allocate(self.updates_done + 1)

    def _is_good(self, loss: float) -> bool:
        """Whether an update may be made of it; what is usual is the median of the last 20 updates."""
        finite = torch.isfinite(torch.tensor(loss))
        usual = statistics.median(self._usual) if len(self._usual) >= 5 else None
        jumped = self.job.spike is not None and usual is not None and loss > self.job.spike * usual
        if finite and not jumped:
            self._usual.append(loss)
            return True
        what = (
            f"the loss jumped to {loss:.4g} at update {self.updates_done + 1}; it was {usual:.4g}"
            if finite
            else f"the loss is {loss} at update {self.updates_done + 1}"
        )
        if self.job.bad_loss == "skip":
            say(f"{what}: left out", self.trainer.is_global_zero)
            return False
        raise TrainingError(
            f"{what}: lower training.learning_rate or clip, train in 32-true, or leave such updates out "
            "(training.bad_loss=skip)"
        )

    @torch.no_grad()
    def dev_loss(self, updates: Any) -> float:
        """Mean loss over the trained tokens of held-out rows, on all ranks together."""
        self.model.eval()
        total, tokens = torch.zeros((), dtype=torch.float32, device=self.device), 0
        for update in updates:
            moved = self.transfer_batch_to_device(update, self.device, 0)
            for one in moved.passes:
                with self.trainer.precision_plugin.forward_context():
                    total += self.token_loss(one)
            tokens += update.trained_tokens
        self.model.train()
        ranks = self.trainer.world_size
        return float(self.trainer.strategy.reduce(total, reduce_op="sum") if ranks > 1 else total) / tokens
