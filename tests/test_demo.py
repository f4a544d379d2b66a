"""The claim of the demo, at a smaller size: a real model learns from its errors."""

import json

import pytest

from tests.test_loop import errata


@pytest.mark.slow
def test_a_real_model_gets_better_by_its_errors(tmp_path):
    small = ["iterations=1", "sample_size=160", "dataset.arithmetic.train=60", "dataset.arithmetic.test=100"]
    assert errata("improve", "experiments=demo", *small, f"output_dir={tmp_path}", "tracking=off") == 0
    (folder,) = tmp_path.glob("demo-*")
    start, end = (
        part["scores"]["all"] for part in json.loads((folder / "results.json").read_text())["datasets"]["arithmetic"]
    )
    assert 0.08 <= start["accuracy"] <= 0.40
    assert end["accuracy"] > start["accuracy"] + 0.15
    assert end["p"] < 0.01
