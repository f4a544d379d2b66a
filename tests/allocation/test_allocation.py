"""N, and how a total of N problems an error is spent; which errors are asked about, and how often."""

from collections import Counter
from dataclasses import replace
from random import Random

import numpy as np
import pytest

from errata.allocation.by_cluster import ByCluster
from errata.allocation.by_difficulty import ByDifficulty
from errata.allocation.uniform import Uniform
from errata.cases import apportion, divide, exactly, named
from errata.errors import DataError
from errata.records import TOO_LONG, Attempt, Question


def attempt(number, subject="sums", kind="wrong_value"):
    question = Question(f"t/train/{number}", "t", "train", f"{subject} {number}", "7")
    return Attempt(question, "8", True, "8", kind is None, kind)


def about(subject, count, kind="wrong_value", first=0):
    return [attempt(number, subject, kind) for number in range(first, first + count)]


def embed(texts):
    """Texts of one subject lie close together, those of two are at right angles."""
    places = {"sums": 0, "words": 1, "codes": 2}
    vectors = np.zeros((len(texts), 4), np.float32)
    for row, text in zip(vectors, texts, strict=True):
        subject, number = text.split()
        row[places[subject]], row[3] = 1, int(number) / 10000
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def never(texts):
    raise AssertionError("nothing needs to be embedded here")


def by_group(shares):
    spent = Counter()
    for share in shares:
        spent[share.group] += share.problems
    return spent


@pytest.mark.parametrize("allocation", [Uniform(), ByCluster(clusters=3), ByDifficulty(nearest=4)])
@pytest.mark.parametrize("each", [1, 2, 7])
def test_the_shares_add_up_to_n_problems_an_error(allocation, each):
    errors = [*about("sums", 20), *about("words", 7, first=20), attempt(30, "codes")]
    asked = [*errors, *about("words", 23, None, first=40)]
    shares = allocation.spend(errors, asked, each, embed, seed=1)
    assert len(shares) == len(errors)
    assert sum(share.problems for share in shares) == each * len(errors)
    assert all(share.problems >= 0 for share in shares)


def test_uniform_gives_every_error_the_same_and_embeds_nothing():
    shares = Uniform().spend(about("sums", 3), [], 5, never, 0)
    assert [(share.problems, share.group) for share in shares] == [(5, "wrong_value")] * 3


def test_a_cluster_of_one_error_gets_as_much_as_one_of_twenty():
    shares = ByCluster(clusters=2).spend([*about("sums", 20), attempt(20, "words")], [], 2, embed, 0)
    assert shares[20].problems == 21
    assert sorted(by_group(shares).values()) == [21, 21]
    assert len({share.group for share in shares[:20]}) == 1 and shares[20].group != shares[0].group


def test_clusters_of_any_sizes_get_equal_totals():
    for small, large in ((20, 25), (3, 40), (7, 11)):
        errors = [*about("sums", small), *about("words", large, first=small)]
        one, other = by_group(ByCluster(clusters=2).spend(errors, [], 2, embed, 0)).values()
        assert abs(one - other) <= 1, (small, large)


def test_kinds_of_error_that_stand_apart_are_a_group_of_their_own():
    errors = [*about("sums", 6), *about("sums", 2, "refusal", first=6), *about("words", 4, first=10)]
    shares = ByCluster(clusters=2, apart=["refusal"]).spend(errors, [], 3, embed, 0)
    assert [share.group for share in shares[6:8]] == ["refusal", "refusal"]
    assert by_group(shares) == {"cluster 0": 12, "cluster 1": 12, "refusal": 12}
    only = ByCluster(clusters=2, apart=["refusal"]).spend(about("sums", 2, "refusal"), [], 3, never, 0)
    assert [share.problems for share in only] == [3, 3]


def test_fewer_errors_than_clusters_is_an_error_that_names_the_setting():
    with pytest.raises(DataError, match=r"allocation\.clusters=8, and there are 3 errors"):
        ByCluster().spend(about("sums", 3), [], 2, embed, 0)
    with pytest.raises(DataError, match="there are 2 errors"):  # those that stand apart are in no cluster
        ByCluster(clusters=3, apart=["refusal"]).spend([*about("sums", 2), attempt(9, kind="refusal")], [], 2, embed, 0)


def test_more_problems_where_more_of_the_nearest_questions_are_wrong():
    errors = [*about("sums", 4), attempt(10, "words")]
    asked = [*errors, *about("words", 9, None, first=11)]
    shares = ByDifficulty(nearest=4, steps=4).spend(errors, asked, 4, embed, 0)
    assert [share.problems for share in shares] == [5, 5, 5, 4, 1]
    assert {share.group for share in shares[:4]} == {"75-100 % wrong nearby"}
    assert shares[4].group == "25-50 % wrong nearby"


def test_the_same_seed_spends_the_same():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(60, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    errors = about("sums", 60)
    first, again, other = (ByCluster(clusters=6).groups(errors, lambda texts: vectors, seed) for seed in (1, 1, 2))
    assert first == again
    assert len(set(first)) == 6
    assert first != other


def test_n_by_the_papers_rule_grows_as_errors_vanish_and_stays_by_ours():
    paper, ours = Uniform(rule="paper"), Uniform()
    assert [paper.each(240, errors, 3) for errors in (240, 120, 60, 1)] == [2, 3, 5, 241]
    assert [ours.each(240, errors, 3) for errors in (240, 120, 60, 1)] == [3, 3, 3, 3]
    assert ours.each(240, 60, None) == paper.each(240, 60, None) == 5


@pytest.mark.parametrize(
    ("allocation", "said"),
    [
        (Uniform(rule="often"), "allocation.rule is 'often'"),
        (ByCluster(clusters=0), "allocation.clusters is 0"),
        (ByDifficulty(nearest=1), "allocation.nearest is 1"),
        (ByDifficulty(steps=0), "allocation.steps is 0"),
    ],
)
def test_settings_that_make_no_sense_are_problems(allocation, said):
    (problem,) = allocation.problems()
    assert said in problem


def test_a_total_is_apportioned_by_largest_remainders():
    assert apportion(10, [1, 1, 1]) == [4, 3, 3]
    assert apportion(10, [0.1, 0.2, 0.7]) == [1, 2, 7]
    assert apportion(7, [3, 0, 1]) == [5, 0, 2]
    assert apportion(0, [1, 2]) == [0, 0]
    rng = Random(0)
    for _ in range(200):
        weights, total = [rng.random() for _ in range(rng.randrange(1, 30))], rng.randrange(500)
        parts = apportion(total, weights)
        assert sum(parts) == total
        exact = [weight * total / sum(weights) for weight in weights]
        assert all(abs(part - value) < 1 for part, value in zip(parts, exact, strict=True))


def test_exactly_so_many_are_drawn_or_all_come_again():
    errors = about("sums", 5)
    few = exactly(errors, 3, Random(0))
    assert len({error.id for error in few}) == 3 and few == sorted(few, key=errors.index)
    assert few == exactly(errors, 3, Random(0))
    assert any(exactly(errors, 3, Random(seed)) != few for seed in range(1, 9))
    many = exactly(errors, 12, Random(0))
    assert many[:10] == errors * 2
    assert sorted(Counter(error.id for error in many).values()) == [2, 2, 2, 3, 3]
    assert exactly(errors, 5, Random(0)) == errors


def test_what_comes_again_is_another_draw_under_another_name():
    one, two = about("sums", 2)
    cases = named([one, two, one, one], 3)
    assert [(case.id, case.draw) for case in cases] == [
        ("3/t/train/0", 0), ("3/t/train/1", 0), ("3/t/train/0~2", 1), ("3/t/train/0~3", 2),
    ]  # fmt: skip
    assert [case.error for case in cases] == [one, two, one, one]


def test_what_could_not_be_asked_is_neither_an_error_nor_a_success():
    wrong, right, long = attempt(0), attempt(1, kind=None), attempt(2, kind=TOO_LONG)
    assert divide([wrong, right, replace(long, correct=False)]) == ([wrong], [right])
