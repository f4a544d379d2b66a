"""What was rated high is kept: ratings find their pairs by what was rated, and each pair that goes has its reason."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.reviser.test_human import NobodysDesk
from tests.test_loop import errata

from errata.errors import DataError
from errata.jsonl import encode_lines
from errata.judge.base import Item
from errata.judge.rating import BEFORE, Rating
from errata.records import Judgement, Pair, StageRecord
from errata.reviser.rated import _BEFORE, Rated

PAIRS = [Pair(f"alpaca/{n}", f"Count to {n}.", "", f"{n}!", "alpaca") for n in range(6)]


def judged(folder, items, verdicts, judge=None, finished=True):
    """A judge's run, as it lies on the disk."""
    place = folder / "judged" / "judge"
    place.mkdir(parents=True, exist_ok=True)
    summary = (judge or Rating()).summary(verdicts) if judge is None else judge
    for name, rows in (("items", items), ("judgements", verdicts), ("summary", [summary])):
        (place / f"{name}.jsonl").write_bytes(encode_lines(rows))
    (place / "stage.json").write_bytes(encode_lines([StageRecord("judge", {}, finished)]))
    return str(place.parent)


def of_themselves(scores, pairs=PAIRS):
    items = [Item(pair, pair.output) for pair in pairs]
    return items, [
        Judgement(pair.id, pair.source, score=score, reason="" if score is not None else "unparsed")
        for pair, score in zip(pairs, scores, strict=False)
    ]


def test_what_is_rated_high_is_kept_and_the_rest_has_its_reason(tmp_path, caplog):
    run = judged(tmp_path, *of_themselves([5.0, 4.5, 4.4, None, 0.0], PAIRS[:5]))
    pairs = [replace(pair, id=f"other/{9 - place}") for place, pair in enumerate(PAIRS)]  # an id says nothing
    pairs.append(replace(PAIRS[0], history=(("Hi", "Hello"),)))  # not what was rated
    desk = NobodysDesk()
    made = Rated(run).revise(pairs, desk)
    assert [(one.status, one.reason) for one in made] == [
        ("kept", ""), ("kept", ""), ("dropped", "rated_low"), ("dropped", "unparsed"), ("dropped", "rated_low"),
        ("dropped", "unrated"), ("dropped", "unrated"),
    ]  # fmt: skip
    assert [one.final for one in made] == [*pairs[:2], None, None, None, None, None]
    assert [one.scores["rating"] for one in made] == [5.0, 4.5, 4.4, None, 0.0, None, None]
    assert "2 of 7 pairs are dropped" in caplog.text
    assert [file.name for file in desk.files["ratings"]] == ["items.jsonl", "judgements.jsonl"]
    assert [one.reason for one in Rated(run, 4.0).revise(pairs[:3], NobodysDesk())] == ["", "", ""]


def test_a_run_over_revisions_rates_the_pairs_before_and_after(tmp_path):
    after = [replace(pair, instruction=f"Please count to {n}.", output="Gladly.") for n, pair in enumerate(PAIRS)]
    items = [Item(new, new.output, old.output, old) for new, old in zip(after, PAIRS, strict=True)]
    verdicts = [
        Judgement(pair.id, "alpaca", score=5.0 - n, parts={BEFORE: (4.5, None)[n % 2]}) for n, pair in enumerate(PAIRS)
    ]
    run = judged(tmp_path, items, verdicts)
    assert _BEFORE == BEFORE
    before = Rated(run).revise(PAIRS, NobodysDesk())
    assert [one.reason for one in before] == ["", "no_rating"] * 3
    assert [one.reason for one in Rated(run).revise(after, NobodysDesk())] == ["", *["rated_low"] * 5]


def test_ratings_of_other_texts_are_an_error(tmp_path):
    run = judged(tmp_path, *of_themselves([4.0] * 6))
    others = [replace(pair, output="another answer") for pair in PAIRS]
    with pytest.raises(DataError, match="none of its 6 rated texts is one of the 6 pairs; choose the corpus that was rated"):
        Rated(run).revise(others, NobodysDesk())
    with pytest.raises(DataError, match=r"no pair is rated so high \(the highest: 4\)"):
        Rated(run).revise(PAIRS, NobodysDesk())
    (tmp_path / "judged/judge/items.jsonl").write_bytes(b'{"half')
    with pytest.raises(DataError, match="give the judge's command again"):
        Rated(run).revise(PAIRS, NobodysDesk())


def test_what_is_no_run_of_ratings_is_found_before_anything_is_read(tmp_path):
    (found,) = Rated().problems()
    assert "reviser.ratings is not set" in found
    assert "no judge's run is there" in Rated(str(tmp_path)).problems()[0]
    (tmp_path / "killed/instruct").mkdir(parents=True)
    (tmp_path / "killed/instruct/stage.json").write_bytes(encode_lines([StageRecord("instruct", {})]))
    assert "not finished" in Rated(str(tmp_path / "killed")).problems()[0], "killed while the judge was asked"
    tables = of_themselves([4.0] * 6)
    assert "not finished" in Rated(judged(tmp_path, *tables, finished=False)).problems()[0]
    assert "'comparison', which gives no ratings" in Rated(judged(tmp_path, *tables, {"kind": "comparison"})).problems()[0]
    run = judged(tmp_path, *tables)
    assert Rated(run).problems() == Rated(run, 5.0).problems() == []
    for minimum in (0.0, 5.5, -1.0, float("nan")):
        assert "the ratings go from 0 to 5" in Rated(run, minimum).problems()[0]
    Path(run, "judge/summary.jsonl").unlink()
    assert "cannot be read" in Rated(run).problems()[0]


@pytest.mark.slow
def test_a_set_is_rated_and_its_best_pairs_are_kept(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert errata("judge", "smoke=true", "experiments=coachlm_ratings") == 0, capsys.readouterr().err
    (run,) = tmp_path.glob("outputs/smoke_coachlm_ratings-*")
    scores = [json.loads(line)["score"] for line in (run / "judge/judgements.jsonl").read_text().splitlines()]
    limit = sorted(score for score in scores if score is not None)[-3]
    command = ["revise", "corpus.file.path=outputs/smoke/testset/alpaca.json", "reviser=rated", f"reviser.ratings={run}"]
    assert errata(*command, f"reviser.minimum={limit}") == 0, capsys.readouterr().err
    (made,) = tmp_path.glob("outputs/revise-*")
    kept = (made / "final/train.alpaca.jsonl").read_text().splitlines()
    assert len(kept) == sum(score is not None and score >= limit for score in scores)
