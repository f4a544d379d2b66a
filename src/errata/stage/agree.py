"""agree: verified rows and independent solutions in, the rows that these agree with out."""

from collections import Counter, defaultdict
from collections.abc import Sequence

from errata.dataset.base import Dataset
from errata.gate.consensus import Consensus
from errata.records import Example, Rejection, Reply
from errata.run_folder import Stage


def agree(
    stage: Stage, rows: Sequence[Example], gate: Consensus, replies: Sequence[Reply], dataset: Dataset
) -> tuple[list[Example], list[Rejection]]:
    """Judge each row by the solutions of its own question."""
    if stage.finished:
        return stage.read("examples", Example), stage.read("rejections", Rejection)
    solutions: defaultdict[str, list[Reply]] = defaultdict(list)
    for reply in replies:
        solutions[reply.request_id.rpartition("/")[0]].append(reply)
    kept: list[Example] = []
    rejections: list[Rejection] = []
    for row in rows:
        objection = gate.verdict(row, solutions[row.id], dataset)
        if objection is None:
            kept.append(row)
        else:
            text = f"{row.prompt}\n\n{row.response}"
            rejections.append(Rejection(row.id, row.dataset, *objection, text, row.request_id, row.iteration))
    reasons = Counter(rejection.reason for rejection in rejections)
    stage.finish(
        {"kept": len(kept), "rejected": len(rejections), "reasons": dict(reasons)}, examples=kept, rejections=rejections
    )
    return kept, rejections
