"""Belle-eval: 1,000 Chinese items of ten classes, each answer graded from 0 to 1 by an instructor (Alpaca-CoT's evaluation).

The grader sees the reference answer, except where there is no one right answer: generation, brainstorming, rewrite.

Differs from the source (Alpaca-CoT, eval/score.py): the grades are read and averaged, where the source stores raw replies;
the prompt is English, and our own; an item that cannot be graded is missing, not asked about again and again.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from errata.judge.graded import summarise
from errata.judge.referenced import Referenced
from errata.records import Judgement, Pair

_HERE = Path(__file__).parent
_SAME = {
    "brainstorm": "brainstorming", "close qa": "closed qa", "summary": "summarization", "summarisation": "summarization",
    "extraction": "extract", "rewriting": "rewrite", "coding": "code",
}  # fmt: skip
_ANY = {"reference": True, "guide": "Look at whether the answer does what the task asks, and does it well."}


@dataclass
class Belle(Referenced):
    """Grades an answer from 0 to 1 by its class's own standard (placeholder `guide`)."""

    expected_tokens: int = 80

    name: ClassVar[str] = "belle"
    lowest: ClassVar[float] = 0
    highest: ClassVar[float] = 1

    def summary(self, judgements: Sequence[Judgement]) -> dict[str, object]:
        """Mean grades times 100 by class, and their macro average."""
        return summarise(judgements, "mean grade x 100", category, [str(kind["name"]) for kind in _classes().values()])

    def _sees_reference(self, pair: Pair) -> bool:
        """Where the class has one right answer, and the test set has the reference."""
        return bool(_kind(pair)["reference"] and pair.output)

    def _more(self, pair: Pair) -> dict[str, str]:
        return {"guide": str(_kind(pair)["guide"])}


def category(skill: str) -> str:
    """A class by the name it has in the paper's tables; one that is unknown keeps its own."""
    found = _classes().get(_class(skill))
    return str(found["name"]) if found else skill


def _kind(pair: Pair) -> dict[str, Any]:
    return _classes().get(_class(pair.skill), _ANY)


def _class(skill: str) -> str:
    name = " ".join(skill.lower().replace("_", " ").replace("-", " ").split())
    return _SAME.get(name, name)


@cache
def _classes() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = json.loads((_HERE / "rubrics" / "belle.json").read_bytes())
    return found
