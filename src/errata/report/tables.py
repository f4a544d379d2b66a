"""A run's tables, as rows of text: for the terminal and for report.md alike."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from errata.report.results import ALL


@dataclass(frozen=True)
class TextTable:
    """A title, column heads, and rows of cells."""

    title: str
    heads: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


def accuracy_tables(results: dict[str, Any]) -> list[TextTable]:
    """Per dataset: accuracy by skill and iteration, its 95 % interval, and the paired p-value against the start."""
    tables = []
    for name, measured in results["datasets"].items():
        first = measured[0]["scores"]
        heads = ["skill" if len(first) > 1 else "", "n"]
        for part in measured:
            heads += ["start" if part["iteration"] == 0 else f"iteration {part['iteration']}"]
            heads += ["p"] if part["iteration"] else []
        rows = []
        for skill in [*sorted(key for key in first if key != ALL), ALL]:
            cells = [skill, str(first[skill]["n"])]
            for part in measured:
                score = part["scores"][skill]
                cells.append(f"{score['accuracy']:.1%} [{score['low']:.1%}, {score['high']:.1%}]".replace("%", " %"))
                cells += [p_value(score["p"])] if part["iteration"] else []
            rows.append(tuple(cells))
        title = f"{name} ({results['split']}): accuracy, [95 % Wilson interval], p = exact McNemar against the start"
        tables.append(TextTable(title, tuple(heads), rows))
    return tables


def practice_table(results: dict[str, Any]) -> list[TextTable]:
    """What came of the errors: requests, problems, rejections by reason, rows kept."""
    if not results["practice"]:
        return []
    rows = []
    for part in results["practice"]:
        reasons = ", ".join(f"{reason} {number}" for reason, number in part["rejections"].items()) or "none"
        cells = (part["iteration"], part["dataset"], part["errors"], part["requests"], part["failed_requests"])
        rows.append((*map(str, cells), str(part["problems"]), reasons, str(part["kept"])))
    heads = ("iteration", "dataset", "errors", "requests", "failed", "problems", "rejected", "kept")
    return [TextTable("practice: from errors to training rows", heads, rows)]


def training_table(results: dict[str, Any]) -> list[TextTable]:
    """What each training run did."""
    rows = [
        (
            str(part["iteration"] or ""),
            str(part["rows"]),
            str(part["steps"]),
            f"{part['trained_parameters']:,}",
            f"{part['first_loss']:.3f} to {part['last_loss']:.3f}",
            f"{part['tokens_per_s']:.0f}",
            f"{part['seconds']:.0f}",
        )
        for part in results["training"]
    ]
    heads = ("iteration", "rows", "updates", "trained parameters", "loss", "tokens/s", "seconds")
    return [TextTable("training", heads, rows)] if rows else []


def cost_line(results: dict[str, Any]) -> str:
    """Requests, tokens and money of the whole run, and its wall time by stage."""
    cost = results["cost"]
    usd = cost["usd"] if cost["usd"] == "unknown" else f"${cost['usd']:.4f}"
    seconds = sum(results["seconds"].values())
    asked = f"{cost['requests']} requests, {cost['tokens']:,} tokens, price {usd}; " if results["practice"] else ""
    return f"{asked}{seconds:.0f} s in all stages"


def p_value(p: float) -> str:
    """A p-value as it is printed: 0.034, 2e-19."""
    return f"{p:.3f}" if p >= 0.001 else f"{p:.0e}"
