"""What a training process is told: the contents of FOLDER/training.yaml."""

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from errata.training.methods import METHODS, Method
from errata.weights import Weights

STRATEGIES = (
    "auto", "one", "ddp", "fsdp", "zero1", "zero2", "zero3", "zero2_offload", "zero3_offload",
)  # fmt: skip
PRECISIONS = ("auto", "32-true", "bf16-mixed", "bf16-true", "16-mixed")
_FREE = (
    "weights", "data", "dev", "device", "cache", "threads", "checkpoint_every_steps", "keep_checkpoints",
    "micro_batch_size", "micro_tokens", "packing", "gradient_checkpointing",
)  # fmt: skip
"""What a checkpoint does not depend on (the first three by other means), or only by rounding: what saves memory."""
SCHEDULES = ("cosine", "linear", "constant_with_warmup")


@dataclass(frozen=True)
class Job:
    """A resolved training job. The fields that `Training` in `errata.config` has too are explained there.

    Attributes:
        weights: what to start from. An adapter is trained on where the method is its own; full fine-tuning merges it first.
        data: JSON Lines of rows, one of the forms that `errata.training.rows` reads.
        dev: further rows on which the loss is measured (None: `dev_share` of `data`, if any).
        device: `auto`, `cpu`, `cuda`, `cuda:1`, or several: `cuda:0,cuda:1`.
        cache: folder of tokenised data, shared by jobs (None: in the job's own folder).
    """

    weights: Weights
    data: str
    dev: str | None
    device: str
    seed: int
    method: Method
    epochs: int
    batch_size: int
    micro_batch_size: int
    packing: bool | None
    micro_tokens: int
    group_by_length: bool
    max_length: int
    too_long: str
    learning_rate: float
    schedule: str
    warmup_steps: int
    warmup_share: float | None
    warmup_too_long: str
    betas: tuple[float, float]
    weight_decay: float
    clip: float
    bad_loss: str
    spike: float | None
    precision: str
    gradient_checkpointing: bool
    strategy: str
    devices: int | None
    dev_share: float
    dev_every_steps: int | None
    patience: int | None
    keep: str
    checkpoint_every_steps: int
    keep_checkpoints: int
    threads: int | None
    cache: str | None

    @property
    def identity(self) -> dict[str, str]:
        """Hashes of what a checkpoint belongs to: of the settings one by one, and of the data."""
        values = {name: value for name, value in plain(self).items() if name not in _FREE}
        parts = {name: json.dumps(value, sort_keys=True) for name, value in values.items()}
        parts["model"] = weights_identity(self.weights)
        parts["data"] = file_digest(Path(self.data))
        if self.dev is not None:
            parts["dev"] = file_digest(Path(self.dev))
        return parts


def conflicts(settings: Any, strategy: str) -> list[str]:
    """Settings that do not go together; they have the names that `Job` and the configuration share.

    Args:
        strategy: by name; what depends on how `auto` is resolved is seen when the job begins.
    """
    found = []
    kind = type(settings.method).__name__
    shares = strategy.startswith("zero") or strategy == "fsdp"
    scatters = strategy == "fsdp" or strategy.startswith("zero3")
    if shares and settings.bad_loss == "skip":
        found.append(f"training.bad_loss=skip: {strategy} cannot take an update back; choose stop, or strategy=ddp")
    if shares and kind == "AdaLora":
        found.append(f"AdaLoRA ranks by gradients that {strategy} keeps elsewhere: choose strategy=ddp or one")
    if strategy == "fsdp" and settings.precision == "16-mixed":
        found.append("training.precision=16-mixed under fsdp: choose auto, 32-true, bf16-mixed or bf16-true")
    if kind == "AdaLora" and settings.bad_loss == "skip":
        found.append("training.bad_loss=skip: AdaLoRA counts on every update to be made; choose stop")
    if kind in ("Prompt", "PTuning", "Prefix") and scatters:
        found.append(
            f"training=prompt, p_tuning and prefix cannot be put together again under {strategy}: choose ddp or zero2"
        )
    if kind in ("Prompt", "PTuning", "Prefix") and settings.packing:
        found.append("training.packing: prompt learning puts virtual tokens in front of each row; set it to false")
    if kind == "Prefix" and settings.gradient_checkpointing:
        found.append("training.gradient_checkpointing leaves the keys and values of prefix tuning out: set it to false")
    if getattr(settings.method, "bits", None) is not None and scatters:
        found.append(f"quantised weights cannot be shared out by {strategy}: choose ddp or zero2")
    return found


def plain(job: Job) -> dict[str, Any]:
    """The job as plain values, for YAML."""
    values = {field.name: getattr(job, field.name) for field in fields(Job)}
    method = {"kind": type(job.method).__name__, **asdict(job.method)}  # type: ignore[call-overload]
    return values | {"weights": asdict(job.weights), "method": method, "betas": list(job.betas)}


def read_job(folder: Path) -> Job:
    """The job in a folder."""
    values = yaml.safe_load((folder / "training.yaml").read_text())
    method = values.pop("method")
    values["method"] = METHODS[method.pop("kind")](**method)
    values["weights"] = Weights(**values["weights"])
    values["betas"] = tuple(values["betas"])
    values["data"] = str(folder / values["data"])  # an absolute path stays as it is
    return Job(**{field.name: values[field.name] for field in fields(Job)})


def file_digest(path: Path) -> str:
    """SHA-256 of a file's contents."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def weights_identity(weights: Weights) -> str:
    """What tells one model from another without reading its weights: the place and each file's size."""
    parts = [json.dumps(asdict(weights), sort_keys=True)]
    for place in (weights.base, weights.adapter):
        folder = Path(place) if place is not None else None
        if folder is not None and folder.is_dir():
            parts += [f"{path.name} {path.stat().st_size}" for path in sorted(folder.iterdir()) if path.is_file()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
