"""Accuracy over the one setting in which runs differ: numbers on their scale, choices one below the other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from errata.digests import digest
from errata.report.arms import Arm, Point, questions
from errata.report.drawing import FAINT, INK, Target, bar_lengths, colour, marker, plain, sheet
from errata.report.labels import beside, halo

_PANELS = 9


@dataclass(frozen=True)
class Line:
    """Runs that differ in nothing but the setting: (its value, arm), by value. The name says what tells the line apart."""

    name: str
    arms: Sequence[tuple[float, Arm]]


def draw_ablation(arms: Sequence[Arm], to: Target) -> list[Path] | str:
    """Draw it, a figure for each number that varies, or say why not."""
    if len(arms) < 2:
        return "there is one arm only"
    varying = numbers(arms)
    paths = []
    for setting, lines in varying.items():
        paths += _over_numbers(setting, lines, to, "ablation" if len(varying) == 1 else f"ablation-{setting}")
    if not varying:
        paths = _over_choices(arms, to)
    return paths or "nothing is measured"


def numbers(arms: Sequence[Arm]) -> dict[str, list[Line]]:
    """Each numeric setting over which arms vary while all else is the same (but seeds), and the lines that make it up."""
    flat = [flattened(arm.config) for arm in arms]
    differing = [key for key in sorted(set().union(*flat)) if len({repr(one.get(key)) for one in flat}) > 1]
    found = {}
    for key in differing:
        if not all(_number(one.get(key)) for one in flat if key in one):
            continue
        groups: dict[str, list[tuple[float, Arm]]] = {}
        names: dict[str, str] = {}
        for one, arm in zip(flat, arms, strict=True):
            if key in one:
                others = {other: value for other, value in one.items() if other != key}
                group = digest(others)
                groups.setdefault(group, []).append((float(one[key]), arm))
                names[group] = _told({other: one[other] for other in differing if other != key and other in one})
        lines = [Line(names[g], sorted(held, key=lambda pair: pair[0])) for g, held in groups.items() if len(held) > 1]
        if lines:
            found[key] = lines
    return found


def flattened(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings by their dotted names, without seeds."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        if name in ("seed", "instructor.seed"):
            continue
        flat |= flattened(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return flat


def _over_numbers(setting: str, lines: Sequence[Line], to: Target, file: str) -> list[Path]:
    datasets = list(dict.fromkeys(name for line in lines for _, arm in line.arms for name in arm.datasets))[:_PANELS]
    if not datasets:
        return []
    values = sorted({value for line in lines for value, _ in line.arms})
    logarithmic = values[0] > 0 and values[-1] / values[0] >= 16
    height = 3.6 if len(datasets) == 1 else 2.7
    with sheet(to, file, f"Accuracy over {setting}", _told_intervals(lines), len(datasets), height) as drawn:
        arms = [arm for line in lines for _, arm in line.arms]
        for axes, name in zip(drawn.panels, datasets, strict=True):
            ends = []
            for place, line in enumerate(lines):
                points = [(value, arm.points(name)[-1]) for value, arm in line.arms if arm.points(name)]
                if points:
                    _errorbars(axes, points, place, len(lines))
                    ends.append((100 * points[-1][1].accuracy, line.name, colour(place)))
            if logarithmic:
                axes.set_xscale("log")
                axes.minorticks_off()
            axes.set_xticks(values, [f"{value:g}" for value in values])
            axes.margins(x=0.06, y=0.12)
            axes.set_xlabel(setting)
            axes.set_title(f"{plain(name)} ({questions(arms, name)})")
            axes.grid(axis="y")
            if len(lines) > 1:
                beside(axes, values[-1], ends, 8)
        drawn.panels[0].set_ylabel("accuracy, %")
        drawn.alt = "; ".join(
            f"{setting} {value:g} {line.name}".strip() + f": {100 * arm.points(name)[-1].accuracy:.1f} % on {name}"
            for line in lines for value, arm in line.arms for name in datasets if arm.points(name)
        )  # fmt: skip
    return drawn.paths


def _errorbars(axes: Any, points: Sequence[tuple[float, Point]], place: int, lines: int) -> None:
    x, y = [value for value, _ in points], [100 * point.accuracy for _, point in points]
    bars = [bar_lengths(point.accuracy, point.low, point.high) for _, point in points]
    axes.errorbar(x, y, list(zip(*bars, strict=True)), color=colour(place), marker=marker(place), markersize=5, capsize=3,
                  linewidth=1.8, elinewidth=1.2)  # fmt: skip
    for place_in, (value, height) in enumerate(zip(x, y, strict=True) if lines == 1 else ()):
        rises = height < y[min(place_in + 1, len(y) - 1)]
        axes.annotate(f"{height:.1f}", (value, height), (7, -10 if rises else 5), textcoords="offset points", fontsize=8.5,
                      color=FAINT, path_effects=halo())  # fmt: skip


def _over_choices(arms: Sequence[Arm], to: Target) -> list[Path]:
    """Every arm at its last iteration, best first."""
    datasets = list(dict.fromkeys(name for arm in arms for name in arm.datasets))[:_PANELS]
    if not datasets:
        return []
    title, told = f"Accuracy by {_choice(arms)}", _told_intervals([Line("", [(0.0, arm) for arm in arms])])
    first = {arm.name: arm.points(datasets[0]) for arm in arms}
    order = sorted(arms, key=lambda arm: -(first[arm.name][-1].accuracy if first[arm.name] else -1.0))
    with sheet(to, "ablation", title, f"{told}; hollow: the start", len(datasets), 0.8 + 0.3 * len(arms)) as drawn:
        for axes, name in zip(drawn.panels, datasets, strict=True):
            for height, arm in enumerate(order):
                _dot(axes, arm.points(name), height, colour(arms.index(arm)))
            leftmost = axes.get_subplotspec().is_first_col()
            axes.set_yticks(range(len(order)), [plain(arm.name) for arm in order] if leftmost else [])
            axes.set_ylim(len(order) - 0.5, -0.5)
            axes.tick_params(axis="y", length=0, labelcolor=INK)
            axes.set_xlabel("accuracy, %")
            axes.set_title(f"{plain(name)} ({questions(arms, name)})")
            axes.margins(x=0.08)
            axes.grid(axis="x")
        drawn.alt = "; ".join(
            f"{plain(arm.name)} {100 * arm.points(name)[-1].accuracy:.1f} % on {name}"
            for name in datasets for arm in order if arm.points(name)
        )  # fmt: skip
    return drawn.paths


def _dot(axes: Any, points: Sequence[Point], height: int, shade: str) -> None:
    if not points:
        axes.annotate("not measured", (axes.get_xlim()[0], height), fontsize=8, color=FAINT, va="center")
        return
    last = points[-1]
    if last.low is not None and last.high is not None:
        axes.plot([100 * last.low, 100 * last.high], [height, height], color=shade, linewidth=2)
    if len(points) > 1:
        axes.plot(100 * points[0].accuracy, height, "o", markerfacecolor="white", color=FAINT, markersize=5)
    axes.plot(100 * last.accuracy, height, "o", color=shade, markersize=6.5)
    axes.annotate(f"{100 * last.accuracy:.1f}", (100 * last.accuracy, height), (0, 6), textcoords="offset points",
                  ha="center", fontsize=8)  # fmt: skip


def _choice(arms: Sequence[Arm]) -> str:
    """The groups of settings in which the arms differ; a strategy brings its retrieval with it."""
    flat = [flattened(arm.config) for arm in arms]
    differing = {key for key in set().union(*flat) if len({repr(one.get(key)) for one in flat}) > 1}
    groups = {key.partition(".")[0] for key in differing} - {"name"}
    groups -= {"retrieval"} if "strategy" in groups else set()
    return " and ".join(sorted(groups)) if 0 < len(groups) < 3 else "arm"


def _told_intervals(lines: Sequence[Line]) -> str:
    seeds = max(len(arm.results) for line in lines for _, arm in line.arms)
    over = f" over questions and up to {seeds} seeds" if seeds > 1 else ""
    return f"after the last iteration; lines are 95 % intervals{over}; in parentheses: questions"


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _told(settings: Mapping[str, Any]) -> str:
    """What tells a line apart, in few words: of a part that has a name, or else a kind, only that."""
    told: dict[str, str] = {}
    for rank in ("name", "kind", ""):
        for setting, value in settings.items():
            part, _, last = setting.rpartition(".")
            group = part.partition(".")[0] or setting
            if rank and last == rank:
                told.setdefault(group, plain(str(value).rpartition(".")[2]))
            elif not rank and group not in told:
                told[group] = f"{plain(last)} {value}"
    return ", ".join(told.values())
