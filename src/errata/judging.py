"""`errata judge`, top to bottom: test sets and answers become judgements, judgements become figures.

The items are read and matched before anything is asked, so that a file that does not fit costs nothing. Then, where no file
of answers is given, the model answers; the judge's requests go to the instructor through the ledger; and what the replies
say is stored item by item, with the reason wherever there is no verdict.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from errata.errors import DataError
from errata.identity import result_changing
from errata.jsonl import decode_lines
from errata.judge.answers import REFERENCE, Found, answer_file, match, read_answers, revisions_file
from errata.judge.base import Item, Judge
from errata.judge.recorded import Recorded
from errata.judge.rubric import Rubric
from errata.records import Judgement, Pair, Prompt, Reply, Request, Revision, goes_on
from errata.run import Run, digest_of, under_way
from errata.run_folder import read_stage
from errata.setup import Setup
from errata.stage.respond import respond

NO_ANSWER, DROPPED, OTHER_QUESTION = "no_answer", "dropped", "other_question"


def judge(setup: Setup) -> Path:
    """Judge the answers, or go on where it was stopped; returns the run folder.

    Raises:
        DataError: a file cannot be read, or its answers do not fit the test set.
    """
    judge, items = _judge(setup), read_items(setup)
    instructor = setup.instructor if judge.asks else None
    stored = read_stage(setup.folder / "instruct")
    if instructor is not None and (stored is None or not stored.finished):
        instructor.probe()
    with under_way(setup) as run:
        if not given(setup):
            items = answered(items, run)
        inputs: dict[str, Any] = {"items": digest_of(items)}
        replies: dict[str, Reply] = {}
        if instructor is not None:
            requests = [request for item in items if not item.left_out for request in judge.requests(item)]
            received, left = run.asked("instruct", requests, instructor)
            replies = {reply.request_id: reply for reply in received}
            inputs["replies"] = left["replies"]
        if isinstance(judge, Recorded | Rubric):
            inputs["files"] = judge.fingerprint
        with run.stage("judge", judge=result_changing(judge), **inputs) as stage:
            if not stage.finished:
                judgements = judge.recorded() if isinstance(judge, Recorded) else judged(judge, items, replies)
                verdicts = sum(verdict.outcome is not None or verdict.score is not None for verdict in judgements)
                counts = {"items": len(judgements), "verdicts": verdicts, "without": len(judgements) - verdicts}
                stage.finish(counts, items=items, judgements=judgements, summary=[judge.summary(judgements)])
        run.tracker.summarise(flat(stage.read("summary", dict)[0]))
        run.folder.drop_unvisited()
    return setup.folder


def flat(summary: Mapping[str, Any], above: str = "judge") -> dict[str, float]:
    """The numbers in a summary, by dotted name."""
    found: dict[str, float] = {}
    for name, value in summary.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{above}/{name}")
        elif isinstance(value, int | float):
            found[f"{above}/{name}"] = value
    return found


def given(setup: Setup) -> bool:
    """Whether the answers are at hand: the model is not needed."""
    return setup.settings.answers is not None or isinstance(setup.judge, Recorded)


def read_items(setup: Setup) -> list[Item]:
    """Every item with its answers; with an empty answer where the model has yet to give it.

    Raises:
        DataError: a test set or a file cannot be read, or an item has no answer there.
    """
    settings = setup.settings
    if isinstance(setup.judge, Recorded):
        return []
    if settings.answers is not None and revisions_file(settings.answers).is_file():
        return revised(revisions_file(settings.answers), _judge(setup).compares)
    items: list[Item] = []
    for name, corpus in setup.testsets.items():
        questions = [replace(pair, source=name) for pair in corpus.pairs(name)]
        if not questions:
            raise DataError(f"{name}: {corpus.location} holds no items")
        several = any(goes_on(pair.history, before.history, before.prompt) for before, pair in pairwise(questions))
        if several and settings.against is not None:
            raise DataError(
                f"{name} asks in several turns, and two sets of answers make two conversations, whose later turns cannot be "
                "compared: judge each by itself (against=null judge=mt_bench), then `errata report RUN RUN`"
            )
        answers = _answers(settings.answers, name, questions) if settings.answers is not None else None
        against = _answers(settings.against, name, questions) if settings.against is not None else None
        for place, pair in enumerate(questions):
            first = answers[place] if answers is not None else Found("")
            second = against[place] if against is not None else None
            failures = [found.failure for found in (first, second) if found is not None and found.text is None]
            left_out = f"{NO_ANSWER}: {failures[0]}" if failures else ""
            items.append(Item(pair, first.text or "", None if second is None else second.text or "", left_out=left_out))
    return items if settings.answers is None else in_turn(items)


def in_turn(items: Sequence[Item]) -> list[Item]:
    """The items with the answers to earlier turns in the histories that wait for them (`goes_on`).

    A turn behind one that is left out is left out too: there is no conversation to judge it in.
    """
    found: list[Item] = []
    for item in items:
        before = found[-1] if found else item
        pair = before.question
        if goes_on(item.question.history, pair.history, pair.prompt):
            question = replace(item.question, history=(*pair.history, (pair.prompt, before.answer)))
            item = replace(item, question=question, left_out=item.left_out or before.left_out)
        found.append(item)
    return found


def revised(path: Path, compares: bool) -> list[Item]:
    """The pairs of a revise run against their originals; what was dropped has nothing to judge.

    Where the answers are compared, a pair whose instruction changed is left out: the two answer different questions.
    """
    items: list[Item] = []
    for revision in decode_lines(path.read_bytes(), Revision):
        before, after = revision.original, revision.final or revision.original
        name, left_out = before.source or "revisions", ""
        if revision.final is None:
            left_out = DROPPED
        elif compares and after.prompt != before.prompt:
            left_out = OTHER_QUESTION
        question = replace(after, id=revision.id, source=name)
        items.append(Item(question, after.output, before.output, replace(before, source=name), left_out))
    if not items:
        raise DataError(f"{path} holds no revisions")
    return items


def answered(items: Sequence[Item], run: Run) -> list[Item]:
    """The items with the model's answers; one that the model could not answer is left out."""
    found: list[Item] = []
    model, limit = run.setup.model, run.setup.settings.max_new_tokens
    for name in run.setup.testsets:
        part = [item for item in items if item.question.source == name]
        prompts = [_prompt(item.question) for item in part]
        inputs = {"model": model.fingerprint, "prompts": digest_of(prompts), "max_new_tokens": limit}
        with run.stage(f"respond/{name}", **inputs) as stage:
            answers = respond(stage, model, prompts, limit)
        for item, answer in zip(part, answers, strict=True):
            left_out = f"{NO_ANSWER}: {answer.failure}" if answer.failure else item.left_out
            found.append(replace(item, answer=answer.text, left_out=left_out))
    model.unload()
    return in_turn(found)


def judged(judge: Judge, items: Sequence[Item], replies: Mapping[str, Reply]) -> list[Judgement]:
    """Every item's judgement, in their order; one that was left out has its reason."""
    found = []
    for item in items:
        pair, lengths = item.question, (len(item.answer), len(item.against or ""))
        if item.left_out:
            found.append(Judgement(pair.id, pair.source, pair.skill, reason=item.left_out, lengths=lengths))
        else:
            found.append(judge.judgement(item, [replies[request.id] for request in judge.requests(item)]))
    return found


def expected(setup: Setup, items: Sequence[Item]) -> list[Request]:
    """The requests that will be made about these items, for the price in the plan.

    An answer that the model has yet to give is taken to be as long as it can be: four characters a token.
    """
    judge, longest = _judge(setup), "word" * setup.settings.max_new_tokens
    known = given(setup)
    asked = [item for item in items if not item.left_out]
    if not known:
        asked = in_turn([replace(item, answer=longest) for item in asked])
    return [request for item in asked for request in judge.requests(item)]


def _answers(path: str, testset: str, questions: Sequence[Pair]) -> list[Found]:
    if path == REFERENCE:
        lacking = [pair for pair in questions if not pair.output.strip()]
        if lacking:
            raise DataError(
                f"{testset}: {len(lacking)} of {len(questions)} items have no reference answer, the first: {lacking[0].id}. "
                "Give a file of answers instead of `reference`"
            )
        return [Found(pair.output) for pair in questions]
    file = answer_file(Path(path).expanduser(), testset)
    return match(testset, questions, read_answers(file), file)


def _prompt(pair: Pair) -> Prompt:
    return Prompt(pair.id, pair.prompt, question=pair.prompt, key=pair.id.partition("/")[2], history=pair.history)


def _judge(setup: Setup) -> Judge:
    if setup.judge is None:
        raise TypeError("errata judge needs a judge; the schema makes sure of it")
    return setup.judge
