"""One cell of a paper's table: what an arm has measured there, or why it has not."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from errata.report.measured import Measured, mean_measured, measured
from errata.report.paper_parts import PaperCell, moment_of
from errata.report.pooled import Moment, PooledArm
from errata.report.published import Column, Table
from errata.report.stored import Stored


def score(arm: PooledArm, results: Mapping[str, Any], own: Table, column: Column, moment: Moment) -> PaperCell:
    """The arm's cell in a column; `results` are the arm's at that moment."""
    found = mean_measured(results, own, column) if column.mean_of else measured(results, column)
    lacking = _lacking(
        arm, datasets_of(own, column), moment if column.iteration is None else moment_of(str(column.iteration))
    )
    if isinstance(found, str):
        return PaperCell(column, missing="; ".join(lacking) or found)
    scale = 100 if column.unit == "%" else 1
    low, high = found.low, found.high
    seeds, by_seed, sd = 1, [found.value], None
    if column.mean_of:
        if not any(part.part for part in parts_of(own, column)):
            mean = arm.mean(datasets_of(own, column), moment)
            if mean is None:
                return PaperCell(column, missing="; ".join(lacking) or "no run has measured all its columns")
            found = replace(found, n=mean.n, value=mean.accuracy, low=mean.low, high=mean.high)
        low, high = found.low, found.high
        held = arm.scores(datasets_of(own, column), moment)
        seeds = len(held[0]) if held else 1
        by_seed = [sum(sum(one.values()) / len(one) for one in each) / len(each) for each in zip(*held, strict=True)]
    elif not column.part:
        part = arm.part(column.datasets[0], moment if column.iteration is None else moment_of(str(column.iteration)))
        if part is not None:
            seeds, by_seed, sd = part["seeds"], part["by_seed"], part["sd"]
    return PaperCell(
        column, found.n, _scaled(found, scale), None if low is None else scale * low, None if high is None else scale * high,
        found.iteration, found.protocol, seeds, [scale * each for each in by_seed if each is not None],
        None if sd is None else scale * sd, missing="; ".join(lacking),
    )  # fmt: skip


def _scaled(found: Measured, scale: int) -> float | None:
    return None if found.value is None else scale * found.value


def parts_of(own: Table, column: Column) -> list[Column]:
    """The columns that an average is of; any other column alone."""
    return [part for part in own.columns if part.name in column.mean_of] if column.mean_of else [column]


def datasets_of(own: Table, column: Column) -> list[str]:
    """The datasets that a column is measured on."""
    return [part.datasets[0] for part in parts_of(own, column)]


def _lacking(arm: PooledArm, datasets: Sequence[str], moment: Moment) -> list[str]:
    """Why runs of the arm have no score here; one reason where it is the same for all of them."""
    reasons: list[tuple[str, str]] = []
    for run in arm.runs:
        at = moment(run)
        missing = [name for name in datasets if at is None or run.part(name, at) is None]
        if missing:
            reasons.append((run.name, _reason(run, missing, at)))
    told = {reason for _, reason in reasons}
    if len(told) == 1 and len(reasons) == len(arm.runs):
        return list(told)
    return [f"{name}: {reason}" for name, reason in reasons]


def _reason(run: Stored, missing: Sequence[str], at: int | None) -> str:
    asked = {**(run.results["config"].get("dataset") or {}), **(run.results["config"].get("tests") or {})}
    never = [name for name in missing if asked and name not in asked and name not in run.results["datasets"]]
    if len(never) == len(missing):
        return "not measured: not in the run" if len(never) == 1 else f"not measured: {', '.join(never)} are not in the run"
    if at is None:
        return "no best iteration: dev is not measured"
    if run.results["unfinished"]:
        state = run.results.get("state", "not finished: killed or still running")
        return f"{state} ({run.results['unfinished']})"
    reached = max((part["iteration"] for parts in run.results["datasets"].values() for part in parts), default=None)
    if reached is not None and at > reached:
        return f"its loop ended after iteration {reached}"
    return "not measured"
