"""Experts' pairs in the place of raw ones: which pairs are theirs, what is counted, and the real file where it is at hand."""

import json
from dataclasses import dataclass, field, replace

import pytest
from tests.reviser.test_expert import REAL, real_data, row, written
from tests.test_loop import errata

from errata.errors import DataError
from errata.jsonl import decode_lines
from errata.records import Pair, Revision
from errata.reviser.expert import fingerprint, read_revisions, repaired
from errata.reviser.human import Human


@dataclass
class NobodysDesk:
    """A desk at which nothing is asked; keeps what was relied on."""

    files: dict = field(default_factory=dict)

    def relies_on(self, name, files):
        self.files[name] = files


def pair(instruction="Say it.", given="", output="no", **more):
    return Pair("alpaca/1", instruction, given, output, "alpaca", "en", skill="talk", **more)


def test_a_pair_is_the_experts_by_what_it_says(tmp_path, caplog):
    caplog.set_level("INFO", "errata")
    cut = row(
        ("Use the", "to add two numbers. Input: 1, 2", "3"), ("Add the numbers.", "1, 2", "They make 3.")
    )  # its raw side is not what stands in Alpaca
    blank = row(("Hum.", "", "hm"), ("", "", "hum"))
    same = row(("Sit.", "", "ok"), ("Sit.", "", "ok"))
    spaced = row(("List.", "", "a, b"), ("List.", "", "a,\nb"))
    file = written(tmp_path, [row(), cut, blank, same, spaced, row(("Fly.", "", "no"), ("Fly.", "", "I cannot."))])
    cases = [
        (pair(), "revised", ""),
        (pair("Say  it.\n"), "revised", ""),  # white space aside
        (pair("Use the input to add two numbers.", "1, 2", "3"), "revised", ""),
        (pair("List.", "", "a, b"), "revised", ""),  # a revision of its lines alone is one
        (pair("say it", "", "never"), "kept", "other_text"),  # another edition of the set
        (pair("Hum.", "", "hm"), "kept", "empty"),
        (pair("Sit.", "", "ok"), "kept", "unchanged"),
        (pair("Run.", "", "ok"), "kept", "no_revision"),
        (pair(history=(("Hi", "Hello"),)), "kept", "no_revision"),
    ]
    desk = NobodysDesk()
    made = Human(str(file)).revise([one for one, _, _ in cases], desk)
    assert [(one.status, one.reason) for one in made] == [case[1:] for case in cases]
    assert all(one.original is case[0] for one, case in zip(made, cases, strict=True))
    assert all(one.final is one.original for one in made if one.status == "kept")
    assert made[0].final == replace(pair(), output="yes")  # it stays Alpaca's: id, source, language, skill
    assert made[2].final == pair("Add the numbers.", "1, 2", "They make 3.")
    assert desk.files == {"revisions": [file]}
    assert "3 of 6 revisions are used" in caplog.text
    assert (
        "1 pairs have the question of a revision, but another text; 1 revisions met no pair, experts/6 first" in caplog.text
    )


def test_a_set_that_no_expert_has_seen_is_an_error(tmp_path):
    file = written(tmp_path, [row()])
    with pytest.raises(DataError, match=r"none of its 1 revisions is of one of the 2 pairs; 1 pairs have the question"):
        Human(str(file)).revise([pair("Run."), pair("Say it!", "", "yes")], NobodysDesk())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "No such file"),
        ("instruction,input\n", "no JSON"),
        ('[{"instruction": "a", "input": "", "output": "b"}]', "row 1: 'Raw Instruction', 'Raw Input', 'Raw Response' must"),
    ],
)
def test_a_file_that_is_none_is_found_before_anything_is_read(content, said, tmp_path):
    file = tmp_path / "experts.json"
    if content is not None:
        file.write_text(content)
    (found,) = Human(str(file)).problems()
    assert found.startswith(f"reviser.revisions {file}")
    assert said in found
    assert Human(str(written(tmp_path, [row()]))).problems() == []
    assert "reviser.revisions is not set" in Human().problems()[0]


@real_data
def test_all_of_the_experts_real_pairs_are_found_in_either_edition():
    edits = read_revisions(REAL)
    for edition in (lambda raw: raw, repaired):  # as the file has them, and as Alpaca does
        pairs = [replace(edition(edit.raw), id=f"alpaca/{place}") for place, edit in enumerate(edits)]
        made = Human(str(REAL)).revise(pairs, NobodysDesk())
        reasons = [one.reason for one in made]
        assert (reasons.count(""), reasons.count("empty"), reasons.count("no_revision")) == (2300, 1, 0)
        after = [fingerprint(repaired(edit.revised)) for edit in edits]
        assert [fingerprint(one.final) for one in made if not one.reason] == [
            text for text, one in zip(after, made, strict=True) if not one.reason
        ]


def test_the_whole_set_with_the_experts_pairs_in_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    pairs = [{"instruction": f"Count to {n}.", "input": "", "output": "no"} for n in range(5)]
    (tmp_path / "raw.json").write_text(json.dumps(pairs))

    def experts(*numbers):
        rows = [row((f"Count to {n}.", "", "no"), (f"Please count to {n}.", "", "Gladly.")) for n in numbers]
        written(tmp_path, rows)

    command = ["revise", "corpus.file.path=raw.json", "reviser=human", "reviser.revisions=experts.json"]
    experts(1, 3)
    assert errata(*command, "dry_run=true") == 0, capsys.readouterr().err
    assert "of 5 pairs: 3 kept (no_revision), 2 revised" in capsys.readouterr().out
    (tmp_path / "test.jsonl").write_text(json.dumps({"text": "Please count to 3.", "category": "x"}) + "\n")
    assert errata(*command, "testset=[vicuna80]", "testset.vicuna80.path=test.jsonl", "dry_run=true") == 0
    assert "of 5 pairs: 1 kept (leak), 3 kept (no_revision), 1 revised" in capsys.readouterr().out
    assert errata(*command) == 0, capsys.readouterr().err
    (run,) = tmp_path.glob("outputs/revise-*")

    def final():
        rows = map(json.loads, (run / "final/train.alpaca.jsonl").read_text().splitlines())
        return sorted((row["instruction"], row["output"]) for row in rows)

    def expected(*revised):
        rows = [(f"Please count to {n}.", "Gladly.") if n in revised else (f"Count to {n}.", "no") for n in range(5)]
        return sorted(rows)

    assert final() == expected(1, 3)
    assert "experts.json: 2 of 2 revisions are used" in capsys.readouterr().err
    experts(1, 2, 3)  # another content under the same name
    assert errata(*command) == 0
    assert final() == expected(1, 2, 3)
    stored = decode_lines((run / "revise/revisions.jsonl").read_bytes(), Revision)
    assert [one.status for one in stored].count("revised") == 3
