"""GSM8K: grade-school word problems (github.com/openai/grade-school-math, MIT), 7,473 for training and 1,319 for testing.

A real item: "Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May. How many clips
did Natalia sell altogether in April and May?" Its worked answer computes 48/2 = 24 and 48+24 = 72, and ends `#### 72`.
"""

from dataclasses import dataclass

from errata.dataset.base import FileBenchmark
from errata.dataset.word_problem import WordProblems, gold_number
from errata.errors import DataError
from errata.record_files import Record
from errata.records import Question


@dataclass
class GSM8K(FileBenchmark, WordProblems):
    """GSM8K: fields `question` and `answer` (a worked answer that ends `#### N`)."""

    def question(self, record: Record, place: str, name: str, split: str) -> Question:
        """The gold is the number behind `####`."""
        solution = str(record["answer"])
        gold = gold_number(solution)
        if gold is None:
            raise DataError(f"{place}: the answer has no final '#### N' line")
        return Question(name, self.name, split, str(record["question"]), gold, solution)
