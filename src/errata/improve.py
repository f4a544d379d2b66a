"""The loop of "LLMs-as-Instructors: Learning from Errors Toward Automating Model Improvement", top to bottom.

One iteration: the student answers the train questions; each wrong answer becomes a request to the instructor; the practice
that comes back is parsed and verified; what passes is mixed into a training set; the student is trained on it and measured
on the untouched test split. What the paper leaves open is our choice: each iteration goes on from the last student and
trains on the latest practice only.
"""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from errata.dataset.base import Dataset, Examiner
from errata.errors import DataError
from errata.gate.base import Context
from errata.ledger import Ledger
from errata.model.base import TOO_LONG, Model
from errata.records import Attempt, Case, Example, Question
from errata.run_folder import RunFolder, Stage, digest, encode_lines, read_stage
from errata.setup import Setup, result_changing
from errata.stage.evaluate import evaluate
from errata.stage.instruct import instruct
from errata.stage.mix import mix
from errata.stage.parse import parse
from errata.stage.retrieve import retrieve
from errata.stage.train import job_settings, read_metrics, train
from errata.stage.verify import verify
from errata.tracking.tracker import Tracker

log = logging.getLogger("errata")


def improve(setup: Setup) -> Path:
    """Run the loop, or go on with it where it was stopped; returns the run folder."""
    splits = load_splits(setup)
    instructor = _present(setup.instructor)
    if not _all_replies_received(setup):
        instructor.probe()
    with RunFolder(setup.folder, setup.plain) as folder, Ledger(setup.ledger, must_exist=not instructor.sends) as ledger:
        with Tracker(setup.settings.tracking, folder.path, setup.plain) as tracker:
            run = Run(setup, folder, ledger, tracker, splits)
            student: Model = setup.model
            run.test(student, 0)
            earlier: list[Example] = []
            for iteration in range(1, setup.settings.iterations + 1):
                rows = {name: run.practice(student, name, iteration, earlier) for name in setup.datasets}
                examples = run.mixed(rows, iteration)
                if not examples:
                    log.info("iteration %d leaves nothing to train on: the loop ends here", iteration)
                    break
                student = run.trained(student, examples, iteration)
                run.test(student, iteration)
                earlier += examples
            folder.drop_unvisited()
    return setup.folder


@dataclass(frozen=True)
class Run:
    """The steps of an iteration, each a stage in the run folder whose inputs are spelt out."""

    setup: Setup
    folder: RunFolder
    ledger: Ledger
    tracker: Tracker
    splits: Mapping[str, Mapping[str, list[Question]]]

    def practice(self, student: Model, name: str, iteration: int, earlier: list[Example]) -> list[Example]:
        """Verified practice for what the student gets wrong in a dataset's train split."""
        dataset, place = self.setup.datasets[name], f"iteration_{iteration}/{name}"
        attempts = self.attempts(student, name, "train", iteration)
        errors, successes = divide(attempts)
        if not errors:
            log.info(
                "iteration %d: the student gets every %s question right; there is no error to learn from", iteration, name
            )
            return []
        strategy, instructor = _present(self.setup.strategy), _present(self.setup.instructor)
        count = strategy.problems_per_error(self.setup.settings.sample_size, len(errors))
        rng = Random(f"{self.setup.settings.seed}/{iteration}/{name}")
        seeds = strategy.seeds(errors, successes, rng)
        if not seeds:
            raise DataError(f"{place}: strategy={strategy.name} works from right answers, and the student has none")
        cases = named(seeds, iteration)
        if strategy.contrasts:
            cases = self.contrasted(cases, successes, place, iteration)
        cases = strategy.arranged(cases, rng)
        requests = [strategy.request(case, dataset.layout, count) for case in cases]
        stage = self.folder.stage(
            f"{place}/instruct",
            requests=digest(encode_lines(requests)),
            instructor=result_changing(instructor),
        )
        replies = instruct(stage, requests, instructor, self.ledger, self.setup.purse(stage.name))
        self._track(stage, iteration)

        stage = self.folder.stage(f"{place}/parse", replies=stage.outputs["replies"])
        parsed, _ = parse(stage, replies, dataset, iteration)
        self._track(stage, iteration)

        tests = self.setup.wall
        max_length = self.setup.settings.training.max_length
        stage = self.folder.stage(
            f"{place}/verify",
            examples=stage.outputs["examples"],
            gates=result_changing(list(self.setup.gates.values())),
            max_length=max_length,
            model=self.setup.model.fingerprint,
            train=_digest(self.splits[name]["train"]),
            tests=_digest(tests),
            earlier=_digest(earlier),
        )
        context = Context(dataset, self.splits[name]["train"], tests, earlier, self.setup.model.count_tokens, max_length)
        kept, _ = verify(stage, parsed, self.setup.gates, context)
        self._track(stage, iteration)
        return kept

    def contrasted(self, cases: list[Case], successes: list[Attempt], place: str, iteration: int) -> list[Case]:
        """The cases beside their nearest successes."""
        retrieval = _present(self.setup.retrieval)
        stage = self.folder.stage(
            f"{place}/retrieve",
            cases=_digest(cases),
            successes=_digest(successes),
            retrieval=result_changing(retrieval),
            encoder=retrieval.encoder.fingerprint,
        )
        beside = retrieve(stage, cases, successes, retrieval, self.setup.embeddings)
        self._track(stage, iteration)
        return beside

    def mixed(self, rows: Mapping[str, list[Example]], iteration: int) -> list[Example]:
        """The iteration's training set."""
        settings = self.setup.settings
        stage = self.folder.stage(
            f"iteration_{iteration}/mix",
            rows={name: _digest(part) for name, part in rows.items()},
            sample_size=settings.sample_size,
            seed=settings.seed,
        )
        examples = mix(stage, rows, settings.sample_size, settings.seed)
        self._track(stage, iteration)
        return examples

    def trained(self, student: Model, examples: list[Example], iteration: int) -> Model:
        """The student after training on the examples."""
        settings = self.setup.settings
        stage = self.folder.stage(
            f"iteration_{iteration}/train",
            rows=_digest(examples),
            model=student.fingerprint,
            training=result_changing(settings.training),
            seed=settings.seed,
        )
        new = not stage.finished
        better = train(stage, student, examples, job_settings(settings.training, settings.seed))
        if new:
            for line in read_metrics(stage.folder):
                self.tracker.log({f"train/{name}": value for name, value in line.items()} | {"iteration": iteration})
        self._track(stage, iteration)
        return better

    def test(self, student: Model, iteration: int) -> None:
        """Accuracy on the untouched test splits."""
        for name in self.setup.tested:
            attempts = self.attempts(student, name, "test", iteration)
            accuracy = sum(attempt.value for attempt in attempts) / len(attempts)
            self.tracker.log({f"test/{name}": accuracy, "iteration": iteration})
            self.tracker.summarise({f"test/{name}": accuracy})

    def attempts(self, student: Model, name: str, split: str, iteration: int) -> list[Attempt]:
        """The student's graded answers to a split."""
        dataset, questions = self.setup.tested[name], self.splits[name][split]
        stage = self.folder.stage(f"iteration_{iteration}/{name}/{split}", **attempt_inputs(student, dataset, questions))
        return evaluate(stage, student, dataset, questions)

    def _track(self, stage: Stage, iteration: int) -> None:
        step = stage.name.rpartition("/")[2]
        flat = {key: value for key, value in stage.record.counts.items() if not isinstance(value, dict)}
        self.tracker.log({f"stage/{step}/{key}": value for key, value in flat.items()} | {"iteration": iteration})


def attempt_inputs(student: Model, dataset: Dataset | Examiner, questions: list[Question]) -> dict[str, Any]:
    """What decides the outcome of an evaluation."""
    return {
        "model": student.fingerprint,
        "dataset": result_changing(dataset),
        "protocol": dataset.protocol,
        "questions": _digest(questions),
    }


def load_splits(setup: Setup) -> dict[str, dict[str, list[Question]]]:
    """The questions of every dataset, read and checked before any model is loaded.

    A train question that is a test question as well, of any of the run's datasets, is left out: nothing of a test split may
    become an error, a neighbour or a training row.

    Raises:
        DataError: a file is missing or broken, or all train questions are test questions.
    """
    splits = {name: {"test": dataset.load("test")} for name, dataset in setup.tested.items()}
    walled = {_plain(question.text) for question in setup.wall}
    for name, dataset in setup.datasets.items():
        train = dataset.load("train")
        kept = [question for question in train if _plain(question.text) not in walled]
        if not kept:
            raise DataError(f"{name}: every train question stands in a test split too; are the two splits one file?")
        if len(kept) < len(train):
            log.warning("%s: %d train questions stand in a test split too and are left out", name, len(train) - len(kept))
        splits[name]["train"] = kept
    return splits


def divide(attempts: list[Attempt]) -> tuple[list[Attempt], list[Attempt]]:
    """Errors and successes; a question that could not be asked (its prompt too long) is neither."""
    asked = [attempt for attempt in attempts if attempt.kind != TOO_LONG]
    return [a for a in asked if not a.correct], [a for a in asked if a.correct]


def named(seeds: Sequence[Attempt], iteration: int) -> list[Case]:
    """A case for each seed; one that comes again gets a number behind its name."""
    seen: Counter[str] = Counter()
    cases = []
    for seed in seeds:
        seen[seed.id] += 1
        again = f"~{seen[seed.id]}" if seen[seed.id] > 1 else ""
        cases.append(Case(f"{iteration}/{seed.id}{again}", seed))
    return cases


def _plain(text: str) -> str:
    return " ".join(text.lower().split())


def _all_replies_received(setup: Setup) -> bool:
    """Whether every instruct stage of a former start of this run is finished."""
    numbers = range(1, setup.settings.iterations + 1)
    stages = [read_stage(setup.folder / f"iteration_{n}/{name}/instruct") for n in numbers for name in setup.datasets]
    return all(stage is not None and stage.finished for stage in stages)


def _digest(records: list[Any]) -> str:
    return digest(encode_lines(records))


def _present(part: Any) -> Any:
    if part is None:
        raise TypeError("improve needs a strategy and an instructor; the schema makes sure of both")
    return part
