"""verify: training rows in, the ones that pass every gate out, the others as rejections with their evidence."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from errata.gate.base import Check, Context, Gate
from errata.jsonl import decode_lines
from errata.records import Example, Rejection
from errata.run_folder import Stage
from errata.terminal import bar

Objection = tuple[str, str] | None


def verify(
    stage: Stage, rows: Sequence[Example], gates: Mapping[str, Gate], context: Context
) -> tuple[list[Example], list[Rejection]]:
    """Put each row before the gates in their order (cheap to dear); the first that objects rejects it.

    Gates that remember rows see them one after the other, in their order; those behind the last of these judge several rows
    at a time (the answer gate runs programs).
    """
    if stage.finished:
        return stage.read("examples", Example), stage.read("rejections", Rejection)
    checks = [(gate.remembers, gate.open(context)) for gate in gates.values()]
    last = max((place for place, (remembers, _) in enumerate(checks) if remembers), default=-1) + 1
    in_turn, together = ([check for _, check in part] for part in (checks[:last], checks[last:]))

    def objections(checks: Sequence[Check], row: Example) -> Objection:
        return next((found for check in checks if (found := check(row)) is not None), None)

    verdicts: list[Objection | Future[Objection]] = []
    with bar(stage.name, len(rows)) as advance, ThreadPoolExecutor(os.cpu_count()) as judges:
        for row in rows:
            objection = objections(in_turn, row)
            if objection is None and together:
                verdicts.append(judges.submit(objections, together, row))
            else:
                verdicts.append(objection)
                advance()
        for place, verdict in enumerate(verdicts):
            if isinstance(verdict, Future):
                verdicts[place] = verdict.result()
                advance()
    wall = Counter(question.dataset for question in context.tests)
    return keep(stage, rows, verdicts, wall=dict(wall))


def rejections(folder: Path) -> list[Rejection]:
    """What a stage in that folder has rejected; nothing where it was not run."""
    path = folder / "rejections.jsonl"
    return decode_lines(path.read_bytes(), Rejection) if path.exists() else []


def keep(
    stage: Stage, rows: Sequence[Example], verdicts: Iterable[Any], **counts: object
) -> tuple[list[Example], list[Rejection]]:
    """Seal a stage that judged rows: those without an objection are kept, the others are rejections with their evidence."""
    kept: list[Example] = []
    rejections: list[Rejection] = []
    for row, objection in zip(rows, verdicts, strict=True):
        if objection is None:
            kept.append(row)
        else:
            reason, detail = objection
            text = f"{row.prompt}\n\n{row.response}"
            rejections.append(Rejection(row.id, row.dataset, reason, detail, text, row.request_id, row.iteration))
    reasons = Counter(rejection.reason for rejection in rejections)
    counts = {"kept": len(kept), "rejected": len(rejections), "reasons": dict(reasons), **counts}
    stage.finish(counts, examples=kept, rejections=rejections)
    return kept, rejections
