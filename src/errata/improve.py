"""The loop of "LLMs-as-Instructors: Learning from Errors Toward Automating Model Improvement", top to bottom.

One iteration: the student answers the train questions; each wrong answer becomes a request to the instructor; the practice
that comes back is parsed and verified; what passes is mixed into a training set; the student is trained on it and measured
on the untouched test split. What the paper leaves open is a setting (`policy`, `errors`, `allocation`, `equalise`).

What is done to rows between parse and mix is in `screening.py`, what makes a training set of them in `training_set.py`.
"""

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from random import Random

from errata.cases import anew, divide, exactly, named
from errata.errors import ConfigError, DataError
from errata.identity import result_changing
from errata.model.base import Model
from errata.records import Attempt, Case, Example, Question
from errata.run import Run, digest_of, present, under_way
from errata.run_folder import read_stage
from errata.screening import Screening
from errata.setup import Setup
from errata.splits import load_splits
from errata.stage.allocate import allocate
from errata.stage.parse import parse
from errata.stage.retrieve import retrieve
from errata.stage.train import job_settings, train
from errata.strategy.base import Strategy, Supply
from errata.training_set import training_set

log = logging.getLogger("errata")


def improve(setup: Setup) -> Path:
    """Run the loop, or go on with it where it was stopped; returns the run folder.

    A student that can only be asked (recorded answers) comes as far as its training set.

    Raises:
        ConfigError: the student has not the layers that the training method wants, or an adapter of another shape.
    """
    splits = load_splits(setup)
    asks = not _nothing_to_ask(setup)
    if asks and setup.instructor is not None:  # None where the strategy asks nobody
        setup.instructor.probe()
    with under_way(setup) as run:
        if asks and setup.model.trains and (told := setup.settings.training.method.unfit(setup.model.weights)):
            raise ConfigError(told)
        Loop(run, splits).until_the_end()
        run.folder.drop_unvisited()
    return setup.folder


@dataclass(frozen=True)
class Loop:
    """The steps of an iteration, each a stage in the run folder whose inputs are spelt out.

    `each` remembers N of the first iteration, by dataset; `sent` how often former iterations have sent the same messages: an
    error that is made again in the same words is another draw, not the old reply.
    """

    run: Run
    splits: Mapping[str, Mapping[str, list[Question]]]
    each: dict[str, int] = field(default_factory=dict)
    sent: Counter[str] = field(default_factory=Counter)

    @property
    def setup(self) -> Setup:
        """The run's."""
        return self.run.setup

    @cached_property
    def screening(self) -> Screening:
        """What practice goes through before it is trained on."""
        return Screening(self.run, self.splits)

    def until_the_end(self) -> None:
        """All iterations, until there is nothing to learn from, or dev gets no better for too long."""
        settings, start = self.setup.settings, self.setup.model
        student = start
        practised: list[Example] = []  # every verified row so far
        mixed: list[Example] = []  # every row of the training sets so far
        best = self.test(start, 0) if start.trains else 0.0
        best_at = 0
        for iteration in range(1, settings.iterations + 1):
            rows = {name: self.practice(student, name, iteration, practised) for name in self.setup.datasets}
            examples = training_set(self.screening, rows, iteration, practised, mixed) if any(rows.values()) else []
            if not examples:
                log.info("iteration %d leaves nothing to train on: the loop ends here", iteration)
                break
            if not start.trains:
                log.info("this student can only be asked: the training set is where its loop ends")
                break
            student = self.trained(start if settings.policy.start == "base" else student, examples, iteration)
            dev = self.test(student, iteration)
            practised += [row for part in rows.values() for row in part]
            known = {row.prompt for row in mixed}
            fresh = {row.prompt: row for part in rows.values() for row in part if row.prompt not in known}
            mixed += [fresh.pop(row.prompt) for row in examples if row.prompt in fresh]
            if dev > best:
                best, best_at = dev, iteration
            if settings.policy.patience is not None and iteration - best_at >= settings.policy.patience:
                log.info("dev has not been better since iteration %d: the loop ends here", best_at)
                break
        if settings.policy.patience is not None and start.trains:
            log.info("best by dev: iteration %d (%.1f %%)", best_at, 100 * best)

    def practice(self, student: Model, name: str, iteration: int, earlier: list[Example]) -> list[Example]:
        """Verified practice for what the student gets wrong in a dataset."""
        dataset, place = self.setup.datasets[name], f"iteration_{iteration}/{name}"
        source = self.setup.settings.errors
        attempts = [attempt for split in source.splits for attempt in self.attempts(student, name, split, iteration)]
        errors, successes = divide(attempts, source.leave_out)
        if not errors:
            some = any(attempt.kind in source.leave_out for attempt in attempts)
            why = "errors are of kinds that errors.leave_out names" if some else "answers are right: no error to learn from"
            log.info("iteration %d: all %s %s", iteration, name, why)
            return []
        strategy = present(self.setup.strategy)
        if isinstance(strategy, Supply):
            rows = strategy.rows(errors, self.splits[name]["train"], dataset, iteration)
            return self.screening.screened(student, rows, name, iteration, [], digest_of(rows))
        cases = self.cases(strategy, errors, successes, place, iteration)
        requests = anew([strategy.request(case, dataset.layout) for case in cases], self.sent)
        replies, left = self.run.asked(f"{place}/instruct", requests, present(self.setup.instructor))
        with self.run.stage(f"{place}/parse", replies=left["replies"]) as stage:
            rows, _ = parse(stage, replies, dataset, iteration)
        return self.screening.screened(student, rows, name, iteration, earlier, stage.outputs["examples"])

    def cases(
        self, strategy: Strategy, errors: list[Attempt], successes: list[Attempt], place: str, iteration: int
    ) -> list[Case]:
        """What is asked about: the strategy's seeds, each with its number of problems, beside its neighbours."""
        settings, name = self.setup.settings, place.rpartition("/")[2]
        rng = Random(f"{settings.seed}/{iteration}/{name}")
        seeds = exactly(strategy.seeds(errors, successes, rng), settings.equalise.requests, rng)
        if not seeds:
            raise DataError(f"{place}: strategy={strategy.name} works from right answers, and the student has none")
        each = self.setup.allocation.each(self.setup.size(name), len(seeds), self.each.get(name))
        self.each.setdefault(name, each)
        cases = self.allocated(named(seeds, iteration), [*errors, *successes], each, place, iteration)
        if strategy.contrasts:
            cases = self.contrasted(cases, successes, place)
        return strategy.arranged(cases, rng)

    def allocated(self, cases: list[Case], asked: list[Attempt], each: int, place: str, iteration: int) -> list[Case]:
        """The cases with their shares of the problems; those that get none are left out."""
        allocation, seed = self.setup.allocation, self.setup.settings.seed
        if iteration > 1:  # as errors vanish; in the first iteration a setting that does not fit is a mistake
            allocation = allocation.fitted([case.error for case in cases])
        inputs = {"cases": digest_of(cases), "asked": digest_of(asked), "each": each, "seed": seed}
        with self.run.stage(
            f"{place}/allocate", allocation=result_changing(allocation), **inputs, **self.run.encoder([allocation])
        ) as stage:
            return allocate(stage, cases, asked, each, allocation, self.run.embed, seed)

    def contrasted(self, cases: list[Case], successes: list[Attempt], place: str) -> list[Case]:
        """The cases beside their nearest successes."""
        retrieval = present(self.setup.retrieval)
        with self.run.stage(
            f"{place}/retrieve",
            cases=digest_of(cases),
            successes=digest_of(successes),
            retrieval=result_changing(retrieval),
            encoder=retrieval.encoder.fingerprint,
        ) as stage:
            return retrieve(stage, cases, successes, retrieval, self.setup.embeddings)

    def trained(self, student: Model, examples: list[Example], iteration: int) -> Model:
        """The student after training on the examples."""
        settings = self.setup.settings
        with self.run.stage(
            f"iteration_{iteration}/train",
            rows=digest_of(examples),
            model=student.fingerprint,
            training=result_changing(settings.training),
            seed=settings.seed,
        ) as stage:
            heard = partial(self.run.tracker.update, stage)
            return train(stage, student, examples, job_settings(settings.training, settings.seed), heard)

    def test(self, student: Model, iteration: int) -> float:
        """Accuracy on the untouched test splits, for the report; the mean accuracy on dev, where it is measured."""
        for name in self.setup.tested:
            self.attempts(student, name, "test", iteration)
        if self.setup.settings.policy.patience is None:
            return 0.0
        dev = {name: self.attempts(student, name, "dev", iteration, after=True) for name in self.setup.datasets}
        scores = {name: sum(attempt.value for attempt in part) / len(part) for name, part in dev.items()}
        return sum(scores.values()) / len(scores)

    def attempts(self, student: Model, name: str, split: str, iteration: int, after: bool = False) -> list[Attempt]:
        """The student's graded answers to a split; `after`: those by which an iteration is judged, not learnt from.

        What the start model answers is kept for all runs in `output_dir`: the cells of a sweep share it.
        """
        place = f"iteration_{iteration}/{name}/{split}{'_after' if after else ''}"
        start = student.fingerprint == self.setup.model.fingerprint
        shared = self.setup.evaluations if start and student.trains else None
        return self.run.attempts(place, student, self.setup.tested[name], self.splits[name][split], shared)


def _nothing_to_ask(setup: Setup) -> bool:
    """Whether a former start came to its end, however early, or has finished every instruct stage that there can be."""
    if setup.over:
        return True
    numbers = range(1, setup.settings.iterations + 1)
    stages = [read_stage(setup.folder / f"iteration_{n}/{name}/instruct") for n in numbers for name in setup.datasets]
    return all(stage is not None and stage.finished for stage in stages)
