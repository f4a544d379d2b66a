"""How the wrong answers failed: a line a kind of error, from its share of all answers at the start to that at the end."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from errata.report.arms import Arm, questions
from errata.report.drawing import FAINT, Target, colour, legend, marker, plain, sheet
from errata.report.results import ALL

_PANELS, _KINDS = 9, 8
_OTHER = "other kinds"


def draw_kinds(arms: Sequence[Arm], to: Target) -> list[Path] | str:
    """Draw it, a panel a dataset, or say why not."""
    trained = [arm for arm in arms if any(max(arm.parts(name)) for name in arm.datasets)]
    if not trained:
        return "nothing is measured after the start"
    datasets = [name for name in dict.fromkeys(name for arm in trained for name in arm.datasets) if _frequent(trained, name)]
    if not datasets:
        return "no wrong answer has a kind"
    shown = datasets[:_PANELS]
    rows = max(len(_frequent(trained, name)) for name in shown)
    told = "share of all answers, %; hollow: the start, filled: after the last iteration; in parentheses: questions"
    told += f"; {len(datasets) - _PANELS} more datasets in the tables" if len(datasets) > _PANELS else ""
    height = 1.0 + max(0.34, 0.11 * len(trained)) * rows
    with sheet(to, "kinds", "Kinds of errors before and after", told, len(shown), height, 2) as drawn:
        for axes, name in zip(drawn.panels, shown, strict=True):
            _panel(axes, trained, name)
        if len(trained) > 1:
            legend(drawn, [plain(arm.name) for arm in trained])
        drawn.alt = "; ".join(_in_words(arm, name) for name in shown for arm in trained if name in arm.datasets)
    return drawn.paths


def _panel(axes: Any, arms: Sequence[Arm], name: str) -> None:
    kinds = _frequent(arms, name)
    step = 0.0 if len(arms) == 1 else min(0.18, 0.72 / len(arms))
    widest = 0.0
    starts = {place: _shares(arm, name, 0, kinds) for place, arm in enumerate(arms) if name in arm.datasets}
    same = len({tuple(start.values()) for start in starts.values()}) == 1
    for place, start in starts.items():
        end = _shares(arms[place], name, -1, kinds)
        for row, kind in enumerate(kinds):
            height = row + step * (place - (len(arms) - 1) / 2)
            before, after = start[kind], end[kind]
            axes.plot([before, after], [height, height], color=colour(place), linewidth=1.6, alpha=0.55, zorder=2)
            axes.plot(before, height, "o", markersize=6, markerfacecolor="white", markeredgewidth=1.4, zorder=3,
                      color=FAINT if same else colour(place))  # fmt: skip
            axes.plot(after, height, marker(place), color=colour(place), markersize=6, zorder=4)
            widest = max(widest, before, after)
            if len(arms) == 1:
                _numbers(axes, before, after, height)
    axes.set_yticks(range(len(kinds)), [plain(kind) for kind in kinds])
    axes.set_ylim(len(kinds) - 0.4, -0.6)
    widest = widest or 1.0
    axes.set_xlim(-0.09 * widest, 1.13 * widest)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    axes.set_xlabel("share of answers, %")
    axes.set_title(f"{plain(name)} ({questions(arms, name)})")


def _numbers(axes: Any, before: float, after: float, height: float) -> None:
    """Both shares beside their dots, on the outer sides."""
    for value, outwards in ((before, 1 if before >= after else -1), (after, -1 if before >= after else 1)):
        side = "left" if outwards > 0 else "right"
        axes.annotate(f"{value:.1f}", (value, height), (8 * outwards, 0), textcoords="offset points", va="center",
                      fontsize=8, ha=side)  # fmt: skip


def _shares(arm: Arm, name: str, place: int, kinds: Sequence[str]) -> dict[str, float]:
    """Percent of the answers that are wrong so, at the start (0) or the end (-1), the mean over seeds."""
    parts = list(arm.parts(name).values())[place]
    found = dict.fromkeys(kinds, 0.0)
    for part in parts:
        for kind, number in part["kinds"].items():
            key = kind if kind in found else _OTHER
            found[key] = found.get(key, 0.0) + 100 * number / part["scores"][ALL]["n"] / len(parts)
    return found


def _frequent(arms: Sequence[Arm], name: str) -> list[str]:
    total: Counter[str] = Counter()
    for arm in arms:
        for parts in arm.parts(name).values():
            for part in parts:
                total.update(part["kinds"])
    kinds = [kind for kind, _ in total.most_common()]
    return kinds if len(kinds) <= _KINDS else [*kinds[: _KINDS - 1], _OTHER]


def _in_words(arm: Arm, name: str) -> str:
    kinds = _frequent([arm], name)
    before, after = _shares(arm, name, 0, kinds), _shares(arm, name, -1, kinds)
    said = ", ".join(f"{plain(kind)} from {before[kind]:.1f} to {after[kind]:.1f} %" for kind in kinds)
    return f"{plain(name)}, {plain(arm.name)}: {said}"
