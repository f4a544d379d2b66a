"""MT-Bench: questions of several turns, each answer graded from 1 to 10 by itself, behind the whole conversation.

80 questions of two turns and eight categories (arXiv 2306.05685). Reflection-Tuning's second paper reports both turns.

Differs from the source (lm-sys/FastChat, fastchat/llm_judge): the prompt is our own, and asks for the score before the
reasons; the reference is the question file's own and is shown at its own turn wherever there is one (there: GPT-4's answers
to both turns, in mathematics, reasoning and coding); answers are greedy (there: sampled at temperature 0.7 in writing and
roleplay, 0.1 in the sciences and the humanities).
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from errata.judge.base import Item
from errata.judge.comparison import ALL, reasons
from errata.judge.rates import macro
from errata.judge.referenced import Referenced
from errata.records import Judgement, Reply, turn_id

_ORDER = ("writing", "roleplay", "reasoning", "math", "coding", "extraction", "stem", "humanities")
_TURN = "turn "


@dataclass
class MTBench(Referenced):
    """Grades each turn from 1 to 10. A judgement's part, `turn 2`, says which turn of its question it is."""

    name: ClassVar[str] = "mt_bench"
    lowest: ClassVar[float] = 1
    highest: ClassVar[float] = 10

    def judgement(self, item: Item, replies: Sequence[Reply]) -> Judgement:
        """The grade, and the turn that got it."""
        found = super().judgement(item, replies)
        return replace(found, parts={f"{_TURN}{len(item.question.history) + 1}": found.score})

    def summary(self, judgements: Sequence[Judgement]) -> dict[str, object]:
        """Mean scores by turn, over all and by category; the scores themselves too, for the intervals."""
        by_set: dict[str, list[Judgement]] = defaultdict(list)
        for judgement in judgements:
            by_set[judgement.testset].append(judgement)
        sets = {
            name: {
                "items": len(part),
                **_means(part),
                "categories": {category: _means(own) for category, own in _by_category(part).items()},
                "no_verdict": sum(judgement.score is None for judgement in part),
                "reasons": reasons(part),
            }
            for name, part in by_set.items()
        }
        return {"kind": "turns", "measure": "score, 1 to 10", "sets": sets}


def _means(judgements: Sequence[Judgement]) -> dict[str, Any]:
    """Each turn's mean, and under `all` the mean of the questions: of each the mean of its turns that have a score."""
    turns: dict[str, list[float]] = {}
    questions: dict[str, list[float]] = {}
    for judgement in judgements:
        for part, score in judgement.parts.items():
            own = questions.setdefault(judgement.id.removesuffix(turn_id("", int(part.removeprefix(_TURN)))), [])
            of_turn = turns.setdefault(part, [])
            if score is not None:
                own.append(score)
                of_turn.append(score)
    means = [sum(scores) / len(scores) for scores in questions.values() if scores]
    return {
        ALL: _mean(means),
        "turns": {name: _mean(turns[name]) for name in sorted(turns, key=lambda name: (len(name), name))},
    }


def _mean(scores: Sequence[float]) -> dict[str, Any]:
    return {"n": len(scores), "mean": macro(scores), "scores": list(scores)}


def _by_category(judgements: Sequence[Judgement]) -> Mapping[str, Sequence[Judgement]]:
    """In the source's order; those that it does not have come behind."""
    found: dict[str, list[Judgement]] = defaultdict(list)
    for judgement in judgements:
        found[judgement.skill or "(none)"].append(judgement)
    return dict(sorted(found.items(), key=lambda one: _ORDER.index(one[0]) if one[0] in _ORDER else len(_ORDER)))
