"""What stands beside a score: its interval, its difference from another run's, and what several seeds say together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

_RESAMPLES = 9999
_Z = 1.959963984540054  # of 95 %
_EQUAL = 1e-9
_AT_ONCE = 4_000_000
"""Numbers that a step of the bootstrap draws at most."""
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
        difference: second minus first, with its 95 % paired bootstrap interval (`low`, `high`); Newcombe's where every
            question changed alike, since resampling finds no spread in that.
        gained, lost: questions that only the second, or only the first, has right (or scores higher).
        p: exact McNemar test, two-sided (see `paired_p`).
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
    questions, and the seeds of each arm, anew: no p below 2 / 10,000 can come of it. Nor is one shown below 2 / 2**m, the
    least that m questions with another mean score can say by their signs: the bootstrap is too sure of few questions.
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
        return Accuracy(n, right, right / n, *_wilson(right, n))
    low, high = _bootstrap(values)
    return Accuracy(n, right, float(values.mean()), low, high)


def paired_p(before: Scores, after: Scores) -> float:
    """Exact McNemar test on the questions that both hold: two-sided p of as many changes of verdict by chance.

    Of a measure that is no yes or no it is the sign test: how many questions went up, and how many down.
    """
    from scipy.stats import binomtest

    gained, lost = _changes(before, after)
    return float(binomtest(gained, gained + lost, 0.5).pvalue) if gained + lost else 1.0


def compare(first: Scores, second: Scores) -> Difference | None:
    """The difference of two runs; None where they have no question in common."""
    both = sorted(first.keys() & second.keys())
    if not both:
        return None
    before, after = (np.array([float(scores[name]) for name in both]) for scores in (first, second))
    low, high = _paired_interval(before, after)
    gained, lost = _changes(first, second)
    means = float(before.mean()), float(after.mean())
    return Difference(len(both), *means, means[1] - means[0], low, high, gained, lost, paired_p(first, second))


def pool(runs: Sequence[Scores]) -> Pooled | None:
    """The seeds of one run together, on the questions that all have answered; None where there is none.

    Seeds that score every question alike say what one says: the interval is its own, since resampling finds no spread.
    """
    pooled, table = pool_mean([runs]), _table(runs)
    if pooled is None or (table != table[0]).any():
        return pooled
    one = accuracy({str(place): value for place, value in enumerate(table[0])})
    return replace(pooled, low=one.low, high=one.high)


def pool_mean(datasets: Sequence[Sequence[Scores]]) -> Pooled | None:
    """As `pool`, of the mean over several datasets, each counting the same; every dataset holds the same seeds in order.

    `n` counts the questions of all; a seed that is drawn is drawn for every dataset.
    """
    tables = [_table(runs) for runs in datasets]
    if not tables or any(table.size == 0 for table in tables):
        return None
    drawn = _resampled([[table] for table in tables])[:, 0]
    low, high = np.percentile(drawn, [2.5, 97.5])
    by_seed = np.mean([table.mean(axis=1) for table in tables], axis=0)
    sd = float(by_seed.std(ddof=1)) if len(by_seed) > 1 else 0.0
    n = sum(table.shape[1] for table in tables)
    return Pooled(len(by_seed), n, float(by_seed.mean()), sd, float(low), float(high))


def compare_arms(first: Sequence[Scores], second: Sequence[Scores]) -> ArmDifference | None:
    """The difference of two arms, each of one or more seeds; None where they have no question in common."""
    return compare_means([(first, second)])


def compare_means(datasets: Sequence[tuple[Sequence[Scores], Sequence[Scores]]]) -> ArmDifference | None:
    """As `compare_arms`, of the mean over several datasets, each given by both arms' seeds."""
    tables = []
    for first, second in datasets:
        both = _table([*first, *second])
        if both.size == 0:
            return None
        tables.append([both[: len(first)], both[len(first) :]])
    if not tables:
        return None
    drawn = _resampled(tables)
    differences = drawn[:, 1] - drawn[:, 0]
    low, high = np.percentile(differences, [2.5, 97.5])
    if len(tables) == 1 and np.ptp(differences) < _EQUAL:
        low, high = _paired_interval(tables[0][0][0], tables[0][1][0])
    beyond = min((differences <= 0).sum(), (differences >= 0).sum())
    before, after = (float(np.mean([pair[place].mean() for pair in tables])) for place in (0, 1))
    changed = sum(int((np.abs(pair[1].mean(axis=0) - pair[0].mean(axis=0)) > _EQUAL).sum()) for pair in tables)
    p = min(1.0, max(2 * (int(beyond) + 1) / (_RESAMPLES + 1), 2 * 0.5**changed))
    n = sum(pair[0].shape[1] for pair in tables)
    return ArmDifference(n, before, after, after - before, float(low), float(high), p)


def compare_runs(first: Sequence[Scores], second: Sequence[Scores]) -> float | None:
    """The p-value of two arms: McNemar's where each is one run of rights and wrongs, else that of `compare_arms`."""
    if len(first) == len(second) == 1 and set(first[0].values()) | set(second[0].values()) <= {0, 1}:
        return paired_p(first[0], second[0]) if first[0].keys() & second[0].keys() else None
    found = compare_arms(first, second)
    return None if found is None else found.p


def holm(values: Sequence[float]) -> list[float]:
    """P-values corrected for how many there are (Holm 1979), in their order."""
    corrected, highest = [0.0] * len(values), 0.0
    for rank, place in enumerate(sorted(range(len(values)), key=lambda place: values[place])):
        highest = max(highest, min(1.0, (len(values) - rank) * values[place]))
        corrected[place] = highest
    return corrected


def _changes(before: Scores, after: Scores) -> tuple[int, int]:
    both = before.keys() & after.keys()
    return sum(after[name] > before[name] for name in both), sum(after[name] < before[name] for name in both)


def _wilson(right: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % score interval (1927); scipy's comes with a test, and a report has thousands of intervals."""
    share, z2 = right / n, _Z * _Z
    centre = share + z2 / (2 * n)
    half = _Z * (share * (1 - share) / n + z2 / (4 * n * n)) ** 0.5
    low, high = (centre - half) / (1 + z2 / n), (centre + half) / (1 + z2 / n)
    return min(share, max(0.0, low)), max(share, min(1.0, high))  # at 0 and 1 the ends may round past the share


def _bootstrap(values: np.ndarray) -> tuple[float, float]:
    """The 95 % percentile interval of the mean."""
    if len(values) < 2 or (values == values[0]).all():
        return float(values[0]), float(values[0])
    low, high = np.percentile(_resampled([[values[None, :]]])[:, 0], [2.5, 97.5])
    return float(low), float(high)


def _paired_interval(before: np.ndarray, after: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of the mean difference: bootstrap; of rights and wrongs that all changed alike Newcombe's.

    Newcombe, Statistics in Medicine 17 (1998), 2635, method 10: the two Wilson intervals squared and added, less what the
    two have in common by their correlation, whose numerator (a product of counts) is brought n / 2 nearer to 0.
    """
    change, binary = after - before, np.isin([before, after], (0, 1)).all()
    if not binary or (change != change[0]).any():
        return _bootstrap(change)
    n = len(change)
    first, second = (float(values.mean()) for values in (before, after))
    (low_1, high_1), (low_2, high_2) = (_wilson(int(values.sum()), n) for values in (before, after))
    both, neither = int((before * after).sum()), int(((1 - before) * (1 - after)).sum())
    related = max(0.0, 1 - n / 2 / (both * neither)) if both and neither else 0.0  # 0 where one of them is constant

    def reach(one: float, other: float) -> float:
        return float(max(0.0, one * one + other * other - 2 * related * one * other)) ** 0.5

    difference = second - first
    return difference - reach(second - low_2, high_1 - first), difference + reach(high_2 - second, first - low_1)


def _table(runs: Sequence[Scores]) -> np.ndarray:
    """Scores by run and question, of the questions that all runs hold: (runs, questions) float64."""
    common = sorted(set(runs[0]).intersection(*runs[1:])) if runs else []
    return np.array([[float(scores[name]) for name in common] for scores in runs]).reshape(len(runs), len(common))


def _resampled(datasets: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """Bootstrap means of each arm, over datasets: (resamples, arms) float64.

    Every dataset is given by its arms' tables, (seeds, questions) each. Questions that all runs score alike are one pattern:
    drawing how often each pattern comes is the same as drawing the questions, and costs by the pattern.
    """
    rng = np.random.default_rng(0)
    chosen = [
        rng.multinomial(len(arm), np.full(len(arm), 1 / len(arm)), _RESAMPLES) / len(arm) if len(arm) > 1 else None
        for arm in datasets[0]
    ]
    means = np.zeros((_RESAMPLES, len(chosen)))
    for arms in datasets:
        patterns, counts = np.unique(np.concatenate(arms), axis=1, return_counts=True)
        n, edges = int(counts.sum()), np.cumsum([0, *(len(arm) for arm in arms)])
        step = max(1, _AT_ONCE // len(counts))
        for begin in range(0, _RESAMPLES, step):
            part = slice(begin, min(begin + step, _RESAMPLES))
            drawn = rng.multinomial(n, counts / n, part.stop - begin) @ patterns.T / n  # (resamples, runs)
            for place, seeds in enumerate(chosen):
                own = drawn[:, edges[place] : edges[place + 1]]
                means[part, place] += own[:, 0] if seeds is None else (own * seeds[part]).sum(axis=1)
    return means / len(datasets)
