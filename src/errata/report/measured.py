"""What a stored run has measured of a published column: from the loop's results, or from a judge's summary."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from errata.report.published import Column, Table
from errata.report.results import ALL
from errata.report.statistics import accuracy, pool_mean

COMPARED = {"wr1": "WR1", "wr2": "WR2", "qs": "QS", "headline": "(W-L)/N+1", "win_rate_se": "standard error of WR1"}
"""Measures of comparisons, as they are shown."""


@dataclass(frozen=True)
class Measured:
    """What a run has of a column, in shares of one; `low` and `high` where there is an interval.

    `headline` and the scores of turns are as they are.

    `value` is None where it is shown elsewhere: a judge's test set that has no column.
    """

    n: int
    value: float | None
    low: float | None = None
    high: float | None = None
    iteration: int | None = None
    protocol: str = ""


def measured(results: Mapping[str, Any], column: Column) -> Measured | str:
    """The run's value of a column, or why there is none."""
    if "datasets" in results:
        return _loop(results, column)
    summary = results["summary"]
    sets = summary["sets"]
    if column.measure in COMPARED:
        if summary["kind"] != "comparison":
            return "the run's judge compares nothing"
        pooled = len(column.datasets) > 1 and set(column.datasets) == set(sets)
        row = summary[ALL] if pooled else sets.get(column.datasets[0]) if len(column.datasets) == 1 else None
        return _compared(row, column.measure) if row is not None else "not measured"
    if column.measure in ("mean", "macro") and summary["kind"] == "graded":
        row = sets.get(column.datasets[0])
        return _graded(row, column, summary["measure"].startswith("accuracy")) if row is not None else "not measured"
    if column.measure == "mean" and summary["kind"] == "turns":
        row = sets.get(column.datasets[0])
        return mean_score(_part(row, column.part)) if row is not None else "not measured"
    return "not measured"


def mean_score(part: Mapping[str, Any]) -> Measured | str:
    """A mean on the judge's own scale, with its bootstrap interval."""
    found = pool_mean([[{str(place): score for place, score in enumerate(part["scores"])}]])
    if found is None:
        return "no verdict"
    ends = (found.low, found.high) if found.n > 1 else ()  # one score has no spread
    return Measured(found.n, found.accuracy, *ends)


def _part(row: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The scores of a turn, of a category's questions, or (the name is empty) of all questions."""
    parts = {"": row[ALL], **row["turns"], **{category: part[ALL] for category, part in row["categories"].items()}}
    found: Mapping[str, Any] = parts.get(name, {"scores": []})
    return found


def _loop(results: Mapping[str, Any], column: Column) -> Measured | str:
    parts = _parts(results, column.datasets[0], column.iteration) if column.measure == "accuracy" else []
    if not parts or (column.part or ALL) not in parts[-1]["scores"]:
        return "not measured"
    return _score(parts[-1], column.part or ALL)


def _parts(results: Mapping[str, Any], dataset: str, iteration: int | None = None) -> list[Mapping[str, Any]]:
    """A dataset's scores, of which the last counts: of that iteration, of the moment looked at (`outcome`), or all."""
    if iteration is None and "outcome" in results:
        return [results["outcome"][dataset]] if dataset in results["outcome"] else []
    parts: list[Mapping[str, Any]] = results["datasets"].get(dataset, [])
    return [part for part in parts if iteration is None or part["iteration"] == iteration]


def _compared(row: Mapping[str, Any], measure: str) -> Measured | str:
    """A rate of wins, ties and losses with its interval: Wilson's for WR2 and QS, bootstrap where a tie is half a win."""
    wins, ties, losses = row["wins"], row["ties"], row["losses"]
    value = row[measure]
    if value is None:
        return "no verdict"
    if measure == "win_rate_se":
        return Measured(row["n"], value)
    worth = {"wr2": (1.0, None, 0.0), "qs": (1.0, 1.0, 0.0)}.get(measure, (1.0, 0.5, 0.0))
    preferences = [each for each, number in zip(worth, (wins, ties, losses), strict=True) for _ in range(number)]
    found = accuracy({str(place): each for place, each in enumerate(preferences) if each is not None})
    scale = 2 if measure == "headline" else 1  # (W - L) / N + 1 is twice (W + T/2) / N
    return Measured(row["n"], value, scale * found.low, scale * found.high)


def _graded(row: Mapping[str, Any], column: Column, right_or_wrong: bool) -> Measured | str:
    """A mean grade; with Wilson's interval where grades are right and wrong (the summary of others holds no spread)."""
    if column.measure == "macro":
        return "no verdict" if row["macro"] is None else Measured(row["all"]["n"], row["macro"] / 100)
    part = row["categories"].get(column.part)
    if part is None or part["mean"] is None:
        return "not measured"
    if not right_or_wrong:
        return Measured(part["n"], part["mean"] / 100)
    right = round(part["mean"] * part["n"] / 100)
    found = accuracy({str(place): float(place < right) for place in range(part["n"])})
    return Measured(found.n, found.accuracy, found.low, found.high)


def mean_measured(results: Mapping[str, Any], table: Table, column: Column) -> Measured | str:
    """The mean of other columns, where the run has measured them all."""
    parts = [measured(results, part) for part in table.columns if part.name in column.mean_of]
    known = [part for part in parts if isinstance(part, Measured)]
    values = [part.value for part in known if part.value is not None]
    if len(values) < len(parts):
        return f"{len(values)} of {len(parts)} columns are measured"
    iterations = {part.iteration for part in known}
    protocols = {part.protocol for part in known}
    if len(iterations) > 1 or len(protocols) > 1:
        return "its columns are not all of one iteration and protocol"
    mean = sum(values) / len(values)
    return Measured(sum(part.n for part in known), mean, iteration=iterations.pop(), protocol=protocols.pop())


def unpublished(results: Mapping[str, Any], table: Table) -> Iterator[tuple[str, Measured]]:
    """What the run has measured and the table has no column for: datasets, and skills where the table goes by them."""
    published = {(name, column.part) for column in table.columns for name in column.datasets}
    names = {name for name, _ in published}
    if "datasets" not in results:
        for name, row in results["summary"]["sets"].items():
            if name not in names:
                yield name, Measured(row["items"], None)
        return
    for name in results["datasets"]:
        parts = _parts(results, name)
        for skill in parts[-1]["scores"] if parts else ():
            whole = skill == ALL
            by_skill = name in names and (name, "") not in published
            if (whole and name not in names) or (not whole and by_skill and (name, skill) not in published):
                yield (name if whole else f"{name}: {skill}"), _score(parts[-1], skill)


def _score(part: Mapping[str, Any], skill: str) -> Measured:
    score = part["scores"][skill]
    return Measured(score["n"], score["accuracy"], score["low"], score["high"], part["iteration"], part["protocol"])
