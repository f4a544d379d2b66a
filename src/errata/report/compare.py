"""Runs side by side: paired tests between them, and the seeds of one run pooled."""

import itertools
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from errata.report.results import collect, last_scores
from errata.report.statistics import Scores, compare, pool
from errata.report.tables import TextTable, p_value, percent
from errata.run_folder import digest


def comparison_tables(runs: Sequence[Path]) -> list[TextTable]:
    """For every dataset: each pair of runs, on the questions that both answered, and the seeds of like runs together.

    Raises:
        RunFolderError: a folder is no run folder.
    """
    by_run: dict[str, dict[str, Scores]] = {run.name: dict(last_scores(run)) for run in runs}
    tables = []
    for dataset in sorted({name for scores in by_run.values() for name in scores}):
        holding = {name: scores[dataset] for name, scores in by_run.items() if dataset in scores}
        rows = [_pair(*pair) for pair in itertools.combinations(holding.items(), 2)]
        if rows:
            title = f"{dataset}: runs compared on the same questions; difference with its 95 % paired bootstrap interval"
            heads = ("first", "second", "n", "first %", "second %", "difference", "gained", "lost", "p (exact McNemar)")
            tables.append(TextTable(title, heads, rows))
    return tables + _pooled_tables(runs, by_run)


def _pair(first: tuple[str, Scores], second: tuple[str, Scores]) -> tuple[str, ...]:
    found = compare(first[1], second[1])
    if found is None:
        return (first[0], second[0], "0", *["no question in common", *[""] * 5])
    interval = f"{100 * found.difference:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"
    changes = (str(found.gained), str(found.lost), p_value(found.p))
    return (first[0], second[0], str(found.n), percent(found.first), percent(found.second), interval, *changes)


def _pooled_tables(runs: Sequence[Path], by_run: dict[str, dict[str, Scores]]) -> list[TextTable]:
    alike: dict[str, list[str]] = defaultdict(list)
    for run in runs:
        config: dict[str, Any] = collect(run)["config"]
        alike[digest({key: value for key, value in config.items() if key != "seed"})].append(run.name)
    rows = []
    for names in alike.values():
        for dataset in sorted({name for run in names for name in by_run[run]}) if len(names) > 1 else ():
            found = pool([by_run[run][dataset] for run in names if dataset in by_run[run]])
            if found is not None:
                score = f"{percent(found.accuracy)} [{percent(found.low)}, {percent(found.high)}]"
                rows.append((", ".join(names), dataset, str(found.seeds), str(found.n), score, f"{100 * found.sd:.1f}"))
    title = "seeds together: mean accuracy with the 95 % interval over seeds and questions, and the spread of the seeds"
    heads = ("runs", "dataset", "seeds", "questions", "accuracy %", "sd over seeds")
    return [TextTable(title, heads, rows)] if rows else []
