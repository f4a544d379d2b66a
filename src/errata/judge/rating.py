"""How good is one answer by itself: a score from 0 to 5 for accuracy.

AlpaGasus rated Alpaca so with ChatGPT, and CoachLM its pairs before and after the revision: 17.7 % at 4.5 or above before,
78.9 % after, means 3.95 and 4.31.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from errata.errors import ConfigError
from errata.judge.base import Item, shown
from errata.judge.comparison import ALL, NO_REPLY, UNPARSED, reasons
from errata.judge.rates import macro
from errata.judge.reading import rating, whole_lines
from errata.prompts import Prompts, read_prompts
from errata.records import Judgement, Pair, Reply, Request

_OURS = Path(__file__).parent / "prompts" / "rating"
_NAMES = ("question", "answer", "lowest", "highest")
BEFORE = "before"
"""The part that holds the second answer's score."""


@dataclass
class Rating:
    """Rates an answer by itself, and beside it the one it came from, where there is one.

    Attributes:
        lowest, highest: the scale.
        edges: where the histogram is cut; each range holds its lower edge.
        high: from where on a score counts as high.
        prompts_dir: a folder of the user's with `system.txt` and `user.txt` (placeholders: question, answer, lowest,
            highest); ours when null.
        expected_tokens: a guess at a reply's length, for the price in the plan.
    """

    lowest: float = 0.0
    highest: float = 5.0
    edges: tuple[float, ...] = (3.5, 4.0, 4.5)
    high: float = 4.5
    prompts_dir: str | None = None
    expected_tokens: int = 120

    asks: ClassVar[bool] = True
    compares: ClassVar[bool] = False

    def problems(self) -> list[str]:
        """A scale that is none, edges outside of it, or prompt files that are missing or cannot be filled."""
        found = []
        if not self.lowest < self.highest:
            found.append(f"judge.lowest is {self.lowest} and judge.highest {self.highest}: the scale must rise")
        if list(self.edges) != sorted(set(self.edges)) or any(not self.lowest < e < self.highest for e in self.edges):
            found.append(f"judge.edges is {list(self.edges)}: give rising numbers between the ends of the scale")
        if not self.lowest <= self.high <= self.highest:
            found.append(f"judge.high is {self.high}: it must lie on the scale")
        try:
            self._prompts()
        except ConfigError as error:
            found += error.problems
        return found

    def requests(self, item: Item) -> list[Request]:
        """One request, or one more for the answer it is set against."""
        return [self._request(item.question.id, item, *shown) for shown in rated(item)]

    def judgement(self, item: Item, replies: Sequence[Reply]) -> Judgement:
        """The score, and the second answer's as the part `before`."""
        found = [rating(whole_lines(reply), self.lowest, self.highest) for reply in replies]
        reason = "" if found[0] is not None else NO_REPLY if replies[0].text is None else UNPARSED
        pair = item.question
        return Judgement(
            pair.id, pair.source, pair.skill, score=found[0], parts={BEFORE: found[1]} if len(found) > 1 else {},
            reason=reason, lengths=(len(item.answer), len(item.against or "")),
            request_ids=tuple(reply.request_id for reply in replies),
        )  # fmt: skip

    def summary(self, judgements: Sequence[Judgement]) -> dict[str, object]:
        """Histogram, mean and share of high scores by test set, after and (where rated) before."""
        return summarise(judgements, (self.lowest, *self.edges, self.highest), self.high)

    def _request(self, name: str, item: Item, role: str, question: Pair, answer: str) -> Request:
        values = {"question": shown(question), "answer": answer or "(no answer)"}
        scale = {"lowest": f"{self.lowest:g}", "highest": f"{self.highest:g}"}
        prompts = self._prompts()
        return Request(
            f"{name}/{role}", item.question.source, name, prompts.render(values | scale), 0,
            expected_tokens=self.expected_tokens, strategy="rating", prompt=prompts.fingerprint,
        )  # fmt: skip

    def _prompts(self) -> Prompts:
        return read_prompts(Path(self.prompts_dir).expanduser() if self.prompts_dir else _OURS, _NAMES)


def rated(item: Item) -> list[tuple[str, Pair, str]]:
    """What is rated of an item: (`answer` or `before`, the question, the answer to it) each."""
    found = [("answer", item.question, item.answer)]
    if item.against is not None:
        found.append((BEFORE, item.against_question or item.question, item.against))
    return found


def summarise(judgements: Sequence[Judgement], edges: Sequence[float], high: float) -> dict[str, object]:
    """The figures of scores on a scale from the first edge to the last."""
    by_set: dict[str, list[Judgement]] = defaultdict(list)
    for judgement in judgements:
        by_set[judgement.testset].append(judgement)

    def row(part: Sequence[Judgement]) -> dict[str, Any]:
        sides: dict[str, Callable[[Judgement], float | None]] = {"after": lambda j: j.score}
        if any(BEFORE in judgement.parts for judgement in part):
            sides[BEFORE] = lambda j: j.parts.get(BEFORE)
        found = {name: _spread([side(judgement) for judgement in part], edges, high) for name, side in sides.items()}
        missing = sum(judgement.score is None for judgement in part)
        return {"items": len(part), **found, "no_verdict": missing, "reasons": reasons(part)}

    return {
        "kind": "rating",
        "edges": list(edges),
        "high": high,
        "sets": {name: row(part) for name, part in by_set.items()},
        ALL: row(judgements),
    }


def _spread(scores: Sequence[float | None], edges: Sequence[float], high: float) -> dict[str, Any]:
    """The known scores' histogram (the last range holds its upper edge too), mean, and share of high ones."""
    known = [score for score in scores if score is not None]
    counts = [0] * (len(edges) - 1)
    for score in known:
        counts[min(sum(score >= edge for edge in edges[1:-1]), len(counts) - 1)] += 1
    share = sum(score >= high for score in known) / len(known) if known else None
    return {"n": len(known), "histogram": counts, "mean": macro(known), "share_high": share}
