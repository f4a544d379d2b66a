"""The answer is the one that independent solutions of the same question agree on (self-consistency, arXiv 2203.11171).

Each row's question, alone, goes to a solver a few times: the run's own instructor, or another endpoint. The calls go through
the ledger and the budget like any others. Programs are judged by their tests instead, and are not asked about.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from errata.dataset.base import Dataset
from errata.records import Example, Question, Reply, Request

_HOW = {
    "word_problem": "Solve this problem. Write the calculation, one step a line; the last line is #### and the number.",
    "multiple_choice": "Answer this question. Think in a few sentences; the last line is `Answer: X`, the option's letter.",
}
_OPTION = re.compile(r"^([A-J])\. (.*)$", re.MULTILINE)
_TOKENS = 300


@dataclass
class Consensus:
    """Rejects `no_consensus`: fewer than `agree` of the solutions give the row's answer, or another answer is more frequent.

    Attributes:
        draws: solutions of each question.
        agree: the least share of the draws that must give the row's own answer.
        instructor: who solves (None: the run's instructor): `instructor@gate.consensus.instructor=vllm`.
    """

    draws: int = 3
    agree: float = 0.5
    instructor: Any = None

    def problems(self) -> list[str]:
        """Draws or a share out of range."""
        found = []
        if self.draws < 1:
            found.append(f"gate.consensus.draws is {self.draws}: it must be at least 1")
        if not 0 < self.agree <= 1:
            found.append(f"gate.consensus.agree is {self.agree}: choose a share above 0 and up to 1")
        return found

    def requests(self, row: Example, layout: str) -> list[Request]:
        """The question put to the solver, once a draw; none where there is no answer to compare."""
        if layout not in _HOW:
            return []
        messages = ({"role": "system", "content": _HOW[layout]}, {"role": "user", "content": row.prompt})
        return [
            Request(
                f"{row.id}/solve~{draw}", row.dataset, row.error_id, messages, 0, draw,
                expected_tokens=_TOKENS, strategy="consensus",
            )
            for draw in range(self.draws)
        ]  # fmt: skip

    def verdict(self, row: Example, replies: Sequence[Reply], dataset: Dataset) -> tuple[str, str] | None:
        """What the solutions say about the row: None where they agree with it, or nobody was asked."""
        if not replies:
            return None
        verdicts = [dataset.grade(as_question(row, dataset.layout), reply.text or "") for reply in replies]
        right = sum(verdict.correct for verdict in verdicts)
        others = Counter(verdict.answer for verdict in verdicts if not verdict.correct and verdict.answer is not None)
        rival, votes = others.most_common(1)[0] if others else (None, 0)
        if right >= self.agree * len(replies) and right > votes:
            return None
        said = f"{right} of {len(replies)} solutions give {row.answer}"
        return "no_consensus", f"{said}, {votes} give {rival}" if votes else said


def as_question(row: Example, layout: str) -> Question:
    """A row as the question that a dataset of that layout can grade other answers to."""
    choices = dict(_OPTION.findall(row.prompt)) if layout == "multiple_choice" else {}
    return Question(row.id, row.dataset, "", row.prompt, row.answer, row.response, choices=choices)
