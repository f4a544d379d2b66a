"""What a reviser did: tables and figures of a run of `errata revise`, and of the revisions within a run of the loop."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any

from errata.records import Revision
from errata.report.results import asked_for, manifest
from errata.report.stored import read_lines, stage_of
from errata.report.tables import TextTable, dollars, percent

WHOLE = "whole"
"""The reason of what was revised with nothing amiss."""
STATUSES = ("revised", "kept", "dropped")
MAKE_UP = "make_up.json"
"""Beside the mixture: the table that says what it is made of."""


def collect_revisions(run: Path) -> dict[str, Any]:
    """Make-up of the mixture, outcomes by reason, lengths, scores and cost, as plain values.

    Raises:
        RunFolderError: the folder is no run folder.
    """
    described = manifest(run)
    stages = {path.parent.relative_to(run).as_posix(): stage_of(path.parent) for path in sorted(run.rglob("stage.json"))}
    counts = {name: stage.counts for name, stage in stages.items() if stage is not None}
    asked = {name: asked_for([run / name]) for name in counts if "requests" in counts[name]}
    made = run / "revise" / "revisions.jsonl"
    revisions = read_lines(made, Revision)
    return {
        "run": run.name,
        "version": described["version"],
        "config": described["config"],
        "mixture": counts.get("corpus", {}),
        "make_up": json.loads(file.read_bytes()) if (file := run / "corpus" / MAKE_UP).is_file() else None,
        "outcomes": counts.get("revise", {}),
        "lengths": lengths(revisions),
        "scores": scores(revisions),
        "throughput": {name: part["prompts/s"] for name, part in counts.items() if "prompts/s" in part},
        "asked": asked,
        "final": counts.get("final", {}),
        "seconds": {name: stage.seconds for name, stage in stages.items() if stage is not None and stage.finished},
    }


def lengths(revisions: Sequence[Revision]) -> dict[str, dict[str, float]]:
    """Median characters of prompts and responses, before and after, of the pairs that were revised."""
    revised = [(one.original, one.final) for one in revisions if one.status == "revised" and one.final is not None]
    if not revised:
        return {}
    return {
        name: {"before": median(len(before) for before, _ in texts), "after": median(len(after) for _, after in texts)}
        for name, texts in (
            ("prompt", [(before.prompt, after.prompt) for before, after in revised]),
            ("response", [(before.output, after.output) for before, after in revised]),
        )
    }


def scores(revisions: Sequence[Revision]) -> dict[str, dict[str, float | int]]:
    """Mean of each measure over the pairs that have it, and of how many it is missing."""
    names = sorted({name for one in revisions for name in one.scores})
    found: dict[str, dict[str, float | int]] = {}
    for name in names:
        values = [one.scores[name] for one in revisions if name in one.scores]
        known = [value for value in values if value is not None]
        found[name] = {"scored": len(known), "missing": len(values) - len(known)}
        if known:
            found[name]["mean"] = fmean(known)
    return found


def revision_tables(results: Mapping[str, Any]) -> list[TextTable]:
    """The tables of a run of `errata revise`."""
    tables = []
    if results["make_up"] is not None:
        title, heads, rows = results["make_up"]
        tables.append(TextTable(title, tuple(heads), [tuple(row) for row in rows]))
    if results["outcomes"]:
        tables.append(outcome_table(results["outcomes"]))
    if results["lengths"]:
        rows = [
            (name, f"{part['before']:g}", f"{part['after']:g}", f"{part['after'] / max(part['before'], 1):.2f}")
            for name, part in results["lengths"].items()
        ]
        tables.append(TextTable("length (median characters)", ("", "before", "after", "ratio"), rows))
    if results["scores"]:
        rows = [
            (name, str(part["scored"]), str(part["missing"]), f"{part['mean']:.3f}" if "mean" in part else "")
            for name, part in results["scores"].items()
        ]
        tables.append(TextTable("scores", ("measure", "scored", "missing", "mean"), rows))
    if results["asked"]:
        rows = [
            (
                name, str(part["requests"]), str(part.get("from the ledger", 0)), str(part.get("failed", 0)),
                f"{part.get('tokens', 0):,}", dollars(part.get("usd", 0.0)), dollars(part.get("paid usd", 0.0)),
            )
            for name, part in results["asked"].items()
        ]  # fmt: skip
        heads = ("stage", "requests", "held", "failed", "tokens", "worth", "paid")
        tables.append(TextTable("the instructor's price", heads, rows))
    return tables


def outcome_table(outcomes: Mapping[str, Any]) -> TextTable:
    """Revised, kept and dropped, by reason."""
    total = max(outcomes["pairs"], 1)
    rows = []
    for status in STATUSES:
        reasons = sorted(outcomes.get(f"{status} by reason", {}).items(), key=lambda item: -item[1])
        for place, (reason, number) in enumerate(reasons):
            why = reason.replace("_", " ")
            if status == "revised" and reason != WHOLE:
                why = f"in part (a stage failed: {why})"
            rows.append((status if place == 0 else "", why, str(number), percent(number / total)))
    rows.append(("all", "", str(outcomes["pairs"]), percent(1.0)))
    return TextTable("what the reviser made of the pairs", ("status", "reason", "pairs", "%"), rows)
