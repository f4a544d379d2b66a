"""Accuracy by iteration with its 95 % band: a panel a dataset, a line an arm, dashed what is printed elsewhere."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from errata.report.arms import Arm, Point, questions
from errata.report.drawing import FAINT, Target, colour, legend, marker, plain, sheet
from errata.report.labels import beside, halo
from errata.report.results import ALL

MOST = 12
_SKILLS = 14
_TOP = 96  # %, from which a number has no room above its point
_BANDS = 3  # arms; the bands of more would hide each other, so theirs are bars beside each other


def draw_accuracy(arms: Sequence[Arm], to: Target) -> list[Path] | str:
    """Draw it, or say why not. Where nothing has more than one iteration, the datasets stand below each other instead."""
    datasets = _datasets(arms)
    if not datasets:
        return "no accuracy is measured yet"
    if all(len(arm.parts(name)) < 2 for arm in arms for name in datasets):
        return _measured_once(arms, datasets, to)
    shown = datasets[:MOST]
    seeds = max(len(arm.results) for arm in arms)
    told = f"{_splits(arms)} split; {'bands' if len(arms) <= _BANDS else 'bars'} are 95 % intervals"
    told += f" over questions and up to {seeds} seeds" if seeds > 1 else ""
    told += "; in parentheses: questions" if len(shown) > 1 else ""
    told += "; grey: skills" if len(arms) == len(datasets) == 1 and _shown_skills(arms[0], datasets[0]) else ""
    told += "; dashed: published" if any(_printed(arm, name) for arm in arms for name in shown) else ""
    told += f"; {len(datasets) - MOST} more datasets in the tables" if len(datasets) > MOST else ""
    height = 4.0 if len(shown) == 1 else 3.0
    columns = 2 if 1 < len(arms) < 5 else 3  # names beside lines need room
    with sheet(to, "accuracy", "Accuracy by iteration", told, len(shown), height, columns) as drawn:
        for axes, name in zip(drawn.panels, shown, strict=True):
            _panel(axes, arms, name, len(shown) == 1 or len(arms) < 5)
            asked = questions(arms, name)
            alone = f"{plain(name)}, {asked} question{'s' * (asked != '1')}"
            axes.set_title(alone if len(shown) == 1 else f"{plain(name)} ({asked})")
        if len(shown) > 1 and len(arms) > 4:
            legend(drawn, [plain(arm.name) for arm in arms])
        drawn.panels[0].set_ylabel("accuracy, %")
        drawn.alt = "; ".join(_in_words(arm, name) for name in shown for arm in arms if arm.points(name))
    return drawn.paths


def _panel(axes: Any, arms: Sequence[Arm], name: str, named: bool) -> None:
    ends: list[tuple[float, str, str]] = []
    held = [point for arm in arms for point in arm.points(name)]
    last = max((point.iteration for point in held), default=0)
    heights = [100 * (one.accuracy if edge is None else edge) for one in held for edge in (one.low, one.high)] or [0.0]
    if len(arms) == len(arms[0].datasets) == 1:
        ends += _skills(axes, arms[0], name, last)
        heights += [end[0] for end in ends] + [0.0]
    step = 0.0 if len(arms) <= _BANDS else min(0.03 * max(last, 1), 0.3 / len(arms))
    for place, arm in enumerate(arms):
        points, shade = arm.points(name), colour(place)
        if not points:
            continue
        aside = step * (place - (len(arms) - 1) / 2)
        x, y = [point.iteration + aside for point in points], [100 * point.accuracy for point in points]
        banded = [point for point in points if point.low is not None and point.high is not None]
        where = [point.iteration + aside for point in banded]
        edges = [100 * (point.low or 0) for point in banded], [100 * (point.high or 0) for point in banded]
        if len(arms) <= _BANDS:
            axes.fill_between(where, *edges, color=shade, alpha=0.15, linewidth=0)
        else:
            axes.vlines(where, *edges, color=shade, linewidth=1.2, alpha=0.7)
        axes.plot(x, y, color=shade, linewidth=2, marker=marker(place), markersize=5, zorder=3)
        if len(arms) == 1:
            for at, value in zip(x[:-1], y, strict=False):
                above = 8 if value < _TOP else -15
                axes.annotate(f"{value:.1f}", (at, value), (0, above), textcoords="offset points", ha="center",
                              fontsize=9.5, fontweight="bold", color=shade, path_effects=halo())  # fmt: skip
            ends.append((y[-1], f"all {y[-1]:.1f}", shade))
        else:
            ends.append((y[-1], f"{plain(arm.name)} {y[-1]:.1f}", shade))
        published = _dashed(axes, arm, name, last, shade)
        heights += published
        if published:
            ends.append((published[-1], "published" if len(arms) == 1 else f"{plain(arm.name)} published", FAINT))
    top, low = max(heights), min(heights)
    axes.set_ylim(max(0, low - 6), min(104, top + 8))
    edge = last + 0.05 * max(last, 1) + step * len(arms) / 2
    axes.set_xlim(-0.12 * max(last, 1) - 0.04, edge)
    axes.set_xticks(range(last + 1), ["start", *(str(number) for number in range(1, last + 1))])
    axes.set_xlabel("iteration")
    axes.grid(axis="y")
    if named:
        beside(axes, edge if step else last, ends, 8.0 if len(arms) > 1 else 8.5)


def _skills(axes: Any, arm: Arm, name: str, last: int) -> list[tuple[float, str, str]]:
    """Each skill as a thin grey line; lines that end together share a label."""
    parts = arm.parts(name)
    ends: dict[float, list[str]] = {}
    for skill in _shown_skills(arm, name):
        line = [(at, 100 * part[0]["scores"][skill]["accuracy"]) for at, part in parts.items() if skill in part[0]["scores"]]
        axes.plot(*zip(*line, strict=True), color="0.8", linewidth=1, zorder=1)
        if line[-1][0] == last:
            ends.setdefault(round(line[-1][1]), []).append(plain(skill))
    return [(height, ", ".join(names), FAINT) for height, names in ends.items()]


def _shown_skills(arm: Arm, name: str) -> list[str]:
    """The skills that have a line each: those of a single run, where there are not too many."""
    skills = [key for key in next(iter(arm.parts(name).values()))[0]["scores"] if key != ALL]
    return skills if len(arm.results) == 1 and 1 < len(skills) <= _SKILLS else []


def _dashed(axes: Any, arm: Arm, name: str, last: int, shade: str) -> list[float]:
    found = _printed(arm, name)
    line = sorted((at, value) for at, value in found if at is not None and at <= last)
    if line:
        found = [(at, value) for at, value in line]
        axes.plot(*zip(*line, strict=True), color=shade, linewidth=1.2, linestyle="--", zorder=2)
    else:
        for _, value in found:
            axes.plot([0, last], [value, value], color=shade, linewidth=1.2, linestyle="--", zorder=2)
    return [value for _, value in found]


def _printed(arm: Arm, name: str) -> list[tuple[int | None, float]]:
    """The published accuracies that were asked for beside this arm's: (iteration, None for an outcome, in %)."""
    cells = [cell for run in arm.results for row in run.get("against", []) for cell in row.get("cells", [])]
    found = [cell for cell in cells if cell["dataset"] == name and cell["unit"] == "%" and cell["printed"] is not None]
    return list(dict.fromkeys((cell.get("published_iteration"), float(cell["printed"])) for cell in found))


def _measured_once(arms: Sequence[Arm], datasets: Sequence[str], to: Target) -> list[Path]:
    """One accuracy a dataset, as a dot with its interval; skills in grey where there is one run only."""
    rows: list[tuple[str, Point, int | None]] = []
    for name in datasets[: 3 * MOST]:
        for number, arm in enumerate(arms):
            said = plain(name) if len(arms) == 1 else f"{plain(name)}, {plain(arm.name)}"
            rows += [(said, point, number) for point in arm.points(name)]
        if len(arms) == len(datasets) == 1:
            one = next(iter(arms[0].parts(name).values()))[0]["scores"]
            for skill, part in list(one.items())[: 2 * MOST]:
                if skill != ALL:
                    skilled = Point(0, part["n"], 1, part["accuracy"], part["low"], part["high"])
                    rows.append((plain(skill), skilled, None))
    told = f"{_splits(arms)} split; lines are 95 % intervals"
    with sheet(to, "accuracy", "Accuracy", told, 1, 0.7 + 0.27 * len(rows)) as drawn:
        (axes,) = drawn.panels
        for height, (_, point, place) in enumerate(rows):
            shade, size = ("0.6", 4.0) if place is None else (colour(place), 6.0)
            if point.low is not None and point.high is not None:
                axes.plot([100 * point.low, 100 * point.high], [height, height], color=shade, linewidth=size / 3)
            axes.plot(100 * point.accuracy, height, marker=marker(place or 0), color=shade, markersize=size)
            axes.annotate(f"{100 * point.accuracy:.1f}", (100, height), (6, 0), textcoords="offset points", va="center",
                          fontsize=8.5, color=FAINT, annotation_clip=False)  # fmt: skip
        axes.set_yticks(range(len(rows)), [f"{name} ({point.n:,})" for name, point, _ in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlim(0, 100)
        axes.set_xlabel("accuracy, %")
        axes.grid(axis="x")
        drawn.alt = "; ".join(f"{name}: {100 * point.accuracy:.1f} %" for name, point, _ in rows)
    return drawn.paths


def _datasets(arms: Sequence[Arm]) -> list[str]:
    return list(dict.fromkeys(name for arm in arms for name in arm.datasets))


def _splits(arms: Sequence[Arm]) -> str:
    return ", ".join(sorted({run["split"] for arm in arms for run in arm.results}))


def _in_words(arm: Arm, name: str) -> str:
    said = ", ".join(f"{point.iteration or 'start'}: {100 * point.accuracy:.1f} %" for point in arm.points(name))
    return f"{plain(name)}, {plain(arm.name)}: {said}"
