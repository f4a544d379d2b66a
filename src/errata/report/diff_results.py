"""What two runs found, side by side: accuracies with paired tests, practice and cost, a judge's or a reviser's figures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from errata.records import Attempt
from errata.report.diff import flat, kind, names_of
from errata.report.results import collect, read, scores
from errata.report.revisions import collect_revisions
from errata.report.statistics import Scores, compare
from errata.report.stored import Stored, read_lines
from errata.report.tables import TextTable, p_value, percent
from errata.report.verdicts import collect_verdicts


def result_tables(first: Path, second: Path, names: tuple[str, str] | None = None) -> list[TextTable]:
    """What both runs found: accuracies with paired tests, practice and cost; or a judge's or a reviser's figures.

    Empty where the runs are not of one kind.
    """
    if kind(first) != kind(second):
        return []
    names = names or names_of(first, second)
    if kind(first) == "loop":
        return [table for table in (_accuracies(first, second, names), _practice(first, second, names)) if table.rows]
    collected = {"judge": collect_verdicts, "revise": collect_revisions}[kind(first)]
    left_out = ("run", "version", "config", "make_up", "seconds", "throughput")
    before, after = (
        dict(flat({name: part for name, part in collected(run).items() if name not in left_out})) for run in (first, second)
    )
    rows = [
        (name, _number(before.get(name)), _number(after.get(name)), _difference(before.get(name), after.get(name)))
        for name in [*before, *(name for name in after if name not in before)]
        if isinstance(before.get(name, after.get(name)), int | float)
    ]
    return [TextTable("figures", ("", *names, "difference"), rows)] if rows else []


def attempts_of(run: Path, results: Mapping[str, Any]) -> dict[tuple[str, int], dict[str, float]]:
    """Each question's score, by dataset and iteration."""
    found = {}
    for dataset, parts in results["datasets"].items():
        for part in parts:
            file = run / f"iteration_{part['iteration']}" / dataset / results["split"] / "attempts.jsonl"
            found[dataset, part["iteration"]] = scores(read_lines(file, Attempt))
    return found


def _accuracies(first: Path, second: Path, names: tuple[str, str]) -> TextTable:
    """Each dataset and iteration; p on the questions that both were asked: their text counts, not their ids alone."""
    runs = [read(run) for run in (first, second)]
    collected = [run.results for run in runs]
    before, after = (attempts_of(run.path, run.results) for run in runs)
    protocols = [
        {(name, part["iteration"]): part["protocol"] for name, parts in results["datasets"].items() for part in parts}
        for results in collected
    ]
    rows = []
    for key in sorted(before.keys() | after.keys()):
        cells: list[str] = [key[0], str(key[1] or "start")]
        for part in (before, after):
            cells.append(f"{percent(_mean(part[key]))} % of {len(part[key])}" if key in part else "")
        found = compare(*_alike(runs, key[0], before[key], after[key])) if key in before and key in after else None
        told = protocols[0].get(key), protocols[1].get(key)
        if found is None:
            cells += [
                "",
                "",
                "",
                "not measured in both" if key not in before or key not in after else "no question in common",
            ]
        else:
            interval = f"{100 * found.difference:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"
            cells += [interval, f"{found.gained} / {found.lost}", p_value(found.p)]
            notes = [] if found.n == len(before[key]) == len(after[key]) else [f"on the {found.n} questions of both"]
            if None not in told and told[0] != told[1]:  # two graders of one run are worth comparing; two runs are not
                notes.insert(0, f"graded by different protocols: {told[0]}, {told[1]}")
            cells.append("; ".join(notes))
        rows.append(tuple(cells))
    heads: tuple[str, ...] = ("dataset", "iteration", *names, "difference", "gained / lost", "p (exact McNemar)", "")
    if not any(row[-1] for row in rows):  # nothing to remark
        heads, rows = heads[:-1], [row[:-1] for row in rows]
    split = " / ".join(dict.fromkeys(results["split"] for results in collected))
    return TextTable(f"accuracy ({split})", heads, rows)


def _alike(runs: Sequence[Stored], dataset: str, before: Scores, after: Scores) -> tuple[Scores, Scores]:
    """Both runs' scores of the questions that are the same in both."""
    asked, also = (run.questions[dataset] for run in runs)
    same = {name for name in before.keys() & after.keys() if asked[name] == also[name]}
    return {name: before[name] for name in same}, {name: after[name] for name in same}


def _practice(first: Path, second: Path, names: tuple[str, str]) -> TextTable:
    """From errors to training rows, and what it cost, over all iterations and datasets."""
    counted = ("errors", "requests", "failed_requests", "problems", "kept")
    sums = []
    for run in (first, second):
        results = collect(run)
        part: dict[str, Any] = {name: sum(one[name] for one in results["practice"]) for name in counted}
        for one in results["practice"]:
            for reason, number in one["rejections"].items():
                part[f"rejected: {reason}"] = part.get(f"rejected: {reason}", 0) + number
        part |= {"tokens": results["cost"]["tokens"], "worth, USD": results["cost"]["usd"]}
        part |= {"paid, USD": results["cost"]["paid_usd"], "trained rows": sum(t["rows"] for t in results["training"])}
        part["seconds in all stages"] = round(sum(results["seconds"].values()), 1)
        sums.append(part)
    rows = [
        (name.replace("_", " "), _number(sums[0].get(name, 0)), _number(sums[1].get(name, 0)),
         _difference(sums[0].get(name, 0), sums[1].get(name, 0)))
        for name in dict.fromkeys([*sums[0], *sums[1]])
        if sums[0].get(name) or sums[1].get(name)
    ]  # fmt: skip
    return TextTable("practice and cost", ("", *names, "difference"), rows)


def _mean(values: Mapping[str, float]) -> float:
    return sum(values.values()) / len(values)


def _number(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _difference(before: Any, after: Any) -> str:
    if not isinstance(before, int | float) or not isinstance(after, int | float):
        return ""
    return "0" if after == before else f"{after - before:+.4g}"
