"""A judging as a picture: wins, ties and losses by test set; the histogram of ratings; the means by category."""

import itertools
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

VERDICT_PLOT = "verdicts.png"
_COLOURS = ("#2a7f62", "#c9c9c9", "#c2543d")
_CJK = ("Noto Sans CJK SC", "Source Han Sans SC", "WenQuanYi Zen Hei", "SimHei", "Microsoft YaHei", "PingFang SC")


def plot_verdicts(results: Mapping[str, Any], path: Path) -> None:
    """Draw the summary of a judging to a PNG file. Chinese names need a font that has them; the tables never do."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import font_manager
    from matplotlib import pyplot as plt

    installed = {font.name for font in font_manager.fontManager.ttflist}
    mpl.rcParams["font.family"] = ["DejaVu Sans", *(name for name in _CJK if name in installed)]
    mpl.rcParams["text.parse_math"] = False  # a dollar sign in a name is one
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
    summary = results["summary"]
    rows = list(summary["sets"].items())
    means = summary["kind"] in ("graded", "turns")
    if not means and len(rows) > 1:
        rows.append(("all", summary["all"]))
    bars = sum(len(row["categories"]) + len(row.get("turns", ())) + 1 for _, row in rows) if means else len(rows)
    histogram = summary["kind"] in ("rating", "rubric")
    figure, axes = plt.subplots(figsize=(8, 4 if histogram else 1.6 + 0.38 * bars), dpi=150, layout="constrained")
    {"comparison": _stacked, "graded": _means, "turns": _means}.get(summary["kind"], _histogram)(axes, summary, rows)
    axes.set_title(results["run"], fontsize=11, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)
    plt.close(figure)


def _stacked(axes: Any, summary: Mapping[str, Any], rows: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
    names = [f"{name} ({row['n']})" for name, row in rows]
    left = [0.0] * len(rows)
    for kind, colour, ink in zip(("wins", "ties", "losses"), _COLOURS, ("white", "black", "white"), strict=True):
        shares = [100 * row[kind] / row["n"] if row["n"] else 0.0 for _, row in rows]
        drawn = axes.barh(names, shares, left=left, color=colour, label=kind, height=0.72)
        counts = [str(row[kind]) if share > 4 else "" for (_, row), share in zip(rows, shares, strict=True)]
        axes.bar_label(drawn, counts, label_type="center", color=ink, fontsize=8)
        left = [start + share for start, share in zip(left, shares, strict=True)]
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel("share of the items with a verdict, %")
    axes.axvline(50, color="0.3", linewidth=0.8, linestyle=":")
    axes.figure.legend(loc="outside lower center", ncols=3, frameon=False)


def _histogram(axes: Any, summary: Mapping[str, Any], rows: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
    row, edges = rows[-1][1], summary["edges"]
    names = [f"[{low:g}, {high:g})" for low, high in itertools.pairwise(edges)]
    names[-1] = names[-1][:-1] + "]"
    sides = [side for side in ("before", "after") if side in row]
    for place, side in enumerate(sides):
        part = row[side]
        shares = [100 * count / part["n"] if part["n"] else 0.0 for count in part["histogram"]]
        width = 0.8 / len(sides)
        spots = [spot - 0.4 + width * (place + 0.5) for spot in range(len(names))]
        mean = "" if part["mean"] is None else f", mean {part['mean']:.2f}"
        label = f"{side if len(sides) > 1 else 'answers'} ({part['n']}{mean})"
        drawn = axes.bar(spots, shares, width, label=label, color="#9aa5b1" if side == "before" else _COLOURS[0])
        axes.bar_label(drawn, [f"{share:.1f}" for share in shares], fontsize=8)
    axes.set_xticks(range(len(names)), names)
    axes.set_xlabel("score")
    axes.set_ylabel("share of the rated answers, %")
    axes.legend(frameon=False, loc="upper left")


def _means(axes: Any, summary: Mapping[str, Any], rows: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
    bars: list[tuple[str, float | None, bool]] = []
    turns = summary["kind"] == "turns"
    for name, row in rows:
        prefix = f"{name}: " if len(rows) > 1 else ""
        if turns:
            bars += [(f"{prefix}{category}", part["all"]["mean"], False) for category, part in row["categories"].items()]
            bars += [(f"{prefix}{turn}", part["mean"], True) for turn, part in row["turns"].items()]
            bars.append((f"{prefix}over all", row["all"]["mean"], True))
        else:
            bars += [(f"{prefix}{category}", part["mean"], False) for category, part in row["categories"].items()]
            bars.append((f"{prefix}macro average", row["macro"], True))
    drawn = axes.barh(
        [name for name, _, _ in bars], [mean or 0.0 for _, mean, _ in bars],
        color=[_COLOURS[0] if whole else "#9aa5b1" for _, _, whole in bars], height=0.72,
    )  # fmt: skip
    texts = ["no verdict" if mean is None else f"{mean:.{2 if turns else 1}f}" for _, mean, _ in bars]
    axes.bar_label(drawn, texts, padding=3, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 10.8 if turns else 108)
    axes.set_xlabel(summary["measure"])
