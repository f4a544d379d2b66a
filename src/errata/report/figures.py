"""The figures of a report, each as PNG and SVG; one whose data are missing is not drawn."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

from errata.report.ablation_figure import draw_ablation
from errata.report.accuracy_figure import draw_accuracy
from errata.report.arms import Arm
from errata.report.cost_figure import draw_cost
from errata.report.drawing import Target
from errata.report.funnel_figure import draw_funnel
from errata.report.kinds_figure import draw_kinds

_FIGURES: Mapping[str, Callable[[Sequence[Arm], Target], list[Path] | str]] = {
    "accuracy by iteration": draw_accuracy,
    "from errors to training rows": draw_funnel,
    "kinds of errors": draw_kinds,
    "accuracy over a setting": draw_ablation,
    "cost against gain": draw_cost,
}
_NAMES = ("accuracy", "funnel", "kinds", "ablation", "cost")
_DUBLIN_CORE = "{http://purl.org/dc/elements/1.1/}"


def draw(groups: Sequence[Sequence[Arm]], folder: Path) -> tuple[list[Path], list[str]]:
    """The files of the figures, and a line for each that could not be drawn; what a former report drew is removed.

    Args:
        groups: the arms that may stand in one figure, mostly all of them (see `errata.report.arms.gather`).
        folder: where the figures go; those of further groups are called `accuracy-2.png` and so on.
    """
    before = {path for name in _NAMES for suffix in ("png", "svg") for path in folder.glob(f"{name}*.{suffix}")}
    paths: list[Path] = []
    missing = []
    for number, arms in enumerate(groups, 1):
        alone = len(groups) == 1
        to = Target(folder) if alone else Target(folder, "" if number == 1 else f"-{number}", f"table {number}: ")
        for name, drawing in _FIGURES.items():
            found = drawing(arms, to)
            if isinstance(found, str):
                missing.append(f"{to.told}no figure of {name}: {found}")
            else:
                paths += found
    for path in before - set(paths):
        path.unlink()
    return paths, missing


def described(svg: Path) -> tuple[str, str]:
    """A drawn figure's title, and what is to be seen on it in words."""
    root = ElementTree.parse(svg).getroot()
    found = {name: next(root.iter(f"{_DUBLIN_CORE}{name}"), None) for name in ("title", "description")}
    title, words = ("" if part is None else part.text or "" for part in found.values())
    return title, words
