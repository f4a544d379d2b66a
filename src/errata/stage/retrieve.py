"""retrieve: errors and successes in, each error beside its nearest successes out."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from errata.errors import DataError
from errata.records import Attempt, Case
from errata.retrieval.base import Retrieval
from errata.run_folder import Stage


def retrieve(
    stage: Stage, cases: Sequence[Case], successes: Sequence[Attempt], retrieval: Retrieval, cache: Path
) -> list[Case]:
    """Put the nearest successes beside each case's error.

    Raises:
        DataError: there are fewer successes than neighbours wanted.
    """
    if stage.finished:
        return stage.read("cases", Case)
    if len(successes) < retrieval.k:
        raise DataError(
            f"{stage.name}: the student has {len(successes)} right answers, and retrieval.k={retrieval.k} neighbours are "
            "wanted: use a smaller k, more train questions, or a strategy that does not contrast (strategy=le)"
        )
    found, counts = retrieval.neighbours([case.error for case in cases], successes, cache)
    beside = [
        replace(
            case,
            neighbours=tuple(success for success, _ in near),
            similarities=tuple(round(cosine, 6) for _, cosine in near),
        )
        for case, near in zip(cases, found, strict=True)
    ]
    stage.finish(counts, cases=beside)
    return beside
