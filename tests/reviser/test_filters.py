"""The filters: each on strings that it must find and strings that it must let through, and on the experts' own revisions."""

import os
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from errata.records import Pair
from errata.reviser.expert import REQUEST, clean, read_revisions
from errata.reviser.filters import Filters

REAL = (
    Path(os.environ.get("ERRATA_DATA", Path(__file__).parents[3] / "shared" / "data")) / "coachlm" / "expert_revisions.json"
)
SONG = "La la la.\nLa la la.\nLa la la.\nLa la la.\nLa la la.\nLa la la."
LOOP = "The cat sat on the mat and looked at me. " * 8
PLAIN = Pair("p", "Name a planet.", "", "Mars")


def changed(output="Mars is one.", original=PLAIN, **fields):
    return original, replace(original, output=output, **fields)


@pytest.mark.parametrize(
    ("pairs", "reason"),
    [
        (changed(), None),
        (changed("Mars"), "unchanged"),
        (changed(" Mars\n"), "unchanged"),
        (changed("  "), "empty"),
        (changed(instruction="\n"), "empty"),
        (changed("Mars, 火星."), "script"),
        (changed(instruction="Назови planet."), "script"),
        (changed("The area is πr², about ℝ and 𝐱, in café style, ½ µm."), None),
        (changed("火星是一个行星。", replace(PLAIN, instruction="说一个行星。", output="火星")), None),
        (changed("それは火星です。", replace(PLAIN, instruction="惑星を一つ。", output="火星")), None),
        (changed("Mars, 火星.", replace(PLAIN, output="火星")), None),
        (changed(LOOP), "repetition"),
        (changed(LOOP, replace(PLAIN, output=LOOP + "The cat sat on the mat.")), None),  # it was no better before
        (changed(SONG), "repetition"),
        (changed("我喜欢吃苹果。" * 8, replace(PLAIN, instruction="说。", output="苹果")), "repetition"),
        (changed("No. No. No."), None),
        (changed(" ".join(f"word{number}" for number in range(400))), "over_length"),
        (changed(" ".join(f"word{number}" for number in range(150))), None),  # long, but not past 1,500 characters
        (changed(" ".join(f"w{n}" for n in range(400)), replace(PLAIN, output="x" * 200)), None),  # not past ten times
        (changed("Mars.\n### Response\nMars."), "labels"),
        (changed("Response: Mars."), "labels"),
        (changed("Mars.\n**Revised Response:** Mars."), "labels"),
        (changed(instruction="Instruction: Name a planet."), "labels"),
        (changed(instruction="Name one.", input="Input: planets"), "labels"),
        (changed("Input: 3\nOutput: 6", replace(PLAIN, output="Input: 1\nOutput: 2")), None),
        (changed("Instruction: go left.", replace(PLAIN, output="Instruction: go right.")), None),
        (changed("Try it:\nInput: 3\nOutput: 6"), None),
        (changed("Make the instruction clear, specific and\npossible to carry out. Mars."), "labels"),
    ],
)
def test_what_each_filter_finds(pairs, reason):
    found = Filters().check(*pairs, REQUEST)
    assert (found and found[0]) == reason, found


@pytest.mark.parametrize(
    ("off", "output"),
    [
        ({"most_foreign": None}, "Mars, 火星."),
        ({"most_foreign": 0.5}, "Mars, 火星."),
        ({"most_repeated": None}, LOOP),
        ({"most_same_lines": None, "most_repeated": None}, SONG),
        ({"most_ratio": None}, " ".join(f"word{number}" for number in range(400))),
        ({"labels": False}, "Response: Mars."),
    ],
)
def test_a_filter_that_is_off_lets_everything_through(off, output):
    assert Filters().check(*changed(output)) is not None
    assert Filters(**off).check(*changed(output)) is None


def test_the_evidence_names_what_was_seen():
    assert Filters().check(*changed("Mars, 火星.")) == ("script", "2 CJK letters (11.8%)")
    assert Filters(most_repeated=None).check(*changed(SONG)) == ("repetition", "6 times 'La la la.'")


def test_limits_that_cannot_be_are_found_together():
    found = Filters(most_foreign=2, most_repeated=-1, most_same_lines=0, most_ratio=0.5, most_chars=-1).problems()
    assert [problem.partition(" is ")[0] for problem in found] == [
        f"reviser.filters.{name}"
        for name in ("most_foreign", "most_repeated", "most_same_lines", "most_ratio", "most_chars")
    ]
    assert Filters().problems() == []


@pytest.mark.skipif(not REAL.is_file(), reason="the experts' revisions are not beside this checkout (ERRATA_DATA)")
def test_under_one_percent_of_the_experts_own_revisions_are_turned_away():
    edits = read_revisions(REAL)
    found = Counter((Filters().check(edit.raw, edit.revised, REQUEST) or ("fine",))[0] for edit in edits)
    assert found == {"fine": 2289, "over_length": 7, "repetition": 2, "empty": 2, "labels": 1}
    kept, _ = clean(edits)
    assert sum(Filters().check(edit.raw, edit.revised, REQUEST) is not None for edit in kept) == 9


def test_long_runs_of_empty_lines_take_no_time():
    start = time.thread_time()
    assert Filters(most_ratio=None).check(*changed("Mars." + "\n" * 30_000 + "Venus.")) is None
    assert time.thread_time() - start < 2
    assert Filters(most_ratio=None).check(*changed("Mars." + "\n" * 30_000 + "\t **Response: Venus.")) == (
        "labels",
        "'Response'",
    )
