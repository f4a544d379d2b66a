"""Two verdicts, one for each order of showing, become one outcome; outcomes become figures."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from errata.judge.rates import Tally, length_controlled, macro
from errata.records import Judgement

WIN, TIE, LOSS = "win", "tie", "loss"
UNPARSED, NO_REPLY = "unparsed", "no_reply"
ALL = "all"
_PREFERENCE = {WIN: 1.0, TIE: 0.5, LOSS: 0.0}
Scores = tuple[float, float]


def outcome(orders: Sequence[Scores | None], unanimous: bool = False) -> tuple[str | None, bool]:
    """What both orders say together, and whether they contradict each other; (None, False) where one is missing.

    The first answer wins when it is better in both orders, or better in one and equal in the other; it ties when both are
    equal or the orders contradict each other; else it loses (Cherry_LLM's and Reflection-Tuning's rule).

    Args:
        orders: scores of the first answer and of the second, in each order of showing.
        unanimous: whether only what both orders say counts, and all else is a tie (PandaLM's rule).
    """
    signs = [(first > second) - (first < second) for first, second in filter(None, orders)]
    if not orders or len(signs) < len(orders):
        return None, False
    contradicts = {-1, 1} <= set(signs)
    total = sum(signs) if not unanimous or len(set(signs)) == 1 else 0
    return WIN if total > 0 else LOSS if total < 0 else TIE, contradicts


def summarise(judgements: Sequence[Judgement], lengths: bool = False) -> dict[str, object]:
    """The figures by test set and over all; `lengths` adds the length-controlled win rate.

    `all` pools the items; `mean_of_sets` gives each test set the same weight.
    """
    by_set: dict[str, list[Judgement]] = defaultdict(list)
    for judgement in judgements:
        by_set[judgement.testset].append(judgement)
    rows = {name: _row(part, lengths) for name, part in by_set.items()}
    rates = ("wr1", "wr2", "qs", "headline")
    return {
        "kind": "comparison",
        "sets": rows,
        ALL: _row(judgements, lengths),
        "mean_of_sets": {name: macro(row[name] for row in rows.values()) for name in rates},
    }


def reasons(judgements: Iterable[Judgement]) -> dict[str, int]:
    """How often there is no verdict, by reason (its first word)."""
    return dict(Counter(judgement.reason.partition(":")[0] for judgement in judgements if judgement.reason).most_common())


def _row(judgements: Sequence[Judgement], lengths: bool) -> dict[str, Any]:
    known = [judgement for judgement in judgements if judgement.outcome is not None]
    counted = Counter(judgement.outcome for judgement in known)
    tally = Tally(counted[WIN], counted[TIE], counted[LOSS])
    split = [judgement for judgement in known if judgement.contradicts]
    shown_first = sum(pair is not None and pair[0] > pair[1] for pair in (judgement.orders[0] for judgement in split))
    row: dict[str, Any] = {
        "items": len(judgements), "n": tally.n, "wins": tally.wins, "ties": tally.ties, "losses": tally.losses,
        "wr1": tally.wr1, "wr2": tally.wr2, "qs": tally.qs, "headline": tally.headline, "win_rate_se": tally.win_rate_se,
        "contradictory": len(split),
        "contradiction_rate": len(split) / len(known) if known else None,
        "for_the_answer_shown_first": shown_first,
        "for_the_answer_shown_second": len(split) - shown_first,
        "no_verdict": len(judgements) - tally.n,
        "reasons": reasons(judgements),
    }  # fmt: skip
    if lengths:
        preferences = [_PREFERENCE[judgement.outcome or TIE] for judgement in known]
        row["length_controlled_win_rate"] = length_controlled(preferences, [judgement.lengths for judgement in known])
        row["mean_lengths"] = [macro(float(judgement.lengths[side]) for judgement in known) for side in (0, 1)]
    return row
