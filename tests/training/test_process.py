"""The training process, run for real on a tiny model."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from errata.dataset.arithmetic import Arithmetic

JOB = {
    "dev": None, "device": "cpu", "seed": 3, "method": {"kind": "Lora", "r": 4, "alpha": 8, "dropout": 0.1},
    "epochs": 2, "batch_size": 8, "micro_batch_size": 4, "packing": None, "micro_tokens": 256, "group_by_length": False,
    "max_length": 512, "too_long": "error", "learning_rate": 1e-2, "schedule": "cosine", "warmup_steps": 1,
    "warmup_too_long": "cut", "betas": [0.9, 0.95], "weight_decay": 0.0, "clip": 1.0, "bad_loss": "stop", "spike": None,
    "precision": "32-true", "gradient_checkpointing": False, "strategy": "auto", "devices": None, "dev_share": 0.0,
    "dev_every_steps": None, "patience": None, "keep": "last", "checkpoint_every_steps": 1, "keep_checkpoints": 1,
    "threads": 1, "cache": None,
}  # fmt: skip
FULL = {"kind": "Full"}


def write_job(folder, base, rows=40, adapter=None, **changes):
    folder.mkdir()
    job = {**JOB, "weights": {"base": str(base), "adapter": adapter}, "data": "train.jsonl", **changes}
    (folder / "training.yaml").write_text(yaml.safe_dump(job))
    questions = Arithmetic("a", train=rows).load("train")
    lines = [json.dumps({"id": q.id, "prompt": q.text, "response": q.solution}) for q in questions]
    (folder / "train.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def start(folder):
    return subprocess.Popen([sys.executable, "-m", "errata.training", str(folder)], stderr=subprocess.PIPE, text=True)


def run(folder):
    process = start(folder)
    _, words = process.communicate()
    assert process.returncode == 0, words[-3000:]
    return json.loads((folder / "summary.json").read_text())


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def weights(folder):
    return load_file(next((folder / "model").glob("*.safetensors")))


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


@pytest.fixture(scope="module")
def undisturbed(tiny_model, tmp_path_factory):
    folder = write_job(tmp_path_factory.mktemp("undisturbed") / "job", tiny_model)
    return folder, run(folder)


def test_it_learns_and_leaves_an_adapter(undisturbed):
    folder, summary = undisturbed
    assert summary["last_loss"] < summary["first_loss"] - 0.1
    assert summary["rows"] == 40
    assert summary["steps"] == 10
    assert (folder / "model" / "adapter_config.json").exists()
    assert (folder / "model" / "tokenizer.json").exists()
    assert not (folder / "checkpoints").exists()


def test_the_schedule_is_a_cosine_with_warm_up(undisturbed):
    folder, summary = undisturbed
    assert summary["warmup_steps"] == 1
    rates = [line["learning_rate"] for line in metrics(folder)]
    by_hand = [1e-2 * 0.5 * (1 + math.cos(math.pi * (step - 1) / 9)) for step in range(1, 11)]
    assert rates == pytest.approx(by_hand, abs=1e-9)


def test_killed_and_started_again_it_ends_with_the_same_bits(undisturbed, tiny_model, tmp_path):
    reference, _ = undisturbed
    folder = write_job(tmp_path / "job", tiny_model)
    process = start(folder)
    for _ in range(2000):
        if (
            (folder / "metrics.jsonl").exists()
            and list((folder / "checkpoints").glob("update_*/state.json"))
            and len(metrics(folder)) >= 4
        ):
            break
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (folder / "model").exists()
    run(folder)
    assert_same(weights(folder), weights(reference))
    assert [line["loss"] for line in metrics(folder)] == [line["loss"] for line in metrics(reference)]


@pytest.mark.slow
def test_killed_behind_its_last_checkpoint_it_still_leaves_the_trained_weights(undisturbed, tiny_model, tmp_path):
    folder = write_job(tmp_path / "job", tiny_model)
    code = (
        "import os, pathlib, errata.training.run as process; process.save = lambda *_: os._exit(9);"
        f"process.train(pathlib.Path({str(folder)!r}))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 9
    run(folder)
    assert_same(weights(folder), weights(undisturbed[0]))


def test_a_loss_that_is_not_finite_stops_the_job(tiny_model, tmp_path):
    folder = write_job(tmp_path / "job", tiny_model, method=FULL, learning_rate=1e30, clip=0.0)
    process = start(folder)
    _, words = process.communicate()
    assert process.returncode != 0
    assert "lower training.learning_rate" in words
    assert not (folder / "summary.json").exists()


@pytest.mark.slow
def test_accumulation_equals_one_larger_batch(tiny_model, tmp_path):
    common = {"method": FULL, "learning_rate": 1e-3}
    parts = write_job(tmp_path / "parts", tiny_model, micro_batch_size=2, packing=False, **common)
    whole = write_job(tmp_path / "whole", tiny_model, micro_batch_size=8, packing=False, **common)
    run(parts), run(whole)
    losses = [[line["loss"] for line in metrics(folder)] for folder in (parts, whole)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    one, other = weights(parts), weights(whole)
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_full_fine_tuning_leaves_a_whole_model_that_an_adapter_can_go_on(undisturbed, tiny_model, tmp_path):
    adapter = str(undisturbed[0] / "model")
    further = write_job(tmp_path / "further", tiny_model, adapter=adapter, epochs=1)
    full = write_job(tmp_path / "full", tiny_model, adapter=adapter, method=FULL, learning_rate=1e-3, epochs=1)
    first = undisturbed[1]["first_loss"]
    assert run(further)["first_loss"] < first
    assert run(full)["first_loss"] < first
    assert (full / "model" / "config.json").exists()
    assert not (full / "model" / "adapter_config.json").exists()


@pytest.mark.slow
def test_a_warm_up_longer_than_the_run_is_cut_and_said(tiny_model, tmp_path):
    folder = write_job(tmp_path / "job", tiny_model, rows=16, warmup_steps=100)
    process = start(folder)
    _, words = process.communicate()
    assert "warm-up cut from 100 to 0 of 4 updates" in words


def test_it_never_imports_hydra_nor_the_rest_of_errata():
    code = "import sys, errata.training.__main__; print([m for m in sys.modules if m.startswith(('hydra', 'errata'))])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    loaded = {name.partition(".")[2] for name in eval(out)}
    assert loaded <= {"", "version", "chat", "training", *(f"training.{n}" for n in ("__main__", "job", "module", "rows"))}


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's")
def test_it_dies_with_its_parent_even_while_it_starts(tiny_model, tmp_path):
    folder = write_job(tmp_path / "job", tiny_model)
    code = f"from pathlib import Path; from errata.stage.train import _run; _run(Path({str(folder)!r}))"
    parent = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
    for _ in range(3000):
        if children.read_text().strip():
            break
        time.sleep(0.01)
    child = Path(f"/proc/{children.read_text().split()[0]}")
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    for _ in range(500):
        if not child.exists():
            break
        time.sleep(0.01)
    assert not child.exists()
    assert not (folder / "model").exists()
