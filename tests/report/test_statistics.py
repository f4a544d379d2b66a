import pytest

from errata.report.statistics import accuracy, paired_p


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
