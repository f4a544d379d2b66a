"""train: a training set and a model in, a better model out, made by a process of its own."""

import ctypes
import json
import logging
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from errata.errors import TrainingError
from errata.model.base import Model, Weights
from errata.records import Example
from errata.run_folder import Stage, encode_lines, fingerprint_folder, write_atomically

_LIBC = ctypes.CDLL(None)  # loaded here: between fork and exec there is no time for it
log = logging.getLogger("errata")


def train(stage: Stage, model: Model, rows: Sequence[Example], settings: dict[str, Any]) -> Model:
    """Fine-tune the model on the rows, in `python -m errata.training FOLDER`.

    Args:
        stage: where the job, its log and the model go.
        model: what to start from; its memory is given back first.
        rows: the training set.
        settings: everything in `Job` but the weights.

    Raises:
        TrainingError: the process ended without a model; its last words are in the message.
    """
    weights = model.weights
    if not stage.finished:
        model.unload()
        job = {"base": weights.base, "adapter": weights.adapter, "device": model.device, **settings}
        write_atomically(stage.folder / "training.yaml", yaml.safe_dump(job, sort_keys=False).encode())
        lines = [{"id": row.id, "prompt": row.prompt, "response": row.response} for row in rows]
        write_atomically(stage.folder / "train.jsonl", encode_lines(lines))
        if not (stage.folder / "summary.json").exists():  # it may have been killed between the model and the seal
            _run(stage.folder)
        summary = json.loads((stage.folder / "summary.json").read_bytes())
        stage.finish(
            {
                "rows": summary["rows"],
                "updates": summary["steps"],
                "tokens": summary["tokens"],
                "tokens/s": summary["tokens_per_s"],
                "first loss": round(summary["first_loss"], 4),
                "last loss": round(summary["last_loss"], 4),
            },
            outputs={"model": fingerprint_folder(stage.folder / "model")},
        )
    folder = str((stage.folder / "model").resolve())
    adapted = (stage.folder / "model" / "adapter_config.json").exists()
    return model.with_weights(Weights(weights.base, folder) if adapted else Weights(folder))


def read_metrics(folder: Path) -> list[dict[str, float]]:
    """One entry an update, as the training process wrote them."""
    path = folder / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def job_settings(training: Any, seed: int) -> dict[str, Any]:
    """The training config as plain values for training.yaml."""
    values = asdict(training)
    del values["max_length"]  # a matter of the length gate
    return values | {"seed": seed}


def _die_with_parent() -> None:
    """Have the kernel stop the training process, from its first instant, should this one be killed.

    Otherwise it would train on unseen, and the same command, run again, would start a second one beside it.
    """
    _LIBC.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _run(folder: Path) -> None:
    words: list[str] = []
    process = subprocess.Popen(
        [sys.executable, "-m", "errata.training", str(folder)],
        stderr=None if sys.stderr.isatty() else subprocess.PIPE,
        text=True,
        preexec_fn=_die_with_parent if sys.platform == "linux" else None,
    )
    if process.stderr is not None:
        words = [line.rstrip() for line in process.stderr]
    code = process.wait()
    if words:
        write_atomically(folder / "training.log", ("\n".join(words) + "\n").encode())
    if code:
        tail = "\n".join(line for line in words if line.strip())[-2000:]
        raise TrainingError(f"training in {folder} ended with code {code}; run the command again to continue it.\n{tail}")
