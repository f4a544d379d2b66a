"""Runs side by side: arms (the seeds of one run together), paired tests between them, single runs paired as well."""

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from errata.report.results import collect, last_scores
from errata.report.statistics import Scores, compare, compare_arms, holm, pool
from errata.report.tables import TextTable, p_value, percent
from errata.run_folder import digest

Arms = Mapping[str, Sequence[str]]
"""The names of like runs (all but the seed the same), by the arm's name."""


def comparison_tables(runs: Sequence[Path]) -> list[TextTable]:
    """For every dataset: each arm with its interval, and each pair of arms on the questions that all their runs answered.

    Where no arm has several seeds, each pair of runs instead, with McNemar's test.

    Raises:
        RunFolderError: a folder is no run folder.
    """
    by_run: dict[str, dict[str, Scores]] = {run.name: dict(last_scores(run)) for run in runs}
    arms = arms_of(runs)
    several = any(len(names) > 1 for names in arms.values())
    tables = []
    for dataset in sorted({name for scores in by_run.values() for name in scores}):
        if several:
            tables += _arm_tables(dataset, arms, by_run, {run.name: _reached(run, dataset) for run in runs})
        else:
            holding = {name: scores[dataset] for name, scores in by_run.items() if dataset in scores}
            tables += _run_table(dataset, holding)
    return tables


def arms_of(runs: Sequence[Path]) -> Arms:
    """Runs grouped by their configs without the seed; an arm is called what its runs' names have in common."""
    alike: dict[str, list[str]] = defaultdict(list)
    for run in runs:
        config: dict[str, Any] = collect(run)["config"]
        config = {key: value for key, value in config.items() if key != "seed"}
        if "instructor" in config:  # it may follow the run's seed
            config["instructor"] = {key: value for key, value in config["instructor"].items() if key != "seed"}
        alike[digest(config)].append(run.name)
    arms: dict[str, list[str]] = {}
    for names in alike.values():
        stem = _common([name.rpartition("-")[0] for name in names]).rstrip("_-") or names[0]
        arms[stem if stem not in arms else names[0]] = names
    return arms


def _common(names: Sequence[str]) -> str:
    """What all names begin with."""
    same = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(min(names), max(names), strict=False))
    return "".join(one for one, _ in same)


def _run_table(dataset: str, holding: Mapping[str, Scores]) -> list[TextTable]:
    rows = [_pair(*pair) for pair in itertools.combinations(holding.items(), 2)]
    title = f"{dataset}: runs compared on the same questions; difference with its 95 % paired bootstrap interval"
    heads = ("first", "second", "n", "first %", "second %", "difference", "gained", "lost", "p (exact McNemar)")
    return [TextTable(title, heads, rows)] if rows else []


def _pair(first: tuple[str, Scores], second: tuple[str, Scores]) -> tuple[str, ...]:
    found = compare(first[1], second[1])
    if found is None:
        return (first[0], second[0], "0", *["no question in common", *[""] * 5])
    interval = _interval(found.difference, found.low, found.high)
    changes = (str(found.gained), str(found.lost), p_value(found.p))
    return (first[0], second[0], str(found.n), percent(found.first), percent(found.second), interval, *changes)


def _reached(run: Path, dataset: str) -> int:
    """The last iteration that is measured: a run that is not finished shows by it."""
    return max((part["iteration"] for part in collect(run)["datasets"].get(dataset, [])), default=0)


def _arm_tables(
    dataset: str, arms: Arms, by_run: Mapping[str, Mapping[str, Scores]], reached: Mapping[str, int]
) -> list[TextTable]:
    scores = {arm: [by_run[name][dataset] for name in names if dataset in by_run[name]] for arm, names in arms.items()}
    scores = {arm: part for arm, part in scores.items() if part}
    means = []
    for arm, part in scores.items():
        pooled = pool(part)
        if pooled is not None:
            score = f"{percent(pooled.accuracy)} [{percent(pooled.low)}, {percent(pooled.high)}]"
            each = ", ".join(percent(sum(one.values()) / len(one)) for one in part)
            after = ", ".join(sorted({str(reached[name]) for name in arms[arm]}))
            means.append((arm, after, str(pooled.seeds), str(pooled.n), score, each, f"{100 * pooled.sd:.1f}"))
    title = f"{dataset}: arms, their seeds together; mean accuracy with the 95 % interval over seeds and questions"
    tables = [TextTable(title, ("arm", "iteration", "seeds", "questions", "accuracy %", "by seed", "sd"), means)]
    pairs = list(itertools.combinations(scores, 2))
    compared = [(pair, found) for pair in pairs if (found := compare_arms(scores[pair[0]], scores[pair[1]])) is not None]
    corrected = holm([found.p for _, found in compared])
    rows = [
        (
            *pair, str(found.n), percent(found.first), percent(found.second),
            _interval(found.difference, found.low, found.high), p_value(found.p), p_value(value),
        )
        for (pair, found), value in zip(compared, corrected, strict=True)
    ]  # fmt: skip
    title = f"{dataset}: arms compared on the same questions; second minus first, interval and p over seeds and questions"
    heads = ("first", "second", "n", "first %", "second %", "difference", "p", "p (Holm)")
    return [*tables, TextTable(title, heads, rows)] if rows else tables


def _interval(difference: float, low: float, high: float) -> str:
    return f"{100 * difference:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"
