"""The two numbers that stand beside every accuracy: its interval, and the paired p-value against another run."""

from collections.abc import Mapping
from dataclasses import dataclass

from scipy.stats import binomtest


@dataclass(frozen=True)
class Accuracy:
    """Right answers of `n`, with the 95 % Wilson interval."""

    n: int
    right: int
    accuracy: float
    low: float
    high: float


def accuracy(verdicts: Mapping[str, bool]) -> Accuracy:
    """Share of right verdicts (question id to verdict; at least one)."""
    n, right = len(verdicts), sum(verdicts.values())
    interval = binomtest(right, n).proportion_ci(confidence_level=0.95, method="wilson")
    return Accuracy(n, right, right / n, float(interval.low), float(interval.high))


def paired_p(before: Mapping[str, bool], after: Mapping[str, bool]) -> float:
    """Exact McNemar test on the questions that both hold: two-sided p of as many changes of verdict by chance."""
    both = before.keys() & after.keys()
    gained = sum(after[name] and not before[name] for name in both)
    lost = sum(before[name] and not after[name] for name in both)
    return float(binomtest(gained, gained + lost, 0.5).pvalue) if gained + lost else 1.0
