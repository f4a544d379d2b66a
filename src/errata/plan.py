"""`dry_run=true`: what a run would do and what it would cost, before anything is loaded or paid."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import msgspec
from rich.table import Table

from errata.cases import divide, exactly, named
from errata.dataset.base import Dataset
from errata.gate.consensus import Consensus
from errata.ledger import Ledger
from errata.records import Attempt, Example, Pair, Question, Request
from errata.reviser.none import Unrevised
from errata.run_folder import decode_lines, read_stage
from errata.setup import Setup
from errata.splits import load_splits
from errata.stage.instruct import estimate, held
from errata.strategy.base import Strategy
from errata.terminal import console


@dataclass(frozen=True)
class Asking:
    """The requests of one iteration and dataset, as far as they are known."""

    requests: int
    at_most: bool
    held: int
    prompt_tokens: int
    completion_tokens: int
    usd: float | None
    problems: int = 0


def show_plan(setup: Setup, rows: int | None = None) -> None:
    """Print the stages, which of them are done, requests, tokens, price and training updates."""
    settings = setup.settings
    table = Table(title=f"plan for {setup.folder}", title_justify="left")
    for column in ("stage", "state", "work", "tokens (about)", "price"):
        table.add_column(column, justify="right" if column in ("tokens (about)", "price") else "left")
    total: list[float | None] = []
    if rows is not None:
        table.add_row("train", _state(setup, "train"), _updates(settings.training, rows, exact=True), "", "")
    elif not hasattr(settings, "iterations"):
        for name, dataset in setup.datasets.items():
            stage = f"iteration_0/{name}/{settings.split}"
            table.add_row(stage, _state(setup, stage), f"{len(dataset.load(settings.split))} questions", "", "")
    else:
        splits = load_splits(setup)
        _add_test(table, setup, splits, 0)
        for iteration in range(1, settings.iterations + 1):
            for name, dataset in setup.datasets.items():
                place, asked = f"iteration_{iteration}/{name}", []
                for split in settings.errors.splits:
                    questions = splits[name][split]
                    table.add_row(
                        f"{place}/{split}", _state(setup, f"{place}/{split}"), f"{len(questions)} questions", "", ""
                    )
                    asked += questions
                asking = _asking(setup, name, dataset, asked, iteration)
                if setup.instructor is None:
                    continue
                total.append(asking.usd)
                work = f"{'at most ' if asking.at_most else ''}{asking.requests} requests"
                if asking.held:
                    work += f", {asking.held} of them in the ledger"
                tokens = f"{asking.prompt_tokens:,} in + {asking.completion_tokens:,} out"
                table.add_row(f"{place}/instruct", _state(setup, f"{place}/instruct"), work, tokens, _price(asking.usd))
                if not isinstance(setup.reviser, Unrevised):
                    work, tokens, usd = _revising(setup, asked, asking.problems)
                    total.append(usd)
                    table.add_row(f"{place}/revise", _state(setup, f"{place}/revise/revised"), work, tokens, _price(usd))
                for gate in (gate for gate in setup.gates.values() if isinstance(gate, Consensus)):
                    solving = _solving(setup, gate, dataset, asked, asking.problems)
                    total.append(solving.usd)
                    tokens = f"{solving.prompt_tokens:,} in + {solving.completion_tokens:,} out"
                    work = f"at most {solving.requests} requests"
                    table.add_row(f"{place}/solve", _state(setup, f"{place}/solve"), work, tokens, _price(solving.usd))
            place, wanted = f"iteration_{iteration}/train", sum(map(setup.size, setup.datasets))
            if setup.model.trains:
                table.add_row(place, _state(setup, place), _updates(settings.training, wanted, exact=False), "", "")
            _add_test(table, setup, splits, iteration)
        known = None if None in total else sum(value for value in total if value is not None)
        table.add_section()
        table.add_row("in all", "", "", "", _price(known))
    out = console()
    out.print(table)
    if setup.instructor is not None:
        out.print(money(setup, None if None in total else known), highlight=False)
    out.print("No model was loaded and nothing was sent. Without dry_run=true the same command does it.", highlight=False)


def _asking(setup: Setup, name: str, dataset: Dataset, train: Sequence[Question], iteration: int) -> Asking:
    """What was sent, or what will be where the errors are known; otherwise as if every answer were wrong."""
    strategy: Any = setup.strategy
    instructor: Any = setup.instructor
    place, errors_of = setup.folder / f"iteration_{iteration}/{name}", setup.settings.errors
    if not isinstance(strategy, Strategy):
        return Asking(0, False, 0, 0, 0, 0.0)
    if _finished(place / "instruct"):
        sent = decode_lines((place / "instruct" / "requests.jsonl").read_bytes(), Request)
        return Asking(len(sent), False, len(sent), 0, 0, 0.0, sum(request.problems for request in sent))
    known = all(_finished(place / split) for split in errors_of.splits)
    if known:
        files = [place / split / "attempts.jsonl" for split in errors_of.splits]
        errors, successes = divide([one for file in files for one in decode_lines(file.read_bytes(), Attempt)])
        errors = [error for error in errors if error.kind not in errors_of.leave_out]
    else:
        successes = [Attempt(question, question.solution, True, None, True) for question in train]
        errors = [Attempt(question, question.solution, True, None, False, "wrong_value") for question in train]
    if not errors:
        return Asking(0, False, 0, 0, 0, 0.0)
    rng = Random(f"{setup.settings.seed}/{iteration}/{name}")
    seeds = strategy.seeds(errors, successes, rng)
    if setup.settings.equalise.requests is not None and seeds:
        seeds = exactly(seeds, setup.settings.equalise.requests, rng)
    each = setup.allocation.each(setup.size(name), max(1, len(seeds)), None)  # spent evenly, before anything is embedded
    cases = [replace(case, problems=each) for case in named(seeds, iteration)]
    if setup.retrieval is not None:  # any right answers: the nearest are not known before they are embedded
        cases = [replace(case, neighbours=tuple(successes[: setup.retrieval.k])) for case in cases]
    cases = strategy.arranged(cases, rng)
    requests = [strategy.request(case, dataset.layout) for case in cases]
    paid = held_in_ledger(setup, requests) if known and setup.ledger.exists() else set()
    unpaid = [request for request in requests if request.id not in paid]
    problems = sum(request.problems for request in requests)
    return Asking(len(requests), not known, len(paid), *estimate(unpaid, instructor), problems)


def _solving(setup: Setup, gate: Consensus, dataset: Dataset, train: Sequence[Question], problems: int) -> Asking:
    """What the consensus gate will ask, if every problem comes to it and they are as long as the train questions."""
    row = Example("", dataset.name, "", "", "", "", "", 1)
    asked = [one for q in train for one in gate.requests(replace(row, prompt=dataset.show(q)), dataset.layout)]
    solver: Any = gate.instructor or setup.instructor
    prompt, reply, _ = estimate(asked, solver)
    share = problems / len(train)
    prompt, reply = round(share * prompt), round(share * reply)
    return Asking(round(share * len(asked)), True, 0, prompt, reply, solver.price(prompt, reply))


def _revising(setup: Setup, train: Sequence[Question], problems: int) -> tuple[str, str, float | None]:
    """What the reviser will ask at most, if every problem comes to it and they are as long as the train questions."""
    pairs = [Pair(question.id, question.text, "", question.solution, question.dataset) for question in train]
    requests = setup.reviser.expected(pairs)
    if not requests:
        return "at most every verified row; nobody is asked", "", 0.0
    instructor: Any = setup.instructor
    prompt, reply, _ = estimate(requests, instructor)
    share = problems / len(train)
    prompt, reply = round(share * prompt), round(share * reply)
    work = f"at most {round(share * len(requests))} requests"
    return work, f"{prompt:,} in + {reply:,} out", instructor.price(prompt, reply)


def _finished(folder: Path) -> bool:
    stage = read_stage(folder)
    return stage is not None and stage.finished


def held_in_ledger(setup: Setup, requests: Sequence[Request]) -> set[str]:
    """Ids of the requests that were paid for before."""
    instructor: Any = setup.instructor
    with Ledger(setup.ledger) as ledger:
        calls = {request.id: instructor.call(request.messages, request.draw, request.schema) for request in requests}
        return {name for name, call in calls.items() if held(call, instructor, ledger) is not None}


def _add_test(table: Table, setup: Setup, splits: Any, iteration: int) -> None:
    for name in setup.tested if setup.model.trains else ():
        stage = f"iteration_{iteration}/{name}/test"
        table.add_row(stage, _state(setup, stage), f"{len(splits[name]['test'])} questions", "", "")


def money(setup: Setup, expected: float | None) -> str:
    """How the prices were made, and what the budget leaves."""
    tokenizer = getattr(setup.instructor, "tokenizer", None)
    counted = f"Prompts are counted by the tokenizer of {tokenizer}" if tokenizer else "A token is taken for 4 characters"
    text = f"{counted}; replies are expected to be as long as the questions and solutions they are modelled on."
    budget = setup.settings.budget
    if budget.usd is None and budget.tokens is None:
        return f"{text} There is no budget: set budget.usd or budget.tokens to bound what is spent."
    purse = setup.purse("")
    with Ledger(setup.ledger) as ledger:
        spent, _ = ledger.spent(purse.account)
    limits = [] if budget.usd is None else [f"${spent.usd or 0:.4f} of ${budget.usd:g}"]
    limits += [] if budget.tokens is None else [f"{spent.tokens:,} of {budget.tokens:,} tokens"]
    enough = ""
    if budget.usd is not None and expected is not None and (spent.usd or 0) + expected > budget.usd:
        enough = " That will not do for the whole run: it will stop at the limit, and go on when it is raised."
    return f"{text} The account {purse.account!r} has spent {' and '.join(limits)}.{enough}"


def _state(setup: Setup, stage: str) -> str:
    try:
        stored = read_stage(setup.folder / stage)
    except msgspec.DecodeError:
        return "to do"
    return "to do" if stored is None else "done" if stored.finished else "half done"


def _updates(training: Any, rows: int, exact: bool) -> str:
    updates = math.ceil(rows * training.epochs / training.batch_size)
    return f"{'' if exact else 'at most '}{rows} rows, {updates} updates"


def _price(usd: float | None) -> str:
    return "unknown" if usd is None else f"${usd:.2f}"
