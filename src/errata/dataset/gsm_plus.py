"""GSM-Plus: GSM8K's test questions, perturbed in eight ways (github.com/qtli/GSM-Plus, CC-BY-SA-4.0); for testing only.

A real item (numerical substitution): "Four of the women at the cocktail party are wearing 5 inch heels and two are wearing 3
inch heels. What is the average height of heels at this party?", `#### 4.33`. Under "critical thinking" a number that is
needed has been taken away, and the gold is `None`: the right response is that it cannot be told.
"""

import re
from dataclasses import dataclass
from typing import ClassVar

from errata.dataset.base import PAPER, REFUSAL, WRONG_VALUE, FileBenchmark
from errata.dataset.word_problem import WordProblems, canonical
from errata.errors import DataError
from errata.record_files import Record
from errata.records import Question, Verdict

UNANSWERABLE = "None"
_CRITICAL = "critical thinking"
_NUMBER = re.compile(r"-?\$?\s?(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?:\s*/\s*\d+)?")
_CANNOT_TELL = re.compile(
    r"#### ?None\b|\b(?:(?:do not|don't|does not|doesn't|cannot|can't|can not|(?:impossible|unable|not possible|hard) to)"
    r" (?:\w+ ){0,2}?(?:know|tell|determine|find|calculate|compute|answer|solve|say|specify|provide)"
    r"|not (?:enough|sufficient|given|specified|provided|stated|mentioned|known)"
    r"|(?:insufficient|missing|incomplete|lack\w*|need\w*) (?:\w+ ){0,2}?(?:information|data|details?|number|value)"
    r"|(?:is|are) (?:un(?:known|specified|clear)|missing)|cannot be (?:determined|answered|calculated|found|solved))",
    re.IGNORECASE,
)


@dataclass
class GSMPlus(FileBenchmark, WordProblems):
    """GSM-Plus: fields `question`, `solution` (ends `#### N`), `answer` and `perturbation_type`.

    Under `paper` the critical-thinking questions are left out, as in the source's 1,400, and the gold is the last number of
    the worked solution, whatever the file's own `answer` says (28 of the source's 1,400 golds differ so).
    """

    required: ClassVar[tuple[str, ...]] = ("question", "solution", "answer")

    @property
    def known_fields(self) -> tuple[str, ...]:
        """The required fields, and the kind of perturbation."""
        return (*self.required, "perturbation_type")

    def question(self, record: Record, place: str, name: str, split: str) -> Question | None:
        """The gold is the file's own `answer`: a number, a fraction, or None."""
        kind, answer = str(record.get("perturbation_type", "")), str(record["answer"]).strip()
        if self.protocol == PAPER and (kind == _CRITICAL or answer == UNANSWERABLE):
            return None
        if answer != UNANSWERABLE:
            if not _NUMBER.fullmatch(answer):
                raise DataError(f"{place}: the answer {answer!r} is no number, no fraction and not None")
            answer = canonical(answer.replace(" ", ""))
        return Question(name, self.name, split, str(record["question"]), answer, str(record["solution"]), skill=kind)

    def grade_corrected(self, question: Question, response: str) -> Verdict:
        """As in GSM8K; where the gold is None, right is a response whose end says that it cannot be told."""
        if question.gold != UNANSWERABLE:
            return super().grade_corrected(question, response)
        sentences = re.split(r"(?<=[.!?])\s+|\n", response.strip())
        told = _CANNOT_TELL.search(" ".join(sentences[-3:]))
        if told:
            return Verdict(UNANSWERABLE, True)
        read = super().grade_corrected(Question("", "", "", "", "nan"), response)
        kind = WRONG_VALUE if read.answer is not None else read.kind
        return Verdict(read.answer, False, kind if kind != REFUSAL else WRONG_VALUE, "a needed number is not given")
