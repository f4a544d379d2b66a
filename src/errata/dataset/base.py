"""The dataset protocol, and what the benchmarks share: loading, limits, worked examples, and the check of their gold."""

import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

from errata.dataset.source import local_file, read_file, read_hub
from errata.errors import DataError
from errata.places import no_hub_id
from errata.record_files import Record, snippet
from errata.records import Attempt, Parsed, Prompt, Question, Verdict

log = logging.getLogger("errata")
PAPER, CORRECTED = "paper", "corrected"
PROTOCOLS = (CORRECTED, PAPER)
SPLITS = ("train", "dev", "test")

NO_ANSWER, REFUSAL, FORMAT, WRONG_VALUE = "no_answer", "refusal", "format", "wrong_value"
_REFUSAL = re.compile(
    r"\b(?:I(?:'m| am) (?:sorry|(?:not able|unable) to)|I (?:cannot|can't|can not|won't|don't know)\b|as an AI\b"
    r"|(?:cannot|can't|can not|could not|couldn't) be (?:determined|answered|found|calculated)"
    r"|(?:not (?:enough|sufficient)|insufficient) (?:information|data)"
    r"|(?:none|neither) of the (?:\w+ )?(?:above|options|choices|answers|statements|given))",
    re.IGNORECASE,
)


class Dataset(Protocol):
    """A benchmark. One with a train split can be learnt from; nothing may leak from a test split."""

    name: str
    protocol: str
    layout: str
    """How a problem is written out and read back; prompts are looked up by it (`prompts/STRATEGY/LAYOUT`)."""
    max_new_tokens: int
    stop: Sequence[str]
    """Strings that end a response."""

    def problems(self) -> list[str]:
        """What is wrong with the settings, found without reading any data."""
        ...

    def has(self, split: str) -> bool:
        """Whether the benchmark has such a split (`train`, `dev` or `test`)."""
        ...

    def load(self, split: str) -> list[Question]:
        """The questions of a split, always in the same order.

        Raises:
            DataError: the split cannot be read; names the file and line.
        """
        ...

    def wall(self) -> list[Question]:
        """Every question of the test split, whatever the run's limits: nothing of these may be trained on."""
        ...

    def prompts(self, questions: Sequence[Question]) -> list[Prompt]:
        """What the student is given for each question."""
        ...

    def show(self, question: Question) -> str:
        """The user turn that puts the question to the student, without worked examples."""
        ...

    def grade(self, question: Question, response: str) -> Verdict:
        """Whether the response is right by the dataset's protocol, and if not, why."""
        ...

    def parse(self, reply: str) -> Sequence[Parsed]:
        """The problems in an instructor's reply, well-formed or not, in order; empty where it holds none."""
        ...

    def check(self, solution: str, answer: str) -> tuple[str, str] | None:
        """The (reason, evidence) why a worked solution cannot be trusted, or None."""
        ...


@runtime_checkable
class Examiner(Protocol):
    """A benchmark for testing only that asks and scores by itself, on the model in memory (lm-eval)."""

    name: str
    needs_weights: bool

    @property
    def protocol(self) -> str:
        """Whose prompts and rules these are."""
        ...

    def problems(self) -> list[str]:
        """What is wrong with the settings, found without reading any data."""
        ...

    def has(self, split: str) -> bool:
        """Whether the benchmark has such a split."""
        ...

    def load(self, split: str) -> list[Question]:
        """The questions of the test split."""
        ...

    def wall(self) -> list[Question]:
        """Every question of the test split, whatever the run's limits."""
        ...

    def attempts(self, model: Any, questions: Sequence[Question], folder: Path) -> Iterator[list[Attempt]]:
        """Scored attempts, in portions; `folder` is its own for what must outlive a kill (files named `*.journal`)."""
        ...


def no_weights(name: str) -> str:
    """Why a student that can only be asked has no scores here."""
    return f"dataset {name} scores by the model's own probabilities: it needs a model whose weights are at hand (model=hf)"


@dataclass
class Benchmark:
    """Base of the datasets.

    Attributes:
        name: the first part of every question's id.
        protocol: `corrected`, or `paper`: the prompts and grading rules of LLMs-as-Instructors, warts and all.
        limit: keep only the first so many questions of each split (None: all).
        shots: worked examples in front of each question, the first ones of the train (or dev) split.
        max_new_tokens: where a response is cut.
        stop: strings that end a response.
    """

    name: str
    protocol: str = CORRECTED
    limit: int | None = None
    shots: int = 0
    max_new_tokens: int = 512
    stop: list[str] = field(default_factory=list)

    layout: ClassVar[str]

    def problems(self) -> list[str]:
        """What is wrong with the settings."""
        found = []
        if self.protocol not in PROTOCOLS:
            found.append(f"dataset.{self.name}.protocol is {self.protocol!r}: choose {' or '.join(PROTOCOLS)}")
        if self.limit is not None and self.limit < 1:
            found.append(f"dataset.{self.name}.limit is {self.limit}: it must be at least 1, or null for all questions")
        if self.max_new_tokens < 1:
            found.append(f"dataset.{self.name}.max_new_tokens is {self.max_new_tokens}: it must be at least 1")
        if self.shots < 0:
            found.append(f"dataset.{self.name}.shots is {self.shots}: it must be at least 0")
        if self.shots and not self._shots_split:
            found.append(f"dataset.{self.name}.shots is {self.shots}: it has no train or dev split to take examples from")
        if "" in self.stop:
            found.append(f"dataset.{self.name}.stop holds an empty string, which would end every response at once")
        return found

    def has(self, split: str) -> bool:
        """Whether there is such a split."""
        raise NotImplementedError

    def load(self, split: str) -> list[Question]:
        """The split's questions, up to `limit`."""
        raise NotImplementedError

    def wall(self) -> list[Question]:
        """The whole test split, whatever `limit` says."""
        return replace(self, limit=None).load("test") if self.has("test") else []

    def prompts(self, questions: Sequence[Question]) -> list[Prompt]:
        """The user turns, the worked examples first; a question is never shown as its own example."""
        pool = replace(self, limit=self.shots + 1, shots=0).load(self._shots_split or "train") if self.shots else []
        return [self._prompt(question, [q for q in pool if q.text != question.text][: self.shots]) for question in questions]

    def show(self, question: Question) -> str:
        """The question's text."""
        return question.text

    def grade(self, question: Question, response: str) -> Verdict:
        """The verdict of the chosen protocol."""
        return (self.grade_as_paper if self.protocol == PAPER else self.grade_corrected)(question, response)

    def grade_corrected(self, question: Question, response: str) -> Verdict:
        """The verdict that a careful reader would give."""
        raise NotImplementedError

    def grade_as_paper(self, question: Question, response: str) -> Verdict:
        """The verdict of the source's own code."""
        raise NotImplementedError

    def parse(self, reply: str) -> Sequence[Parsed]:
        """No practice is written for a benchmark that has no train split."""
        raise NotImplementedError(f"{self.name} is for testing only")

    def check(self, solution: str, answer: str) -> tuple[str, str] | None:
        """Nothing is known against a solution."""
        return None

    def _prompt(self, question: Question, examples: Sequence[Question]) -> Prompt:
        shown = [f"{self.show(example)}\n\n{self._worked(example)}" for example in examples]
        user = "\n\n".join([*shown, self.show(question)])
        return Prompt(question.id, user, question=question.text, key=question.key)

    def _worked(self, example: Question) -> str:
        """The model answer of a worked example."""
        return example.solution

    @property
    def _shots_split(self) -> str | None:
        return next((split for split in ("train", "dev") if self.has(split)), None)


@dataclass
class FileBenchmark(Benchmark):
    """Base of the benchmarks that are read from the hub or from local files.

    Attributes:
        path: a hub id, or a local folder or file.
        subset: the hub dataset's configuration.
        splits: name of each of our splits on the hub, and of its file in a local folder (the suffix may be left out).
        files: names of local files that differ from those on the hub.
        fields: where in a record each field is found.
        counts: how many records the standard splits have, in each of their versions; another number is a warning.
    """

    path: str = "???"
    subset: str | None = None
    splits: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    fields: dict[str, str] = field(default_factory=dict)
    counts: dict[str, list[int]] = field(default_factory=dict)

    required: ClassVar[tuple[str, ...]] = ("question", "answer")

    def problems(self) -> list[str]:
        """What is wrong with the settings: a missing folder above all."""
        found = super().problems()
        if not Path(self.path).expanduser().exists() and (why := no_hub_id(self.path, bare=True)):
            found.append(f"dataset.{self.name}.path is {self.path!r}: no such file or folder, {why}")
        for mapping in (self.splits, self.files, self.counts):
            unknown = sorted(mapping.keys() - set(SPLITS))
            found += [f"dataset.{self.name}: there is no split {name!r}; choose {', '.join(SPLITS)}" for name in unknown]
        unknown = sorted(self.fields.keys() - set(self.known_fields))
        known = ", ".join(self.known_fields)
        found += [f"dataset.{self.name}.fields has no use for {name!r}; it maps {known}" for name in unknown]
        return found

    @property
    def known_fields(self) -> tuple[str, ...]:
        """The fields that a mapping may name."""
        return self.required

    def has(self, split: str) -> bool:
        """Whether the split has a name on the hub or a file."""
        return split in self.splits or split in self.files

    def load(self, split: str) -> list[Question]:
        """The split's questions in the file's order; ids count records from 0.

        Raises:
            DataError: a broken file, a missing field, a repeated id, or a gold answer that the grader rejects.
        """
        questions: list[Question] = []
        seen: dict[str, str] = {}
        read = 0
        for place, record in self.records(split):
            read += 1
            if len(questions) == self.limit:
                continue  # counted on, so that a wrong file is noticed under a limit too
            question = self.question(self._mapped(record, place), place, f"{self.name}/{split}/{read - 1}", split)
            if question is None:
                continue
            if question.key and question.key in seen:
                raise DataError(f"{place}: the id {question.key!r} stands at {seen[question.key]} too; ids must differ")
            seen[question.key] = place
            self._check_gold(question, place)
            questions.append(question)
        if not questions:
            where = local_file(self.path, self._file_names(split)) or self.path
            raise DataError(f"{where}: the {split} split is empty; expected one record a question")
        expected = self.counts.get(split, [read])
        if read not in expected:
            standard = " or ".join(map(str, expected))
            log.warning("%s has %d %s records, the standard split of %s has %s", self.path, read, split, self.name, standard)
        return questions

    def records(self, split: str) -> Iterator[tuple[str, Record]]:
        """Every record of a split as (place, record).

        Raises:
            DataError: the benchmark has no such split, or it cannot be read.
        """
        if not self.has(split):
            has = ", ".join(name for name in SPLITS if self.has(name))
            raise DataError(f"dataset {self.name} has no {split} split; it has {has}")
        file = local_file(self.path, self._file_names(split))
        return read_file(file) if file else read_hub(self.path, self.subset, self.splits.get(split, split))

    def _file_names(self, split: str) -> list[str]:
        return [name for name in (self.files.get(split), self.splits.get(split)) if name]

    def question(self, record: Record, place: str, name: str, split: str) -> Question | None:
        """A record as a question with the id `name`; None leaves it out.

        Raises:
            DataError: naming the place, what is wrong with the record.
        """
        raise NotImplementedError

    def _mapped(self, record: Record, place: str) -> Record:
        mapped = dict(record)
        for name in self.known_fields:
            there = self.fields.get(name, name)
            if record.get(there) is not None:
                mapped[name] = record[there]
            elif name in self.required:
                has = f"it has {', '.join(map(str, record))}" if there not in record else "it is null"
                raise DataError(
                    f"{place}: the field {there!r} is missing; {has}. Map it: dataset.{self.name}.fields.{name}=FIELD"
                )
        return mapped

    def _check_gold(self, question: Question, place: str) -> None:
        if self.protocol == PAPER or not question.solution or not self.cheap_to_grade:
            return
        verdict = self.grade(question, question.solution)
        if not verdict.correct:
            raise DataError(
                f"{place} ({question.id}): the grader rejects the gold answer: it reads {verdict.answer!r} in "
                f"{snippet(question.solution[-60:])}, and the answer is {question.gold!r}. Mend the record, or leave it out."
            )

    cheap_to_grade: ClassVar[bool] = True


def refuses(response: str) -> bool:
    """Whether a response says that it gives no answer, or that none of the options is one."""
    return _REFUSAL.search(response) is not None


def nothing_found(response: str) -> Verdict:
    """The verdict on a response in which there is no answer: empty, a refusal, or without the answer's form."""
    if not response.strip():
        return Verdict(None, False, NO_ANSWER, "the response is empty")
    refusal = _REFUSAL.search(response)
    if refusal:
        return Verdict(None, False, REFUSAL, refusal.group())
    return Verdict(None, False, NO_ANSWER, "no answer found")
