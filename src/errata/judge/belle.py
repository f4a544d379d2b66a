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

from errata.errors import ConfigError
from errata.judge.base import Item, shown
from errata.judge.comparison import NO_REPLY, UNPARSED
from errata.judge.graded import summarise
from errata.judge.reading import rating, whole_lines
from errata.prompts import Prompts, read_prompts
from errata.records import Judgement, Reply, Request

_HERE = Path(__file__).parent
_NAMES = ("guide", "question", "reference", "answer")
_SAME = {
    "brainstorm": "brainstorming", "close qa": "closed qa", "summary": "summarization", "summarisation": "summarization",
    "extraction": "extract", "rewriting": "rewrite", "coding": "code",
}  # fmt: skip
_ANY = {"reference": True, "guide": "Look at whether the answer does what the task asks, and does it well."}


@dataclass
class Belle:
    """Grades an answer from 0 to 1 by its class's own standard.

    Attributes:
        prompts_dir: a folder of the user's with `system.txt`, `with_reference.txt` and `without_reference.txt`
            (placeholders: guide, question, reference, answer); ours when null.
        expected_tokens: a guess at a reply's length, for the price in the plan.
    """

    prompts_dir: str | None = None
    expected_tokens: int = 80

    asks: ClassVar[bool] = True
    compares: ClassVar[bool] = False

    def problems(self) -> list[str]:
        """Prompt files that are missing or cannot be filled."""
        found: list[str] = []
        for reference in (True, False):
            try:
                self._prompts(reference)
            except ConfigError as error:
                found += error.problems
        return list(dict.fromkeys(found))

    def requests(self, item: Item) -> list[Request]:
        """One request; the reference is shown where the class has one right answer, and the test set has the reference."""
        pair, kind = item.question, _classes().get(_class(item.question.skill), _ANY)
        prompts = self._prompts(bool(kind["reference"] and pair.output))
        values = {"guide": kind["guide"], "question": shown(pair), "reference": pair.output}
        messages = prompts.render(values | {"answer": item.answer or "(no answer)"})
        return [
            Request(
                f"{pair.id}/answer", pair.source, pair.id, messages, 0,
                expected_tokens=self.expected_tokens, strategy="belle", prompt=prompts.fingerprint,
            )
        ]  # fmt: skip

    def judgement(self, item: Item, replies: Sequence[Reply]) -> Judgement:
        """The grade."""
        reply, pair = replies[0], item.question
        score = rating(whole_lines(reply), 0, 1)
        reason = "" if score is not None else NO_REPLY if reply.text is None else UNPARSED
        return Judgement(
            pair.id, pair.source, pair.skill, score=score, reason=reason, lengths=(len(item.answer), 0),
            request_ids=(reply.request_id,),
        )  # fmt: skip

    def summary(self, judgements: Sequence[Judgement]) -> dict[str, object]:
        """Mean grades times 100 by class, and their macro average."""
        return summarise(judgements, "mean grade x 100", category, [str(kind["name"]) for kind in _classes().values()])

    def _prompts(self, reference: bool) -> Prompts:
        folder = Path(self.prompts_dir).expanduser() if self.prompts_dir else _HERE / "prompts" / "belle"
        return read_prompts(folder, _NAMES, "with_reference" if reference else "without_reference")


def category(skill: str) -> str:
    """A class by the name it has in the paper's tables; one that is unknown keeps its own."""
    found = _classes().get(_class(skill))
    return str(found["name"]) if found else skill


def _class(skill: str) -> str:
    name = " ".join(skill.lower().replace("_", " ").replace("-", " ").split())
    return _SAME.get(name, name)


@cache
def _classes() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = json.loads((_HERE / "rubrics" / "belle.json").read_bytes())
    return found
