"""Rates over verdicts: plain arithmetic, None where there is nothing to divide by."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

_RIDGE = 1e-3


@dataclass(frozen=True)
class Tally:
    """Wins, ties and losses of the first answer; tallies of several test sets are pooled by adding them.

    `wr1`, `wr2` and `qs` are CoachLM's (they give all 48 cells of its main table), `headline` is Reflection-Tuning's and
    Cherry_LLM's, `win_rate_se` AlpacaEval's.
    """

    wins: int = 0
    ties: int = 0
    losses: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(self.wins + other.wins, self.ties + other.ties, self.losses + other.losses)

    @property
    def n(self) -> int:
        """How many items have a verdict."""
        return self.wins + self.ties + self.losses

    @property
    def wr1(self) -> float | None:
        """Win rate with a tie as half a win: (W + T/2) / N. AlpacaEval's win rate is the same."""
        return (self.wins + self.ties / 2) / self.n if self.n else None

    @property
    def wr2(self) -> float | None:
        """Win rate without the ties: W / (W + L)."""
        return self.wins / (self.wins + self.losses) if self.wins + self.losses else None

    @property
    def qs(self) -> float | None:
        """Share that is at least as good: (W + T) / N."""
        return (self.wins + self.ties) / self.n if self.n else None

    @property
    def headline(self) -> float | None:
        """(W - L) / N + 1: above 1 the first answers are better."""
        return (self.wins - self.losses) / self.n + 1 if self.n else None

    @property
    def win_rate_se(self) -> float | None:
        """Standard error of `wr1`: the standard deviation of the preferences (1, 1/2, 0; divisor N - 1) over sqrt(N)."""
        if self.wr1 is None or self.n < 2:
            return None
        squares = self.wins * (1 - self.wr1) ** 2 + self.ties * (0.5 - self.wr1) ** 2 + self.losses * self.wr1**2
        return math.sqrt(squares / (self.n - 1) / self.n)


def macro(values: Iterable[float | None]) -> float | None:
    """The mean, each value counting the same; None where there is none, or where one is missing."""
    found = list(values)
    known = [value for value in found if value is not None]
    return sum(known) / len(known) if known and len(known) == len(found) else None


def length_controlled(preferences: Sequence[float], lengths: Sequence[tuple[int, int]]) -> float | None:
    """The win rate that is left at equal lengths.

    A logistic regression of the preference (1, 1/2 or 0 for the first answer) on an intercept and the tanh of the
    standardised length difference; the rate is its prediction at difference zero. The idea is AlpacaEval 2's.
    Differs from the source: no term for the instruction's difficulty, which takes many models' verdicts to fit; the slope
    (not the intercept) has a small ridge, so that perfectly separated verdicts have a solution too.

    Args:
        preferences: of each item.
        lengths: characters of the first answer and of the second, of each item.

    Returns:
        None without items. Where all lengths differ alike, or all preferences are the same, the plain win rate: then the
        lengths tell nothing. It is near that, for the same reason, where one side is much longer throughout.
    """
    wanted = np.asarray(preferences, dtype=float)
    if not len(wanted):
        return None
    difference = np.array([first - second for first, second in lengths], dtype=float)
    spread = difference.std()
    if spread == 0 or wanted.min() == wanted.max():
        return float(wanted.mean())
    longer = np.tanh(difference / spread)
    from scipy.optimize import minimize
    from scipy.special import expit

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        logits = weights[0] + weights[1] * longer
        fit = np.mean(np.logaddexp(0, logits) - wanted * logits) + _RIDGE / 2 * weights[1] ** 2
        error = (expit(logits) - wanted) / len(wanted)
        return float(fit), np.array([error.sum(), error @ longer + _RIDGE * weights[1]])

    found = minimize(loss, np.zeros(2), jac=True, method="BFGS", options={"gtol": 1e-8})
    return float(expit(found.x[0]))
