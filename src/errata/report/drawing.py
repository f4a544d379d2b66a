"""How every figure looks: a palette that the colour-blind can tell apart, labels beside lines, PNG and SVG alike."""

import io
import math
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from errata.jsonl import write_atomically

# Okabe and Ito's colours, and two more
PALETTE = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#e69f00",
    "#56b4e9",
    "#6a4c93",
    "#8c6d31",
)
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "p")
INK, FAINT, GRID, REJECTED = "#22272e", "#667080", "#e6e8eb", "#d0805a"
WIDTH = 7.5  # inches
_DPI = 150
_DARK = 0.17  # luminance
_LINE = 112  # characters of a subtitle
_FALLBACKS = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "Source Han Sans SC", "WenQuanYi Zen Hei", "WenQuanYi Micro Hei",
    "PingFang SC", "Hiragino Sans GB", "Microsoft YaHei", "SimHei", "Arial Unicode MS",
)  # fmt: skip
"""Fonts for what DejaVu Sans lacks (Chinese, say), where they are installed."""
_LOOK: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.parse_math": False,  # a dollar sign in a name is one
    "text.color": INK,
    "axes.labelcolor": FAINT,
    "axes.edgecolor": "#b4bac2",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.axisbelow": True,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "grid.color": GRID,
    "svg.hashsalt": "errata",
    "svg.fonttype": "path",
}


@dataclass(frozen=True)
class Target:
    """Where figures go: the folder, what is added to their names, and what their subtitles begin with."""

    folder: Path
    suffix: str = ""
    told: str = ""


@dataclass
class Sheet:
    """A figure in the making: its panels, one or more, from the upper left; `alt` says in words what is to be seen."""

    figure: Any
    panels: list[Any]
    alt: str = ""
    paths: list[Path] = field(default_factory=list)

    def lay_out(self) -> None:
        """Give every panel its place, for good: what is added later is drawn where it is put."""
        if self.figure.get_layout_engine() is not None:
            self.figure.draw_without_rendering()
            self.figure.set_layout_engine(None)


@contextmanager
def sheet(
    to: Target, name: str, title: str, told: str, panels: int = 1, height: float = 3.6, columns: int = 3
) -> Iterator[Sheet]:
    """A sheet that is written as NAME.png and NAME.svg when it is done.

    Args:
        title: what is shown.
        told: how to read it, on a line below.
        panels: small multiples; `height` inches a row of them, `columns` at most beside each other.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.font_manager import fontManager

    columns, lines = min(columns, panels), textwrap.wrap(to.told + told, _LINE)
    header = 0.42 + 0.16 * len(lines)
    rows = math.ceil(panels / columns)
    installed = set(fontManager.get_font_names())
    fonts = {"font.family": [_LOOK["font.family"], *(name for name in _FALLBACKS if name in installed)]}
    with mpl.rc_context(_LOOK | fonts), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from", UserWarning)  # a box; `alt` has the words
        figure = Figure(figsize=(WIDTH, 0.17 + header + height * rows), dpi=_DPI, layout="constrained")
        FigureCanvasAgg(figure)
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        for spare in grid[panels:]:
            spare.remove()
        made = Sheet(figure, list(grid[:panels]))
        top = figure.get_size_inches()[1]
        layout: Any = figure.get_layout_engine()
        layout.set(rect=(0, 0, 1, 1 - header / top), w_pad=0.08, h_pad=0.06)
        yield made
        figure.text(0.012, 1 - 0.10 / top, title, va="top", fontsize=12, fontweight="bold")
        figure.text(0.012, 1 - 0.34 / top, "\n".join(lines), va="top", fontsize=8.5, color=FAINT)
        made.lay_out()  # once for both files
        for suffix, facts in (("png", {}), ("svg", {"Date": None, "Title": title, "Description": made.alt or told})):
            path, content = to.folder / f"{name}{to.suffix}.{suffix}", io.BytesIO()
            figure.savefig(content, format=suffix, metadata=facts)
            write_atomically(path, content.getvalue())
            made.paths.append(path)


def colour(place: int) -> str:
    """The colour of the arm at that place."""
    return PALETTE[place % len(PALETTE)]


def marker(place: int) -> str:
    """The marker of the arm at that place; arms of one colour have different ones."""
    return MARKERS[(place + place // len(PALETTE)) % len(MARKERS)]


def legend(drawn: Sheet, names: Sequence[str]) -> None:
    """What the colours and markers of several arms mean, below all panels."""
    from matplotlib.lines import Line2D

    lines = [
        Line2D([], [], color=colour(place), marker=marker(place), markersize=5.5, linewidth=1.6)
        for place in range(len(names))
    ]
    one_row = sum(map(len, names)) + 9 * len(names) <= 125
    columns = len(names) if one_row else max(1, 110 // (max(map(len, names)) + 8))
    drawn.figure.legend(lines, names, loc="outside lower center", ncols=columns, frameon=False, fontsize=8.5)


def ink(shade: str) -> str:
    """A colour dark enough to be read as text on white (WCAG's contrast of 4.5)."""
    parts = [int(shade[at : at + 2], 16) for at in (1, 3, 5)]
    weights = (0.2126, 0.7152, 0.0722)
    luminance = sum(weight * (part / 255) ** 2.2 for weight, part in zip(weights, parts, strict=True))
    keep = min(1.0, (_DARK / luminance) ** (1 / 2.2)) if luminance else 1.0
    return "#" + "".join(f"{int(part * keep):02x}" for part in parts)


def plain(name: str) -> str:
    """A name of the program in words."""
    return name.replace("_", " ")


def bar_lengths(value: float, low: float | None, high: float | None) -> tuple[float, float]:
    """How far an interval reaches below and above its value, in points; 0 where it does not (its end may round past it)."""
    return max(0.0, 100 * (value - (value if low is None else low))), max(
        0.0, 100 * ((value if high is None else high) - value)
    )
