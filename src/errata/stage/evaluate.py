"""evaluate: questions in, graded attempts out."""

import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from errata.dataset.base import Dataset, Examiner
from errata.digests import digest
from errata.errors import DataError
from errata.jsonl import Journal, decode_lines, encode_lines, write_atomically
from errata.lock import locked
from errata.model.base import TOO_LONG, Answer, Model
from errata.records import Attempt, Question
from errata.run_folder import Stage, read_stage
from errata.terminal import bar

TRUNCATED = "truncated"
_FLUSH_S = 0.2
log = logging.getLogger("errata")


def evaluate(
    stage: Stage, model: Model, dataset: Dataset | Examiner, questions: Sequence[Question], shared: Path | None = None
) -> list[Attempt]:
    """Let the model answer every question greedily, and grade the answers.

    `shared` is a folder of finished evaluations, by their inputs: what another run has measured is taken from there, what
    one measures at this moment is waited for, and where that one is stopped, the next goes on from its answers.

    Each attempt is written as it is graded, and a killed stage goes on with the questions that have none. Attempts come back
    in the questions' order. A question that the model could not be asked (no recorded response, a refused request) is left
    out and counted, not called wrong; one whose prompt does not fit the context is an attempt of that kind.

    Raises:
        DataError: no question was answered at all.
    """
    if stage.finished:
        return stage.read("attempts", Attempt)
    if shared is None:
        return _measure(stage, model, dataset, questions, None)
    known = shared / f"{digest(stage.record.inputs)}.jsonl"

    def waiting() -> None:
        log.info("%s: another run measures the same at this moment; its result is waited for", stage.name)

    with locked(known.with_suffix(".lock"), waiting) as holder:
        if known.is_file():
            attempts = decode_lines(known.read_bytes(), Attempt)
            stage.finish(_counts(attempts) | {"taken over": len(attempts)}, attempts=attempts)
            return attempts
        _take_over(holder, stage)
        return _measure(stage, model, dataset, questions, known)


def _take_over(holder: IO[str], stage: Stage) -> None:
    """Go on from the journal of the run that held the lock before and did not come to its end; leave word of ours."""
    journal = stage.journal("attempts", Attempt)
    place = holder.read()
    if place and Path(place) != journal.path.resolve() and _same_work(Path(place), stage):
        mine = {attempt.id for attempt in journal.records}
        if theirs := [attempt for attempt in Journal(Path(place), Attempt).records if attempt.id not in mine]:
            journal.append(theirs)
            log.info("%s: %d answers of a run that was stopped are taken over", stage.name, len(theirs))
    holder.truncate(0)
    holder.write(str(journal.path.resolve()))
    holder.flush()


def _same_work(journal: Path, stage: Stage) -> bool:
    """Whether the journal is there and still of these inputs: that run may have begun anew with another student or data."""
    stored = read_stage(journal.parent) if journal.is_file() else None
    return stored is not None and stored.inputs == stage.record.inputs


def _measure(
    stage: Stage, model: Model, dataset: Dataset | Examiner, questions: Sequence[Question], known: Path | None
) -> list[Attempt]:
    """Ask what has not been asked, and leave the finished evaluation in `known` for other runs."""
    journal = stage.journal("attempts", Attempt)
    done = {attempt.id: attempt for attempt in journal.records}
    pending = [question for question in questions if question.id not in done]
    unanswered: Counter[str] = Counter()
    if pending:
        model.load()
        with bar(stage.name, len(questions), len(done)) as advance:

            def keep(attempts: Sequence[Attempt]) -> None:
                journal.append(attempts)
                done.update((attempt.id, attempt) for attempt in attempts)
                advance(len(attempts), f"{sum(attempt.correct for attempt in done.values()) / len(done):.1%} right")

            if isinstance(dataset, Examiner):
                for attempts in dataset.attempts(model, pending, stage.folder):
                    keep(attempts)
            else:
                for failure in _ask(model, dataset, pending, _twins(questions), keep):
                    unanswered[failure] += 1
                    advance(1)

    if not done:
        why = ", ".join(f"{reason} ({number})" for reason, number in unanswered.most_common(3))
        raise DataError(f"{stage.name}: not one of {len(questions)} questions was answered: {why}")
    attempts = [done[question.id] for question in questions if question.id in done]
    left_out = {"left out": sum(unanswered.values()), "reasons": dict(unanswered)} if unanswered else {}
    if known is not None and not unanswered:
        write_atomically(known, encode_lines(attempts))
    stage.finish(_counts(attempts) | left_out, attempts=attempts)
    return attempts


def _counts(attempts: Sequence[Attempt]) -> dict[str, Any]:
    right = sum(attempt.correct for attempt in attempts)
    kinds = Counter(attempt.kind for attempt in attempts if attempt.kind)
    return {"questions": len(attempts), "right": right, "wrong": len(attempts) - right, "kinds": dict(kinds)}


def _ask(
    model: Model,
    dataset: Dataset,
    questions: Sequence[Question],
    twins: Mapping[str, int],
    keep: Callable[[Sequence[Attempt]], None],
) -> Iterator[str]:
    """Ask all the questions, grade beside the asking, and keep what is graded; yields why a question was not answered."""
    prompts = [replace(prompt, twin=twins[prompt.id]) for prompt in dataset.prompts(questions)]
    grading: list[Future[Attempt]] = []

    def flush(wait: bool) -> None:
        ready = {future for future in grading if wait or future.done()}
        attempts = [future.result() for future in grading if future in ready]
        grading[:] = [future for future in grading if future not in ready]
        if attempts:
            keep(attempts)

    with ThreadPoolExecutor(os.cpu_count()) as graders:
        flushed = time.monotonic()
        try:
            for place, answer in model.answers(prompts, dataset.max_new_tokens, dataset.stop):
                if answer.failure is not None and answer.failure != TOO_LONG:
                    yield answer.failure
                    continue
                grading.append(graders.submit(grade, dataset, questions[place], answer))
                if time.monotonic() - flushed > _FLUSH_S:
                    flush(wait=False)
                    flushed = time.monotonic()
        finally:  # what was answered is kept, whatever ends the work
            flush(wait=True)


def _twins(questions: Sequence[Question]) -> dict[str, int]:
    """How many earlier questions have the same text, by id."""
    seen: Counter[str] = Counter()
    twins = {}
    for question in questions:
        twins[question.id] = seen[question.text]
        seen[question.text] += 1
    return twins


def grade(dataset: Dataset, question: Question, answer: Answer) -> Attempt:
    """One graded attempt; a wrong answer that was cut at the token limit has failed by being truncated."""
    if answer.failure == TOO_LONG:
        detail = "the prompt and one new token do not fit the model's context"
        return Attempt(question, "", False, None, False, TOO_LONG, detail, dataset.protocol)
    verdict = dataset.grade(question, answer.text)
    if not verdict.correct and not answer.finished:
        verdict = replace(verdict, kind=TRUNCATED, detail=f"cut at {dataset.max_new_tokens} tokens; {verdict.detail}")
    return Attempt(
        question, answer.text, answer.finished, verdict.answer, verdict.correct, verdict.kind, verdict.detail,
        dataset.protocol, answer.tokens,
    )  # fmt: skip
