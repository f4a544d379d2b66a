"""verify: training rows in, the ones that pass every gate out, the others as rejections with their evidence."""

from collections import Counter
from collections.abc import Mapping, Sequence

from errata.gate.base import Context, Gate
from errata.records import Example, Rejection
from errata.run_folder import Stage
from errata.terminal import bar


def verify(
    stage: Stage, rows: Sequence[Example], gates: Mapping[str, Gate], context: Context
) -> tuple[list[Example], list[Rejection]]:
    """Put each row before the gates in their order (cheap to dear); the first that objects rejects it."""
    if stage.finished:
        return stage.read("examples", Example), stage.read("rejections", Rejection)
    checks = [gate.open(context) for gate in gates.values()]
    kept: list[Example] = []
    rejections: list[Rejection] = []
    with bar(stage.name, len(rows)) as advance:
        for row in rows:
            objection = next((found for check in checks if (found := check(row)) is not None), None)
            if objection is None:
                kept.append(row)
            else:
                text = f"{row.prompt}\n\n{row.response}"
                rejections.append(Rejection(row.id, row.dataset, *objection, text, row.request_id, row.iteration))
            advance()
    reasons = Counter(rejection.reason for rejection in rejections)
    counts = {"kept": len(kept), "rejected": len(rejections), "reasons": dict(reasons)}
    stage.finish(counts, examples=kept, rejections=rejections)
    return kept, rejections
