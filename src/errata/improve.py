"""The loop of "LLMs-as-Instructors: Learning from Errors Toward Automating Model Improvement", top to bottom.

One iteration: the student answers the train questions; each wrong answer becomes a request to the instructor; the practice
that comes back is parsed and verified; what passes is mixed into a training set; the student is trained on it and measured
on the untouched test split. What the paper leaves open is a setting (`policy`, `errors`, `allocation`, `equalise`).
"""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

from errata.cases import anew, divide, exactly, named
from errata.dataset.base import Dataset, Examiner
from errata.digests import digest
from errata.errors import DataError
from errata.gate.base import Context
from errata.gate.consensus import Consensus, as_question
from errata.gate.leak import Leak
from errata.gate.length import Length
from errata.jsonl import encode_lines
from errata.ledger import Ledger
from errata.model.base import Model
from errata.records import Attempt, Case, Example, Pair, Question, Revision
from errata.revise import StageDesk, as_pair, tally
from errata.reviser.base import DROPPED, KEPT, REVISED
from errata.reviser.none import Unrevised
from errata.run_folder import RunFolder, read_stage
from errata.setup import Setup, result_changing
from errata.splits import load_splits
from errata.stage.agree import agree
from errata.stage.allocate import allocate
from errata.stage.evaluate import evaluate
from errata.stage.instruct import instruct
from errata.stage.mix import Blend, mix
from errata.stage.parse import parse
from errata.stage.retrieve import retrieve
from errata.stage.train import job_settings, train
from errata.stage.verify import rejections, verify
from errata.strategy.base import Strategy, Supply, originals
from errata.tracking.tracker import Tracker

log = logging.getLogger("errata")


def improve(setup: Setup) -> Path:
    """Run the loop, or go on with it where it was stopped; returns the run folder.

    A student that can only be asked (recorded answers) comes as far as its training set.
    """
    splits = load_splits(setup)
    instructor = setup.instructor  # None where the strategy asks nobody
    if instructor is not None and not _all_replies_received(setup):
        instructor.probe()
    must_exist = instructor is not None and not instructor.sends
    with (
        RunFolder(setup.folder, setup.plain, setup.command, setup.resolved) as folder,
        Ledger(setup.ledger, must_exist=must_exist) as ledger,
    ):
        with Tracker(setup.settings.tracking, folder.path, setup.plain, setup.command) as tracker:
            run = Run(setup, folder, ledger, tracker, splits)
            run.loop(setup.model)
            folder.drop_unvisited()
    return setup.folder


@dataclass(frozen=True)
class Run:
    """The steps of an iteration, each a stage in the run folder whose inputs are spelt out.

    `each` remembers N of the first iteration, by dataset; `sent` how often former iterations have sent the same messages: an
    error that is made again in the same words is another draw, not the old reply.
    """

    setup: Setup
    folder: RunFolder
    ledger: Ledger
    tracker: Tracker
    splits: Mapping[str, Mapping[str, list[Question]]]
    each: dict[str, int] = field(default_factory=dict)
    sent: Counter[str] = field(default_factory=Counter)

    def loop(self, start: Model) -> None:
        """All iterations, until there is nothing to learn from, or dev gets no better for too long."""
        settings, student = self.setup.settings, start
        practised: list[Example] = []  # every verified row so far
        mixed: list[Example] = []  # every row of the training sets so far
        best = self.test(start, 0) if start.trains else 0.0
        best_at = 0
        for iteration in range(1, settings.iterations + 1):
            rows = {name: self.practice(student, name, iteration, practised) for name in self.setup.datasets}
            examples = self.mixed(rows, iteration, practised, mixed) if any(rows.values()) else []
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
        attempts = [
            attempt
            for split in self.setup.settings.errors.splits
            for attempt in self.attempts(student, name, split, iteration)
        ]
        leave_out = self.setup.settings.errors.leave_out
        errors, successes = divide(attempts, leave_out)
        if not errors:
            some = any(attempt.kind in leave_out for attempt in attempts)
            why = "errors are of kinds that errors.leave_out names" if some else "answers are right: no error to learn from"
            log.info("iteration %d: all %s %s", iteration, name, why)
            return []
        strategy = _present(self.setup.strategy)
        if isinstance(strategy, Supply):
            rows = strategy.rows(errors, self.splits[name]["train"], dataset, iteration)
            return self.revised(student, self.verified(rows, name, iteration, [], _digest(rows)), name, iteration, [])
        cases = self.cases(strategy, errors, successes, place, iteration)
        requests = anew([strategy.request(case, dataset.layout) for case in cases], self.sent)
        instructor = _present(self.setup.instructor)
        stage = self.folder.stage(
            f"{place}/instruct",
            requests=digest(encode_lines(requests)),
            instructor=result_changing(instructor),
        )
        replies = instruct(stage, requests, instructor, self.ledger, self.setup.purse(stage.name))
        self.tracker.stage(stage)

        stage = self.folder.stage(f"{place}/parse", replies=stage.outputs["replies"])
        parsed, _ = parse(stage, replies, dataset, iteration)
        self.tracker.stage(stage)
        rows = self.verified(parsed, name, iteration, earlier, stage.outputs["examples"])
        return self.revised(student, rows, name, iteration, earlier)

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
            cases = self.contrasted(cases, successes, place, iteration)
        return strategy.arranged(cases, rng)

    def allocated(self, cases: list[Case], asked: list[Attempt], each: int, place: str, iteration: int) -> list[Case]:
        """The cases with their shares of the problems; those that get none are left out."""
        allocation, settings = self.setup.allocation, self.setup.settings
        if iteration > 1:  # as errors vanish; in the first iteration a setting that does not fit is a mistake
            allocation = allocation.fitted([case.error for case in cases])
        inputs: dict[str, Any] = {"cases": _digest(cases), "asked": _digest(asked), "each": each, "seed": settings.seed}
        inputs |= self._encoder([allocation])
        stage = self.folder.stage(f"{place}/allocate", allocation=result_changing(allocation), **inputs)
        found = allocate(stage, cases, asked, each, allocation, self._embed, settings.seed)
        self.tracker.stage(stage)
        return found

    def revised(
        self, student: Model, rows: list[Example], name: str, iteration: int, earlier: list[Example]
    ) -> list[Example]:
        """The rows as the reviser leaves them. What it changed passes the gates again, or the row stays as it was."""
        reviser, dataset, step = self.setup.reviser, self.setup.datasets[name], f"iteration_{iteration}/{name}/revise"
        if isinstance(reviser, Unrevised) or not rows:
            return rows

        limit = self.setup.settings.training.max_length
        scorer = student if reviser.scores else self.setup.model  # a coach goes on top of what it was trained on
        desk = StageDesk(self.setup, self.folder, self.ledger, step, scorer, limit, self.tracker.stage)
        revisions = reviser.revise([as_pair(row) for row in rows], desk)
        changed = [
            as_row(row, revision.final, dataset)
            for row, revision in zip(rows, revisions, strict=True)
            if revision.status == REVISED and revision.final is not None
        ]
        anew = {row.id for row in changed}
        beside = [*earlier, *(row for row in rows if row.id not in anew)]  # a new question must not repeat these either
        passed = {row.id: row for row in self.verified(changed, name, iteration, beside, _digest(changed), "revise/")}
        stage = self.folder.stage(
            f"{step}/revised", rows=_digest(rows), reviser=result_changing(reviser), desk=desk.done,
            passed=_digest(list(passed.values())),
        )  # fmt: skip
        if not stage.finished:
            failed = {
                row.id: (row.reason, row.detail, row.text)
                for gates in ("verify", "agree")
                for row in rejections(self.folder.path / step / gates)
            }
            revisions = [_fallen_back(one, *failed[one.id]) if one.id in failed else one for one in revisions]
            left = [passed.get(row.id, row) for row, one in zip(rows, revisions, strict=True) if one.status != DROPPED]
            stage.finish(tally(revisions), revisions=revisions, examples=left)
        self.tracker.stage(stage)
        return stage.read("examples", Example)

    def verified(
        self, parsed: list[Example], name: str, iteration: int, earlier: list[Example], inputs: str, step: str = ""
    ) -> list[Example]:
        """The rows that pass the gates; of original rows, which repeat the train split by design, only leak and length."""
        settings = self.setup.settings
        original = all(not row.request_id for row in parsed) and parsed != []
        consensus = next((gate for gate in self.setup.gates.values() if isinstance(gate, Consensus)), None)
        gates = {
            key: gate
            for key, gate in self.setup.gates.items()
            if not isinstance(gate, Consensus) and (not original or isinstance(gate, Leak | Length))
        }
        tests = self.walled()
        train = [question for split in ("train", "dev") for question in self.splits[name].get(split, [])]
        stage = self.folder.stage(
            f"iteration_{iteration}/{name}/{step}verify",
            examples=inputs,
            gates=result_changing(list(gates.values())),
            max_length=settings.training.max_length,
            model=self.setup.model.fingerprint,
            train=_digest(train),
            tests=_digest(tests),
            earlier=_digest(earlier),
            **self._encoder(gates.values()),
        )
        context = self.context(name, train, tests, earlier)
        kept, _ = verify(stage, parsed, gates, context)
        self.tracker.stage(stage)
        judged = consensus is not None and kept and not original
        return self.agreed(kept, consensus, name, f"iteration_{iteration}/{name}/{step}") if judged else kept

    def agreed(self, rows: list[Example], gate: Any, name: str, place: str) -> list[Example]:
        """The rows whose answers independent solutions agree with."""
        dataset = self.setup.datasets[name]
        requests = [request for row in rows for request in gate.requests(row, dataset.layout)]
        solver = gate.instructor or _present(self.setup.instructor)
        inputs = {"requests": digest(encode_lines(requests)), "instructor": result_changing(solver)}
        stage = self.folder.stage(f"{place}solve", **inputs)
        replies = instruct(stage, requests, solver, self.ledger, self.setup.purse(stage.name))
        self.tracker.stage(stage)
        stage = self.folder.stage(
            f"{place}agree",
            rows=_digest(rows),
            replies=stage.outputs["replies"],
            gate=result_changing(gate),
            dataset=result_changing(dataset),
        )
        kept, _ = agree(stage, rows, gate, replies, dataset)
        self.tracker.stage(stage)
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
        self.tracker.stage(stage)
        return beside

    def mixed(
        self, rows: Mapping[str, list[Example]], iteration: int, practised: list[Example], mixed: list[Example]
    ) -> list[Example]:
        """The iteration's training set."""
        settings = self.setup.settings
        policy, again = settings.policy, getattr(self.setup.strategy, "repeats", False)
        blends = {
            name: Blend(
                part,
                self.setup.size(name),
                settings.equalise.train_tokens,
                [row for row in mixed if row.dataset == name] if policy.data == "all" else [],
                self.replayed(name, iteration, practised) if policy.replay else [],
                policy.replay,
                again,
                self.setup.model.count_tokens,
            )
            for name, part in rows.items()
            if part or any(row.dataset == name for row in mixed)
        }
        stage = self.folder.stage(
            f"iteration_{iteration}/mix",
            blends={name: [_digest(b.rows), _digest(b.always), _digest(b.replayed)] for name, b in blends.items()},
            sizes={name: blend.size for name, blend in blends.items()},
            equalise=result_changing(settings.equalise),
            policy=result_changing(policy),
            again=again,
            seed=settings.seed,
        )
        examples = mix(stage, blends, settings.seed)
        self.tracker.stage(stage)
        return examples

    def context(self, name: str, train: list[Question], tests: list[Question], earlier: list[Example]) -> Context:
        """What the gates of a dataset may look at."""
        count, limit = self.setup.model.count_tokens, self.setup.settings.training.max_length
        return Context(self.setup.datasets[name], train, tests, earlier, count, limit, self._embed)

    def walled(self) -> list[Question]:
        """What no row may touch: every test question, and those of dev where it is only measured on."""
        learnt = "dev" in self.setup.settings.errors.splits
        dev = [question for splits in self.splits.values() for question in splits.get("dev", [])]
        return [*self.setup.wall, *([] if learnt else dev)]

    def replayed(self, name: str, iteration: int, practised: list[Example]) -> list[Example]:
        """What there is to replay: former practice, or the benchmark's own rows (behind the same wall)."""
        if self.setup.settings.policy.replay_from == "earlier":
            return [row for row in practised if row.dataset == name]
        found = originals(self.splits[name]["train"], self.setup.datasets[name], iteration)
        if not found:
            raise DataError(f"policy.replay_from=original: the records of {name} hold no worked answers to replay")
        gates = [gate for gate in self.setup.gates.values() if isinstance(gate, Leak | Length)]
        context = self.context(name, [], self.walled(), [])
        checks = [gate.open(context) for gate in gates]
        return [row for row in found if not any(check(row) for check in checks)]

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

        def heard(line: dict[str, Any]) -> None:
            self.tracker.update(stage, line)

        better = train(stage, student, examples, job_settings(settings.training, settings.seed), heard)
        self.tracker.stage(stage)
        return better

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
        dataset, questions = self.setup.tested[name], self.splits[name][split]
        place = f"iteration_{iteration}/{name}/{split}{'_after' if after else ''}"
        stage = self.folder.stage(place, **attempt_inputs(student, dataset, questions))
        start = student.fingerprint == self.setup.model.fingerprint
        shared = self.setup.evaluations if start and student.trains else None
        attempts = evaluate(stage, student, dataset, questions, shared)
        self.tracker.stage(stage)
        return attempts

    def _encoder(self, parts: Iterable[Any]) -> dict[str, str]:
        """The encoder, as an input of a stage, where one of these parts needs vectors."""
        needed = any(getattr(part, "embeds", False) for part in parts)
        return {"encoder": _present(self.setup.retrieval).encoder.fingerprint} if needed else {}

    def _embed(self, texts: Sequence[str]) -> Any:
        return _present(self.setup.retrieval).vectors(texts, self.setup.embeddings)


def _fallen_back(revision: Revision, reason: str, detail: str, text: str) -> Revision:
    """The revision of a row that a gate then rejected: the row as it was, whole."""
    return replace(revision, final=revision.original, status=KEPT, reason=reason, detail=detail, rejected=text)


def as_row(row: Example, pair: Pair, dataset: Dataset) -> Example:
    """A revised pair as the training row that it was made of; where the question is another one, with its own answer.

    Of a program the tests stay, whatever its question became: a revision that they do not hold for falls at the gate.
    """
    new = replace(row, prompt=pair.prompt, response=pair.output)
    if pair.prompt == row.prompt or dataset.layout == "code":
        return new
    return replace(new, answer=dataset.grade(as_question(new, dataset.layout), new.response).answer or "")


def attempt_inputs(student: Model, dataset: Dataset | Examiner, questions: list[Question]) -> dict[str, Any]:
    """What decides the outcome of an evaluation."""
    return {
        "model": student.fingerprint,
        "dataset": result_changing(dataset),
        "protocol": dataset.protocol,
        "questions": _digest(questions),
    }


def _all_replies_received(setup: Setup) -> bool:
    """Whether every instruct stage of a former start of this run is finished."""
    numbers = range(1, setup.settings.iterations + 1)
    stages = [read_stage(setup.folder / f"iteration_{n}/{name}/instruct") for n in numbers for name in setup.datasets]
    return all(stage is not None and stage.finished for stage in stages)


def _digest(records: Sequence[Any]) -> str:
    return digest(encode_lines(records))


def _present(part: Any) -> Any:
    if part is None:
        raise TypeError("improve needs a strategy and an instructor; the schema makes sure of both")
    return part
