"""Arms: the seeds of like runs together, and their differences."""

import json

import numpy as np

from errata.records import Attempt, Question
from errata.report.compare import arms_of, comparison_tables
from errata.report.statistics import compare_arms, holm
from errata.run_folder import encode_lines


def scores(rate, seed, n=200):
    rng = np.random.default_rng(seed)
    return {f"q/{place}": float(right) for place, right in enumerate(rng.random(n) < rate)}


def test_a_real_difference_is_found_and_none_is_not():
    low, high = [scores(0.4, seed) for seed in range(3)], [scores(0.7, seed + 10) for seed in range(3)]
    found = compare_arms(low, high)
    assert 0.2 < found.low < found.difference < found.high < 0.45 and found.p < 0.001
    same = compare_arms(low, [scores(0.4, seed + 20) for seed in range(3)])
    assert same.low < 0 < same.high and same.p > 0.05
    assert compare_arms(low, low).difference == 0
    assert compare_arms(low, [{"other": 1.0}]) is None


def test_holm_corrects_for_the_number_of_pairs():
    assert np.allclose(holm([0.01, 0.04, 0.03]), [0.03, 0.06, 0.06])
    assert holm([]) == [] and holm([0.6, 0.9]) == [1.0, 1.0]


def run_folder(place, name, config, rate, seed):
    folder = place / name / "iteration_0" / "toy" / "test"
    folder.mkdir(parents=True)
    (place / name / "run.json").write_text(json.dumps({"version": "1", "config": config}))
    attempts = [
        Attempt(Question(name, "toy", "test", name, "1"), "", True, None, bool(right))
        for name, right in scores(rate, seed).items()
    ]
    (folder / "attempts.jsonl").write_bytes(encode_lines(attempts))
    return place / name


def test_seeds_of_one_arm_stand_together(tmp_path):
    runs = [
        run_folder(
            tmp_path, f"x_{arm}_{seed}-ab{seed}", {"strategy": arm, "seed": seed, "instructor": {"seed": seed}}, rate, seed
        )
        for arm, rate in (("le", 0.3), ("lec", 0.6))
        for seed in (0, 1)
    ]
    assert {arm: len(names) for arm, names in arms_of(runs).items()} == {"x_le": 2, "x_lec": 2}
    means, pairs = comparison_tables(runs)
    assert [row[:4] for row in means.rows] == [("x_le", "0", "2", "200"), ("x_lec", "0", "2", "200")]
    ((first, second, n, *_, p, corrected),) = pairs.rows
    assert (first, second, n, p) == ("x_le", "x_lec", "200", corrected)
    (single,) = comparison_tables([runs[0], runs[2]])
    assert "McNemar" in single.heads[-1]
