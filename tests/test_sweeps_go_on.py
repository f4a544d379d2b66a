"""Sweeps end to end on a tiny real student: killed three times, two processes at once, cells that fail."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from errata.ledger import Ledger
from errata.sweep import read_sweep

DRIVER = Path(__file__).parent / "sweep_driver.py"
SMALL = [
    "tracking=off", "iterations=1", "sample_size=12", "dataset.arithmetic.train=16", "dataset.arithmetic.test=8",
    "dataset.arithmetic.max_new_tokens=8", "training.micro_batch_size=4", "training.checkpoint_every_steps=1",
    "training.threads=1", "instructor.flaw_rate=0", "instructor.concurrency=1",
]  # fmt: skip
GRID = ["-m", "strategy=le,le_informed,self_instruct,random_seed", "seed=0,1,2"]


def run(place, model, *arguments, moment="none", number=0):
    place.mkdir(exist_ok=True)
    words = ["improve", *arguments, *SMALL, "model=hf", f"model.path={model}"]
    command = [sys.executable, str(DRIVER), moment, str(number), "--", *words]
    return subprocess.run(command, cwd=place, capture_output=True, text=True)


def table(place):
    """What a report is made of, by cell, apart from who has paid for what."""
    (folder,) = (place / "outputs" / "sweeps").glob("*-*")
    sweep = read_sweep(folder)
    found = {}
    for cell in sweep.cells:
        assert cell.state == "finished", cell
        results = json.loads((cell.run / "results.json").read_text())
        practice = [(part["requests"], part["rejections"], part["kept"], part["tokens"]) for part in results["practice"]]
        trained = [(part["rows"], part["first_loss"], part["last_loss"]) for part in results["training"]]
        rows = (cell.run / "iteration_1/mix/train.jsonl").read_bytes()
        found[tuple(cell.overrides.items())] = (results["datasets"], practice, trained, rows)
    return found


@pytest.mark.slow
def test_killed_three_times_it_ends_as_one_that_was_never_disturbed(tiny_model, tmp_path):
    calm, killed = tmp_path / "calm", tmp_path / "killed"
    done = run(calm, tiny_model, *GRID)
    assert done.returncode == 0, done.stderr[-3000:]
    for moment, number in (("answers", 2), ("training", 4), ("replies", 25)):
        ended = run(killed, tiny_model, *GRID, moment=moment, number=number)
        assert ended.returncode == -9, (moment, ended.stderr[-3000:])
    last = run(killed, tiny_model, *GRID)
    assert last.returncode == 0, last.stderr[-3000:]
    assert "is finished" in last.stderr

    assert len(table(calm)) == 12
    assert table(killed) == table(calm)
    asked = (killed / "asked.log").read_text().split()
    assert len(asked) == len(set(asked)), "something was asked twice"
    assert sorted(asked) == sorted((calm / "asked.log").read_text().split())
    with Ledger(killed / "outputs" / "ledger.sqlite") as ledger:
        assert ledger.db.execute("SELECT count(*) FROM payment").fetchone()[0] == len(asked)

    again = run(killed, tiny_model, *GRID)
    assert again.returncode == 0
    assert again.stderr.count("is finished") == 12
    assert "iteration_" not in again.stderr, "something was done again"


LAUNCHERS = {
    "joblib": ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"],
    "submitit_local": ["hydra/launcher=submitit_local"],
}


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_two_processes_at_once_share_what_they_can(launcher, tiny_model, tmp_path):
    """Without training: a student who can only be asked stands still there, so a gate rejects every row."""
    pytest.importorskip(f"hydra_plugins.hydra_{launcher.removesuffix('_local')}_launcher")
    words = [
        sys.executable, "-m", "errata.cli", "improve", "-m", *LAUNCHERS[launcher], "strategy=le,le_informed", "seed=0",
        *SMALL, "model=hf", f"model.path={tiny_model}", "training.max_length=8",
    ]  # fmt: skip
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    (folder,) = (tmp_path / "outputs" / "sweeps").glob("*-*")
    cells = read_sweep(folder).cells
    assert [cell.state for cell in cells] == ["finished", "finished"]
    assert len({cell.pid for cell in cells}) == 2
    shared = [stage_counts(cell.run, place) for cell in cells for place in ("iteration_0/arithmetic/test",)]
    assert sorted("taken over" in counts for counts in shared) == [False, True]
    again = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert again.returncode == 0
    assert again.stderr.count("is finished") == 2


def stage_counts(run, place):
    return json.loads((run / place / "stage.json").read_text())["counts"]
