"""evaluate: questions in, graded attempts out."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from errata.dataset.base import Dataset
from errata.model.base import Answer, Model
from errata.records import Attempt, Question
from errata.run_folder import Stage
from errata.terminal import bar


def evaluate(stage: Stage, model: Model, dataset: Dataset, questions: Sequence[Question], batch_size: int) -> list[Attempt]:
    """Let the model answer every question greedily, and grade the answers.

    Batches hold questions of like length, the longest first; each is written as it is done, and a killed stage goes on
    with the first batch that is not. Attempts come back in the questions' order.
    """
    if stage.finished:
        return stage.read("attempts", Attempt)
    prompts = [dataset.show(question) for question in questions]
    lengths = model.prompt_lengths(prompts)
    order = sorted(range(len(questions)), key=lambda place: (-lengths[place], place))
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]

    journal = stage.journal("attempts", Attempt)
    done = {attempt.id: attempt for attempt in journal.records}
    pending = [batch for batch in batches if any(questions[place].id not in done for place in batch)]
    if pending:
        model.load()
    answered = len(questions) - sum(map(len, pending))
    with bar(stage.name, len(questions), answered) as advance:
        for batch in pending:
            answers = model.answer([prompts[place] for place in batch], dataset.max_new_tokens)
            attempts = [grade(dataset, questions[place], answer) for place, answer in zip(batch, answers, strict=True)]
            journal.append(attempts)
            done |= {attempt.id: attempt for attempt in attempts}
            right = sum(attempt.correct for attempt in done.values())
            advance(len(batch), f"{right / len(done):.1%} right")

    attempts = [done[question.id] for question in questions]
    right = sum(attempt.correct for attempt in attempts)
    failures = Counter(attempt.failure for attempt in attempts if attempt.failure)
    stage.finish(
        {"questions": len(attempts), "right": right, "wrong": len(attempts) - right, "failures": dict(failures)},
        attempts=attempts,
    )
    return attempts


def grade(dataset: Dataset, question: Question, answer: Answer) -> Attempt:
    """One graded attempt; a wrong answer that was cut at the token limit has failed by being truncated."""
    verdict = dataset.grade(question, answer.text)
    if not verdict.correct and not answer.finished:
        verdict = replace(verdict, failure="truncated")
    return Attempt(question, answer.text, answer.finished, verdict.answer, verdict.correct, verdict.failure)
