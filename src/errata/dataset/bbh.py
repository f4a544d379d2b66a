"""BIG-Bench Hard: 27 tasks, 6,511 questions (github.com/suzgunmirac/BIG-Bench-Hard, MIT); for testing only, three worked
examples a task.

A real item (date_understanding): "Today is Christmas Eve of 1937. What is the date tomorrow in MM/DD/YYYY?" with the options
(A) 12/11/1937, (B) 12/25/1937, ...; the target is `(B)`. Other tasks ask for yes or no, a number, or a list of words.

A local folder holds `TASK.json` and, for the worked examples, `cot-prompts/TASK.txt`.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

from errata.dataset.base import FORMAT, PAPER, WRONG_VALUE, FileBenchmark, nothing_found
from errata.dataset.multiple_choice import chosen
from errata.dataset.source import read_file, read_hub
from errata.dataset.word_problem import final_number, same_number
from errata.errors import DataError
from errata.record_files import Record
from errata.records import Prompt, Question, Verdict

TASKS = (
    "boolean_expressions causal_judgement date_understanding disambiguation_qa dyck_languages formal_fallacies "
    "geometric_shapes hyperbaton logical_deduction_five_objects logical_deduction_seven_objects "
    "logical_deduction_three_objects movie_recommendation multistep_arithmetic_two navigate object_counting "
    "penguins_in_a_table reasoning_about_colored_objects ruin_names salient_translation_error_detection snarks "
    "sports_understanding temporal_sequences tracking_shuffled_objects_five_objects "
    "tracking_shuffled_objects_seven_objects tracking_shuffled_objects_three_objects web_of_lies word_sorting"
).split()
_OPTION = re.compile(r"^\(([A-Z])\)[ \t]*(.+)$", re.MULTILINE)
_STATEMENT = re.compile(
    r"\b(?:answer|final (?:result|output|value))\b[^.\n]{0,60}?(?:\bis\b|:|=)\s*[:*]*\s*(.+?)\s*(?:\.\s+[A-Z]|\n|$)",
    re.IGNORECASE,
)
_CLOSED = (("true", "false"), ("yes", "no"), ("valid", "invalid"), ("plausible", "implausible"))
_LEAD = "Let's think step by step."


@dataclass
class BBH(FileBenchmark):
    """BIG-Bench Hard: fields `input` and `target`. Here `limit` counts the questions of each task.

    Attributes:
        tasks: which tasks (empty: all that the folder holds, or all 27 of the hub).
        shots: worked examples, at most the three of the task's file.
        prompts_folder: where the `TASK.txt` files are (None: `cot-prompts` in the folder that `path` names).
    """

    shots: int = 3
    tasks: list[str] = field(default_factory=list)
    prompts_folder: str | None = None

    layout = "exact"
    required: ClassVar[tuple[str, ...]] = ("input", "target")

    def problems(self) -> list[str]:
        """What is wrong with the settings: an unknown task, or no folder with the worked examples."""
        plain = replace(self, shots=0)
        found = super(BBH, plain).problems()
        found += [f"dataset.{self.name}.tasks: there is no task {task!r}" for task in self.tasks if task not in TASKS]
        if not 0 <= self.shots <= 3:
            found.append(f"dataset.{self.name}.shots is {self.shots}: BBH has three worked examples a task, choose 0 to 3")
        elif self.shots and not self._examples.is_dir():
            found.append(
                f"dataset.{self.name}: no worked examples in {self._examples}; give their folder with "
                f"dataset.{self.name}.prompts_folder=FOLDER (cot-prompts of the BBH repository), or set shots=0"
            )
        return found

    def load(self, split: str) -> list[Question]:
        """All tasks' questions, task after task, `limit` of each."""
        if not self.has(split):
            raise DataError(f"dataset {self.name} has no {split} split; it is for testing only")
        return [question for task in self._present_tasks() for question in self._task(task, split)]

    def prompts(self, questions: Sequence[Question]) -> list[Prompt]:
        """The task's description and worked examples, then the question, in one user turn.

        Under `paper` the student's own turn is made to begin with `A:`, as in the source.
        """
        heads = {task: self._head(task) for task in {question.skill for question in questions}}
        paper = self.protocol == PAPER
        return [
            Prompt(
                question.id,
                heads[question.skill] + self.show(question) + ("" if paper else f"\nA: {_LEAD}"),
                prefill="A:" if paper else "",
                question=question.text,
            )
            for question in questions
        ]

    def show(self, question: Question) -> str:
        """The question as the worked examples write it."""
        return f"Q: {question.text}"

    def grade_corrected(self, question: Question, response: str) -> Verdict:
        """Compare what the response states as its answer with the target, as the target's form asks.

        An option is found as in the multiple-choice benchmarks; of yes and no (true and false, valid and invalid) the one in
        the last statement counts, of numbers the last; lists of words or brackets are compared word by word. What follows a
        made-up next question (`Q:`) is not read.

        Differs from the source: "the answer is" need not be said, nor end in a full stop.
        """
        response = re.split(r"\n\s*Q:", response)[0]
        answer = _answer(question, response)
        if answer is None:
            return nothing_found(response)
        correct = same_number(answer, question.gold) if _is_number(question.gold) else answer == _normal(question)
        return Verdict(answer, correct, None if correct else WRONG_VALUE, "" if correct else _difference(answer, question))

    def grade_as_paper(self, question: Question, response: str) -> Verdict:
        """What stands between the first "the answer is" and a full stop must be the target, letter case aside.

        The source's rule (`evaluation/get_performance_bbh.py`); where nothing matches it means to take the whole response.
        """
        found = re.search(r"[tT|]he answer is (.*?)\.", response)
        answer = (found.group(1) if found else response).strip()
        correct = answer.lower() == question.gold.lower()
        if not correct and not found:
            return nothing_found("") if not response.strip() else Verdict(None, False, FORMAT, "no 'the answer is ... .'")
        return Verdict(answer, correct, None if correct else WRONG_VALUE, "" if correct else _difference(answer, question))

    def _present_tasks(self) -> list[str]:
        folder = Path(self.path).expanduser()
        there = [task for task in TASKS if (folder / f"{task}.json").is_file()] if folder.is_dir() else TASKS
        if folder.is_dir() and not there:
            raise DataError(f"{folder} holds no TASK.json of BBH (boolean_expressions.json, ...)")
        missing = [task for task in self.tasks if task not in there]
        if missing:
            raise DataError(f"{folder} holds no {missing[0]}.json; it holds {', '.join(there)}")
        return [task for task in there if not self.tasks or task in self.tasks]

    def _task(self, task: str, split: str) -> Iterator[Question]:
        file = Path(self.path).expanduser() / f"{task}.json"
        records = read_file(file) if file.is_file() else read_hub(self.path, task, self.splits[split])
        for number, (place, record) in enumerate(records):
            if number == self.limit:
                return
            yield self._question(self._mapped(record, place), place, f"{self.name}/{split}/{task}/{number}", split, task)

    def _question(self, record: Record, place: str, name: str, split: str, task: str) -> Question:
        text, gold = str(record["input"]), str(record["target"]).strip()
        choices = {f"({label})": option for label, option in _OPTION.findall(text)}
        if re.fullmatch(r"\([A-Z]\)", gold) and gold not in choices:
            raise DataError(f"{place} ({name}): the target is {gold}, and the options are {', '.join(choices) or 'none'}")
        solution = f"So the answer is {gold}."
        question = Question(name, self.name, split, text, gold, solution, task, choices=choices)
        self._check_gold(question, place)
        return question

    @property
    def _examples(self) -> Path:
        return Path(self.prompts_folder or Path(self.path) / "cot-prompts").expanduser()

    def _head(self, task: str) -> str:
        """The task's description and its first worked examples; the file's canary lines are left out."""
        if not self.shots:
            return ""
        file = self._examples / f"{task}.txt"
        if not file.is_file():
            raise DataError(f"{file}: no such file; it must hold the worked examples of {task}")
        description, *examples = re.split(r"\n\n(?=Q: )", "\n".join(file.read_text().split("\n")[2:]).strip())
        return "\n\n".join([description, *examples[: self.shots], ""])


def _answer(question: Question, response: str) -> str | None:
    gold = question.gold
    stated = _STATEMENT.findall(response)
    statement = re.sub(r"\*\*|`|\$|[\"“”]", "", stated[-1]).rstrip(". ") if stated else None
    if gold in question.choices:
        letters = {label[1]: text for label, text in question.choices.items()}
        label = chosen(statement, letters) if statement else None
        label = label or chosen(response, letters) or _last_bracketed(response, letters)
        return f"({label})" if label else None
    pair = next((pair for pair in _CLOSED if gold.lower() in pair), None)
    if pair:
        word = rf"\b({'|'.join(pair)})\b"
        found = re.findall(word, statement, re.IGNORECASE) if statement else []
        return found[0].lower() if found else next(iter(re.findall(word, response, re.IGNORECASE)[::-1]), "").lower() or None
    if _is_number(gold):
        return (final_number(statement) if statement else None) or final_number(response)
    lines = [line for line in response.strip().split("\n") if line.strip()]
    sequence = statement or (lines[-1] if lines else "")
    return _words(sequence, brackets=not re.search(r"\w", gold)) or None


def _normal(question: Question) -> str:
    if question.gold in question.choices:
        return question.gold
    if any(question.gold.lower() in pair for pair in _CLOSED):
        return question.gold.lower()
    return _words(question.gold, brackets=not re.search(r"\w", question.gold))


def _words(text: str, brackets: bool) -> str:
    if brackets:
        return " ".join(re.findall(r"[()\[\]{}<>]", text))
    return " ".join(word for word in (part.strip(".,;:!?\"'()[]*") for part in re.split(r"[\s,]+", text.lower())) if word)


def _last_bracketed(response: str, letters: dict[str, str]) -> str | None:
    found = [label for label in re.findall(r"\(([A-Z])\)", response) if label in letters]
    return found[-1] if found else None


def _is_number(gold: str) -> bool:
    return re.fullmatch(r"-?\d+(?:\.\d+)?", gold) is not None


def _difference(answer: str, question: Question) -> str:
    return f"answered {answer[:80]}, the answer is {question.gold[:80]}"
