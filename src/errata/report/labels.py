"""Names beside what they name, in figures: moved apart where they would overlap, never across a bar or a point."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from errata.report.drawing import FAINT, ink

_ROW = 1.15  # of a text's height
_REACH = 14  # rows up and down that are looked at
_GAP = 8  # points


@dataclass(frozen=True)
class Label:
    """A text, and what it names: a point with the bar through it, in the axes' units."""

    text: str
    shade: str
    x: float
    y: float
    low: float
    high: float


def spread(heights: Sequence[float], apart: float) -> list[float]:
    """Where labels of things at these heights stand: at least so far apart, and as near to their own as that allows."""
    order = sorted(range(len(heights)), key=lambda place: heights[place])
    groups: list[tuple[float, int]] = []  # labels that touch: their centre, and how many
    for place in order:
        groups.append((heights[place], 1))
        while len(groups) > 1 and groups[-1][0] - groups[-2][0] < apart * (groups[-1][1] + groups[-2][1]) / 2:
            (before, others), (centre, number) = groups[-2:]
            groups[-2:] = [((centre * number + before * others) / (number + others), number + others)]
    places = [centre + apart * (step - (number - 1) / 2) for centre, number in groups for step in range(number)]
    found = [0.0] * len(heights)
    for place, height in zip(order, places, strict=True):
        found[place] = height
    return found


def beside(axes: Any, x: float, labels: Sequence[tuple[float, str, str]], size: float = 8.5) -> None:
    """Names at the right of what they name: (height, name, colour) each, moved apart where they would overlap."""
    low, high = axes.get_ylim()
    inches = axes.figure.get_size_inches()[1] / max(1, axes.get_subplotspec().get_gridspec().nrows) - 1.2
    apart = (high - low) * size * 1.25 / 72 / max(inches, 0.5)
    for at, (_, name, shade) in zip(spread([label[0] for label in labels], apart), labels, strict=True):
        axes.annotate(
            name, (x, at), (7, 0), textcoords="offset points", va="center", fontsize=size, color=ink(shade),
            annotation_clip=False, path_effects=halo(),
        )  # fmt: skip


def around(axes: Any, labels: Sequence[Label], lines: Sequence[tuple[float, float]] = (), size: float = 8.5) -> None:
    """Put each label beside its point, or else as near as it keeps clear of points, bars, other labels and the edge.

    A label that could not stay beside its point has a thin line to it. The panel must have its place (`Sheet.lay_out`).

    Args:
        axes: the panel.
        labels: what is named.
        lines: a line that labels keep clear of too, as its points.
        size: of the text.
    """
    from matplotlib.transforms import Bbox

    point = axes.figure.dpi / 72
    whole = axes.get_window_extent()
    within = axes.transAxes.inverted().transform  # as shares of the panel a place holds for every resolution
    taken = [_bar(axes, label, point) for label in labels] + _along(axes.transData.transform(list(lines)), 2 * point)
    for label in sorted(labels, key=lambda label: -label.y):
        x, y = axes.transData.transform((label.x, label.y))
        text = axes.annotate(label.text, within((x, y)), xycoords="axes fraction", va="center", fontsize=size,
                             color=ink(label.shade), path_effects=halo(), zorder=5)  # fmt: skip
        text.set_in_layout(False)
        wide, high = text.get_window_extent().size
        begins = {1: x + _GAP * point, -1: x - _GAP * point - wide}
        places = [
            Bbox.from_bounds(begins[side], y + row * high * _ROW - high / 2, wide, high)
            for row in sorted(range(-_REACH, _REACH + 1), key=lambda row: (abs(row), -row))
            for side in ((1, -1) if x < whole.x0 + 0.66 * whole.width else (-1, 1))
        ]
        place = min(places, key=lambda box: _overlap(box, taken, whole))
        middle = (place.y0 + place.y1) / 2
        near, side = (place.x0, "left") if place.x0 > x else (place.x1, "right")  # widths are not quite those of SVG
        text.set_position(within((near, middle)))
        text.set_horizontalalignment(side)
        taken.append(place)
        if abs(middle - y) > 2.2 * high:
            end = within((near, middle))
            axes.annotate("", within((x, y)), end, xycoords="axes fraction", textcoords="axes fraction", zorder=1,
                          arrowprops={"arrowstyle": "-", "color": FAINT, "linewidth": 0.6}).set_in_layout(False)  # fmt: skip


def _bar(axes: Any, label: Label, point: float) -> Any:
    """What a point and its bar cover, in pixels."""
    from matplotlib.transforms import Bbox

    (x, low), (_, high), (_, y) = axes.transData.transform([(label.x, each) for each in (label.low, label.high, label.y)])
    return Bbox.from_extents(x - 4 * point, min(low, y - 5 * point), x + 4 * point, max(high, y + 5 * point))


def _along(way: Sequence[Any], width: float) -> list[Any]:
    """Small boxes along a line, in pixels."""
    from matplotlib.transforms import Bbox

    found = []
    for (x, y), (to_x, to_y) in itertools.pairwise(way):
        steps = max(2, int(max(abs(to_x - x), abs(to_y - y)) / (2 * width)))
        spots = [(x + (to_x - x) * step / steps, y + (to_y - y) * step / steps) for step in range(steps + 1)]
        found += [Bbox.from_extents(at - width, height - width, at + width, height + width) for at, height in spots]
    return found


def _overlap(box: Any, taken: Sequence[Any], whole: Any) -> float:
    """How much of a box lies on what is taken, or outside; in square pixels."""
    from matplotlib.transforms import Bbox

    covered = [common.width * common.height for other in taken if (common := Bbox.intersection(box, other)) is not None]
    inside = Bbox.intersection(box, whole)
    return float(sum(covered) + 10 * (box.width * box.height - (0 if inside is None else inside.width * inside.height)))


def halo() -> list[Any]:
    """White around text, so that lines behind it do not strike it out."""
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=2.4, foreground="white")]
