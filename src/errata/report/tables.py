"""A run's tables, as rows of text: for the terminal and for report.md alike."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from errata.report.results import ALL, best_by_dev
from errata.report.strategy_name import strategy_name


@dataclass(frozen=True)
class TextTable:
    """A title, column heads, and rows of cells."""

    title: str
    heads: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


def narrow(table: TextTable, width: int) -> list[TextTable]:
    """The table in as many parts as it takes to fit a width, by columns; each part begins with the first column.

    A column counts as wide as its longest line, but no wider than 30: longer texts are wrapped.
    """
    lines = [[table.heads, *table.rows][place] for place in range(len(table.rows) + 1)]
    wide = [
        min(30, max(len(part) for row in lines for part in row[place].split("\n"))) + 3 for place in range(len(table.heads))
    ]
    parts: list[list[int]] = [[]]
    for place in range(1, len(table.heads)):
        if parts[-1] and 1 + wide[0] + sum(wide[held] for held in parts[-1]) + wide[place] > width:
            parts.append([])
        parts[-1].append(place)
    if len(parts) == 1:
        return [table]
    return [
        TextTable(
            f"{table.title} ({number} of {len(parts)})",
            tuple(table.heads[place] for place in (0, *part)),
            [tuple(row[place] for place in (0, *part)) for row in table.rows],
        )
        for number, part in enumerate(parts, 1)
    ]


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
        for skill in [*sorted({key for part in measured for key in part["scores"]} - {ALL}), ALL]:
            cells = [skill, str(next(part["scores"][skill]["n"] for part in measured if skill in part["scores"]))]
            for part in measured:
                score = part["scores"].get(skill)
                if score is None:  # not one of its questions was answered
                    cells += ["", ""] if part["iteration"] else [""]
                    continue
                cells.append(f"{percent(score['accuracy'])} % [{percent(score['low'])} %, {percent(score['high'])} %]")
                cells += [p_value(score["p"])] if part["iteration"] else []
            rows.append(tuple(cells))
        protocol = measured[0]["protocol"]
        title = f"{name} ({results['split']}, {protocol}): accuracy, [95 % interval]"
        title += ", p = exact McNemar against the start" if len(measured) > 1 else ""
        tables.append(TextTable(title, tuple(heads), rows))
    return tables


def kinds_table(results: dict[str, Any]) -> list[TextTable]:
    """How the wrong answers failed, by dataset and iteration."""
    rows = []
    for name, measured in results["datasets"].items():
        for part in measured:
            kinds = ", ".join(f"{kind.replace('_', ' ')} {number}" for kind, number in part["kinds"].items())
            total = part["scores"][ALL]
            left_out = str(part["left_out"]) if part["left_out"] else ""
            row = (name, part["protocol"], str(part["iteration"] or "start"), str(total["n"]), left_out)
            rows.append((*row, str(total["n"] - total["right"]), kinds or "none"))
    heads = ("dataset", "protocol", "iteration", "answered", "left out", "wrong", "kinds")
    return [TextTable("errors by kind", heads, rows)] if rows else []


def macro_table(results: dict[str, Any]) -> list[TextTable]:
    """The mean over the datasets, each counting the same."""
    rows = [
        (str(part["iteration"] or "start"), str(part["datasets"]), f"{percent(part['accuracy'])} %")
        for part in results["macro"]
    ]
    return (
        [TextTable("average of the datasets, each counting the same", ("iteration", "datasets", "accuracy"), rows)]
        if rows
        else []
    )


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
    return [TextTable(f"practice by strategy {strategy_name(results['config'])}: from errors to training rows", heads, rows)]


def contamination_line(results: dict[str, Any]) -> str:
    """How many rows the wall to the test splits has cut, and what it holds."""
    if not results["practice"]:
        return ""
    cut = sum(part["rejections"].get("leak", 0) for part in results["practice"])
    return f"contamination: {cut} generated rows cut; {held_by_the_wall(results['practice'])}"


def held_by_the_wall(practice: Sequence[Mapping[str, Any]]) -> str:
    """How many test items the generated rows were held against, as the stages have noted it."""
    wall: dict[str, int] = {}
    for part in practice:
        wall |= part["wall"]
    if not wall:
        return "how many test items the wall holds is not recorded"
    return f"the wall holds the test items of {', '.join(f'{name} {number:,}' for name, number in sorted(wall.items()))}"


def chosen_line(results: dict[str, Any]) -> str:
    """The iteration that is best by dev, where dev is measured; the test split plays no part in the choice."""
    if not results["dev"]:
        return ""
    scores = ", ".join(f"{part['iteration'] or 'start'} {percent(part['accuracy'])} %" for part in results["dev"])
    return f"chosen by dev: iteration {best_by_dev(results)} ({scores})"


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


def cost_table(results: dict[str, Any]) -> list[TextTable]:
    """What the instructor's replies cost, by iteration and dataset: estimated, worth, and paid by this run itself."""
    if not results["practice"]:
        return []
    strategy = strategy_name(results["config"])
    rows = [
        (
            str(part["iteration"]), part["dataset"], strategy, str(part["requests"]), str(part["from_the_ledger"]),
            f"{part['tokens']:,}", dollars(part["usd"]), dollars(part["paid_usd"]), dollars(part["estimated_usd"]),
        )
        for part in results["practice"]
    ]  # fmt: skip
    total = results["cost"]
    sums = (dollars(total["usd"]), dollars(total["paid_usd"]), dollars(total["estimated_usd"]))
    rows.append(("all", "", "", str(total["requests"]), "", f"{total['tokens']:,}", *sums))
    heads = ("iteration", "dataset", "strategy", "requests", "held", "tokens", "worth", "paid", "estimated")
    return [TextTable("the instructor's price", heads, rows)]


def dollars(usd: float | str) -> str:
    """Money as it is printed."""
    return usd if isinstance(usd, str) else f"${usd:.4f}"


def cost_line(results: dict[str, Any]) -> str:
    """Requests, tokens and money of the whole run, and its wall time by stage."""
    cost = results["cost"]
    usd = cost["usd"] if cost["usd"] == "unknown" else f"${cost['usd']:.4f}"
    seconds = sum(results["seconds"].values())
    asked = f"{cost['requests']} requests, {cost['tokens']:,} tokens, price {usd}; " if results["practice"] else ""
    return f"{asked}{seconds:.0f} s in all stages"


def percent(share: float) -> str:
    """A share as it is printed: 77.9."""
    return f"{100 * share:.1f}"


def p_value(p: float) -> str:
    """A p-value as it is printed: 0.034, 2e-19."""
    return f"{p:.3f}" if p >= 0.001 else f"{p:.0e}"
