"""What a run of `errata judge` found: its figures in one plain structure, and as tables."""

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from errata.digests import digest
from errata.errors import RunFolderError
from errata.report.measured import mean_score
from errata.report.results import manifest
from errata.report.stored import read_lines, stage_of
from errata.report.tables import TextTable, dollars, percent

ALL = "all"


def collect_verdicts(run: Path) -> dict[str, Any]:
    """The judge's summary, and what the judging cost so far.

    Raises:
        RunFolderError: the folder holds no finished judging.
    """
    stage = stage_of(run / "judge")
    if stage is None or not stage.finished:
        raise RunFolderError(f"{run} holds no finished judging (judge/summary.jsonl); the same command goes on with it")
    described = manifest(run)
    asked = stage_of(run / "instruct")
    stages = {str(path.parent.relative_to(run)): stage_of(path.parent) for path in sorted(run.glob("**/stage.json"))}
    return {
        "run": run.name,
        "version": described["version"],
        "config": described["config"],
        "counts": stage.counts,
        "summary": json.loads((run / "judge" / "summary.jsonl").read_bytes()),
        "questions": _questions(run / "judge" / "items.jsonl"),
        "asked": asked.counts if asked is not None else {},
        "seconds": {name: found.seconds for name, found in stages.items() if found is not None and found.finished},
    }


def _questions(file: Path) -> dict[str, str]:
    """What each test set asked, as a digest; of a revised pair the original. Recorded verdicts have no items."""
    asked: dict[str, list[list[str]]] = {}
    for item in read_lines(file, dict):
        pair = item.get("against_question") or item["question"]
        asked.setdefault(item["question"]["source"], []).append([pair["instruction"], pair.get("input", "")])
    return {name: digest(sorted(texts)) for name, texts in asked.items()}


def verdict_tables(results: Mapping[str, Any]) -> list[TextTable]:
    """The tables that belong to the kind of judge."""
    summary = results["summary"]
    kinds = {"comparison": _comparison, "rating": _ratings, "rubric": _rubric, "graded": _graded, "turns": _turns}
    return kinds[summary["kind"]](summary)


def verdict_lines(results: Mapping[str, Any]) -> list[str]:
    """What stands below the tables: the mean of the test sets, the missing verdicts by reason, the price."""
    summary, asked = results["summary"], results["asked"]
    lines = []
    if summary["kind"] == "comparison" and len(summary["sets"]) > 1:
        mean = summary["mean_of_sets"]
        lines.append(
            f"mean of the {len(summary['sets'])} test sets: WR1 {_percent(mean['wr1'])} %, WR2 {_percent(mean['wr2'])} %, "
            f"QS {_percent(mean['qs'])} %, (W-L)/N+1 {_number(mean['headline'], 3)}"
        )
    reasons: dict[str, int] = {}
    for row in summary["sets"].values():
        for reason, number in row["reasons"].items():
            reasons[reason] = reasons.get(reason, 0) + number
    if reasons:
        said = ", ".join(f"{reason.replace('_', ' ')} {number}" for reason, number in reasons.items())
        lines.append(f"items without a verdict, counted nowhere else: {said}")
    if asked:
        lines.append(
            f"{asked.get('requests', 0)} requests ({asked.get('from the ledger', 0)} from the ledger, "
            f"{asked.get('failed', 0)} failed), {asked.get('tokens', 0):,} tokens, worth {dollars(asked.get('usd', 0.0))}, "
            f"paid {dollars(asked.get('paid usd', 0.0))}; {sum(results['seconds'].values()):.0f} s in all stages"
        )
    return lines


def _comparison(summary: Mapping[str, Any]) -> list[TextTable]:
    controlled = "length_controlled_win_rate" in summary[ALL]
    heads = ["test set", "items", "W-T-L", "WR1 %", "± se", "WR2 %", "QS %", "(W-L)/N+1"]
    heads += ["WR1 at equal lengths %"] if controlled else []
    rates, trust = [], []
    for name, row in _with_all(summary):
        cells = [name, str(row["items"]), f"{row['wins']}-{row['ties']}-{row['losses']}", _percent(row["wr1"])]
        cells += [_percent(row["win_rate_se"], 2), _percent(row["wr2"]), _percent(row["qs"]), _number(row["headline"], 3)]
        cells += [_percent(row["length_controlled_win_rate"])] if controlled else []
        rates.append(tuple(cells))
        shown = (str(row["for_the_answer_shown_first"]), str(row["for_the_answer_shown_second"]))
        cells = [name, str(row["contradictory"]), _percent(row["contradiction_rate"]), *shown, str(row["no_verdict"])]
        cells += [" / ".join(_number(length, 0) for length in row["mean_lengths"])] if controlled else []
        trust.append(tuple(cells))
    title = "wins, ties and losses of the answers, each pair judged in both orders"
    doubts = ["test set", "contradictory", "%", "for the first shown", "for the second shown", "no verdict"]
    doubts += ["characters on average"] if controlled else []
    told = "how far the judge can be trusted: orders that contradict each other, items without a verdict"
    return [TextTable(title, tuple(heads), rates), TextTable(told, tuple(doubts), trust)]


def _ratings(summary: Mapping[str, Any]) -> list[TextTable]:
    edges = summary["edges"]
    ranges = [
        f"[{low:g}, {high:g}{']' if place == len(edges) - 2 else ')'} %"
        for place, (low, high) in enumerate(itertools.pairwise(edges))
    ]
    heads = ("test set", "", "items", "no verdict", "mean", f">= {summary['high']:g} %", *ranges)
    rows = []
    for name, row in _with_all(summary):
        for side in ("before", "after"):
            if side in row:
                part = row[side]
                shares = [_percent(count / part["n"]) if part["n"] else "" for count in part["histogram"]]
                missing = str(row["items"] - part["n"])
                told = side if "before" in row else ""
                figures = (_number(part["mean"], 2), _percent(part["share_high"]))
                rows.append((name, told, str(row["items"]), missing, *figures, *shares))
    return [TextTable("ratings", heads, rows)]


def _rubric(summary: Mapping[str, Any]) -> list[TextTable]:
    tables = _ratings(summary)
    for name, parts in summary["parts"].items():
        own = [part for part in parts if not part.startswith("before")]
        before = any(part.startswith("before") for part in parts)
        heads = ("dimension", *(("before", "after") if before else ("mean",)), "scores read")
        rows = []
        for part in own:
            found, former = parts[part], parts.get(f"before.{part}")
            cells = [_number(former["mean"] if former else None, 1)] if before else []
            rows.append((part.replace(".", ": "), *cells, _number(found["mean"], 1), str(found["n"])))
        tables.append(TextTable(f"{name}: means by dimension", heads, rows))
    return tables


def _graded(summary: Mapping[str, Any]) -> list[TextTable]:
    tables = []
    for name, row in summary["sets"].items():
        rows = [
            (category, str(part["items"]), str(part["items"] - part["n"]), _number(part["mean"], 2))
            for category, part in row["categories"].items()
        ]
        whole = row["all"]
        rows.append(("all items together", str(whole["items"]), str(row["no_verdict"]), _number(whole["mean"], 2)))
        rows.append(("macro average", "", "", _number(row["macro"], 2)))
        unnamed = f"; answers that name no letter: {row['named_no_letter']}" if "named_no_letter" in row else ""
        heads = ("category", "items", "no verdict", summary["measure"])
        tables.append(TextTable(f"{name}: {summary['measure']}{unnamed}", heads, rows))
    return tables


def _turns(summary: Mapping[str, Any]) -> list[TextTable]:
    tables = []
    for name, row in summary["sets"].items():
        turns = list(row["turns"])
        rows = []
        for category, part in [*row["categories"].items(), ("all", row)]:
            cells = [_interval(part["turns"].get(turn)) for turn in turns]
            rows.append((category, str(part[ALL]["n"]), *cells, _interval(part[ALL])))
        title = f"{name}: mean {summary['measure']} [95 % interval]; turns without a verdict: {row['no_verdict']}"
        tables.append(TextTable(title, ("category", "questions", *turns, "over all"), rows))
    return tables


def _interval(part: Mapping[str, Any] | None) -> str:
    found = mean_score(part) if part is not None else ""
    if isinstance(found, str):
        return found
    ends = f" [{found.low:.2f}, {found.high:.2f}]" if found.low is not None else ""
    return f"{_number(found.value, 2)}{ends}"


def _with_all(summary: Mapping[str, Any]) -> Sequence[tuple[str, Mapping[str, Any]]]:
    """Each test set's row, and the row of all where there are several."""
    rows = list(summary["sets"].items())
    return [*rows, (ALL, summary[ALL])] if len(rows) > 1 else rows


def _percent(share: float | None, digits: int = 1) -> str:
    if share is None:
        return ""
    return percent(share) if digits == 1 else f"{100 * share:.{digits}f}"


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
