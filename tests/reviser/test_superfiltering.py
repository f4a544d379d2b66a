"""Superfiltering by given losses, and facility location against greedy choice by hand."""

import math
import re

import numpy as np
import pytest

from errata.records import Likelihoods, Pair
from errata.reviser.base import DROPPED, KEPT
from errata.reviser.facility_location import choose
from errata.reviser.superfiltering import Superfiltering, count_of


class Fake:
    """A desk with given IFDs (None: missing), and vectors by text."""

    def __init__(self, ifds, vectors=None, alone=2.0):
        self.ifds, self.vectors, self.alone, self.asked = ifds, vectors, alone, []

    def score(self, name, pairs, ifd, rifd):
        assert (ifd, rifd) == (True, False)
        return [
            Likelihoods(pair.id, missing="too_long") if value is None
            else Likelihoods(pair.id, self.alone, self.alone + math.log(value))
            for pair, value in zip(pairs, self.ifds, strict=True)
        ]  # fmt: skip

    def embed(self, texts):
        self.asked.append(list(texts))
        return np.stack([self.vectors[text] for text in texts]).astype(np.float32)


def pairs(count):
    return [Pair(f"a/{n}", f"Do {n}.", "this" if n == 0 else "", f"Done {n}.") for n in range(count)]


def statuses(found):
    return [one.reason or one.status for one in found]


def test_the_hardest_below_one_are_kept_and_each_drop_has_its_reason():
    ifds = [0.5, 1.2, 0.9, None, 1.0, 0.7, 0.9, 0.99, 0.2, 0.3]
    given = pairs(10)
    found = Superfiltering(share=0.3).revise(given, Fake(ifds))
    assert statuses(found) == [
        "not_in_top_share", "ifd_not_below_1", KEPT, "missing", "ifd_not_below_1", "not_in_top_share", KEPT, KEPT,
        "not_in_top_share", "not_in_top_share",
    ]  # fmt: skip
    assert [one.id for one in found] == [pair.id for pair in given]
    for one, pair in zip(found, given, strict=True):
        assert one.original == pair
        assert one.final == (pair if one.status == KEPT else None)
        assert one.status in (KEPT, DROPPED)
    assert found[3].scores == {"ifd": None}
    assert found[3].detail == "too_long"
    assert found[1].scores["ifd"] == pytest.approx(1.2)


def test_of_equal_ones_the_first_is_taken():
    found = Superfiltering(share=0.5).revise(pairs(4), Fake([0.8, 0.8, 0.8, 0.8]))
    assert statuses(found) == [KEPT, KEPT, "not_in_top_share", "not_in_top_share"]


def test_the_share_is_of_all_pairs_even_where_few_are_below():
    found = Superfiltering(share=0.5).revise(pairs(4), Fake([1.5, 0.8, 2.0, 3.0]))
    assert statuses(found) == ["ifd_not_below_1", KEPT, "ifd_not_below_1", "ifd_not_below_1"]
    assert Superfiltering().revise([], Fake([])) == []


@pytest.mark.parametrize(
    ("share", "total", "count"), [(0.1, 52002, 5200), (0.02, 52002, 1040), (0.29, 100, 29), (0.1, 5, 1), (1.0, 7, 7)]
)
def test_a_share_is_rounded_down(share, total, count):
    assert count_of(share, total) == count


def test_losses_in_the_place_of_perplexities():
    """Response alone 2.0 nats; a ratio of losses of 0.9 is one of perplexities of exp(-0.2)."""
    ifds = [math.exp(-0.2), math.exp(-1.0)]
    found = Superfiltering(share=0.5, measure="loss").revise(pairs(2), Fake(ifds))
    assert [one.scores["ifd"] for one in found] == pytest.approx([0.9, 0.5])
    assert statuses(found) == [KEPT, "not_in_top_share"]
    assert statuses(Superfiltering(measure="loss", below=0.7).revise(pairs(2), Fake(ifds))) == ["ifd_not_below_0.7", KEPT]
    assert statuses(Superfiltering(measure="loss").revise(pairs(1), Fake([1.0], alone=0.0))) == ["missing"]


@pytest.mark.parametrize(
    ("embed", "texts"),
    [
        ("whole", ["Do 0.\n\nthis\n\nDone 0.", "Do 1.\n\nDone 1.", "Do 3.\n\nDone 3."]),
        ("instruction", ["Do 0.\n\nthis", "Do 1.", "Do 3."]),
        ("response", ["Done 0.", "Done 1.", "Done 3."]),
    ],
)
def test_with_diversity_the_most_different_of_the_hard_ones_remain(embed, texts):
    vectors = dict(zip(texts, np.array([[1.0, 0], [1, 0], [0, 1]]), strict=True))
    desk = Fake([0.9, 0.8, 0.1, 0.7], vectors)
    option = Superfiltering(share=0.75, diverse_share=0.5, embed=embed)
    assert option.embeds
    assert not Superfiltering().embeds
    assert statuses(option.revise(pairs(4), desk)) == [KEPT, "not_diverse", "not_in_top_share", KEPT]
    assert desk.asked == [texts]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"share": 0}, "reviser.share is 0"),
        ({"share": 1.1}, "reviser.share is 1.1"),
        ({"below": 0.0}, "reviser.below is 0.0"),
        ({"below": math.inf}, "reviser.below is inf"),
        ({"diverse_share": 0.2}, r"reviser.diverse_share is 0.2: choose above 0 and up to share \(0.1\)"),
        ({"measure": "perplexity"}, "choose ppl or loss"),
        ({"embed": "both"}, "choose whole or instruction or response"),
        ({"similarity": "dot"}, "choose cosine or euclidean"),
    ],
)
def test_problems(settings, said):
    (problem,) = Superfiltering(**settings).problems()
    assert re.search(said, problem)
    assert Superfiltering().problems() == []


def by_hand(vectors, count, similarity):
    """Greedy choice: the place that adds most, looked for among all of them each time."""
    similar = vectors @ vectors.T
    if similarity == "euclidean":
        similar = 1 - np.sqrt(np.maximum(2 - 2 * similar, 0)) / 2
    nearest, chosen = np.full(len(vectors), -1.0 if similarity == "cosine" else 0.0), []
    for _ in range(count):
        gains = np.maximum(similar - nearest[:, None], 0).sum(0).round(9)
        gains[chosen] = -1
        chosen.append(int(gains.argmax()))
        nearest = np.maximum(nearest, similar[:, chosen[-1]])
    return chosen


@pytest.mark.parametrize("similarity", ["cosine", "euclidean"])
@pytest.mark.parametrize(("points", "count", "seed"), [(1, 1, 0), (7, 7, 1), (40, 10, 2), (300, 60, 3), (700, 25, 4)])
def test_lazy_choice_is_greedy_choice(points, count, seed, similarity):
    drawn = np.random.default_rng(seed)
    centres = drawn.normal(size=(8, 16))
    vectors = centres[drawn.integers(0, 8, points)] + 0.6 * drawn.normal(size=(points, 16))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    assert choose(vectors, count, similarity) == by_hand(vectors.astype(np.float64), count, similarity)


def test_each_group_is_met_before_one_is_met_twice():
    vectors = np.eye(5, 8, dtype=np.float32)[[0, 0, 0, 1, 1, 2, 3, 4]]
    assert choose(vectors, 5) == [0, 3, 5, 6, 7]
    assert sorted(choose(vectors, 20)) == list(range(8))
    assert choose(np.zeros((0, 4), np.float32), 3) == []
