"""verify: training rows in, the ones that pass every gate out, the others as rejections with their evidence."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from errata.gate.base import Check, Context, Gate
from errata.records import Example, Rejection
from errata.run_folder import Stage
from errata.terminal import bar


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

    def objections(checks: Sequence[Check], row: Example) -> tuple[str, str] | None:
        return next((found for check in checks if (found := check(row)) is not None), None)

    kept: list[Example] = []
    rejections: list[Rejection] = []
    with bar(stage.name, len(rows)) as advance, ThreadPoolExecutor(os.cpu_count()) as judges:
        waiting: list[tuple[Example, Future[tuple[str, str] | None]]] = []
        for row in rows:
            objection = objections(in_turn, row)
            later: Future[tuple[str, str] | None] = Future()
            if objection is None and together:
                later = judges.submit(objections, together, row)
            else:
                later.set_result(objection)
            waiting.append((row, later))
        for row, later in waiting:
            objection = later.result()
            if objection is None:
                kept.append(row)
            else:
                text = f"{row.prompt}\n\n{row.response}"
                rejections.append(Rejection(row.id, row.dataset, *objection, text, row.request_id, row.iteration))
            advance()
    reasons = Counter(rejection.reason for rejection in rejections)
    wall = Counter(question.dataset for question in context.tests)
    counts = {"kept": len(kept), "rejected": len(rejections), "reasons": dict(reasons), "wall": dict(wall)}
    stage.finish(counts, examples=kept, rejections=rejections)
    return kept, rejections
