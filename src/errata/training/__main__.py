"""Train as FOLDER/training.yaml says, on FOLDER/train.jsonl; leaves FOLDER/model and FOLDER/summary.json.

A job that was killed continues from its last checkpoint when it is started again, and ends with the same weights.
"""

import json
import logging
import math
import shutil
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils.logging import disable_progress_bar

from errata.chat import end_token_id
from errata.training.job import Job, read_job
from errata.training.module import Checkpoints, FineTuning, Metrics, restore_weights
from errata.training.rows import Loader, plan, read_rows


def train(folder: Path) -> None:
    """Run the job in the folder."""
    job = read_job(folder)
    if job.threads:
        torch.set_num_threads(job.threads)
    pl.seed_everything(job.seed, verbose=False)
    tokenizer = AutoTokenizer.from_pretrained(job.base)
    rows = read_rows(folder / "train.jsonl", tokenizer)
    batches = plan(rows, job.epochs, job.micro_batch_size, job.accumulate, job.seed)
    steps = math.ceil(len(batches) / job.accumulate)

    checkpoint = folder / "checkpoint.pt"
    done = torch.load(checkpoint, weights_only=True)["batches_done"] if checkpoint.exists() else 0
    precision = choose_precision(job.precision)
    model = prepare(job, precision)
    module = FineTuning(model, job, steps)
    restore_weights(module, checkpoint)
    if module.warmup_steps < job.warmup_steps:
        print(f"warm-up cut from {job.warmup_steps} to {module.warmup_steps} of {steps} updates", file=sys.stderr)  # noqa: T201
    start = time.monotonic()
    if done < len(batches):
        trainer = pl.Trainer(
            max_epochs=1,
            accumulate_grad_batches=job.accumulate,
            gradient_clip_val=job.clip or None,
            precision=precision,  # type: ignore[arg-type]
            **placement(job.device),
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=sys.stderr.isatty(),
            use_distributed_sampler=False,
            callbacks=[
                Metrics(folder / "metrics.jsonl", done // job.accumulate),
                Checkpoints(checkpoint, job.checkpoint_every_steps, done),
            ],
        )
        trainer.fit(module, Loader(batches, pad_id(tokenizer), done))
        if trainer.interrupted:
            sys.exit(130)
    save(module.model, tokenizer, folder)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    summary = {
        "rows": len(rows),
        "steps": steps,
        "warmup_steps": module.warmup_steps,
        "tokens": sum(len(row.ids) for row in rows) * job.epochs,
        "trained_tokens": sum(row.trained for row in rows) * job.epochs,
        "trained_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "first_loss": lines[0]["loss"],
        "last_loss": lines[-1]["loss"],
        "tokens_per_s": round(sum(line["tokens"] for line in lines) / sum(_seconds(line) for line in lines), 1),
        "seconds": round(time.monotonic() - start, 1),
    }
    partial = folder / "summary.partial"
    partial.write_text(json.dumps(summary, indent=1))
    partial.replace(folder / "summary.json")
    checkpoint.unlink(missing_ok=True)


def prepare(job: Job, precision: str) -> Any:
    """The model to train: base weights, and for LoRA a new adapter or the given one, trainable.

    What is trained is float32; the frozen weights under an adapter are bfloat16 where the precision is.
    """
    dtype = torch.bfloat16 if precision.startswith("bf16") and job.method == "lora" else torch.float32
    model: Any = AutoModelForCausalLM.from_pretrained(job.base, dtype=dtype)
    if job.adapter is not None:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, job.adapter, is_trainable=job.method == "lora")
        if job.method == "full":
            model = model.merge_and_unload()
            model.requires_grad_(True)
    elif job.method == "lora":
        from peft import LoraConfig, get_peft_model

        targets = job.lora_targets[0] if job.lora_targets == ("all-linear",) else list(job.lora_targets)
        model = get_peft_model(
            model,
            LoraConfig(
                r=job.lora_r,
                lora_alpha=job.lora_alpha,
                lora_dropout=job.lora_dropout,
                target_modules=targets,
                task_type="CAUSAL_LM",
            ),
        )
    model.config.use_cache = False
    if job.gradient_checkpointing:
        model.enable_input_require_grads()
        model.gradient_checkpointing_enable()
    return model.train()


def placement(device: str) -> dict[str, Any]:
    """Lightning's accelerator and devices for `auto`, `cpu`, `cuda` or `cuda:N`."""
    kind, _, number = device.partition(":")
    return {"accelerator": "auto" if kind == "auto" else kind, "devices": [int(number)] if number else 1}


def choose_precision(wanted: str) -> str:
    """bf16 where a GPU has it, fp32 elsewhere (bf16 is slower than fp32 on most CPUs)."""
    if wanted != "auto":
        return wanted
    return "bf16-mixed" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "32-true"


def pad_id(tokenizer: Any) -> int:
    """A padding id; which one does not matter, padding is masked and bears no loss."""
    return int(tokenizer.pad_token_id) if tokenizer.pad_token_id is not None else end_token_id(tokenizer)


def save(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write FOLDER/model in one step: the adapter, or the whole model with its tokenizer."""
    partial, final = folder / "model.partial", folder / "model"
    for place in (partial, final):
        shutil.rmtree(place, ignore_errors=True)
    model.config.use_cache = True
    model.save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    partial.rename(final)


def _seconds(line: dict[str, float]) -> float:
    return line["tokens"] / line["tokens_per_s"]


if __name__ == "__main__":
    for noisy in ("pytorch_lightning", "transformers", "DeepSpeed"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    disable_progress_bar()
    warnings.simplefilter("ignore")
    train(Path(sys.argv[1]))
