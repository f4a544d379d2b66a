"""agree: verified rows and independent solutions in, the rows that these agree with out."""

from collections import defaultdict
from collections.abc import Sequence

from errata.dataset.base import Dataset
from errata.gate.consensus import Consensus
from errata.records import Example, Rejection, Reply
from errata.run_folder import Stage
from errata.stage.verify import keep


def agree(
    stage: Stage, rows: Sequence[Example], gate: Consensus, replies: Sequence[Reply], dataset: Dataset
) -> tuple[list[Example], list[Rejection]]:
    """Judge each row by the solutions of its own question."""
    if stage.finished:
        return stage.read("examples", Example), stage.read("rejections", Rejection)
    solutions: defaultdict[str, list[Reply]] = defaultdict(list)
    for reply in replies:
        solutions[reply.request_id.rpartition("/")[0]].append(reply)
    return keep(stage, rows, [gate.verdict(row, solutions[row.id], dataset) for row in rows])
