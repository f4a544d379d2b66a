"""Accuracy by iteration, as a picture."""

from pathlib import Path
from typing import Any

from errata.report.results import ALL


def plot_accuracy(results: dict[str, Any], path: Path) -> None:
    """Draw each dataset's accuracy with its 95 % interval, and its skills as thin lines behind it."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7.5, 4.5), dpi=150, layout="constrained")
    palette = plt.get_cmap("tab10")
    for number, (name, measured) in enumerate(results["datasets"].items()):
        iterations = [part["iteration"] for part in measured]
        ends: list[tuple[float, str]] = []
        for skill in (key for key in measured[0]["scores"] if key != ALL):
            values = [100 * part["scores"][skill]["accuracy"] for part in measured]
            axes.plot(iterations, values, color="0.72", linewidth=1, zorder=1)
            ends.append((values[-1], skill))
        for height, names in _without_overlap(ends):
            axes.annotate(
                names, (iterations[-1], height), (6, 0), textcoords="offset points", va="center", fontsize=7, color="0.45"
            )
        scores = [part["scores"][ALL] for part in measured]
        values = [100 * score["accuracy"] for score in scores]
        below = [100 * (score["accuracy"] - score["low"]) for score in scores]
        above = [100 * (score["high"] - score["accuracy"]) for score in scores]
        axes.errorbar(iterations, values, [below, above], color=palette(number), linewidth=2.5, marker="o", capsize=4,
                      label=f"{name}, all {scores[0]['n']} questions", zorder=3)  # fmt: skip
        for x, y in zip(iterations, values, strict=True):
            axes.annotate(f"{y:.1f} %", (x, y), (-6, 9), textcoords="offset points", ha="right", fontsize=9,
                          fontweight="bold", color=palette(number))  # fmt: skip
    last = max((part["iteration"] for measured in results["datasets"].values() for part in measured), default=0)
    axes.set_xticks(range(last + 1), ["start", *(str(number) for number in range(1, last + 1))])
    axes.set_xlim(-0.35, last + 0.4)
    axes.set_ylim(0, 104)
    axes.set_xlabel("iteration")
    axes.set_ylabel(f"accuracy on the {results['split']} split, %")
    axes.set_title(results["run"], fontsize=11, loc="left")
    axes.grid(axis="y", color="0.9", zorder=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper left", frameon=False, fontsize=9)
    figure.savefig(path)
    plt.close(figure)


def _without_overlap(ends: list[tuple[float, str]], apart: float = 3.0) -> list[tuple[float, str]]:
    """Labels at the heights of their lines; those of lines that end close together share one."""
    groups: list[list[tuple[float, str]]] = []
    for height, name in sorted(ends, reverse=True):
        if groups and groups[-1][0][0] - height < apart:
            groups[-1].append((height, name))
        else:
            groups.append([(height, name)])
    return [(sum(height for height, _ in group) / len(group), ", ".join(name for _, name in group)) for group in groups]
