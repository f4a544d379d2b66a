"""Experts' revisions: distances, the selection, repairs, and a coach's training rows, on the real file where it is."""

import json
import os
from pathlib import Path

import pytest

from errata.errors import ConfigError, DataError
from errata.records import Pair
from errata.reviser.expert import (
    REQUEST,
    Edit,
    clean,
    coach_rows,
    distance,
    fingerprint,
    read_revisions,
    repaired,
    select,
    write_coach_data,
)  # fmt: skip
from errata.reviser.markers import read

REAL = (
    Path(os.environ.get("ERRATA_DATA", Path(__file__).parents[3] / "shared" / "data")) / "coachlm" / "expert_revisions.json"
)
real_data = pytest.mark.skipif(
    not REAL.is_file(), reason="the experts' revisions are not beside this checkout (ERRATA_DATA)"
)


def pair(instruction, given="", output="ok"):
    return Pair("p", instruction, given, output)


def row(raw=("Say it.", "", "no"), revised=("Say it.", "", "yes"), **more):
    names = ("Instruction", "Input", "Response")
    sides = (("Raw", raw), ("Revised", revised))
    return {f"{side} {name}": text for side, texts in sides for name, text in zip(names, texts, strict=True)} | more


def written(folder, rows):
    path = folder / "experts.json"
    path.write_text(json.dumps(rows))
    return path


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (pair("Say it.", "", "no"), pair("Say it.", "", "no"), 0),
        (pair("Say it.", "", "no"), pair("Say it!", "", "now"), 2),
        (pair("a", "", "b"), pair("a", "x", "b"), len(" Input: x")),  # the label counts too
        (pair("a", "bc", "d"), pair("abc", "", "d"), len(" Input: ")),  # less than field by field
        (pair("说", "", "好"), pair("说", "", "坏"), 1),
    ],
)
def test_distance_is_that_of_the_pairs_written_as_one_line(before, after, expected):
    assert distance(before, after) == expected == distance(after, before)


@real_data
def test_2290_of_the_2301_shipped_distances_are_ours_and_the_others_within_three():
    edits = read_revisions(REAL)
    gaps = [abs(edit.distance - distance(edit.raw, edit.revised)) for edit in edits]
    assert (len(gaps), gaps.count(0), max(gaps)) == (2301, 2290, 3)


@real_data
@pytest.mark.parametrize(
    ("alpha", "size", "threshold"),
    [(0.1, 230, 861), (0.2, 460, 562), (0.3, 690, 402), (0.5, 1150, 222), (0.7, 1610, 97), (1.0, 2301, 31)],
)
def test_each_share_has_the_size_and_the_threshold_of_the_source(alpha, size, threshold):
    edits = read_revisions(REAL)
    selected = select(edits, alpha)
    assert (len(selected), selected[-1].distance) == (size, threshold)
    left_out = {edit.raw.id for edit in edits} - {edit.raw.id for edit in selected}
    assert all(edit.distance <= threshold for edit in edits if edit.raw.id in left_out)


def test_of_equal_distances_the_first_are_taken_and_shares_are_exact():
    edits = [Edit(pair(str(number)), pair(str(number)), 7) for number in range(100)]
    assert [edit.raw.instruction for edit in select(edits, 0.29)] == [str(number) for number in range(29)]
    edits[50] = edits[50]._replace(distance=8)
    assert [edit.raw.instruction for edit in select(edits, 0.03)] == ["50", "0", "1"]


@pytest.mark.parametrize("alpha", [0, -0.1, 1.01, float("nan"), 0.009])
def test_a_share_that_is_none_or_keeps_nothing_is_refused(alpha):
    with pytest.raises(ConfigError, match="alpha is"):
        select([Edit(pair("a"), pair("b"), 1)] * 100, alpha)


@pytest.mark.parametrize(
    ("broken", "instruction", "given"),
    [
        (pair("Use the", "to write a poem. Input: Magpies"), "Use the input to write a poem.", "Magpies"),
        (pair("Give the formula for the", ". Input: Name: Salt"), "Give the formula for the input.", "Name: Salt"),
        (pair("Write a story using the given", "Input: A cat"), "Write a story using the given input", "A cat"),
        (pair("", "a list and add it up. Input: 1, 2"), "Input a list and add it up.", "1, 2"),
    ],
)
def test_an_instruction_cut_at_the_word_input_is_made_whole(broken, instruction, given):
    assert (repaired(broken).instruction, repaired(broken).input) == (instruction, given)
    assert repaired(repaired(broken)) == repaired(broken)


@pytest.mark.parametrize(
    "sound", [pair("Run this.", "Input: 3"), pair("Compare", "the input and the output"), pair("Say input:"), pair("A", "b")]
)
def test_what_was_not_cut_stays_as_it_is(sound):
    assert repaired(sound) is sound


@real_data
def test_the_22_damaged_rows_are_repaired_and_the_one_without_a_response_left_out():
    kept, counts = clean(read_revisions(REAL))
    assert (len(kept), counts) == (2300, {"repaired": 22, "empty": 1, "unchanged": 0})
    assert not any("Input:" in side.input for edit in kept for side in (edit.raw, edit.revised))


@real_data
def test_training_rows_hold_the_pair_before_and_after_and_can_be_read_back():
    kept, _ = clean(select(read_revisions(REAL), 0.3))
    for edit, made in zip(kept, coach_rows(kept), strict=True):
        assert read(made["prompt"]) == (edit.raw.instruction, edit.raw.input, edit.raw.output)
        assert read(made["response"]) == (edit.revised.instruction, edit.revised.input, edit.revised.output)
        assert made["prompt"].startswith(REQUEST)


def test_the_written_rows_say_what_they_were_made_of(tmp_path):
    cut = row(("Use the", "to count. Input: 1 2", "2"), ("Use the", "to count them. Input: 1 2", "There are two."))
    path = written(tmp_path, [row(Distance=3), row(("a", "", "b"), ("a", "", ""), Distance=90), cut])
    file = write_coach_data(path, 1.0, tmp_path / "run")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    record = json.loads((tmp_path / "run" / "coach.json").read_text())
    assert [read(made["response"])[2] for made in rows] == ["There are two.", "yes"]  # largest first, the empty one left out
    assert (record["selected"], record["rows"], record["threshold"]) == (3, 2, 3)
    assert record["cleaning"] == {"repaired": 1, "empty": 1, "unchanged": 0}
    for raw in (
        pair("Use the", "to count. Input: 1 2", "2"),
        pair("Use the input to count.", "1 2", "2"),
        pair("a", "", "b"),
    ):
        assert fingerprint(raw) in record["trained_on"]
    before = file.read_bytes(), (tmp_path / "run" / "coach.json").read_bytes()
    write_coach_data(path, 1.0, tmp_path / "run")
    assert before == (file.read_bytes(), (tmp_path / "run" / "coach.json").read_bytes())


def test_a_pair_is_known_again_by_its_texts_alone():
    assert fingerprint(Pair("x/1", "Say it. ", "", "a\nb", "x")) == fingerprint(Pair("y/9", "Say it.", "", "a b", "y"))
    assert fingerprint(pair("a", "b", "c")) != fingerprint(pair("a b", "", "c"))


def test_distances_are_computed_where_the_file_has_none_and_doubted_where_they_are_wrong(tmp_path, caplog):
    first, second = read_revisions(written(tmp_path, [row(), row(Distance=400)]))
    assert (first.distance, second.distance) == (3, 400)  # no -> yes
    assert first.raw.id == "experts/1"
    assert "1 of 2 distances are not those of their texts, experts/2 first" in caplog.text


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{}", "expected a JSON array"),
        ("[]", "at least one"),
        ("[1", "no JSON"),
        ("[3]", "row 1: 'Raw Instruction'"),
        (json.dumps([row(), row() | {"Revised Input": None}]), "row 2: 'Revised Input' must be there, as text"),
        (json.dumps([row(Distance="12")]), "row 1: Distance is '12'"),
        (json.dumps([row(("a", "", "b"), ("a", "", "b"))]), "none has both halves and a change"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(content, said, tmp_path):
    path = tmp_path / "experts.json"
    path.write_text(content)
    with pytest.raises(DataError, match=said):
        write_coach_data(path, 1.0, tmp_path)
    with pytest.raises(DataError, match="No such file"):
        read_revisions(tmp_path / "absent.json")


def test_half_a_surrogate_can_be_written_again(tmp_path):
    rows = [row(revised=("Say it.", "", "yes \ud83d"))]
    (content,) = [
        json.loads(line) for line in write_coach_data(written(tmp_path, rows), 1, tmp_path).read_text().splitlines()
    ]
    assert read(content["response"]) == ("Say it.", "", "yes ?")
