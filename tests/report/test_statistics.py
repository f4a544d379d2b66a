import pytest
from scipy.stats import binomtest

from errata.report.statistics import accuracy, compare, compare_arms, compare_means, paired_p, pool


def verdicts(text):
    return {str(place): letter == "1" for place, letter in enumerate(text)}


def test_wilson_interval_by_hand():
    score = accuracy(verdicts("1" * 50 + "0" * 190))
    assert (score.n, score.right) == (240, 50)
    z, n, p = 1.959964, 240, 50 / 240
    centre, half = (p + z * z / 2 / n) / (1 + z * z / n), z / (1 + z * z / n) * (p * (1 - p) / n + z * z / 4 / n / n) ** 0.5
    assert (score.low, score.high) == pytest.approx((centre - half, centre + half), abs=1e-6)


@pytest.mark.parametrize(
    ("before", "after", "p"),
    [
        ("0000", "0000", 1.0),
        ("1010", "1010", 1.0),
        ("00000", "11111", 2 / 32),
        ("01", "10", 1.0),
        ("000000001", "111111110", 2 * (1 + 9) / 512),
    ],
)
def test_exact_mcnemar_by_hand(before, after, p):
    assert paired_p(verdicts(before), verdicts(after)) == pytest.approx(p)


def test_only_questions_that_both_hold_are_paired():
    assert paired_p({"a": True, "b": False}, {"b": False, "c": True}) == 1.0


def test_a_measure_that_is_no_yes_or_no_gets_a_bootstrap_interval_as_wide_as_its_standard_error():
    values = {str(n): n % 10 / 10 for n in range(500)}
    score = accuracy(values)
    assert score.accuracy == pytest.approx(0.45)
    se = (sum((v - 0.45) ** 2 for v in values.values()) / 500) ** 0.5 / 500**0.5
    assert (score.low, score.high) == pytest.approx((0.45 - 1.96 * se, 0.45 + 1.96 * se), abs=0.15 * se)


def test_the_paired_difference_by_hand():
    found = compare(verdicts("1100" * 50), verdicts("1010" * 50) | {"x": True})
    assert (found.n, found.first, found.second, found.gained, found.lost) == (200, 0.5, 0.5, 50, 50)
    se = 0.5**0.5 / 200**0.5  # the differences are +1, -1, 0, 0
    assert (found.difference, found.low, found.high) == pytest.approx((0, -1.96 * se, 1.96 * se), abs=0.15 * se)
    assert found.p == 1.0
    assert compare(verdicts("1"), {"other": True}) is None


def test_pairing_is_sharper_than_two_intervals():
    before, after = verdicts("10" * 100), verdicts("10" * 95 + "11" * 5)
    found = compare(before, after)
    assert found.low > 0 > accuracy(after).low - accuracy(before).high
    assert found.p == pytest.approx(2 / 2**5)


def test_pooled_seeds_are_no_wider_sample_of_questions():
    """Three seeds with the very same answers say no more than one of them."""
    one, three = verdicts("1100" * 50), pool([verdicts("1100" * 50)] * 3)
    assert (three.seeds, three.n, three.accuracy, three.sd) == (3, 200, 0.5, 0.0)
    single = accuracy(one)
    assert three.high - three.low == pytest.approx(single.high - single.low, rel=0.06)


def test_pooled_seeds_show_their_spread():
    found = pool([verdicts("1" * 60 + "0" * 40), verdicts("1" * 70 + "0" * 30), verdicts("1" * 80 + "0" * 20)])
    assert found.accuracy == pytest.approx(0.7)
    assert found.sd == pytest.approx(0.1)
    assert found.high - found.low > 0.18  # wider than one run of 100 questions
    assert pool([{"a": True}, {"b": True}]) is None


def test_seeds_that_are_alike_have_the_interval_of_one_and_so_do_all_right_and_all_wrong():
    one = verdicts("1100" * 5)
    assert (pool([one, one]).low, pool([one, one]).high) == (accuracy(one).low, accuracy(one).high)
    right = pool([verdicts("11111"), verdicts("11111")])
    assert right.accuracy == right.high == 1 and right.low == pytest.approx(5 / (5 + 1.959964**2))


def test_a_measure_that_is_no_yes_or_no_is_paired_by_what_went_up_and_down():
    before = {str(n): 0.5 for n in range(10)}
    found = compare(before, {name: value + (0.2 if name != "0" else -0.2) for name, value in before.items()})
    assert (found.gained, found.lost) == (9, 1) and found.p == pytest.approx(2 * (1 + 10) / 1024)


def test_questions_that_all_changed_alike_have_newcombes_interval():
    """By hand: Wilson's interval of 0 of n is [0, z2 / (n + z2)]; both are squared and added."""
    wilson = 1.959964**2 / (5 + 1.959964**2)
    gained = compare(verdicts("00000"), verdicts("11111"))
    assert (gained.difference, gained.high) == (1, 1) and gained.low == pytest.approx(1 - wilson * 2**0.5)
    same = compare(verdicts("00000"), verdicts("00000"))
    assert (same.low, same.high) == pytest.approx((-wilson, wilson))
    one = compare(verdicts("0"), verdicts("1"))
    assert one.low < 0 < one.high and one.p == 1.0


@pytest.mark.parametrize(("right", "wrong"), [(12, 48), (30, 30), (1, 1), (2, 1), (1, 59), (59, 1), (100, 100), (60, 0)])
def test_two_runs_with_the_same_answers_differ_by_newcombes_interval_around_nothing(right, wrong):
    """Beside scipy's Wilson intervals and the formula for a table of a, b, c, d pairs, written out."""
    scores = verdicts("1" * right + "0" * wrong)
    found = compare(scores, scores)
    a, b, c, d, n = right, 0, 0, wrong, right + wrong
    wilson = binomtest(right, n).proportion_ci(method="wilson")
    down, up = right / n - wilson.low, wilson.high - right / n
    over = a * d - b * c
    margins = ((a + b) * (c + d) * (a + c) * (b + d)) ** 0.5
    phi = (max(over - n / 2, 0) if over > 0 else over) / margins if margins else 0
    reach = (down**2 - 2 * phi * down * up + up**2) ** 0.5
    assert (found.low, found.high) == pytest.approx((-reach, reach))
    assert reach > 0 and found.p == 1.0


def test_no_p_is_below_what_so_few_questions_can_say():
    none, all_ = [verdicts("00000")] * 2, [verdicts("11111")] * 2
    found = compare_arms(none, all_)
    assert found.p == pytest.approx(2 / 2**5) and found.low == pytest.approx(compare(none[0], all_[0]).low)
    assert compare_arms(none, none).p == 1.0
    assert compare_means([(none, all_), (none, all_)]).p == pytest.approx(2 / 2**10)
    many = compare_arms([verdicts("0" * 30)] * 2, [verdicts("1" * 30)] * 2)
    assert many.p == pytest.approx(2 / 10_000)
