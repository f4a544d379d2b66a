"""Small jobs for the tests of the training process, started here or in processes of their own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from errata.dataset.arithmetic import Arithmetic
from errata.errors import ConfigError
from errata.training.run import train
from errata.weights import load_network

JOB = {
    "dev": None, "device": "cpu", "seed": 3, "method": {"kind": "Lora", "r": 4, "alpha": 8, "dropout": 0.1},
    "epochs": 2, "batch_size": 8, "micro_batch_size": 4, "packing": None, "micro_tokens": 256, "group_by_length": False,
    "max_length": 512, "too_long": "error", "learning_rate": 1e-2, "schedule": "cosine", "warmup_steps": 1, "warmup_share": None,
    "warmup_too_long": "cut", "betas": [0.9, 0.95], "weight_decay": 0.0, "clip": 1.0, "bad_loss": "stop", "spike": None,
    "precision": "32-true", "gradient_checkpointing": False, "strategy": "auto", "devices": None, "dev_share": 0.0,
    "dev_every_steps": None, "patience": None, "keep": "last", "checkpoint_every_steps": 1, "keep_checkpoints": 1,
    "threads": 1, "cache": None,
}  # fmt: skip
FULL = {"kind": "Full"}
LORA = {"kind": "Lora", "r": 4, "alpha": 8}


def pairs(count, start=0):
    """Questions and their solutions."""
    questions = Arithmetic("a", train=start + count).load("train")[start:]
    return [{"id": q.id, "prompt": q.text, "response": q.solution} for q in questions]


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_job(folder: Path, base, rows=40, adapter=None, **changes):
    """A job's folder; `rows` is how many, or the rows themselves."""
    folder.mkdir()
    weights = {"base": str(base), "adapter": adapter, **changes.pop("weights", {})}
    (folder / "training.yaml").write_text(yaml.safe_dump({**JOB, "weights": weights, "data": "train.jsonl", **changes}))
    write_rows(folder / "train.jsonl", pairs(rows) if isinstance(rows, int) else rows)
    return folder


def run_here(folder):
    """Train in this process; the summary."""
    train(folder)
    return json.loads((folder / "summary.json").read_text())


def start(folder):
    return subprocess.Popen([sys.executable, "-m", "errata.training", str(folder)], stderr=subprocess.PIPE, text=True)


def run(folder):
    """Train in a process of its own; the summary."""
    process = start(folder)
    _, words = process.communicate()
    assert process.returncode == 0, words[-3000:]
    return json.loads((folder / "summary.json").read_text())


def metrics(folder):
    path = folder / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def kill_behind(folder, updates):
    """Train, in processes of their own, until the first is killed, as hard as can be, once it has made so many updates."""
    command = [sys.executable, "-m", "tests.training.killed_job", str(folder), str(updates)]
    ended = subprocess.run(command, cwd=Path(__file__).parents[2], stderr=subprocess.PIPE, text=True)
    assert ended.returncode == -9, ended.stderr[-3000:]
    assert len(metrics(folder)) == updates
    assert not (folder / "model").exists()


def column(folder, name):
    return [line[name] for line in metrics(folder)]


def weights(folder):
    return load_file(next((folder / "model").glob("*.safetensors")))


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


def assert_close(one, other, atol=2e-5):
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(
            one[name].float(), other[name].float(), rtol=1e-3, atol=atol, msg=lambda text, n=name: n + text
        )


def refused(method, student):
    """What a method says of a student that it cannot train, in training as before it."""
    with pytest.raises(ConfigError) as error:
        method.wrapped(load_network(student, torch.float32), student, 100)
    assert list(error.value.problems) == method.unfit(student)
    return str(error.value)
