"""`sweeps=optuna` chooses by accuracy on dev, and the same command goes the same way again."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser

from errata.config import config_folder, register

pytest.importorskip("hydra_plugins.hydra_optuna_sweeper", reason="the extra errata[optuna] is not installed")
SMALL = [
    "iterations=1", "sample_size=8", "dataset.arithmetic.train=24", "dataset.arithmetic.test=6", "dataset.arithmetic.dev=8", "dataset.arithmetic.max_new_tokens=24",
    "training.method.r=2", "training.threads=1", "model.device=cpu", "tracking=off",
    "hydra.sweeper.sampler.n_startup_trials=1", "name=tuned",
]  # fmt: skip


def test_its_bounds_are_logarithmic_its_draw_is_seeded_and_dev_is_held_out():
    register()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        config = compose("improve", overrides=["experiments=demo", "sweeps=optuna"], return_hydra_config=True)
    sweeper = config.hydra.sweeper
    parsed = OverridesParser.create().parse_overrides([f"{name}={value}" for name, value in sweeper.params.items()])
    rate, rows = (one.value() for one in parsed)
    assert (rate.tags, rate.start, rate.end) == ({"log"}, 1e-4, 1e-2)
    assert rows.list == [4, 8, 16]
    assert (config.hydra.mode.name, sweeper.direction, sweeper.sampler.seed, sweeper.storage) == (
        "MULTIRUN",
        "maximize",
        0,
        None,
    )
    assert (config.errors.dev_share, config.policy.patience) == (0.05, 1)


@pytest.mark.slow
def test_it_goes_on_with_the_same_trials(tiny_model, tmp_path):
    def run(trials):
        words = ["sweeps=optuna", "model=hf", f"model.path={tiny_model}", *SMALL, f"hydra.sweeper.n_trials={trials}"]
        command = [sys.executable, "-m", "errata.cli", "improve", *words]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
        (sweep,) = (tmp_path / "outputs/sweeps").glob("tuned_optuna-*")
        best = yaml.safe_load((sweep / "optimization_results.yaml").read_text())
        return done.stdout + done.stderr, best, {path.stem for path in (sweep / "cells").glob("*.json")}

    _, _, first = run(1)
    said, best, both = run(2)
    assert said.count("is finished") == 1
    assert first < both and len(both) == 2
    results = [json.loads(Path(tmp_path / "outputs" / name / "results.json").read_bytes()) for name in both]
    reached = [max(part["accuracy"] for part in one["dev"] if part["iteration"]) for one in results]
    assert best["best_value"] == pytest.approx(max(reached))
