"""`errata why RUN ROW`: from a training row back to the error that made it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from rich.panel import Panel
from rich.text import Text

from errata.errors import ErrataError
from errata.jsonl import decode_lines
from errata.records import Attempt, Case, Diagnosis, Example, Rejection, Reply, Request, Revision
from errata.report.results import manifest
from errata.terminal import console

Record = TypeVar("Record")
Read = Callable[[Path, Any], list[Any]]
"""Reads the records of a kind from a file, none where there is no file."""


def why(run: Path, row: str, iteration: int | None) -> None:
    """Print the row, the error, the student's answer, the request, the reply and the verdicts on its problems.

    Raises:
        ErrataError: there is no such run or row.
    """
    manifest(run)  # says so when it is no run folder
    sets = {int(path.parts[-3].split("_")[1]): path for path in sorted(run.glob("iteration_*/mix/train.jsonl"))}
    if not sets:
        raise ErrataError(f"{run} has no training set yet")
    for title, body in chain(run, _find(sets, row, iteration)):
        console().print(Panel(Text(body), title=Text(title), title_align="left"))


def chain(run: Path, example: Example, read: Read | None = None) -> list[tuple[str, str]]:
    """From a training row back to its origin: a title and a text each; `read` may keep the files that many rows share.

    Raises:
        ErrataError: the run folder lacks a record that the row goes back to.
    """
    read = read or _read
    place = run / f"iteration_{example.iteration}" / example.dataset
    error = _error(place, example, read)
    if not example.request_id:
        return [*_row(example, error), ("its origin", f"{example.error_id}, a row of the benchmark: nobody was asked")]
    reply = _one(read, place / "instruct" / "replies.jsonl", Reply, lambda one: one.request_id == example.request_id)
    request = _one(read, place / "instruct" / "requests.jsonl", Request, lambda one: one.id == example.request_id)
    rejected = [
        rejection
        for step in ("parse", "verify", "agree")
        for rejection in read(place / step / "rejections.jsonl", Rejection)
        if rejection.request_id == example.request_id
    ]
    price = "unknown" if reply.usd is None else f"${reply.usd:.4f}"
    cost = f"{reply.prompt_tokens} tokens in, {reply.completion_tokens} out, {reply.duration_s:.2f} s, price {price}"
    verdicts = [f"{example.id}: kept, by every gate"] + [f"{r.id}: {r.reason} ({r.detail})" for r in rejected]
    made = f"strategy {request.strategy}, prompt {request.prompt}, draw {request.draw}, {request.problems} problems"
    solutions = read(place / "solve" / "replies.jsonl", Reply)
    solved = [reply for reply in solutions if reply.request_id.startswith(f"{example.id}/")]
    return [
        *_row(example, error),
        *_case(place, example.request_id, read),
        (
            f"the request {example.request_id} (iteration {example.iteration}; {made}), ledger key {reply.key}",
            "\n\n".join(f"[{message['role']}] {message['content']}" for message in request.messages) + f"\n\n({cost})",
        ),
        *(
            ("the instructor's diagnosis", diagnosis.text)
            for diagnosis in read(place / "parse" / "diagnoses.jsonl", Diagnosis)
            if diagnosis.request_id == example.request_id
        ),
        ("the instructor's reply", reply.text or ""),
        ("the verdicts on its problems", "\n".join(verdicts)),
        *((f"an independent solution ({reply.request_id})", reply.text or "") for reply in solved),
        *_revision(place, example.id, read),
    ]


def _revision(place: Path, row_id: str, read: Read) -> list[tuple[str, str]]:
    """What a reviser made of the row after it was verified, where the run has one."""
    found = [one for one in read(place / "revise" / "revised" / "revisions.jsonl", Revision) if one.id == row_id]
    panels = []
    for one in found:
        why = f": {one.reason}" + (f" ({one.detail})" if one.detail else "") if one.reason else ""
        panels += [(f"the critique of its {part}", text) for part, text in one.critiques.items()]
        panels.append((f"the reviser: {one.status}{why}", f"before:\n\n{one.original.prompt}\n\n{one.original.output}"))
    return panels


def _row(example: Example, error: Attempt | None) -> list[tuple[str, str]]:
    row = (f"training row {example.id}", f"{example.prompt}\n\n{example.response}")
    if error is None:
        return [row]
    what = "the question it goes back to" if error.correct else "the error"
    return [
        row,
        (f"{what}: {error.id}", f"{error.question.with_choices}\n\nright answer: {error.question.gold}"),
        (f"the student's answer ({(error.kind or 'right').replace('_', ' ')})", error.response or "(nothing)"),
    ]


def _error(place: Path, example: Example, read: Read) -> Attempt | None:
    """The attempt that a row goes back to, on whichever split it was made; an original row may have none."""
    splits = [split for split in ("train", "dev") if (place / split / "attempts.jsonl").is_file()]
    attempts = [attempt for split in splits for attempt in read(place / split / "attempts.jsonl", Attempt)]
    found = next((attempt for attempt in attempts if attempt.id == example.error_id), None)
    if found is None and example.request_id:
        raise ErrataError(f"{place} does not hold the row's origin {example.error_id}: is the run folder complete?")
    return found


def _case(place: Path, request_id: str, read: Read) -> list[tuple[str, str]]:
    """What the error was counted to, and the successes that stood beside it, where the strategy contrasts."""
    shares = read(place / "allocate" / "cases.jsonl", Case)
    group = next((case.group for case in shares if case.id == request_id), "")
    counted = [("it was counted to", group)] if group else []
    path = place / "retrieve" / "cases.jsonl"
    if not path.is_file():
        return counted
    case = _one(read, path, Case, lambda record: record.id == request_id)
    lines = [
        f"{cosine:.3f}  {near.id}: {near.question.text}"
        for near, cosine in zip(case.neighbours, case.similarities, strict=True)
    ]
    return [*counted, ("its nearest successes, with their cosines", "\n".join(lines) or "(none)")]


def _find(sets: dict[int, Path], row: str, iteration: int | None) -> Example:
    if row.isdigit():
        number = iteration if iteration is not None else max(sets)
        if number not in sets:
            raise ErrataError(f"there is no training set of iteration {number}; there are {', '.join(map(str, sets))}")
        rows = _read(sets[number], Example)
        if not 1 <= int(row) <= len(rows):
            raise ErrataError(
                f"iteration {number} has {len(rows)} training rows: choose 1 to {len(rows)}, or give a row's id"
            )
        return rows[int(row) - 1]
    for path in sets.values():
        for example in _read(path, Example):
            if example.id == row:
                return example
    some = ", ".join(example.id for example in _read(next(iter(sets.values())), Example)[:2])
    raise ErrataError(f"no training row {row!r}: give a line number, or an id such as {some}")


def _one(read: Read, path: Path, kind: type[Record], wanted: Callable[[Record], bool]) -> Record:
    found = next((record for record in read(path, kind) if wanted(record)), None)
    if found is None:
        raise ErrataError(f"{path} does not hold the row's origin: is the run folder complete?")
    return found


def _read(path: Path, kind: type[Record]) -> list[Record]:
    return decode_lines(path.read_bytes(), kind) if path.exists() else []
