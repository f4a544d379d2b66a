"""What stands beside a score: its interval, its difference from another run's, and what several seeds say together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest, bootstrap

_RESAMPLES = 9999
Scores = Mapping[str, float]
"""Question id to score: 1 for right, 0 for wrong, or the benchmark's own measure between them."""


@dataclass(frozen=True)
class Accuracy:
    """The mean score of `n` questions with its 95 % interval: Wilson's for right and wrong, bootstrap for other measures."""

    n: int
    right: int
    accuracy: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """A second run minus a first, on the questions that both answered.

    Attributes:
        n: how many those are.
        first, second: their mean scores.
        difference: second minus first, with its 95 % paired bootstrap interval (`low`, `high`).
        gained, lost: questions that only the second, or only the first, has right.
        p: exact McNemar test, two-sided.
    """

    n: int
    first: float
    second: float
    difference: float
    low: float
    high: float
    gained: int
    lost: int
    p: float


@dataclass(frozen=True)
class ArmDifference:
    """A second arm minus a first: the mean over seeds and questions, paired by question.

    `low`, `high` are the 95 % interval and `p` the two-sided p-value of the pigeonhole bootstrap (see `Pooled`), which draws
    questions, and the seeds of each arm, anew: no p below 2 / 10,000 can come of it.
    """

    n: int
    first: float
    second: float
    difference: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class Pooled:
    """Several seeds of one run: the mean of their scores, the spread between them, and a 95 % interval over both.

    The interval resamples seeds and questions independently (the pigeonhole bootstrap: Owen, Annals of Applied Statistics
    2007), since every seed answers the same questions; simply adding up the answers would call them independent.
    """

    seeds: int
    n: int
    accuracy: float
    sd: float
    low: float
    high: float


def accuracy(scores: Scores) -> Accuracy:
    """Mean score (at least one question)."""
    values = np.array(list(scores.values()), float)
    n, right = len(values), int((values == 1).sum())
    if np.isin(values, (0, 1)).all():
        interval = binomtest(right, n).proportion_ci(confidence_level=0.95, method="wilson")
        return Accuracy(n, right, right / n, float(interval.low), float(interval.high))
    low, high = _bootstrap(values)
    return Accuracy(n, right, float(values.mean()), low, high)


def paired_p(before: Scores, after: Scores) -> float:
    """Exact McNemar test on the questions that both hold: two-sided p of as many changes of verdict by chance."""
    gained, lost = _changes(before, after)
    return float(binomtest(gained, gained + lost, 0.5).pvalue) if gained + lost else 1.0


def compare(first: Scores, second: Scores) -> Difference | None:
    """The difference of two runs; None where they have no question in common."""
    both = sorted(first.keys() & second.keys())
    if not both:
        return None
    before, after = (np.array([float(scores[name]) for name in both]) for scores in (first, second))
    low, high = _bootstrap(after - before)
    gained, lost = _changes(first, second)
    means = float(before.mean()), float(after.mean())
    return Difference(len(both), *means, means[1] - means[0], low, high, gained, lost, paired_p(first, second))


def pool(runs: Sequence[Scores]) -> Pooled | None:
    """The seeds of one run together, on the questions that all have answered; None where there is none."""
    common = sorted(set.intersection(*(set(scores) for scores in runs)))
    if not common:
        return None
    table = np.array([[float(scores[name]) for name in common] for scores in runs])
    rng = np.random.default_rng(0)
    seeds, n = table.shape
    means = []
    for _ in range(_RESAMPLES):
        chosen = rng.integers(0, seeds, seeds)
        weights = rng.multinomial(n, np.full(n, 1 / n))
        means.append(float(table[chosen].mean(axis=0) @ weights) / n)
    low, high = np.percentile(means, [2.5, 97.5])
    by_seed = table.mean(axis=1)
    sd = float(by_seed.std(ddof=1)) if seeds > 1 else 0.0
    return Pooled(seeds, n, float(by_seed.mean()), sd, float(low), float(high))


def compare_arms(first: Sequence[Scores], second: Sequence[Scores]) -> ArmDifference | None:
    """The difference of two arms, each of one or more seeds; None where they have no question in common."""
    common = sorted(set.intersection(*(set(scores) for scores in (*first, *second))))
    if not common:
        return None
    tables = [np.array([[float(scores[name]) for name in common] for scores in arm]) for arm in (first, second)]
    rng, n = np.random.default_rng(0), len(common)
    drawn = np.empty(_RESAMPLES)
    for place in range(_RESAMPLES):
        weights = rng.multinomial(n, np.full(n, 1 / n)) / n
        means = [table[rng.integers(0, len(table), len(table))].mean(axis=0) @ weights for table in tables]
        drawn[place] = means[1] - means[0]
    low, high = np.percentile(drawn, [2.5, 97.5])
    beyond = min((drawn <= 0).sum(), (drawn >= 0).sum())
    before, after = (float(table.mean()) for table in tables)
    p = min(1.0, 2 * (int(beyond) + 1) / (_RESAMPLES + 1))
    return ArmDifference(n, before, after, after - before, float(low), float(high), p)


def holm(values: Sequence[float]) -> list[float]:
    """P-values corrected for how many there are (Holm 1979), in their order."""
    corrected, highest = [0.0] * len(values), 0.0
    for rank, place in enumerate(sorted(range(len(values)), key=lambda place: values[place])):
        highest = max(highest, min(1.0, (len(values) - rank) * values[place]))
        corrected[place] = highest
    return corrected


def _changes(before: Scores, after: Scores) -> tuple[int, int]:
    both = before.keys() & after.keys()
    gained = sum(after[name] == 1 and before[name] != 1 for name in both)
    return gained, sum(before[name] == 1 and after[name] != 1 for name in both)


def _bootstrap(values: np.ndarray) -> tuple[float, float]:
    if len(values) < 2 or (values == values[0]).all():
        return float(values[0]), float(values[0])
    result = bootstrap((values,), np.mean, n_resamples=_RESAMPLES, batch=500, method="percentile", rng=0)
    return float(result.confidence_interval.low), float(result.confidence_interval.high)
