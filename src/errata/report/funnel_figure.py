"""From errors to training rows: how many of each, step by step, and what was rejected on the way, by reason."""

import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from errata.report.arms import Arm
from errata.report.drawing import FAINT, PALETTE, REJECTED, Target, plain, sheet
from errata.report.stored import stage_of

_MOST = 12
_REASONS = 6
_TITLE = 22  # characters of a line


@dataclass(frozen=True)
class Funnel:
    """The steps that there were, with how many each has left, and the rejections by reason; means where seeds are pooled."""

    name: str
    steps: Sequence[tuple[str, float]]
    rejected: Sequence[tuple[str, float]]


def draw_funnel(arms: Sequence[Arm], to: Target) -> list[Path] | str:
    """Draw it, a panel an iteration of one run or an arm of several, or say why not."""
    found = funnels(arms)
    if not found:
        return "no practice was asked for"
    shown = found[:_MOST]
    several = len(arms) > 1
    seeds = max(len(arm.results) for arm in arms)
    told = "all iterations together" if several else "by iteration"
    told += ", mean over seeds" if seeds > 1 else ""
    told += "; a reply may hold several problems"
    told += f"; {len(found) - _MOST} more in the tables" if len(found) > _MOST else ""
    labels = [name for name in _STEPS if any(name in dict(funnel.steps) for funnel in shown)]
    reasons = _reasons(shown)
    with sheet(
        to, "funnel", "From errors to training rows", told, len(shown), 0.7 + 0.2 * (len(labels) + len(reasons) + 1), 3
    ) as drawn:
        widest = max(number for funnel in shown for _, number in [*funnel.steps, *funnel.rejected]) or 1.0
        for axes, funnel in zip(drawn.panels, shown, strict=True):
            _panel(axes, funnel, labels, reasons, widest, axes.get_subplotspec().is_first_col())
        drawn.alt = "; ".join(f"{one.name}: " + ", ".join(f"{label} {n:g}" for label, n in one.steps) for one in shown)
    return drawn.paths


def funnels(arms: Sequence[Arm]) -> list[Funnel]:
    """One for each iteration of a single arm, or one for each of several arms that practised."""
    if len(arms) > 1:
        held = [(plain(arm.name), arm, None) for arm in arms]
    else:
        numbers = sorted({part["iteration"] for arm in arms for part in arm.practice})
        held = [(f"iteration {number}", arm, number) for arm in arms for number in numbers]
    return [_funnel(name, arm, number) for name, arm, number in held if arm.practice]


_STEPS = ("errors", "requests", "replies", "problems", "kept by the gates", "training rows")


def _funnel(name: str, arm: Arm, iteration: int | None) -> Funnel:
    parts = [part for part in arm.practice if iteration in (None, part["iteration"])]
    seeds = len(arm.results)
    total: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for part in parts:
        asked = part["requests"]
        total.update({"errors": part["errors"], "problems": part["problems"], "kept by the gates": part["kept"]})
        total.update({"requests": asked, "replies": asked - part["failed_requests"]} if asked else {})
        reasons.update({plain(reason): number for reason, number in part["rejections"].items()})
        reasons.update({"no reply": part["failed_requests"]} if part["failed_requests"] else {})
    mixed = _mixed(arm, iteration)
    if mixed is not None:
        total["training rows"] = mixed
    steps = [(label, total[label] / seeds) for label in _STEPS if label in total]
    return Funnel(name, steps, [(reason, number / seeds) for reason, number in reasons.most_common()])


def _mixed(arm: Arm, iteration: int | None) -> int | None:
    """Rows of the training sets: as trained on, or as mixed where nothing is trained (yet); None where it is not known."""
    wanted = {part["iteration"] for part in arm.practice if iteration in (None, part["iteration"])}
    found = {(run.name, part["iteration"]): part["rows"] for run in arm.runs for part in run.results["training"]}
    for run in arm.runs:
        for number in wanted:
            stage = stage_of(run.path / f"iteration_{number}" / "mix")
            if (run.name, number) not in found and stage is not None and "rows" in stage.counts:
                found[run.name, number] = stage.counts["rows"]
    rows = [number for (_, at), number in found.items() if at in wanted]
    return sum(rows) if rows else None


def _reasons(shown: Sequence[Funnel]) -> list[str]:
    """The most frequent reasons over all panels; the rest is counted as others."""
    total: Counter[str] = Counter()
    for funnel in shown:
        total.update(dict(funnel.rejected))
    names = [name for name, _ in total.most_common()]
    return names if len(names) <= _REASONS else [*names[: _REASONS - 1], "other reasons"]


def _panel(axes: Any, funnel: Funnel, labels: Sequence[str], reasons: Sequence[str], widest: float, first: bool) -> None:
    steps, rejected = dict(funnel.steps), dict(funnel.rejected)
    named = set(reasons)
    rest = sum(number for reason, number in rejected.items() if reason not in named)
    rejected = {reason: rejected.get(reason, 0.0) for reason in reasons}
    if "other reasons" in rejected:
        rejected["other reasons"] = rest
    gap = 0.9 if reasons else 0.0
    rows = [(label, steps.get(label), PALETTE[0]) for label in labels] + [(r, n, REJECTED) for r, n in rejected.items()]
    heights = [place + (gap if place >= len(labels) else 0) for place in range(len(rows))]
    for height, (_, number, shade) in zip(heights, rows, strict=True):
        if number is not None:
            axes.barh(height, number, color=shade, height=0.74)
        said = "none" if number is None else f"{number:,.0f}" if number == round(number) else f"{number:,.1f}"
        axes.annotate(said, (number or 0, height), (4, 0), textcoords="offset points", va="center", fontsize=8)
    if reasons:
        axes.annotate("rejected:", (0, len(labels) - 0.05), va="center", fontsize=8, color=FAINT, xytext=(2, 0),
                      textcoords="offset points")  # fmt: skip
    axes.set_yticks(heights, [label for label, _, _ in rows] if first else [])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(heights[-1] + 0.6, -0.6)
    axes.set_xlim(0, 1.22 * widest)
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    axes.set_title(wrapped(funnel.name))


def wrapped(name: str) -> str:
    """A panel's title, on as many lines as its width asks for."""
    return "\n".join(textwrap.wrap(name, _TITLE))
