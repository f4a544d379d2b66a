"""What the instructor has cost against what the student has gained."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from errata.report.arms import Arm, Gain
from errata.report.drawing import FAINT, Target, bar_lengths, colour, legend, marker, plain, sheet
from errata.report.labels import Label, around

_PANELS = 9
_FLATTEST = 4.0  # percentage points that a panel shows at least
_NAMED, _NAMED_SMALL = 7, 3  # arms with their names beside them, in one large panel and in several


@dataclass(frozen=True)
class Spot:
    """A price, the mean over an arm's runs, and what was gained for it."""

    name: str
    place: int
    price: float
    gain: Gain


def draw_cost(arms: Sequence[Arm], to: Target) -> list[Path] | str:
    """Draw it, a panel a dataset: a point an arm, or of a single arm a point an iteration; or say why not."""
    dollars = in_dollars(arms)
    spots = {name: _spots(arms, name, dollars) for name in dict.fromkeys(name for arm in arms for name in arm.datasets)}
    shown = {name: found for name, found in list(spots.items())[:_PANELS] if found}
    if not shown:
        return "no gain over the start is measured"
    if not any(spot.price for found in shown.values() for spot in found):
        return "nobody was asked, so nothing was paid"
    told = f"{'worth' if dollars else 'tokens'} of the instructor's replies; points gained over the start, 95 % intervals"
    told += ", seeds together" if max(len(arm.results) for arm in arms) > 1 else ""
    with sheet(to, "cost", "Cost against gain", told, len(shown), 3.4 if len(shown) == 1 else 2.9, 2) as drawn:
        path = len(arms) == 1
        named = path or len(arms) <= (_NAMED if len(shown) == 1 else _NAMED_SMALL)
        for axes, (name, found) in zip(drawn.panels, shown.items(), strict=True):
            _panel(axes, found, path)
            _ticks(axes, dollars)
            axes.set_xlabel("worth, USD" if dollars else "instructor's tokens", color=FAINT)
            axes.set_title(plain(name))
        drawn.panels[0].set_ylabel("gain, percentage points")
        if not named:
            legend(drawn, [plain(arm.name) for arm in arms])
        drawn.lay_out()
        for axes, found in zip(drawn.panels, shown.values(), strict=True):
            around(axes, [_label(spot, named) for spot in found], _way(found) if path else ())
        drawn.alt = "; ".join(_in_words(name, spot, dollars) for name, found in shown.items() for spot in found)
    return drawn.paths


def in_dollars(arms: Sequence[Arm]) -> bool:
    """Whether every price is known and any is above nothing; otherwise tokens are counted."""
    worth = [part["usd"] for arm in arms for part in arm.practice]
    return not any(isinstance(usd, str) for usd in worth) and any(worth)


def price(arm: Arm, dollars: bool, iteration: int | None = None) -> float:
    """What the arm's requests were worth, all datasets together, up to an iteration (None: the last); the mean over runs."""
    parts = [part for part in arm.practice if iteration is None or part["iteration"] <= iteration]
    return float(sum(part["usd" if dollars else "tokens"] for part in parts)) / len(arm.results)


def _spots(arms: Sequence[Arm], name: str, dollars: bool) -> list[Spot]:
    if len(arms) == 1:
        held = [(f"iteration {at}", 0, arms[0], at) for at in arms[0].parts(name) if at]
    else:
        held = [(plain(arm.name), place, arm, max(arm.parts(name), default=0)) for place, arm in enumerate(arms)]
    gains = [(*each, each[2].gain(name, each[3])) for each in held]
    return [Spot(said, place, price(arm, dollars, at), gain) for said, place, arm, at, gain in gains if gain is not None]


def _panel(axes: Any, spots: Sequence[Spot], path: bool) -> None:
    widest = max(spot.price for spot in spots) or 1.0
    if path:
        axes.plot(*zip(*_way(spots), strict=True), color=colour(0), linewidth=1.2, linestyle=":")
        axes.plot(0, 0, "o", color=FAINT, markerfacecolor="white", markersize=6)
    for spot in spots:
        y = 100 * spot.gain.difference
        below, above = bar_lengths(spot.gain.difference, spot.gain.low, spot.gain.high)
        interval = [[below], [above]]
        axes.errorbar(spot.price, y, interval, color=colour(spot.place), marker=marker(spot.place), capsize=3,
                      markersize=6.5, linewidth=1.4)  # fmt: skip
    axes.axhline(0, color="#b4bac2", linewidth=0.9)
    cheapest = min(spot.price for spot in spots)
    begin = 0.0 if path or cheapest < 0.5 * widest else cheapest
    axes.set_xlim(begin - 0.07 * (widest - begin or widest), widest + 0.12 * (widest - begin or widest))
    axes.margins(y=0.14)
    low, high = axes.get_ylim()
    if high - low < _FLATTEST:
        axes.set_ylim((low + high - _FLATTEST) / 2, (low + high + _FLATTEST) / 2)
    axes.grid(axis="both")


def _ticks(axes: Any, dollars: bool) -> None:
    """Prices with as many decimals as it takes to tell them apart, two at least."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10], integer=not dollars, min_n_ticks=3))
    ticks = axes.get_xticks()
    decimals = next(n for n in range(2, 13) if n == 12 or abs(round(ticks[1], n) - ticks[1]) < 0.01 * (ticks[1] - ticks[0]))
    decimals = max(decimals, math.ceil(-math.log10(ticks[1] - ticks[0])))
    axes.xaxis.set_major_formatter(f"${{x:,.{decimals}f}}" if dollars else "{x:,.0f}")


def _way(spots: Sequence[Spot]) -> list[tuple[float, float]]:
    """From the start through the iterations."""
    return [(0.0, 0.0), *((spot.price, 100 * spot.gain.difference) for spot in spots)]


def _label(spot: Spot, named: bool) -> Label:
    y = 100 * spot.gain.difference
    below, above = bar_lengths(spot.gain.difference, spot.gain.low, spot.gain.high)
    text = f"{spot.name} {y:+.1f}" if named else f"{y:+.1f}"
    return Label(text, colour(spot.place), spot.price, y, y - below, y + above)


def _in_words(name: str, spot: Spot, dollars: bool) -> str:
    said = f"${spot.price:.4f}" if dollars else f"{spot.price:,.0f} tokens"
    return f"{plain(name)}, {spot.name}: {100 * spot.gain.difference:+.1f} points for {said}"
