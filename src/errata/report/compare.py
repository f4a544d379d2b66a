"""Arms side by side: the seeds of one run together, and paired tests between them; single runs paired as well."""

import itertools
from collections.abc import Mapping, Sequence

from errata.report.pooled import Moment, PooledArm
from errata.report.statistics import Scores, compare, compare_arms, holm
from errata.report.tables import TextTable, p_value, percent

_ALL_PAIRS = 6
"""Of more arms than this only the first is compared with each other one."""


def comparison_tables(arms: Sequence[PooledArm], moment: Moment) -> list[TextTable]:
    """For every dataset: each arm with its interval, and pairs of arms on the questions that all their runs answered.

    Where no arm has several seeds, each pair of runs instead, with McNemar's test. The arms are of one group (`separate`).
    """
    several = any(len(arm.runs) > 1 for arm in arms)
    tables: list[TextTable] = []
    for dataset in sorted({name for arm in arms for run in arm.runs for name in run.scores}):
        scores = {arm.name: found[0] for arm in arms if (found := arm.scores([dataset], moment)) and found[0]}
        if not scores:
            continue
        if several:
            tables += _arm_tables(dataset, {arm.name: arm for arm in arms}, scores, moment)
        else:
            tables += _run_table(dataset, {name: part[0] for name, part in scores.items()})
    return tables


def _pairs(names: Sequence[str]) -> tuple[list[tuple[str, str]], str]:
    """Which arms are compared, and what the title says of it."""
    if len(names) > _ALL_PAIRS:
        return [(names[0], name) for name in names[1:]], "; each with the first"
    return list(itertools.combinations(names, 2)), ""


def _run_table(dataset: str, holding: Mapping[str, Scores]) -> list[TextTable]:
    pairs, told = _pairs(list(holding))
    rows = [_pair((first, holding[first]), (second, holding[second])) for first, second in pairs]
    title = f"{dataset}: runs compared on the same questions{told}; difference with its 95 % paired bootstrap interval"
    heads = ("first", "second", "n", "first %", "second %", "difference", "gained", "lost", "p (exact McNemar)")
    return [TextTable(title, heads, rows)] if rows else []


def _pair(first: tuple[str, Scores], second: tuple[str, Scores]) -> tuple[str, ...]:
    found = compare(first[1], second[1])
    if found is None:
        return (first[0], second[0], "0", *["no question in common", *[""] * 5])
    interval = _interval(found.difference, found.low, found.high)
    changes = (str(found.gained), str(found.lost), p_value(found.p))
    return (first[0], second[0], str(found.n), percent(found.first), percent(found.second), interval, *changes)


def _arm_tables(
    dataset: str, arms: Mapping[str, PooledArm], scores: Mapping[str, list[Scores]], moment: Moment
) -> list[TextTable]:
    means = []
    for name in scores:
        part = arms[name].part(dataset, moment)
        if part is not None:
            whole = part["scores"]["all"]
            interval = "" if whole["low"] is None else f" [{percent(whole['low'])}, {percent(whole['high'])}]"
            after = ", ".join(sorted({str(moment(run)) for run in arms[name].runs if run.name in part["runs"]}))
            each = ", ".join(map(percent, part["by_seed"]))
            sd = "" if part["sd"] is None else f"{100 * part['sd']:.1f}"
            means.append(
                (name, after, str(part["seeds"]), str(whole["n"]), f"{percent(whole['accuracy'])}{interval}", each, sd)
            )
    title = f"{dataset}: arms, their seeds together; mean accuracy with the 95 % interval over seeds and questions"
    tables = [TextTable(title, ("arm", "iteration", "seeds", "questions", "accuracy %", "by seed", "sd"), means)]
    pairs, told = _pairs(list(scores))
    compared = [(pair, found) for pair in pairs if (found := compare_arms(scores[pair[0]], scores[pair[1]])) is not None]
    corrected = holm([found.p for _, found in compared])
    rows = [
        (
            *pair, str(found.n), percent(found.first), percent(found.second),
            _interval(found.difference, found.low, found.high), p_value(found.p), p_value(value),
        )
        for (pair, found), value in zip(compared, corrected, strict=True)
    ]  # fmt: skip
    title = f"{dataset}: arms compared on the same questions{told}; second minus first, over seeds and questions"
    heads = ("first", "second", "n", "first %", "second %", "difference", "p", "p (Holm)")
    return [*tables, TextTable(title, heads, rows)] if rows else tables


def _interval(difference: float, low: float, high: float) -> str:
    return f"{100 * difference:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"
