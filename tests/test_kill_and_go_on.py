"""A run that is killed inside every one of its stages ends as one that was never disturbed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

DRIVER = Path(__file__).parent / "kill_driver.py"
KILLS = [
    ("iteration_0/arithmetic/test", 2),
    ("iteration_1/arithmetic/train", 2),
    ("iteration_1/arithmetic/train", 3),
    ("iteration_1/arithmetic/instruct", 5),
    ("iteration_1/arithmetic/instruct", 6),
    ("iteration_1/arithmetic/parse", 1),
    ("iteration_1/arithmetic/verify", 2),
    ("iteration_1/mix", 1),
    ("iteration_1/train", 1),
    ("iteration_1/train", 2),  # behind a checkpoint
    ("iteration_1/arithmetic/test", 1),
]


def run(folder, model, stage="none", number=0):
    arguments = [
        "improve", "name=kill", "model=hf", f"model.path={model}", "tracking=off", "iterations=1", "sample_size=60",
        "dataset.arithmetic.train=24", "dataset.arithmetic.test=20", "dataset.arithmetic.max_new_tokens=10",
        "training.micro_batch_size=4", "training.checkpoint_every_steps=4", "training.threads=1",
        "instructor.concurrency=2", "model.token_budget=300",
    ]  # fmt: skip
    return subprocess.run(
        [sys.executable, str(DRIVER), stage, str(number), "--", *arguments], cwd=folder, capture_output=True, text=True
    )


def outcome(folder):
    """Every record of the run, and its scores."""
    (run_folder,) = (folder / "outputs").glob("kill-*")
    names = ("attempts", "requests", "examples", "rejections", "train")
    tables = {
        path.relative_to(run_folder).as_posix(): path.read_bytes()
        for path in sorted(run_folder.rglob("*.jsonl"))
        if path.stem in names
    }
    results = json.loads((run_folder / "results.json").read_text())
    return tables, results["datasets"], results["practice"], (run_folder / "iteration_1/train/metrics.jsonl").read_text()


def losses(metrics):
    return [json.loads(line)["loss"] for line in metrics.splitlines()]


@pytest.mark.slow
def test_killed_inside_every_stage_it_ends_as_if_undisturbed(tiny_model, tmp_path):
    calm, killed = tmp_path / "calm", tmp_path / "killed"
    calm.mkdir(), killed.mkdir()
    assert run(calm, tiny_model).returncode == 0
    for stage, number in KILLS:
        ended = run(killed, tiny_model, stage, number)
        assert ended.returncode == -9, f"not killed in {stage}: {ended.stderr[-2000:]}"
    last = run(killed, tiny_model)
    assert last.returncode == 0, last.stderr[-2000:]
    assert last.stderr.count("iteration_0") == 0, "a finished stage was done again"

    tables, scores, practice, metrics = outcome(killed)
    expected_tables, expected_scores, expected_practice, expected_metrics = outcome(calm)
    assert tables.keys() == expected_tables.keys()
    assert "iteration_1/train/train.jsonl" in tables
    for name, content in expected_tables.items():
        assert tables[name] == content, name
    assert scores == expected_scores
    # who has paid for a reply, and what was lost on its way, is another story in a run that was killed
    paid = ("from_the_ledger", "paid_tokens", "paid_usd")
    for one, other in zip(practice, expected_practice, strict=True):
        assert one["paid_tokens"] >= other["paid_tokens"] == other["tokens"]
        assert {k: v for k, v in one.items() if k not in paid} == {k: v for k, v in other.items() if k not in paid}
    assert losses(metrics) == losses(expected_metrics)

    kept = set()
    for line in (killed / "asked.log").read_text().splitlines():
        word, key = line.split()
        assert word == "kept" or key not in kept, "a reply that was already received was asked for again"
        if word == "kept":
            kept.add(key)
