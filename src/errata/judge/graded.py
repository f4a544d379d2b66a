"""Means by category and their macro average: how Belle-eval and MMCU are reported.

The averages of the Alpaca-CoT paper are means over the ten categories, or the four subjects, each counting the same.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from errata.judge.comparison import reasons
from errata.judge.rates import macro
from errata.records import Judgement


def summarise(
    judgements: Sequence[Judgement], measure: str, category: Callable[[str], str], order: Sequence[str]
) -> dict[str, object]:
    """Means times 100 by test set and category; an item without a score is left out and counted.

    Args:
        judgements: with a score between 0 and 1 each.
        measure: what the figures are, in words.
        category: an item's category, from its skill.
        order: the categories in the order of the published tables; others come behind them.
    """
    by_set: dict[str, list[Judgement]] = defaultdict(list)
    for judgement in judgements:
        by_set[judgement.testset].append(judgement)
    return {
        "kind": "graded",
        "measure": measure,
        "sets": {name: _row(part, category, order) for name, part in by_set.items()},
    }


def _row(judgements: Sequence[Judgement], category: Callable[[str], str], order: Sequence[str]) -> dict[str, Any]:
    groups: dict[str, list[Judgement]] = defaultdict(list)
    for judgement in judgements:
        groups[category(judgement.skill) or "(none)"].append(judgement)
    names = sorted(groups, key=lambda name: (order.index(name) if name in order else len(order), name))
    categories = {name: _mean(groups[name]) for name in names}
    return {
        "items": len(judgements),
        "categories": categories,
        "macro": macro(part["mean"] for part in categories.values()),
        "all": _mean(judgements),
        "no_verdict": sum(judgement.score is None for judgement in judgements),
        "reasons": reasons(judgements),
    }


def _mean(judgements: Sequence[Judgement]) -> dict[str, Any]:
    known = [judgement.score for judgement in judgements if judgement.score is not None]
    mean = macro(known)
    return {"items": len(judgements), "n": len(known), "mean": None if mean is None else 100 * mean}
