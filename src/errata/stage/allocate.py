"""allocate: cases in, the same with their numbers of problems and their groups out."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from errata.allocation.base import Allocation, Embed
from errata.records import Attempt, Case
from errata.run_folder import Stage


def allocate(
    stage: Stage, cases: Sequence[Case], asked: Sequence[Attempt], each: int, allocation: Allocation, embed: Embed, seed: int
) -> list[Case]:
    """Spend `each` times the cases problems on them; a case that gets none is left out.

    Raises:
        DataError: the allocation's settings do not fit these errors.
    """
    if stage.finished:
        return stage.read("cases", Case)
    shares = allocation.spend([case.error for case in cases], asked, each, embed, seed)
    found = [
        replace(case, problems=share.problems, group=share.group)
        for case, share in zip(cases, shares, strict=True)
        if share.problems
    ]
    spent: Counter[str] = Counter()
    for case in found:
        spent[case.group] += case.problems
    groups = dict(sorted(spent.items()))
    stage.finish({"cases": len(found), "problems": sum(spent.values()), "by group": groups}, cases=found)
    return found
