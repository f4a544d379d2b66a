"""What the judges share that grade an answer by itself, beside the reference answer where there is one."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from errata.errors import ConfigError
from errata.judge.base import Item, shown
from errata.judge.comparison import NO_REPLY, UNPARSED
from errata.judge.reading import rating, whole_lines
from errata.prompts import Prompts, read_prompts
from errata.records import Judgement, Pair, Reply, Request

_PROMPTS = Path(__file__).parent / "prompts"
_NAMES = ("question", "reference", "answer")


@dataclass
class Referenced:
    """Base: one request an item, by one of two texts, and one grade.

    Attributes:
        prompts_dir: a folder of the user's with `system.txt`, `with_reference.txt` and `without_reference.txt`
            (placeholders: question, reference, answer; `belle` also guide); ours when null.
        expected_tokens: a guess at a reply's length, for the price in the plan.
    """

    prompts_dir: str | None = None
    expected_tokens: int = 120

    asks: ClassVar[bool] = True
    compares: ClassVar[bool] = False
    name: ClassVar[str]
    """What the requests are counted under, and the folder of our prompts."""
    lowest: ClassVar[float]
    highest: ClassVar[float]

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
        """One request, with the reference where it is to be seen."""
        pair = item.question
        prompts = self._prompts(self._sees_reference(pair))
        values = {"question": shown(pair), "reference": pair.output, "answer": item.answer or "(no answer)"}
        return [
            Request(
                f"{pair.id}/answer", pair.source, pair.id, prompts.render(values | self._more(pair)), 0,
                expected_tokens=self.expected_tokens, strategy=self.name, prompt=prompts.fingerprint,
            )
        ]  # fmt: skip

    def judgement(self, item: Item, replies: Sequence[Reply]) -> Judgement:
        """The grade."""
        reply, pair = replies[0], item.question
        score = rating(whole_lines(reply), self.lowest, self.highest)
        reason = "" if score is not None else NO_REPLY if reply.text is None else UNPARSED
        return Judgement(
            pair.id, pair.source, pair.skill, score=score, reason=reason, lengths=(len(item.answer), 0),
            request_ids=(reply.request_id,),
        )  # fmt: skip

    def _sees_reference(self, pair: Pair) -> bool:
        return pair.output.strip() != ""

    def _more(self, pair: Pair) -> dict[str, str]:
        """What else is filled in."""
        return {}

    def _prompts(self, reference: bool) -> Prompts:
        folder = Path(self.prompts_dir).expanduser() if self.prompts_dir else _PROMPTS / self.name
        names = (*_NAMES, *self._more(Pair("", "", "", "")))
        return read_prompts(folder, names, "with_reference" if reference else "without_reference")
