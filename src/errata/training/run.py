"""A job from its first row to the saved model."""

import json
import math
import shutil
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from transformers.utils.logging import disable_progress_bar

from errata.errors import ConfigError, TrainingError
from errata.training import attention, linear
from errata.training.checkpoint import Best, Checkpoints
from errata.training.estimate import flops_per_token, peak_flops
from errata.training.job import Job, conflicts, read_job
from errata.training.methods import trained_parameters
from errata.training.module import FineTuning
from errata.training.plan import Loader, Part, updates
from errata.training.rows import Rows, read_rows
from errata.training.strategies import Place, chosen, gathered, place, prepare_environment, strategy
from errata.training.watch import Dev, Metrics, say
from errata.weights import load_network, load_tokenizer, read_config


@dataclass(frozen=True)
class Outlook:
    """What is known of a job before a model is loaded.

    Attributes:
        job: it, with its precision chosen.
        where: devices and ranks; `strategy`: by name.
        rows, dev: what is trained on, and what is held out.
        plan: the rows of each update.
        warmup_steps: updates of warm-up, maybe cut.
    """

    job: Job
    where: Place
    strategy: str
    tokenizer: Any
    rows: Rows
    dev: Rows | None
    plan: list[Part]
    warmup_steps: int


def outlook(folder: Path) -> Outlook:
    """Read, check and plan the job in a folder.

    Raises:
        ConfigError: settings that do not go together, or with these devices.
        DataError: rows that cannot be trained on.
    """
    job = read_job(folder)
    where = place(job)
    prepare_environment(where.kind)
    job = replace(job, precision=choose_precision(job.precision, where.kind))
    name = chosen(job, where)
    if found := conflicts(job, name):
        raise ConfigError(found)
    tokenizer = load_tokenizer(job.weights)
    cache = Path(job.cache) if job.cache else folder / "tokens"
    rows, dev = read_rows(Path(job.data), job, tokenizer, cache), None
    if job.dev is not None:
        dev = read_rows(Path(job.dev), job, tokenizer, cache)
    elif job.dev_share:
        rows, dev = rows.divided(job.dev_share, job.seed)
    if not len(rows):
        raise ConfigError([f"training.dev_share={job.dev_share} leaves no row to train on"])
    longest = int(max(part.lengths.max() for part in (rows, dev) if part is not None))
    positions = getattr(read_config(job.weights).get_text_config(), "max_position_embeddings", None)
    if positions is not None and longest > positions:
        raise ConfigError(
            [f"a row has {longest} tokens, and the model places {positions} at most: training.max_length={positions}"]
        )
    plan = updates(rows, job)
    return Outlook(job, where, name, tokenizer, rows, dev, plan, warmup(job, len(plan)))


def warmup(job: Job, steps: int) -> int:
    """Updates of warm-up: a share of the run, or as many as asked for, cut to a tenth of the run where that is allowed.

    Raises:
        ConfigError: it is longer than the run, and not to be cut.
    """
    if job.warmup_share is not None:
        return math.ceil(job.warmup_share * steps)
    if job.warmup_steps <= (steps // 10 if job.warmup_too_long == "cut" else steps - 1):
        return job.warmup_steps
    if job.warmup_too_long == "error":
        raise ConfigError(
            [
                f"training.warmup_steps is {job.warmup_steps} and the run has {steps} updates: lower it, train longer, or "
                "let it be cut to a tenth of the run (training.warmup_too_long=cut)"
            ]
        )
    return steps // 10


def train(folder: Path) -> None:
    """Run the job in the folder."""
    disable_progress_bar()
    torch.set_num_threads(_threads(read_job(folder)))
    look = outlook(folder)
    job, where, first = look.job, look.where, look.where.rank == 0
    pl.seed_everything(job.seed, verbose=False)
    steps = len(look.plan)
    sharded = _is_sharded(look.strategy)
    _say_what_is_special(look, first)
    model = load(job, uniform=look.strategy == "fsdp")
    model, job = method_and_packing(model, job, steps, sharded, first)
    if where.kind == "cpu" and not sharded:
        linear.enable(model)
    module = FineTuning(model, job, steps, look.warmup_steps, fused=not sharded)

    layout = f"{look.strategy} on {where.ranks}"
    checkpoints = Checkpoints(
        folder / "checkpoints", job.checkpoint_every_steps, job.keep_checkpoints, read_job(folder).identity, layout
    )
    latest = checkpoints.latest()
    done = Checkpoints.updates_done(latest)
    best = Best(folder / "checkpoints") if job.keep == "best" and look.dev is not None else None
    peak = peak_flops(torch.device(where.kind), job.precision)
    metrics = Metrics(
        folder / "metrics.jsonl",
        done,
        flops_per_token(model, float(look.rows.lengths.mean())),
        peak and peak * where.ranks,
        first,
    )
    torch.manual_seed(job.seed + where.rank)  # the ranks' dropout is not one and the same
    start = time.monotonic()
    trainer = pl.Trainer(
        max_epochs=1,
        accelerator=where.kind,
        devices=list(where.devices) if where.kind == "cuda" else len(where.devices),
        num_nodes=where.nodes,
        strategy=strategy(look.strategy, job, where),
        plugins=[where.environment],
        precision=_lightning_precision(look),
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=sys.stderr.isatty(),
        use_distributed_sampler=False,
        callbacks=[
            Resume(checkpoints, latest),
            metrics,
            *_dev(look, job, folder, best),
            checkpoints,
        ],
    )
    pad = int(look.tokenizer.pad_token_id)
    trainer.fit(module, Loader(look.rows, look.plan, job, pad, where.rank, where.ranks, done))
    if trainer.interrupted:
        sys.exit(130)
    if module.skipped == module.updates_done:
        raise TrainingError(
            f"none of {module.skipped} updates could be made, each had a bad loss: lower training.learning_rate, train in "
            "32-true, or look at the rows (preview=5)"
        )
    save(trainer, module, look, folder, best)
    if trainer.is_global_zero:
        _summarise(folder, look, module, time.monotonic() - start)
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        if job.cache is None:
            shutil.rmtree(folder / "tokens", ignore_errors=True)
    trainer.strategy.barrier()


class Resume(pl.Callback):
    """Goes on from a checkpoint."""

    def __init__(self, checkpoints: Checkpoints, latest: Path | None) -> None:
        self.checkpoints, self.latest = checkpoints, latest

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Once everything that is restored is there."""
        if self.latest is not None:
            self.checkpoints.restore(self.latest, trainer, module)


def load(job: Job, uniform: bool) -> Any:
    """The base weights, in the type that they are trained in: under an adapter in bfloat16 where the precision is.

    `uniform`: frozen and trained weights must be of one type (FSDP).
    """
    half = job.precision == "bf16-true" or (job.precision == "bf16-mixed" and not job.method.whole and not uniform)
    dtype = torch.bfloat16 if half else torch.float32
    return load_network(replace(job.weights, adapter=None), dtype, **job.method.loading())


def method_and_packing(model: Any, job: Job, steps: int, sharded: bool, first: bool) -> tuple[Any, Job]:
    """The model as it is trained, and the job with `packing` decided.

    Raises:
        ConfigError: packing is asked for, and this model cannot; or the method cannot be had with it.
    """
    model = job.method.wrapped(model, job.weights, steps)
    for parameter in model.parameters():
        if parameter.requires_grad and job.precision != "bf16-true":
            parameter.data = parameter.data.float()
    model.config.use_cache = False
    if job.gradient_checkpointing:
        if hasattr(model, "enable_input_require_grads"):
            model.enable_input_require_grads()
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    flash = (job.weights.attention or "").startswith("flash")
    reason = None if job.packing is False or flash else attention.supports(model, probe=not sharded)
    if reason is not None and job.packing:
        raise ConfigError([f"training.packing: {reason}. Set training.packing=false"])
    if reason is not None:
        say(f"rows are padded, not packed: {reason}", first)
    packing = job.packing is not False and reason is None
    if packing and not flash:
        attention.enable(model)
    return model.train(), replace(job, packing=packing)


def _is_sharded(strategy: str) -> bool:
    """Whether a rank holds a part of each weight only."""
    return strategy == "fsdp" or strategy.startswith("zero3")


def choose_precision(wanted: str, kind: str) -> str:
    """bf16 where a GPU has it, fp32 elsewhere (bf16 is slower than fp32 on most CPUs).

    Raises:
        ConfigError: there is no such precision on this device.
    """
    if wanted == "16-mixed" and kind == "cpu":
        raise ConfigError(["training.precision=16-mixed needs a GPU: choose auto, 32-true or bf16-mixed"])
    if wanted != "auto":
        return wanted
    return "bf16-mixed" if kind == "cuda" and torch.cuda.is_bf16_supported() else "32-true"


def _lightning_precision(look: Outlook) -> Any:
    """Lightning's name; FSDP mixes by a policy of its own (`strategies.shard`)."""
    mixed = look.strategy == "fsdp" and look.job.precision == "bf16-mixed"
    return "32-true" if mixed else look.job.precision


def save(trainer: pl.Trainer, module: FineTuning, look: Outlook, folder: Path, best: Best | None) -> None:
    """Write FOLDER/model in one step: the adapter, or the whole model, in safetensors, with tokenizer and template."""
    whole = look.job.method.whole
    state = gathered(trainer, module.model, whole)
    if state is None:
        return
    if best is not None and best.file.exists():
        state |= best.read()
        if not _is_sharded(look.strategy):
            named = dict(module.model.named_parameters())
            with torch.no_grad():
                for name, value in best.read().items():
                    named[name].copy_(value)
    partial, final = folder / "model.partial", folder / "model"
    for old in (partial, final):
        shutil.rmtree(old, ignore_errors=True)
    model: Any = module.model
    linear.disable(model)
    model.config.use_cache = True
    options = {} if whole else {"save_embedding_layers": False}
    model.save_pretrained(partial, state_dict=state, **options)
    look.tokenizer.save_pretrained(partial)
    partial.rename(final)


def _dev(look: Outlook, job: Job, folder: Path, best: Best | None) -> list[pl.Callback]:
    if look.dev is None:
        return []
    places = range(len(look.dev))
    parts = [tuple(places[start : start + job.batch_size]) for start in range(0, len(places), job.batch_size)]
    loader = Loader(look.dev, parts, job, int(look.tokenizer.pad_token_id), look.where.rank, look.where.ranks)
    per_epoch = -(-len(look.plan) // job.epochs)
    every = job.dev_every_steps or per_epoch
    return [Dev(folder / "dev.json", list(loader), every, job.patience, best)]


def _threads(job: Job) -> int:
    return job.threads or max(1, torch.get_num_threads() // (job.devices or 1))


def _say_what_is_special(look: Outlook, first: bool) -> None:
    job, counts = look.job, look.rows.counts
    if job.warmup_share is None and look.warmup_steps < job.warmup_steps:
        say(f"warm-up cut from {job.warmup_steps} to {look.warmup_steps} of {len(look.plan)} updates", first)
    if counts["too_long"] or counts["cut"]:
        say(
            f"of {counts['given']} rows {counts['too_long']} are longer than {job.max_length} tokens and left out, "
            f"{counts['cut']} cut at the left of the prompt",
            first,
        )
    if look.where.ranks == 1 and look.strategy.startswith(("zero", "fsdp")):
        say(f"{look.strategy} on one device has nobody to share with", first)


def _summarise(folder: Path, look: Outlook, module: FineTuning, seconds: float) -> None:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if line["loss"] is not None]  # one that is not finite was left out
    busy = sum(line["tokens"] / line["tokens_per_s"] for line in lines)
    tokens = sum(line["tokens"] for line in lines)
    summary = {
        "rows": len(look.rows),
        "rows_too_long": look.rows.counts["too_long"],
        "rows_cut": look.rows.counts["cut"],
        "steps": len(lines),
        "warmup_steps": module.warmup_steps,
        "tokens": tokens,
        "trained_tokens": sum(int(look.rows.trained[list(update)].sum()) for update in look.plan[: len(lines)]),
        "trained_parameters": trained_parameters(module.model),
        "first_loss": losses[0],
        "last_loss": losses[-1],
        "skipped": module.skipped,
        "tokens_per_s": round(tokens / busy, 1),
        "memory_gib": max(line["memory_gib"] for line in lines),
        "seconds": round(seconds, 1),
        "strategy": look.strategy,
        "ranks": look.where.ranks,
        "packing": bool(module.job.packing),
    }
    if "mfu" in lines[-1]:
        summary["mfu"] = round(sum(line["mfu"] * line["tokens"] / line["tokens_per_s"] for line in lines) / busy, 4)
    if module.dev:
        at = min(module.dev, key=module.dev.__getitem__)
        summary |= {"best_dev_loss": module.dev[at], "best_dev_update": at}
    partial = folder / "summary.partial"
    partial.write_text(json.dumps(summary, indent=1))
    partial.replace(folder / "summary.json")
