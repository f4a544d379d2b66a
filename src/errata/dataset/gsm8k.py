"""GSM8K: grade-school word problems (github.com/openai/grade-school-math), 7,473 for training and 1,319 for testing.

A real item: "Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May. How many clips
did Natalia sell altogether in April and May?" Its worked answer computes 48/2 = 24 and 48+24 = 72, and ends `#### 72`.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from errata.dataset.base import read_json_lines
from errata.dataset.word_problem import WordProblems, gold_number
from errata.errors import DataError
from errata.records import Question


@dataclass
class GSM8K(WordProblems):
    """GSM8K from a local folder that holds `train.jsonl` and `test.jsonl` (fields `question` and `answer`)."""

    path: str = "???"

    def load(self, split: str) -> list[Question]:
        """The split's questions in file order; ids count lines from 0."""
        file = Path(self.path).expanduser() / f"{split}.jsonl"
        questions: list[Question] = []
        for number, item in read_json_lines(file, required=("question", "answer")):
            gold = gold_number(str(item["answer"]))
            if gold is None:
                raise DataError(f"{file}, line {number}: the answer has no final '#### N' line")
            text = str(item["question"])
            questions.append(
                Question(f"{self.name}/{split}/{number - 1}", self.name, split, text, gold, str(item["answer"]))
            )
            if len(questions) == self.limit:
                break
        if not questions:
            raise DataError(f"{file}: the split is empty; expected one JSON object a line")
        return questions

    def wall(self) -> list[Question]:
        """The whole test split, whatever `limit` says."""
        return replace(self, limit=None).load("test")

    def problems(self) -> list[str]:
        """What is wrong with the settings: a missing folder above all."""
        found = super().problems()
        folder = Path(self.path).expanduser()
        if not folder.is_dir():
            found.append(
                f"dataset.{self.name}.path is {self.path!r}: no such folder. "
                "It must hold train.jsonl and test.jsonl, one {question, answer} object a line."
            )
        return found
