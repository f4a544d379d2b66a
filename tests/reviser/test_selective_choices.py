"""What the two choices of Selective Reflection-Tuning can go by: each measure alone decides, or the coin, or nothing."""

import math
import random
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from tests.reviser import misbehaving
from tests.test_loop import errata
from tests.test_revise import raw, revisions_of, teacher  # noqa: F401

from errata.records import Likelihoods, Pair
from errata.reviser.reflection import Reflection
from errata.reviser.selective_measures import LABELS
from errata.reviser.selective_reflection import SelectiveReflection

FREE = {"ifd_below": None, "rifd_below": None}
ORIGINAL, INSTRUCTED, BETTER = "Apple.", "Pears are softer.", "Apples, because they keep."
REPLIES = {
    "a/1/instruction": f"<new_instruction>Compare two.</new_instruction>\n<new_answer>{INSTRUCTED}</new_answer>",
    "a/1/response": f"<better_answer>{BETTER}</better_answer>",
}
HIGHER = {"ifd": True, "rifd": False, "perplexity": False, "coherence": True}


class Desk(misbehaving.Desk):
    """Its student has all four losses, made so that IFD, r-IFD and perplexity are what `losses(pair)` says."""

    embedded = 0

    def score(self, name, pairs, ifd, rifd):
        super().score(name, [], ifd, rifd)  # its checks of the name
        self.scored[name] = [pair.id for pair in pairs]
        return [self.likelihoods(pair, ifd, rifd) for pair in pairs]

    def likelihoods(self, pair, ifd, rifd):
        one = {**dict.fromkeys(LABELS, 0.5), **self.losses(pair)}
        found = Likelihoods(pair.id, missing="too_long" if None in one.values() else "")
        if ifd and None not in (one["ifd"], one["perplexity"]):
            given = math.log(one["perplexity"])
            found = Likelihoods(pair.id, response=given - math.log(one["ifd"]), response_given=given)
        if rifd and one["rifd"] is not None:
            found = Likelihoods(pair.id, instruction=0.0, instruction_given=math.log(one["rifd"]))
        return found

    def embed(self, texts):
        """Instructions stand on one axis, an answer so far from it as its coherence says."""
        self.embedded += len(texts)
        cosines = [self.losses(Pair("", "", "", text, ""))["coherence"] for text in texts[len(texts) // 2 :]]
        return np.float32([[1, 0]] * len(cosines) + [[one, math.sqrt(1 - one * one)] for one in cosines])


def run(values, **settings):
    """One pair; `values` by the response of the version, each a dict of measures."""
    desk = Desk(replies=REPLIES, losses=lambda pair: values[pair.output])
    (revision,) = SelectiveReflection(**{**FREE, **settings}).revise([Pair("a/1", "Name one.", "", ORIGINAL, "a")], desk)
    return revision, desk


def worse_but(by, wins):
    """What only one measure speaks for, or against."""
    change = {one: (0.1 if up else -0.1) * (1 if (one == by) == wins else -1) for one, up in HIGHER.items()}
    return {one: 0.5 + step for one, step in change.items()}


HALF = dict.fromkeys(LABELS, 0.5)


@pytest.mark.parametrize("wins", [True, False])
@pytest.mark.parametrize("by", LABELS)
def test_each_measure_alone_decides_which_instruction_goes_on(by, wins):
    revision, desk = run(
        {ORIGINAL: HALF, INSTRUCTED: worse_but(by, wins), BETTER: HALF},
        choose_instruction_by=by,
        choose_response_by="always",
    )
    assert (revision.final.instruction, revision.final.output) == ("Compare two." if wins else "Name one.", BETTER)
    told = {f"{by}_before": 0.5, f"{by}_instruction": 0.6 if HIGHER[by] == wins else 0.4}
    if by == "ifd":
        told["ifd_after"] = 0.5
    assert revision.scores == pytest.approx(told)
    assert set(desk.scored) == ({*told} if by != "coherence" else set())
    assert bool(desk.embedded) == (by == "coherence")


@pytest.mark.parametrize("wins", [True, False])
@pytest.mark.parametrize("by", LABELS)
def test_each_measure_alone_decides_which_response_goes_on(by, wins):
    revision, desk = run(
        {ORIGINAL: HALF, INSTRUCTED: HALF, BETTER: worse_but(by, wins)},
        choose_instruction_by="always",
        choose_response_by=by,
    )
    new = 0.6 if HIGHER[by] == wins else 0.4
    assert revision.scores == pytest.approx({f"{by}_before": 0.5, f"{by}_after": new})
    assert (revision.status, revision.reason) == (("revised", "") if wins else ("dropped", "unreplaced"))
    assert wins or revision.detail == f"unreplaced: {LABELS[by]} {new:.4f}, 0.5000 before"
    assert set(desk.scored) == ({by} if by != "coherence" else set())


@pytest.mark.parametrize("by", LABELS)
def test_at_a_tie_the_older_version_stays(by):
    both = {"choose_instruction_by": by, "choose_response_by": by}
    revision, desk = run({ORIGINAL: HALF, INSTRUCTED: HALF, BETTER: HALF}, **both)
    assert (revision.status, revision.reason) == ("dropped", "unreplaced")
    kept, _ = run({ORIGINAL: HALF, INSTRUCTED: HALF, BETTER: HALF}, **both, drop_unreplaced=False)
    assert (kept.final, kept.status) == (kept.original, "kept")
    if by != "coherence":
        assert desk.scored[by] == ["new/a/1"]  # the kept one is known already


@pytest.mark.parametrize("by", LABELS)
def test_a_missing_measure_never_decides(by):
    lost = {**HALF, by: math.nan if by == "coherence" else None}
    both = {"choose_instruction_by": by, "choose_response_by": by, "drop_unreplaced": False}
    unpaid, desk = run({ORIGINAL: lost, INSTRUCTED: HALF, BETTER: HALF}, **both)
    assert (unpaid.status, unpaid.reason, unpaid.request_ids) == ("dropped", "unscored", ())
    assert not any(desk.requests.values())
    revision, _ = run({ORIGINAL: HALF, INSTRUCTED: lost, BETTER: worse_but(by, True)}, **both)
    assert (revision.final.instruction, revision.final.output) == ("Name one.", BETTER)
    assert f"{LABELS[by]} of the new instruction: " in revision.detail
    revision, _ = run({ORIGINAL: HALF, INSTRUCTED: worse_but(by, True), BETTER: lost}, **both)
    assert (revision.final.output, revision.reason) == (INSTRUCTED, "unscored")
    after_all = {**both, "choose_instruction_by": "always"}
    revision, _ = run({ORIGINAL: HALF, INSTRUCTED: lost, BETTER: HALF}, **after_all)
    assert (revision.final.output, revision.reason) == (INSTRUCTED, "unscored")


def test_a_pair_without_a_response_has_no_coherence():
    by = {"choose_instruction_by": "coherence", "choose_response_by": "coherence"}
    pairs = [Pair("a/1", "Name one.", "", " ", "a"), Pair("a/2", "Name one.", "", ORIGINAL, "a")]
    desk = Desk(kinds=("tags",), losses=lambda _: HALF)
    first, second = SelectiveReflection(**FREE, **by).revise(pairs, desk)
    assert (first.reason, first.detail) == ("unscored", "unscored: coherence of the original: empty")
    assert second.reason == "unreplaced"
    assert [len(one) for one in desk.requests.values()] == [1, 1]


PAIRS = [Pair(f"a/{n}", f"Say {n}.", "", f"{n}!", "a") for n in range(400)]
COIN = {"choose_instruction_by": "random", "choose_response_by": "random"}


def drawn(pairs, seed=0, kinds=("tags",)):
    desk = Desk(seed, kinds=kinds)
    revisions = SelectiveReflection(**FREE, **COIN, drop_unreplaced=False).revise(pairs, desk)
    assert not desk.scored and not desk.embedded
    return {
        one.id: (one.final.instruction != one.original.instruction, one.reason != "unreplaced", one.final)
        for one in revisions
    }


def test_the_coin_is_fair_and_each_pair_has_its_own():
    found = drawn(PAIRS)
    ways = Counter(one[:2] for one in found.values())
    assert len(ways) == 4 and min(ways.values()) > 70  # of 100 expected
    shuffled = random.Random(1).sample(PAIRS, 123)
    assert drawn(shuffled) == {pair.id: found[pair.id] for pair in shuffled}
    other = drawn(PAIRS, seed=1)
    assert 120 < sum(found[name][0] != other[name][0] for name in found) < 280
    assert Counter(one.status for one in SelectiveReflection(**FREE, **COIN).revise(PAIRS, Desk(kinds=("tags",))))[
        "dropped"
    ] == sum(not one[1] for one in found.values())


def test_without_a_choice_it_is_the_first_method():
    always = {"choose_instruction_by": "always", "choose_response_by": "always"}
    desk = Desk(3)
    revisions = SelectiveReflection(**FREE, **always, drop_unreplaced=False).revise(PAIRS, desk)
    assert [one.final for one in revisions] == [one.final for one in Reflection().revise(PAIRS, Desk(3))]
    assert not desk.scored
    left = SelectiveReflection(**FREE, **always).revise(PAIRS, Desk(3))
    assert {one.id for one in left if one.status == "dropped"} == {
        one.id for one in revisions if one.request_ids and "response: " in one.detail
    }


def test_limits_and_the_share_hold_whatever_the_choices_go_by():
    def by_pair(pair):
        rng = random.Random(pair.output)
        return {**HALF, "ifd": rng.choice([None, rng.uniform(0.3, 1.3)]), "rifd": rng.choice([None, rng.uniform(0.3, 1.3)])}

    desk = Desk(kinds=("tags",), losses=by_pair)
    revisions = SelectiveReflection(**COIN, top_share=0.5).revise(PAIRS, desk)
    reasons = Counter(one.reason for one in revisions)
    assert set(reasons) == {"", "unreplaced", "unscored", "ifd_limit", "rifd_limit", "below_top_share"}
    assert reasons[""] == reasons["below_top_share"] or reasons[""] == reasons["below_top_share"] - 1
    assert list(desk.scored) == ["ifd_after", "rifd_after"]
    assert len(desk.scored["ifd_after"]) == 400 - reasons["unreplaced"] > len(desk.scored["rifd_after"])
    for one in revisions:
        assert list(one.scores) == ["ifd_after", "rifd_after"]
        if one.final:
            assert one.scores["ifd_after"] < 1 and one.scores["rifd_after"] < 1


@pytest.mark.parametrize(
    ("settings", "scores", "embeds"),
    [
        ({}, True, False),
        ({**FREE, **COIN}, False, False),
        (COIN, True, False),
        ({**FREE, **COIN, "top_share": 0.1}, True, False),
        ({**FREE, **COIN, "choose_response_by": "coherence"}, False, True),
        ({**FREE, "choose_instruction_by": "coherence", "choose_response_by": "perplexity"}, True, True),
        ({**FREE, "choose_instruction_by": "always", "choose_response_by": "always"}, False, False),
    ],
)
def test_it_asks_for_no_more_than_it_needs(settings, scores, embeds):
    reviser = SelectiveReflection(**settings)
    assert (reviser.scores, reviser.embeds, reviser.problems()) == (scores, embeds, [])


def test_a_choice_by_nothing_that_is_known_is_a_problem():
    first, second = SelectiveReflection(choose_instruction_by="ppl", choose_response_by="").problems()
    assert first == (
        "reviser.choose_instruction_by is 'ppl': choose one of ifd, rifd, perplexity, coherence, random, always"
    )
    assert second.startswith("reviser.choose_response_by is ''")


def command_of(raw, address, place, by, *more):  # noqa: F811
    chosen = [f"reviser.choose_{name}_by={one}" for name, one in zip(("instruction", "response"), by, strict=True)]
    limits = ["reviser.ifd_below=null", "reviser.rifd_below=null"]
    return [
        "revise", f"corpus.file.path={raw}", "corpus.file.limit=30", "reviser=selective_reflection", *chosen, *limits,
        "instructor.model=m", f"instructor.base_url={address}", f"output_dir={place}", *more,
    ]  # fmt: skip


def won(revision, by, new):
    """Whether the new version was the better one; None where that was not measured."""
    old, after = revision.scores.get(f"{by}_before"), revision.scores.get(f"{by}_{new}")
    return None if old is None or after is None else after > old if HIGHER[by] else after < old


@pytest.mark.parametrize(
    ("by", "stages"),
    [
        (("coherence", "always"), ("instruction", "response")),
        pytest.param(("random", "perplexity"), ("instruction", "response", "perplexity"), marks=pytest.mark.slow),
        pytest.param(
            ("perplexity", "random"),
            ("perplexity_before", "instruction", "perplexity_instruction", "response"),
            marks=pytest.mark.slow,
        ),
        pytest.param(("always", "ifd"), ("instruction", "response", "ifd"), marks=pytest.mark.slow),
    ],
    ids="-".join,
)
def test_a_run_makes_the_choices_and_no_other_stage(by, stages, teacher, raw, tiny_model, tmp_path, capsys):  # noqa: F811
    address, seen = teacher
    model = [] if by[0] == "coherence" else ["model=hf", f"model.path={tiny_model}", "max_length=512"]
    command = command_of(raw, address, tmp_path, by, *model)
    assert errata(*command) == 0, capsys.readouterr().err
    asked = seen()
    (run,) = tmp_path.glob("revise-*")
    assert {folder.name for folder in (run / "desk").iterdir()} == set(stages)
    revisions = revisions_of(run)
    status = Counter(one.status for one in revisions)
    assert len(revisions) == 30 and status["dropped"] and status["revised"]
    told = set()
    for one in revisions:
        if one.final:
            told.add((won(one, by[0], "instruction"), one.final.instruction != one.original.instruction))
        told.add((won(one, by[1], "after"), one.final is not None))
    assert told & {(True, True), (False, False)}
    assert not told & {(True, False), (False, True)}
    assert errata(*command) == 0
    assert seen() == asked
    assert revisions_of(run) == revisions


@pytest.mark.slow
def test_a_killed_run_makes_the_same_choices(teacher, raw, tiny_model, tmp_path):  # noqa: F811
    (address, seen), by = teacher, ("coherence", "random")
    more = ["model=hf", f"model.path={tiny_model}", "max_length=512", "instructor.concurrency=1"]
    assert errata(*command_of(raw, address, tmp_path / "undisturbed", by, *more)) == 0
    paid = seen().total()
    command = [sys.executable, "-m", "errata.cli", *command_of(raw, address, tmp_path / "killed", by, *more)]
    for most in (paid // 4, 3 * paid // 4):  # amid each of the two stages of requests
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        while process.poll() is None and seen().total() < paid + most:
            pass
        assert process.poll() is None, "it was too fast to be killed"
        process.kill()
        process.wait()
    assert subprocess.run(command, capture_output=True).returncode == 0
    runs = [next((tmp_path / name).glob("revise-*")) for name in ("undisturbed", "killed")]
    assert runs[0].name == runs[1].name
    assert revisions_of(runs[0]) == revisions_of(runs[1])
