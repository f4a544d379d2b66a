"""The figures: drawn where their data are there, said to be missing where not, the same bytes from the same runs."""

import contextlib
import itertools
import struct

import matplotlib as mpl
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from page_runs import made_run

from errata.report.ablation_figure import numbers
from errata.report.accuracy_figure import draw_accuracy
from errata.report.arms import Arm, gather, questions
from errata.report.cost_figure import draw_cost
from errata.report.drawing import PALETTE, Sheet, Target, bar_lengths, ink
from errata.report.figures import described, draw
from errata.report.funnel_figure import funnels, wrapped
from errata.report.labels import Label, _bar, around, spread
from errata.report.results import read
from errata.report.stored import Stored


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    folder = tmp_path_factory.mktemp("one")
    groups = gather([read(made_run(folder, right=(2, 4, 6)))])
    before = dict(mpl.rcParams)
    found = draw(groups, folder)
    assert dict(mpl.rcParams) == before
    return folder, groups, *found


def test_a_run_is_drawn_as_png_and_svg(one):
    folder, _, paths, missing = one
    names = [f"{name}.{suffix}" for name in ("accuracy", "funnel", "kinds", "cost") for suffix in ("png", "svg")]
    assert [path.name for path in paths] == names
    width, height = struct.unpack(">II", (folder / "accuracy.png").read_bytes()[16:24])
    assert width == 7.5 * 150 and height > 500
    assert missing == ["no figure of accuracy over a setting: there is one arm only"]


def test_a_figure_says_in_words_what_is_on_it(one):
    folder = one[0]
    assert described(folder / "accuracy.svg") == (
        "Accuracy by iteration",
        "toy, toy-0a: start: 20.0 %, 1: 40.0 %, 2: 60.0 %",
    )
    assert "wrong value from 80.0 to 40.0 %" in described(folder / "kinds.svg")[1]
    assert "iteration 2: +40.0 points for $1.0000" in described(folder / "cost.svg")[1]
    assert (
        "iteration 1: errors 3, requests 3, replies 2, problems 4, kept by the gates 3, training rows 3"
        in (described(folder / "funnel.svg")[1])
    )


def test_the_same_runs_give_the_same_bytes_and_what_no_longer_holds_is_removed(one, tmp_path):
    _, groups, paths, _ = one
    (tmp_path / "ablation-k.png").write_bytes(b"of a former report")
    (tmp_path / "other.png").write_bytes(b"not ours")
    again, _ = draw(groups, tmp_path)
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in paths]
    assert not (tmp_path / "ablation-k.png").exists() and (tmp_path / "other.png").exists()


def test_what_is_measured_once_has_one_figure(tmp_path):
    paths, missing = draw(gather([read(made_run(tmp_path, right=(3,)))]), tmp_path)
    assert [path.name for path in paths] == ["accuracy.png", "accuracy.svg"] and len(missing) == 4
    assert described(tmp_path / "accuracy.svg")[0] == "Accuracy"
    assert draw([], tmp_path) == ([], []) and not (tmp_path / "accuracy.png").exists()


def test_seeds_are_pooled_arms_are_named_shortly_and_a_number_that_varies_is_an_axis(tmp_path):
    runs = [
        read(made_run(tmp_path, f"x_k{k}_{seed}-0{k}{seed}", (2, 3 + k + seed), seed, retrieval={"k": k}))
        for k in (1, 3) for seed in (0, 1)
    ]  # fmt: skip
    arms = {f"x_k{k}": [f"x_k{k}_{seed}-0{k}{seed}" for seed in (0, 1)] for k in (1, 3)}
    groups = gather(runs, arms)
    assert [[arm.name for arm in group] for group in groups] == [["k1", "k3"]]
    points = groups[0][1].points("toy")
    assert [(point.seeds, round(point.accuracy, 3)) for point in points] == [(2, 0.2), (2, 0.65)]
    assert points[1].low < 0.65 < points[1].high
    gain = groups[0][0].gain("toy")
    assert gain.difference == pytest.approx(0.25) and gain.low < 0.25 < gain.high and gain.gained is None
    draw(groups, tmp_path)
    title, words = described(tmp_path / "ablation.svg")
    assert title == "Accuracy over retrieval.k" and words == "retrieval.k 1: 45.0 % on toy; retrieval.k 3: 65.0 % on toy"


def test_other_protocols_have_figures_of_their_own(tmp_path):
    runs = [read(made_run(tmp_path, f"{name}-0a", (3,), protocol=name)) for name in ("corrected", "source")]
    groups = gather(runs)
    assert [[arm.name for arm in group] for group in groups] == [["corrected-0a"], ["source-0a"]]
    names = {path.name for path in draw(groups, tmp_path)[0]}
    assert {"accuracy.png", "accuracy-2.png"} <= names


def test_published_values_are_drawn_as_lines_and_a_setting_that_is_no_number_as_rows(tmp_path):
    runs = [
        read(made_run(tmp_path, f"{n}-0a", right, strategy={"name": n})) for n, right in (("le", (2, 6)), ("lec", (2, 9)))
    ]
    cell = {"dataset": "toy", "unit": "%", "printed": 77.5, "iteration": 1}
    runs[0].results["against"] = [{"row": "x", "cells": [cell, {**cell, "printed": None}]}]
    draw(gather(runs), tmp_path)
    assert described(tmp_path / "ablation.svg") == ("Accuracy by strategy", "lec-0a 90.0 % on toy; le-0a 60.0 % on toy")
    assert "stroke-dasharray" in (tmp_path / "accuracy.svg").read_text()


def arm(name, **config):
    return Arm(name, [Stored(None, name, {"config": config, "datasets": {}, "practice": []})])


def test_lines_of_an_ablation_differ_in_the_setting_alone():
    arms = [
        arm(f"{s}{k}", seed=k, strategy={"kind": f"errata.strategy.{s}", "name": s}, k=k)
        for s in ("le", "lec")
        for k in (1, 2)
    ]
    (lines,) = numbers(arms).values()
    assert [(line.name, [value for value, _ in line.arms]) for line in lines] == [("le", [1, 2]), ("lec", [1, 2])]
    assert numbers([arm("a", k=1, rate=1), arm("b", k=2, rate=2)]) == {}  # two settings at once: no line
    assert numbers([arm("a", on=True), arm("b", on=False)]) == {} == numbers([arm("a", k=1), arm("b", k="all")])


def test_a_funnel_of_nobody_asked_has_no_requests(one, tmp_path):
    run = made_run(tmp_path)
    (run / "iteration_1/toy/instruct/stage.json").unlink()
    (funnel,) = funnels(gather([read(run)])[0])
    assert [name for name, _ in funnel.steps] == ["errors", "problems", "kept by the gates", "training rows"]
    (first, _) = funnels(one[1][0])
    assert dict(first.rejected) == {"leak": 1, "no reply": 1}


@pytest.mark.parametrize("heights", [[], [5], [1, 1, 1], [0, 0.5, 9, 9.2, 9.3], [3, 2, 1, 0.9]])
def test_labels_stand_apart_in_their_order(heights):
    found = spread(heights, 1.0)
    order = sorted(range(len(heights)), key=lambda place: heights[place])
    assert all(found[second] - found[first] > 0.999 for first, second in itertools.pairwise(order))
    assert sum(found) == pytest.approx(sum(heights))
    assert spread([0, 5], 1.0) == [0, 5]


def test_every_colour_is_legible_as_text():
    for shade in PALETTE:
        red, green, blue = (int(ink(shade)[at : at + 2], 16) / 255 for at in (1, 3, 5))
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in (red, green, blue)]
        luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
        assert 1.05 / (luminance + 0.05) > 4.5, shade


def test_an_interval_that_rounds_past_its_value_draws_a_bar_of_no_length():
    assert bar_lengths(0.0, 5e-17, 0.4) == (0.0, 40.0)
    assert bar_lengths(1.0, 0.5, 1.0 - 1e-16) == (50.0, 0.0)
    assert bar_lengths(0.5, None, None) == (0.0, 0.0)


def boxes(axes, found):
    """What the labels cover, and what the bars do, in pixels."""
    renderer = axes.figure.canvas.get_renderer()
    texts = [text.get_window_extent(renderer) for text in axes.texts if text.get_text()]
    return texts, [_bar(axes, label, axes.figure.dpi / 72) for label in found]


@pytest.mark.parametrize("dpi", [150, 72])
@pytest.mark.parametrize("number", [1, 4, 12])
def test_labels_lie_on_no_point_no_bar_no_other_label_and_not_outside(number, dpi):
    figure = Figure(figsize=(7.5, 4.2), dpi=150)
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.set_xlim(0, 30)
    axes.set_ylim(-10, 60)
    found = [
        Label(f"an arm of name {n} {'+44.2' if n % 2 else ''}", PALETTE[n % 8], 20 + 0.7 * n, 30 + n, 25 + n, 37 + n)
        for n in range(number)
    ]
    around(axes, found)
    figure.set_dpi(dpi)  # SVG is drawn at another resolution than PNG
    texts, bars = boxes(axes, found)
    assert len(texts) == number
    for text, other in [*itertools.combinations(texts, 2), *itertools.product(texts, bars)]:
        common = Bbox.intersection(text, other)
        assert common is None or common.width * common.height < 10
    assert all(axes.bbox.x0 <= text.x0 and text.x1 <= axes.bbox.x1 for text in texts)


def test_many_arms_are_named_in_a_legend_and_long_titles_are_broken(tmp_path):
    runs = [
        read(made_run(tmp_path / "runs", f"learning_{'very_' * 5}long_name_{n}-{n}", (2, n % 9), strategy={"name": f"x{n}"}))
        for n in range(12)
    ]
    groups = gather(runs)
    drawn, _ = draw(groups, tmp_path)
    assert "cost.png" in {path.name for path in drawn}
    assert max(len(line) for line in wrapped(funnels(groups[0])[0].name).split("\n")) <= 22


def test_arms_that_measured_different_datasets_are_drawn_together(tmp_path):
    runs = [read(made_run(tmp_path, f"{name}-0a", strategy={"name": name})) for name in ("le", "lec")]
    moved = tmp_path / "lec-0a"
    for path in sorted(moved.glob("iteration_*/toy")):
        path.rename(path.with_name("other"))
    paths, missing = draw(gather([runs[0], read(moved)]), tmp_path)
    assert missing == [] and len(paths) == 10
    words = described(tmp_path / "kinds.svg")[1]
    assert words.count("toy, le") == words.count("other, lec") == 1 and "toy, lec" not in words


@pytest.mark.parametrize(("prices", "ticks"), [((0.10838, 0.1127), 3), ((3.875, 3.875), 2), ((0.0004, 120.0), 2)])
def test_prices_on_the_axis_are_told_apart(tmp_path, monkeypatch, prices, ticks):
    seen = {}

    def kept(to, name, *_, **__):
        return sheet_of(seen, name)

    monkeypatch.setattr("errata.report.cost_figure.sheet", kept)
    runs = [
        read(made_run(tmp_path, f"{name}-0a", usd=usd, strategy={"name": name}))
        for name, usd in zip(("le", "lec"), prices, strict=True)
    ]
    draw_cost(gather(runs)[0], Target(tmp_path))
    axis = seen["cost"].panels[0].xaxis
    low, high = seen["cost"].panels[0].get_xlim()
    shown = [axis.get_major_formatter()(tick) for tick in axis.get_majorticklocs() if low <= tick <= high]
    assert len(shown) == len(set(shown)) >= ticks and all(len(text.partition(".")[2]) >= 2 for text in shown)


@contextlib.contextmanager
def sheet_of(seen, name):
    figure = Figure(figsize=(7.5, 4))
    FigureCanvasAgg(figure)
    seen[name] = Sheet(figure, [figure.subplots()])
    yield seen[name]


def test_a_gain_of_nothing_has_an_axis_that_says_so(tmp_path, monkeypatch):
    seen = {}
    monkeypatch.setattr("errata.report.cost_figure.sheet", lambda to, name, *_, **__: sheet_of(seen, name))
    draw_cost(gather([read(made_run(tmp_path, right=(0, 0), n=400))])[0], Target(tmp_path))
    low, high = seen["cost"].panels[0].get_ylim()
    assert high - low >= 4 and low < 0 < high


def test_titles_say_how_many_questions_and_letters_without_a_glyph_are_no_warning(tmp_path, recwarn):
    runs = [read(made_run(tmp_path, f"{name}-0a", n=n, strategy={"name": name})) for name, n in (("le", 10), ("数学", 10))]
    arms = gather(runs)[0]
    assert questions(arms, "toy") == "10" and questions(arms, "nothing") == "0"
    draw([arms], tmp_path)
    assert not [str(one.message) for one in recwarn if "Glyph" in str(one.message)]
    assert "数学" in described(tmp_path / "ablation.svg")[1]


def test_a_number_at_the_top_stands_below_its_point(tmp_path, monkeypatch):
    seen = {}
    monkeypatch.setattr("errata.report.accuracy_figure.sheet", lambda to, name, *_, **__: sheet_of(seen, name))
    draw_accuracy(gather([read(made_run(tmp_path, right=(1, 1), n=1))])[0], Target(tmp_path))
    (axes,) = seen["accuracy"].panels
    number = next(text for text in axes.texts if text.get_text() == "100.0")
    assert number.get_window_extent().y1 < axes.transData.transform((0, 100))[1]
    assert axes.get_title() == "toy, 1 question"
