"""What a job will take, and how well it uses the machine: operations, memory, seconds."""

import math
import time
from dataclasses import dataclass
from typing import Any

import torch

from errata.training.job import Job
from errata.training.linear import product
from errata.training.methods import trained_parameters

_PEAKS = {  # dense bf16 operations a second, by the makers' data sheets
    "H200": 989e12, "H100": 989e12, "H800": 989e12, "GH200": 989e12, "B200": 2250e12, "A100": 312e12, "A800": 312e12,
    "L40": 181e12, "A10": 125e12, "L4": 121e12, "A6000": 155e12, "4090": 165e12, "3090": 71e12, "V100": 125e12, "T4": 65e12,
}  # fmt: skip
USUAL_SHARE = 0.4
"""Share of the peak that the estimate of the time assumes."""


def flops_per_token(model: Any, length: float) -> float:
    """Operations of training on a token: 2 a weight forward, 2 back to the inputs, and 2 for the weights that are trained.

    Only matrices count (of the embeddings, the output head alone), and causal attention over rows of `length` tokens.
    """
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    config = inner.config.get_text_config()
    embedded = inner.get_input_embeddings().weight.numel()
    head = inner.get_output_embeddings()
    products = trained = 0
    for parameter in model.parameters():
        size = _numel(parameter)
        if parameter.dim() >= 2:
            products += size
            trained += size if parameter.requires_grad else 0
    if head is None or head.weight is not inner.get_input_embeddings().weight:
        products -= embedded  # a table that is looked up
        trained -= embedded if inner.get_input_embeddings().weight.requires_grad else 0
    layers = getattr(config, "num_hidden_layers", 0)
    attention = 2 * layers * getattr(config, "hidden_size", 0) * length  # two products over half the tokens on average
    return 4 * products + 2 * trained + 3 * attention


def peak_flops(device: torch.device, precision: str) -> float | None:
    """Operations a second, at most: of a GPU by its data sheet (half in float32); of a CPU by a trial of 0.2 seconds."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        found = next((peak for key, peak in _PEAKS.items() if key in name), None)
        return found if found is None or precision != "32-true" else found / 2
    one, other = torch.randn(1024, 1024), torch.randn(1024, 1024)
    best = float("inf")
    until = time.perf_counter() + 0.2
    while time.perf_counter() < until:
        for times in (torch.nn.functional.linear, product) if torch.backends.mkldnn.is_available() else (torch.matmul,):
            start = time.perf_counter()
            times(one, other)
            best = min(best, time.perf_counter() - start)
    return 2 * 1024**3 / best


@dataclass(frozen=True)
class Estimate:
    """Memory on one device, in GiB, and seconds for the job."""

    weights: float
    gradients: float
    optimizer: float
    activations: float
    seconds: float | None

    @property
    def total(self) -> float:
        """All memory together."""
        return self.weights + self.gradients + self.optimizer + self.activations


def estimate(
    model: Any, job: Job, strategy: str, ranks: int, tokens_in_pass: int, tokens: int, length: float, peak: float | None
) -> Estimate:
    """What a job will take; the model may be on the meta device.

    Args:
        strategy: its name, resolved.
        tokens_in_pass: positions in the largest forward pass.
        tokens: of the whole job, and `length` of a row.
        peak: operations a second of one device (None: unknown).
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    config = base.config.get_text_config()
    trained = trained_parameters(model)
    stage = int(strategy[4]) if strategy.startswith("zero") else 3 if strategy == "fsdp" else 0
    half = job.precision.startswith("bf16") or job.precision == "16-mixed"
    engine = strategy.startswith("zero") and half
    each = 2 if engine or job.precision == "bf16-true" else 4
    frozen = 2 if each == 2 or job.precision.startswith("bf16") else 4
    quantised = (getattr(job.method, "bits", None) or 8 * frozen) / 8
    tables = {inner.weight for inner in (base.get_input_embeddings(), base.get_output_embeddings()) if inner is not None}
    held = 0.0
    for parameter in model.parameters():
        in_bits = parameter.dim() == 2 and parameter not in tables
        held += _numel(parameter) * (each if parameter.requires_grad else quantised if in_bits else frozen)
    states = trained * (12 if engine else 2 * each)  # Adam's two moments, and float32 masters where weights are halved
    if strategy.endswith("offload"):
        states = 0
    layers, hidden = getattr(config, "num_hidden_layers", 1), getattr(config, "hidden_size", 1)
    inner = getattr(config, "intermediate_size", None) or 4 * hidden
    width = 2 if half else 4
    one_layer = tokens_in_pass * (12 * hidden + 4 * inner) * width
    kept = tokens_in_pass * hidden * width * layers + one_layer if job.gradient_checkpointing else one_layer * layers
    gib = 2**30
    flops = flops_per_token(model, length)
    return Estimate(
        weights=held / (ranks if stage == 3 else 1) / gib,
        gradients=trained * each / (ranks if stage >= 2 else 1) / gib,
        optimizer=states / (ranks if stage >= 1 else 1) / gib,
        activations=kept / gib,
        seconds=tokens * flops / (peak * USUAL_SHARE * ranks) if peak else None,
    )


def _numel(parameter: Any) -> int:
    """How many numbers it stands for: sharded by DeepSpeed, or packed in bytes by bitsandbytes, it shows fewer."""
    packed = getattr(parameter, "quant_state", None)
    if packed is not None:
        return math.prod(packed.shape)
    return int(getattr(parameter, "ds_numel", None) or parameter.numel())
