"""The test questions of a page: what was answered at the start and what after the last iteration, and what changed."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from errata.digests import digest
from errata.records import Attempt
from errata.report.arms import Arm
from errata.report.stored import read_lines

CAP = 10_000
"""Rows that a page holds at most."""
_LONGEST = 3000
GAINED, LOST, RIGHT, WRONG = "gained", "lost", "right both times", "wrong both times"
ONLY_RIGHT, ONLY_WRONG = "right", "wrong"


@dataclass
class Answers:
    """Rows for the page; texts stand once and rows name them by place.

    Attributes:
        rows: [run, dataset, question, gold, answer before, answer after, verdict, kind before, kind after, skill, id], each
            but the id a place in `texts`.
        total: rows there are, of which `rows` holds a sample where there are too many.
    """

    texts: list[str] = field(default_factory=list)
    rows: list[list[Any]] = field(default_factory=list)
    total: int = 0


def answers(arms: Sequence[Arm], cap: int = CAP) -> Answers:
    """Every question of every run, or a sample that is the same each time: those whose digests are lowest."""
    keys = []
    for arm in arms:
        for run in arm.runs:
            for dataset, by_iteration in run.scores.items():
                for name in by_iteration[max(by_iteration)]:
                    keys.append((run.name, dataset, name))
    chosen = set(keys) if len(keys) <= cap else set(sorted(keys, key=digest)[:cap])
    found, places = Answers(total=len(keys)), {}

    def place(text: str) -> int:
        if text not in places:
            places[text] = len(found.texts)
            found.texts.append(text)
        return places[text]

    for arm in arms:
        for run in arm.runs:
            for dataset, by_iteration in run.scores.items():
                wanted = {name for owner, other, name in chosen if owner == run.name and other == dataset}
                first, last = min(by_iteration), max(by_iteration)
                split = run.results["split"]
                before = _attempts(run.path, first, dataset, split, wanted) if first < last else {}
                for name, after in _attempts(run.path, last, dataset, split, wanted).items():
                    cells = _cells(run.name, dataset, before.get(name), after)
                    found.rows.append([*(place(_cut(cell)) for cell in cells), name])
    return found


def _cells(run: str, dataset: str, before: Attempt | None, after: Attempt) -> list[str]:
    question = after.question
    asked = "\n".join(part for part in (question.with_choices, question.tests and f"tests:\n{question.tests}") if part)
    return [
        run, dataset, asked, question.gold, before.response if before else "", after.response, _verdict(before, after),
        _kind(before), _kind(after), question.skill,
    ]  # fmt: skip


def _verdict(before: Attempt | None, after: Attempt) -> str:
    if before is None:
        return ONLY_RIGHT if after.correct else ONLY_WRONG
    if before.value != after.value:
        return GAINED if after.value > before.value else LOST
    return RIGHT if after.correct else WRONG


def _kind(attempt: Attempt | None) -> str:
    return (attempt.kind or "").replace("_", " ") if attempt else ""


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ... ({len(text) - _LONGEST:,} characters more)"


def _attempts(run: Path, iteration: int, dataset: str, split: str, wanted: set[str]) -> dict[str, Attempt]:
    path = run / f"iteration_{iteration}" / dataset / split / "attempts.jsonl"
    return {one.id: one for one in read_lines(path, Attempt) if one.id in wanted} if wanted else {}
