"""What a training process is told: the contents of FOLDER/training.yaml."""

from dataclasses import dataclass, field, fields
from pathlib import Path

import yaml


@dataclass(frozen=True)
class Job:
    """A resolved training job.

    Attributes:
        base, adapter: the weights to start from. An adapter is trained on, and keeps its own shape (`lora_*` is for new
            ones); for full fine-tuning it is merged first.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        method: `lora` or `full`.
        epochs: passes over the rows.
        micro_batch_size: rows in one forward pass; times `accumulate`: rows in one update.
        learning_rate, warmup_steps: peak of the cosine schedule, and updates of linear warm-up before it. A warm-up that
            is longer than a tenth of the run is cut to that, and said.
        betas, weight_decay, clip: AdamW's, and the largest gradient norm (0: no clipping).
        precision: Lightning's name; `auto` takes `bf16-mixed` on a GPU that has it and `32-true` elsewhere.
        checkpoint_every_steps: updates between checkpoints, from which a killed job continues exactly.
        threads: CPU threads (None: torch's choice).
    """

    base: str
    adapter: str | None
    device: str
    method: str
    seed: int
    epochs: int
    micro_batch_size: int
    accumulate: int
    learning_rate: float
    warmup_steps: int
    betas: tuple[float, float]
    weight_decay: float
    clip: float
    precision: str
    checkpoint_every_steps: int
    threads: int | None
    gradient_checkpointing: bool
    lora_r: int
    lora_alpha: int
    lora_dropout: float
    lora_targets: tuple[str, ...] = field(default=("all-linear",))


def read_job(folder: Path) -> Job:
    """The job in a folder."""
    values = yaml.safe_load((folder / "training.yaml").read_text())
    for name in ("betas", "lora_targets"):
        values[name] = tuple(values[name])
    return Job(**{field.name: values[field.name] for field in fields(Job)})
