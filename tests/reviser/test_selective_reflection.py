"""The student chooses: every way through the two choices, missing scores, and the source's own rule beside it."""

import json
import random
import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import replace

import pytest
from omegaconf import OmegaConf
from tests.reviser import misbehaving
from tests.reviser.misbehaving import Desk

from errata.config import config_folder
from errata.records import Pair
from errata.reviser.selective_reflection import SelectiveReflection
from errata.setup import build

NAN = float("nan")
ORIGINAL, INSTRUCTED = ("Name a fruit.", "Apple."), ("Compare two fruits.", "Pears are softer.")
NEW_PAIR = f"Thin.\n<new_instruction>{INSTRUCTED[0]}</new_instruction>\n<new_answer>{INSTRUCTED[1]}</new_answer>"
NEW_ANSWER = "Short.\n<better_answer>Apples, because they keep.</better_answer>"
BETTER = "Apples, because they keep."


def scores(ifd=None, rifd=None, missing=""):
    return {"ifd": ifd, "rifd": rifd, "missing": missing}


def run(scored, instruction=NEW_PAIR, response=NEW_ANSWER, **settings):
    """One pair; `scored` by variant: o(riginal), i(nstruction), a (original with the better answer), b (both)."""
    variants = {ORIGINAL: "o", INSTRUCTED: "i", (ORIGINAL[0], BETTER): "a", (INSTRUCTED[0], BETTER): "b"}
    pair = Pair("alpaca/3", *[ORIGINAL[0], "", ORIGINAL[1]], source="alpaca")
    replies = {"alpaca/3/instruction": instruction, "alpaca/3/response": response}
    desk = Desk(losses=lambda one: scored[variants[one.instruction, one.output]], replies=replies)
    (revision,) = SelectiveReflection(**settings).revise([pair], desk)
    assert revision.original == pair
    assert revision.final is None or revision.final.id == pair.id
    variant = None if revision.final is None else variants[revision.final.instruction, revision.final.output]
    return revision, variant, desk


BEFORE, B = scores(0.5, 0.9), scores(0.7, 0.4)
WAYS = [
    # scores, replies, settings -> what goes on, status, reason, and the five measures
    ({"o": BEFORE, "i": scores(0.6, 0.8), "b": B}, {}, {}, "b", "revised", "", (0.5, 0.6, 0.7, 0.8, 0.4)),
    ({"o": BEFORE, "i": scores(0.4), "a": B}, {}, {}, "a", "revised", "", (0.5, 0.4, 0.7, 0.9, 0.4)),
    ({"o": BEFORE, "i": scores(0.5), "a": B}, {}, {}, "a", "revised", "", (0.5, 0.5, 0.7, 0.9, 0.4)),  # a tie
    ({"o": BEFORE, "a": B}, {"instruction": "No."}, {}, "a", "revised", "no_markers", (0.5, None, 0.7, 0.9, 0.4)),
    ({"o": BEFORE, "i": scores(missing="too long"), "a": B}, {}, {}, "a", "revised", "", (0.5, None, 0.7, 0.9, 0.4)),
    ({"o": BEFORE, "i": scores(NAN), "a": B}, {}, {}, "a", "revised", "", (0.5, None, 0.7, 0.9, 0.4)),
    ({"o": BEFORE, "i": scores(0.6, 0.8), "b": scores(0.7, 0.8)}, {}, {}, None, "dropped", "unreplaced", (0.5, 0.6, None, 0.8, 0.8)),
    ({"o": BEFORE, "i": scores(0.6, 0.8), "b": scores(0.7, None)}, {}, {}, None, "dropped", "unscored", (0.5, 0.6, None, 0.8, None)),
    ({"o": BEFORE, "i": scores(0.6, None), "b": B}, {}, {}, None, "dropped", "unscored", (0.5, 0.6, None, None, 0.4)),
    ({"o": BEFORE, "i": scores(0.6)}, {"response": "No."}, {}, None, "dropped", "no_markers", (0.5, 0.6, None, None, None)),
    ({"o": BEFORE, "i": scores(0.6, 0.8), "b": scores(1.0, 0.4)}, {}, {}, None, "dropped", "ifd_limit", (0.5, 0.6, 1.0, 0.8, 0.4)),
    ({"o": BEFORE, "i": scores(0.6, 2.0), "b": scores(0.7, 1.5)}, {}, {}, None, "dropped", "rifd_limit", (0.5, 0.6, 0.7, 2.0, 1.5)),
    ({"o": BEFORE, "i": scores(0.6, 2.0), "b": scores(1.7, 1.5)}, {}, {"ifd_below": None, "rifd_below": None},
     "b", "revised", "", (0.5, 0.6, 1.7, 2.0, 1.5)),
    ({"o": BEFORE, "i": scores(0.6, 0.8), "b": scores(None, 0.4)}, {}, {}, None, "dropped", "unscored", (0.5, 0.6, None, 0.8, 0.4)),
    # with what was not replaced kept
    ({"o": BEFORE, "i": scores(0.6, 0.8), "b": scores(0.7, 0.9)}, {}, {"drop_unreplaced": False},
     "i", "revised", "unreplaced", (0.5, 0.6, 0.6, 0.8, 0.9)),
    ({"o": BEFORE, "i": scores(0.4, 0.8), "a": scores(0.7, 0.95)}, {}, {"drop_unreplaced": False},
     "o", "kept", "unreplaced", (0.5, 0.4, 0.5, 0.9, 0.95)),
    ({"o": BEFORE, "i": scores(0.6, 0.8)}, {"response": "No."}, {"drop_unreplaced": False},
     "i", "revised", "no_markers", (0.5, 0.6, 0.6, 0.8, None)),
    ({"o": BEFORE, "i": scores(0.6, 1.8)}, {"response": "No."}, {"drop_unreplaced": False},
     None, "dropped", "rifd_limit", (0.5, 0.6, 0.6, 1.8, None)),
    ({"o": BEFORE}, {"instruction": "No.", "response": "No."}, {"drop_unreplaced": False, "rifd_below": None},
     "o", "kept", "no_markers", (0.5, None, 0.5, None, None)),
]  # fmt: skip


@pytest.mark.parametrize(("scored", "replies", "settings", "variant", "status", "reason", "measures"), WAYS)
def test_each_way_through_the_two_choices(scored, replies, settings, variant, status, reason, measures):
    revision, found, desk = run(scored, **replies, **settings)
    assert (found, revision.status, revision.reason) == (variant, status, reason)
    assert reason == "" or revision.detail
    names = ("ifd_before", "ifd_instruction", "ifd_after", "rifd_before", "rifd_after")
    assert tuple(revision.scores) == names
    assert tuple(revision.scores.values()) == tuple(None if m is None else pytest.approx(m) for m in measures)
    assert revision.request_ids == ("alpaca/3/instruction", "alpaca/3/response")
    if "No." in (replies.get("response"),) and settings.get("rifd_below", 1) and "drop_unreplaced" not in settings:
        assert "rifd" not in desk.scored, "no r-IFD without a second reply"


@pytest.mark.parametrize("ifd", [None, NAN, float("inf")])
def test_nothing_is_paid_for_a_pair_that_cannot_be_scored(ifd):
    revision, variant, desk = run({"o": scores(ifd, missing="the response is empty" if ifd is None else "")})
    assert (variant, revision.status, revision.reason) == (None, "dropped", "unscored")
    assert revision.scores == dict.fromkeys(("ifd_before", "ifd_instruction", "ifd_after", "rifd_before", "rifd_after"))
    assert ("the response is empty" in revision.detail) == (ifd is None)
    assert revision.request_ids == ()
    assert not any(desk.requests.values())


def variant_scores(pair):
    rng = random.Random(f"{pair.instruction} {pair.output}")
    return scores(rng.uniform(0.3, 1.1), rng.uniform(0.3, 1.1))


def by_the_source(reviser, pair):
    """The selection over all four variants, as the paper and its code have it; None where nothing goes on."""

    def rewritten(stage, one):
        (request,) = reviser.requests(stage, [one])
        instruction, answer = misbehaving.texts_of(request.messages, "tags")
        return (
            replace(one, instruction=instruction, input="", output=answer)
            if stage == "instruction"
            else replace(one, output=answer)
        )

    asked = rewritten("instruction", pair)
    first = asked if variant_scores(asked)["ifd"] > variant_scores(pair)["ifd"] else pair
    second = rewritten("response", first)
    if variant_scores(second)["rifd"] >= variant_scores(first)["rifd"]:
        return None
    return second if variant_scores(second)["ifd"] < 1 and variant_scores(second)["rifd"] < 1 else None


def test_the_choices_are_the_sources_over_all_four_variants():
    pairs = [Pair(f"a/{n}", f"Say {n}.", "it" if n % 3 else "", f"{n}!", "a") for n in range(400)]
    reviser, desk = SelectiveReflection(), Desk(kinds=("tags",), losses=variant_scores)
    revisions = reviser.revise(pairs, desk)
    expected = [by_the_source(reviser, pair) for pair in pairs]
    assert [one.final for one in revisions] == expected
    assert 100 < sum(final is not None for final in expected) < 300
    assert sum(map(len, desk.requests.values())) == 800


def test_the_top_share_is_the_one_with_the_highest_ifd():
    pairs = [Pair(f"a/{n}", f"Say {n}.", "", f"{n}!", "a") for n in range(200)]
    every = SelectiveReflection().revise(pairs, Desk(kinds=("tags",), losses=variant_scores))
    left = [one for one in every if one.final]
    top = SelectiveReflection(top_share=0.25).revise(pairs, Desk(kinds=("tags",), losses=variant_scores))
    ranked = sorted(left, key=lambda one: -one.scores["ifd_after"])[: len(left) // 4]
    assert {one.id for one in top if one.final} == {one.id for one in ranked}
    assert sum(one.reason == "below_top_share" for one in top) == len(left) - len(left) // 4


def test_a_misbehaving_instructor_loses_no_pair():
    pairs = [Pair(f"a/{n}", f"Say {n}.", "", f"{n}!", "a") for n in range(300)]
    desk = Desk(3, losses=variant_scores)
    revisions = SelectiveReflection().revise(pairs, desk)
    assert [one.original for one in revisions] == pairs
    faults = {
        name.rpartition("/")[0]: misbehaving.reason_of(kind)
        for name, kind in desk.drawn.items()
        if name.endswith("/response")
    }
    for one in revisions:
        assert (one.final is None) == (one.status == "dropped")
        if faults[one.id]:
            assert (one.status, one.reason) == ("dropped", faults[one.id])
        if one.final:
            assert one.scores["rifd_after"] < one.scores["rifd_before"]
            assert one.scores["ifd_after"] < 1


def test_limits_are_checked_and_the_config_says_the_defaults():
    problems = SelectiveReflection(ifd_below=0, rifd_below=-1.0, top_share=1.5).problems()
    assert [problem.split()[0] for problem in problems] == ["reviser.ifd_below", "reviser.rifd_below", "reviser.top_share"]
    chosen = OmegaConf.load(config_folder() / "reviser" / "selective_reflection.yaml")
    assert build(chosen, "reviser") == SelectiveReflection()
    assert set(chosen) - {"_target_"} == set(vars(SelectiveReflection()))
    assert SelectiveReflection().revise([], Desk()) == []


def test_the_misbehaving_server_answers_as_the_desk_does():
    command = [sys.executable, "-m", "tests.reviser.misbehaving", "--port", "0", "--seed", "5"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        address = server.stdout.readline().strip()
        for request in SelectiveReflection().expected([Pair(f"a/{n}", f"Say {n}.", "", f"{n}!", "a") for n in range(8)]):
            text, finish = misbehaving.reply(request.messages, 5)
            body = json.dumps({"model": "m", "messages": request.messages}).encode()
            asked = urllib.request.Request(f"{address}/chat/completions", body, {"Content-Type": "application/json"})
            try:
                choice = json.load(urllib.request.urlopen(asked))["choices"][0]
                assert (choice["message"]["content"], choice["finish_reason"]) == (text, finish)
            except urllib.error.HTTPError as error:
                assert (error.code, text) == (400, None)
        server.stdin.close()
        assert sum(json.loads(server.stdout.readline()).values()) == 16


def test_an_id_that_ends_like_a_request_keeps_its_own_scores():
    """`alpaca/3` with a new response beside a record that is itself called `alpaca/3/response`."""
    pairs = [Pair(f"alpaca/{name}", f"Name a fruit: {name}.", "", "Apple.", source="alpaca") for name in ("3", "3/response")]
    desk = Desk(losses=lambda one: scores(0.5, 0.4 if one.output == BETTER else 0.9),
                replies={f"{pair.id}/{stage}": reply for pair in pairs
                         for stage, reply in (("instruction", "No."), ("response", NEW_ANSWER))})  # fmt: skip
    found = SelectiveReflection().revise(pairs, desk)
    assert [(one.id, one.final.id, one.status) for one in found] == [(pair.id, pair.id, "revised") for pair in pairs]
    assert [one.scores["rifd_after"] for one in found] == pytest.approx([0.4, 0.4])
