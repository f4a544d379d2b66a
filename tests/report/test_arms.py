"""Arms: the seeds of like runs together, and their differences."""

import json

import numpy as np

from errata.jsonl import encode_lines
from errata.records import Attempt, Question
from errata.report.compare import comparison_tables
from errata.report.paper_parts import moment_of
from errata.report.pooled import arms_of, separate
from errata.report.results import read
from errata.report.statistics import compare_arms, compare_means, holm, pool_mean


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


def test_the_mean_over_datasets_counts_each_the_same_and_its_interval_is_of_both():
    small, large = scores(0.8, 1, n=50), scores(0.2, 2, n=2000)
    found = pool_mean([[small], [large]])
    means = [np.mean(list(part.values())) for part in (small, large)]
    assert found.accuracy == np.mean(means) and found.n == 2050
    se = (means[0] * (1 - means[0]) / 50 + means[1] * (1 - means[1]) / 2000) ** 0.5 / 2
    assert abs(found.high - found.low - 2 * 1.96 * se) < 0.1 * se
    moved = compare_means([([small], [small]), ([large], [scores(0.3, 3, n=2000)])])
    assert 0.03 < moved.difference < 0.07 and moved.p < 0.001 and moved.n == 2050
    assert pool_mean([[small], [{}]]) is None and pool_mean([]) is None and compare_means([]) is None


def run_folder(place, name, config, rate, seed):
    folder = place / name / "iteration_0" / "toy" / "test"
    folder.mkdir(parents=True)
    (place / name / "run.json").write_text(json.dumps({"version": "1", "config": config}))
    attempts = [
        Attempt(Question(name, "toy", "test", name, "1"), "", True, None, bool(right))
        for name, right in scores(rate, seed).items()
    ]
    (folder / "attempts.jsonl").write_bytes(encode_lines(attempts))
    return read(place / name)


def test_seeds_of_one_arm_stand_together(tmp_path):
    runs = [
        run_folder(
            tmp_path, f"x_{arm}_{seed}-ab{seed}", {"strategy": arm, "seed": seed, "instructor": {"seed": seed}}, rate, seed
        )
        for arm, rate in (("le", 0.3), ("lec", 0.6))
        for seed in (0, 1)
    ]
    assert len(separate(runs)[0]) == 1
    arms, lines = arms_of(runs)
    assert {arm.name: len(arm.runs) for arm in arms} == {"le": 2, "lec": 2} and not lines
    means, pairs = comparison_tables(arms, moment_of("last"))
    assert [row[:4] for row in means.rows] == [("le", "0", "2", "200"), ("lec", "0", "2", "200")]
    ((first, second, n, *_, p, corrected),) = pairs.rows
    assert (first, second, n, p) == ("le", "lec", "200", corrected)
    (single,) = comparison_tables(arms_of([runs[0], runs[2]])[0], moment_of("last"))
    assert "McNemar" in single.heads[-1]


def test_arms_of_one_name_are_called_by_what_they_differ_in(tmp_path):
    strategies = [{"kind": f"x.{name.upper()}", "name": name, "k": k} for name, k in (("le", 1), ("lec", 1), ("lec", 3))]
    runs = [
        run_folder(tmp_path, f"cell-{place}", {"strategy": strategy, "seed": 0}, 0.5, place)
        for place, strategy in enumerate(strategies)
    ]
    assert [arm.name for arm in arms_of(runs[:2])[0]] == ["strategy=le", "strategy=lec"]
    assert [arm.name for arm in arms_of(runs[1:])[0]] == ["strategy.k=1", "strategy.k=3"]


def test_the_same_seed_twice_is_no_second_seed(tmp_path):
    twins = [run_folder(tmp_path / place, "le-ab", {"seed": 0}, 0.5, 1) for place in ("one", "two")]
    arms, lines = arms_of(twins)
    assert [len(arm.runs) for arm in arms] == [1, 1] and "not as another seed" in lines[0]
