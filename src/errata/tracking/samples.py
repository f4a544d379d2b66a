"""The rows of a stage that are shown in W&B: few, always the same ones, long texts cut."""

import heapq
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from errata.digests import digest
from errata.records import Attempt, Case, Example, Judgement, Pair, Rejection, Reply, Revision

LONGEST = 500
"""Characters of a text that are shown."""


@dataclass(frozen=True)
class View:
    """How records of one kind are shown.

    Attributes:
        key: by what they are sampled: the id of the question, so that two iterations show the same ones.
        columns: the table's head.
        row: a record's cells.
    """

    kind: type
    key: Callable[[Any], str]
    columns: tuple[str, ...]
    row: Callable[[Any], list[Any]]


def _attempt(one: Attempt) -> list[Any]:
    return [one.id, one.question.text, one.response, one.question.gold, one.answer, one.correct, one.kind or ""]


def _case(one: Case) -> list[Any]:
    error, beside = one.error, ", ".join(near.id for near in one.neighbours)
    return [one.id, error.question.text, error.response, error.kind or "", beside, one.problems, one.group]


def _reply(one: Reply) -> list[Any]:
    tokens = one.prompt_tokens + one.completion_tokens
    return [one.request_id, one.error_id, one.text or "", one.failure or "", tokens, one.usd]


def _pair(one: Pair) -> list[Any]:
    return [one.id, one.source, one.prompt, one.output]


VIEWS = {
    "attempts": View(
        Attempt, lambda one: one.id, ("id", "question", "response", "gold", "answer", "correct", "kind"), _attempt
    ),
    "cases": View(
        Case, lambda one: one.error.id, ("id", "question", "response", "kind", "beside", "problems", "group"), _case
    ),
    "replies": View(
        Reply,
        lambda one: one.error_id,
        ("request", "error", "reply", "failure", "tokens", "usd"),
        _reply,
    ),
    "train": View(
        Example,
        lambda one: one.id,
        ("id", "dataset", "prompt", "response", "error", "iteration"),
        lambda one: [one.id, one.dataset, one.prompt, one.response, one.error_id, one.iteration],
    ),
    "rejections": View(
        Rejection,
        lambda one: one.id,
        ("id", "reason", "detail", "text", "request"),
        lambda one: [one.id, one.reason, one.detail, one.text, one.request_id],
    ),
    "pairs": View(Pair, lambda one: one.id, ("id", "corpus", "prompt", "response"), _pair),
    "revisions": View(
        Revision,
        lambda one: one.id,
        ("id", "status", "reason", "prompt", "response", "prompt after", "response after"),
        lambda one: [
            one.id, one.status, one.reason, one.original.prompt, one.original.output,
            one.final.prompt if one.final else "", one.final.output if one.final else "",
        ],
    ),
    "judgements": View(
        Judgement,
        lambda one: one.id,
        ("id", "test set", "skill", "outcome", "score", "reason"),
        lambda one: [one.id, one.testset, one.skill, one.outcome or "", one.score, one.reason],
    ),
}  # fmt: skip
"""By the name of a stage's output."""


def records(folder: Path, name: str) -> Iterator[Any]:
    """A stage's records of that output, one by one: a corpus may be larger than memory."""
    with (folder / f"{name}.jsonl").open("rb") as lines:
        for line in lines:
            yield msgspec.json.decode(line, type=VIEWS[name].kind)


def sampled(name: str, found: Iterable[Any], count: int, scrub: Callable[[str], str]) -> list[list[Any]]:
    """Cells of at most `count` of the records: those whose keys have the lowest hashes, in their own order."""
    view = VIEWS[name]
    lowest = heapq.nsmallest(count, enumerate(found), key=lambda one: (digest(view.key(one[1])), one[0]))
    return [[_cell(value, scrub) for value in view.row(record)] for _, record in sorted(lowest, key=lambda one: one[0])]


def _cell(value: Any, scrub: Callable[[str], str]) -> Any:
    if not isinstance(value, str):
        return value
    text = scrub(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ... ({len(text)} characters)"
