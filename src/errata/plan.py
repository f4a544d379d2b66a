"""`dry_run=true`: what a run would do and what it would cost, before anything is loaded or paid."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
from rich.table import Table

from errata.allocation.uniform import Uniform
from errata.asking import Asking, Tokens, Watched, asking, in_all, kin, money
from errata.cases import anew, divide, exactly, named
from errata.dataset.base import Dataset
from errata.gate.consensus import Consensus
from errata.jsonl import decode_lines
from errata.records import Attempt, Example, Pair, Question, Request
from errata.reviser.none import Unrevised
from errata.run_folder import read_stage
from errata.setup import Setup
from errata.splits import load_splits
from errata.stage.instruct import estimate
from errata.strategy.base import Strategy
from errata.terminal import console

NOTHING_SENT = "No model was loaded and nothing was sent. Without dry_run=true the same command does it."


@dataclass
class Plan:
    """What a run would do, for the table of a sweep.

    Attributes:
        asked: its requests, stage by stage.
        questions: how many the student would answer (None: not counted).
        updates: of the training, at most (None: nothing is trained).
        known: false where the requests can only be counted when the run begins.
    """

    setup: Setup
    asked: list[Asking] = field(default_factory=list)
    questions: int | None = None
    updates: int | None = None
    known: bool = True


def show_loop_plan(setup: Setup) -> Plan:
    """Print the stages, which of them are done, requests, tokens, price and training updates."""
    settings, sheet = setup.settings, _Sheet(setup)
    splits, sent = load_splits(setup), Counter[str]()
    measured = {name: splits[name]["test"] for name in setup.tested} if setup.model.trains else {}

    def add_tests(iteration: int) -> None:
        for name, questions in measured.items():
            sheet.add(f"iteration_{iteration}/{name}/test", f"{len(questions)} questions")

    add_tests(0)
    for iteration in range(1, settings.iterations + 1):
        for name, dataset in setup.datasets.items():
            place, asked = f"iteration_{iteration}/{name}", []
            for split in settings.errors.splits:
                sheet.add(f"{place}/{split}", f"{len(splits[name][split])} questions")
                asked += splits[name][split]
            for one in _practice(setup, dataset, place, asked, splits[name]["train"], iteration, sent):
                sheet.add_asking(one)
        place, wanted = f"iteration_{iteration}/train", sum(map(setup.size, setup.datasets))
        if setup.model.trains and settings.equalise.train_tokens is not None:
            sheet.add(place, "rows of so many tokens as equalise says")
        elif setup.model.trains:  # beside all earlier rows, where these go on being trained on
            sheet.add_training(place, wanted * (iteration if settings.policy.data == "all" else 1), exact=False)
        add_tests(iteration)
    sheet.table.add_section()
    sheet.table.add_row("in all", "", "", "", in_all(one.beside(()) for one in sheet.plan.asked).price)
    return sheet.show()


def show_evaluation_plan(setup: Setup) -> Plan:
    """Print how many questions each dataset asks, and which of them are answered."""
    sheet, split = _Sheet(setup), setup.settings.split
    sheet.plan.questions = 0
    for name, dataset in setup.datasets.items():
        stage, number = f"iteration_0/{name}/{split}", len(dataset.load(split))
        sheet.add(stage, f"{number} questions")
        sheet.plan.questions += 0 if finished(setup.folder / stage) else number
    return sheet.show()


def show_training_plan(setup: Setup, rows: int) -> Plan:
    """Print how many updates a training job on so many rows takes."""
    sheet = _Sheet(setup)
    sheet.add_training("train", rows, exact=True)
    return sheet.show()


class _Sheet:
    """The table of a plan, and beside it the plan for whoever makes one table of many."""

    def __init__(self, setup: Setup) -> None:
        self.setup, self.plan = setup, Plan(setup)
        self.table = Table(title=f"plan for {setup.folder}", title_justify="left")
        for column in ("stage", "state", "work", "tokens (about)", "price"):
            self.table.add_column(column, justify="right" if column in ("tokens (about)", "price") else "left")

    def add(self, stage: str, work: str, tokens: str = "", price: str = "") -> None:
        """A stage, with where it stands."""
        self.table.add_row(stage, _state(self.setup.folder / stage), work, tokens, price)

    def add_asking(self, asked: Asking) -> None:
        """A stage that asks the instructor, or could."""
        self.plan.asked.append(asked)
        bill = asked.beside(())
        work = f"{'at most ' if asked.at_most else ''}{asked.requests} requests"
        if asked.held:
            work += f", {asked.held} of them in the ledger"
        if asked.payer is None and asked.at_most:
            work = "at most every verified row; nobody is asked"
        self.add(asked.stage, work, bill.tokens, bill.price)

    def add_training(self, stage: str, rows: int, exact: bool) -> None:
        """A training job on so many rows, or at most so many."""
        training: Any = self.setup.settings.training
        updates = math.ceil(rows * training.epochs / training.batch_size)
        self.add(stage, f"{'' if exact else 'at most '}{rows} rows, {updates} updates")
        self.plan.updates = (self.plan.updates or 0) + (0 if finished(self.setup.folder / stage) else updates)

    def show(self) -> Plan:
        """Print it all, with what it costs where somebody is asked."""
        out = console()
        out.print(self.table)
        if self.setup.instructor is not None:
            out.print(money(self.setup, in_all(one.beside(()) for one in self.plan.asked)), highlight=False)
        out.print(NOTHING_SENT, highlight=False)
        return self.plan


def _practice(
    setup: Setup, dataset: Dataset, place: str, asked: Sequence[Question], train: Sequence[Question], iteration: int,
    sent: Counter[str],
) -> Iterator[Asking]:  # fmt: skip
    """What is asked for the practice of a dataset in an iteration: by the strategy, the reviser, and the consensus gate.

    Args:
        asked: the questions that errors are taken from.
        sent: how often former iterations have sent the same messages.
    """
    if setup.instructor is None:
        return
    first, problems = _asking(setup, dataset, place, asked, train, iteration, sent)
    yield first
    revises = not isinstance(setup.reviser, Unrevised)
    if revises:
        yield _revising(setup, f"{place}/revise/revised", asked, problems)
    if isinstance(setup.strategy, Strategy):  # original rows are not judged
        for gate in (gate for gate in setup.gates.values() if isinstance(gate, Consensus)):
            for step in ("solve", "revise/solve") if revises else ("solve",):
                yield _solving(setup, f"{place}/{step}", gate, dataset, asked, problems)


def _asking(
    setup: Setup, dataset: Dataset, within: str, asked: Sequence[Question], train: Sequence[Question], iteration: int,
    sent: Counter[str],
) -> tuple[Asking, int]:  # fmt: skip
    """What was sent, or what will be where the errors are known; otherwise as if every answer were wrong.

    Beside it, how many problems these requests ask for, at most.
    """
    strategy: Any = setup.strategy
    stage, name = f"{within}/instruct", within.rpartition("/")[2]
    place, errors_of = setup.folder / within, setup.settings.errors
    if not isinstance(strategy, Strategy):
        wrong = [Attempt(question, "", False, None, False) for question in asked]
        return Asking(stage), len(strategy.rows(wrong, train, dataset, iteration))
    if finished(place / "instruct"):
        stored = anew(decode_lines((place / "instruct" / "requests.jsonl").read_bytes(), Request), sent)
        return Asking(stage, len(stored), held=len(stored)), sum(request.problems for request in stored)
    known = all(finished(place / split) for split in errors_of.splits)
    if known:
        files = [place / split / "attempts.jsonl" for split in errors_of.splits]
        attempts = [one for file in files for one in decode_lines(file.read_bytes(), Attempt)]
        errors, successes = divide(attempts, errors_of.leave_out)
    else:
        successes = [Attempt(question, question.solution, True, None, True) for question in asked]
        errors = [Attempt(question, question.solution, True, None, False, "wrong_value") for question in asked]
    if not errors:
        return Asking(stage), 0
    rng = Watched(f"{setup.settings.seed}/{iteration}/{name}")
    seeds = exactly(strategy.seeds(errors, successes, rng), setup.settings.equalise.requests, rng)
    each = setup.allocation.each(setup.size(name), max(1, len(seeds)), None)  # spent evenly, before anything is embedded
    cases = [replace(case, problems=each) for case in named(seeds, iteration)]
    if setup.retrieval is not None:  # any right answers: the nearest are not known before they are embedded
        cases = [replace(case, neighbours=tuple(successes[: setup.retrieval.k])) for case in cases]
    cases = strategy.arranged(cases, rng)
    requests = anew([strategy.request(case, dataset.layout) for case in cases], sent)
    fixed = iteration == 1 or setup.allocation.rule == "paper"  # else N is the first iteration's, which is not looked up
    exact = known and fixed and setup.retrieval is None and isinstance(setup.allocation, Uniform)
    drawn = rng.drawn or not isinstance(setup.allocation, Uniform)
    alike = "" if exact else kin(setup, iteration, drawn, asked)
    problems = sum(request.problems for request in requests)
    if not known and setup.settings.equalise.requests is None:  # fewer errors get more problems each, up to more in all
        problems = max(number * setup.allocation.each(setup.size(name), number, None) for number in range(1, len(seeds) + 1))
    return asking(stage, setup, requests, not exact, alike, look=exact), problems


def _solving(
    setup: Setup, stage: str, gate: Consensus, dataset: Dataset, train: Sequence[Question], problems: int
) -> Asking:
    """What the consensus gate will ask, if every problem comes to it and they are as long as the train questions."""
    row = Example("", dataset.name, "", "", "", "", "", 1)
    asked = [one for q in train for one in gate.requests(replace(row, prompt=dataset.show(q)), dataset.layout)]
    return _in_proportion(setup, stage, asked, problems / len(train), gate.instructor or setup.instructor)


def _revising(setup: Setup, stage: str, train: Sequence[Question], problems: int) -> Asking:
    """What the reviser will ask at most, if every problem comes to it and they are as long as the train questions."""
    pairs = [Pair(question.id, question.text, "", question.solution, question.dataset) for question in train]
    return _in_proportion(setup, stage, setup.reviser.expected(pairs), problems / len(train), setup.instructor)


def _in_proportion(setup: Setup, stage: str, asked: Sequence[Request], share: float, payer: Any) -> Asking:
    if not asked:
        return Asking(stage, at_most=True)
    prompt, reply, _ = estimate(asked, payer)
    number = round(share * len(asked))
    if finished(setup.folder / stage):
        return Asking(stage, number, True, number, {}, payer)
    unpaid = {f"{setup.folder}/{stage}": Tokens(number, round(share * prompt), round(share * reply))}
    return Asking(stage, number, True, 0, unpaid, payer)


def finished(folder: Path) -> bool:
    """Whether a stage came to its end."""
    return _state(folder) == "done"


def _state(folder: Path) -> str:
    try:
        stored = read_stage(folder)
    except msgspec.DecodeError:
        return "to do"
    return "to do" if stored is None else "done" if stored.finished else "half done"
