"""Which of two answers is better, asked in both orders of showing.

The form of the GPT-4 comparisons of Vicuna, Cherry_LLM and Reflection-Tuning: a score from 1 to 10 for each answer on the
first line, by helpfulness, relevance, accuracy and level of detail, then the grounds. In Cherry_LLM's published logs the two
orders contradict each other in 14 % (GPT-4) and 65 % (GPT-3.5) of the items: one order alone says little.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from errata.errors import ConfigError
from errata.judge.base import Item, shown
from errata.judge.comparison import NO_REPLY, TIE, UNPARSED, Scores, outcome, summarise
from errata.judge.reading import choice, scores, whole_lines
from errata.prompts import Prompts, read_prompts
from errata.records import Judgement, Reply, Request

_OURS = Path(__file__).parent / "prompts"
_NAMES = ("question", "first", "second", "lowest", "highest")
_FOLDERS = {"scores": "pairwise", "choice": "choice"}
ORDERS = ("forward", "reverse")


@dataclass
class Pairwise:
    """Compares an answer with another one. Both orders are always asked.

    Attributes:
        form: `scores` (two numbers), or `choice`: 1, 2 or Tie (PandaLM's).
        unanimous: only what both orders say counts, all else is a tie (PandaLM's rule); otherwise better in one order and
            equal in the other is better (Cherry_LLM's).
        length_controlled: also give the win rate at equal lengths.
        prompts_dir: a folder of the user's with `system.txt` and `user.txt` (placeholders: question, first, second, lowest,
            highest); ours when null.
        expected_tokens: a guess at a reply's length, for the price in the plan.
    """

    form: str = "scores"
    unanimous: bool = False
    length_controlled: bool = False
    prompts_dir: str | None = None
    expected_tokens: int = 200

    asks: ClassVar[bool] = True
    compares: ClassVar[bool] = True
    lowest: ClassVar[int] = 1
    highest: ClassVar[int] = 10

    def problems(self) -> list[str]:
        """An unknown form, or prompt files that are missing or cannot be filled."""
        if self.form not in _FOLDERS:
            return [f"judge.form is {self.form!r}: choose scores or choice"]
        try:
            self._prompts()
        except ConfigError as error:
            return list(error.problems)
        return []

    def requests(self, item: Item) -> list[Request]:
        """The comparison in both orders; none of two answers that are the same."""
        prompts, pair, against = self._prompts(), item.question, item.against or ""
        if item.answer == against:
            return []
        asked = []
        for order, (first, second) in zip(ORDERS, ((item.answer, against), (against, item.answer)), strict=True):
            values = {"question": shown(pair), "first": first or "(no answer)", "second": second or "(no answer)",
                      "lowest": self.lowest, "highest": self.highest}  # fmt: skip
            asked.append(
                Request(
                    f"{pair.id}/{order}", pair.source, pair.id, prompts.render(values), 0,
                    expected_tokens=self.expected_tokens, strategy="pairwise", prompt=prompts.fingerprint,
                )
            )  # fmt: skip
        return asked

    def judgement(self, item: Item, replies: Sequence[Reply]) -> Judgement:
        """Both orders' verdicts as one; a cut reply will do where the line of its verdict is whole.

        Differs from the sources: two answers that are the same are a tie, and nobody is asked.
        """
        if item.answer == (item.against or ""):
            pair, length = item.question, len(item.answer)
            return Judgement(pair.id, pair.source, pair.skill, TIE, lengths=(length, length))
        shown = [self._read(reply) for reply in replies]
        orders = (shown[0], None if shown[1] is None else (shown[1][1], shown[1][0]))
        verdict = judged(item, orders, self.unanimous, any(reply.text is None for reply in replies))
        return replace(verdict, request_ids=tuple(reply.request_id for reply in replies))

    def summary(self, judgements: Sequence[Judgement]) -> dict[str, object]:
        """Wins, ties and losses by test set, with their rates."""
        return summarise(judgements, self.length_controlled)

    def _read(self, reply: Reply) -> Scores | None:
        text = whole_lines(reply)
        return scores(text, self.lowest, self.highest) if self.form == "scores" else choice(text)

    def _prompts(self) -> Prompts:
        folder = Path(self.prompts_dir).expanduser() if self.prompts_dir else _OURS / _FOLDERS[self.form]
        return read_prompts(folder, _NAMES)


def judged(item: Item, orders: Sequence[Scores | None], unanimous: bool, failed: bool) -> Judgement:
    """The judgement that both orders' scores give; without both of them no verdict, and the reason."""
    pair = item.question
    found, contradicts = outcome(orders, unanimous)
    reason = "" if found is not None else NO_REPLY if failed else UNPARSED
    lengths = (len(item.answer), len(item.against or ""))
    return Judgement(pair.id, pair.source, pair.skill, found, tuple(orders), contradicts, reason=reason, lengths=lengths)
