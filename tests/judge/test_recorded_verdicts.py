"""Logs of verdicts, replayed."""

import json

import pytest

from errata.errors import DataError
from errata.jsonl import encode_lines
from errata.judge.comparison import outcome
from errata.judge.recorded import Recorded
from errata.records import Judgement

WIN, TIE, LOSS, SPLIT = (
    ((9.0, 8.5), (8.0, 9.0)),
    ((9.0, 9.0), (7.0, 7.0)),
    ((7.0, 8.0), (8.0, 6.0)),
    ((9.0, 8.0), (9.0, 8.0)),
)
# wins, ties, losses of Cherry_LLM's GPT-4 logs by test set; 145 of all their ties come from orders that contradict each other
COUNTS = {"koala": (85, 36, 59), "lima": (165, 59, 76), "sinstruct": (111, 61, 80), "vicuna": (44, 15, 21),
          "wizardlm": (102, 54, 62)}  # fmt: skip
SPLITS = {"koala": 25, "lima": 40, "sinstruct": 35, "vicuna": 10, "wizardlm": 35}


def entry(number, shown, **more):
    """An entry as the log has it: the scores as text, in the order in which the answers were shown."""
    (a, b), (c, d) = shown
    return {
        "text": f"Question {number}?", "Answer1": "one, and more", "Answer2": "two",
        "review": f"{a} {b}\nBoth assistants ...", "scores": f"[{a}, {b}]",
        "review_reverse": f"{c:g} {d:g}\nBoth ...", "scores_reverse": f"[{c}, {d}]", **more,
    }  # fmt: skip


def write_log(path, entries):
    path.write_text(json.dumps({"Meta_Info": {"dataset_name": path.stem}, "data": entries}))


@pytest.fixture
def logs(tmp_path):
    folder = tmp_path / "logs"
    folder.mkdir()
    for name, (wins, ties, losses) in COUNTS.items():
        kinds = [WIN] * wins + [SPLIT] * SPLITS[name] + [TIE] * (ties - SPLITS[name]) + [LOSS] * losses
        write_log(folder / f"{name}_wrap_reviews_gpt4.json", [entry(n, shown) for n, shown in enumerate(kinds)])
        write_log(folder / f"{name}_wrap_reviews_gpt3.5.json", [entry(0, TIE)])
    return folder


def test_the_published_counts_come_back_from_logs_of_that_form(logs):
    judge = Recorded(str(logs / "*_gpt4.json"))
    assert judge.problems() == []
    found = judge.summary(judge.recorded())
    row = found["all"]
    assert (row["items"], row["wins"], row["ties"], row["losses"]) == (1030, 507, 225, 298)
    assert row["headline"] == pytest.approx(1.203, abs=0.0005)
    assert row["contradictory"] == 145
    assert row["contradiction_rate"] == pytest.approx(0.141, abs=0.0005)
    for name, counts in COUNTS.items():
        part = found["sets"][f"{name}_wrap_reviews_gpt4"]
        assert (part["wins"], part["ties"], part["losses"]) == counts
    assert len(Recorded(str(logs)).recorded()) == 1035
    assert len(Recorded([str(path) for path in sorted(logs.glob("*gpt3.5*"))]).recorded()) == 5


def test_the_reverse_scores_stand_in_the_shown_order_unless_said_otherwise(tmp_path):
    write_log(tmp_path / "a.json", [entry(0, WIN)])
    (found,) = Recorded(str(tmp_path)).recorded()
    assert found.orders == ((9, 8.5), (9, 8))
    assert (found.id, found.testset, found.outcome, found.lengths) == ("a/0", "a", "win", (13, 3))
    (found,) = Recorded(str(tmp_path), reverse_is_swapped=False).recorded()
    assert found.orders == ((9, 8.5), (8, 9))
    assert (found.outcome, found.contradicts) == ("tie", True)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"scores": None}, "win"),
        ({"scores": "[-1, -1]"}, "win"),  # what the source writes where it could not read the review
        ({"scores": "oops", "scores_reverse": [8.0, 9.0]}, "win"),
        ({"scores": "[-1, -1]", "review": "I cannot say."}, None),
        ({"scores_reverse": None, "review_reverse": "Score of 8"}, None),
    ],
)
def test_where_the_scores_cannot_be_used_the_review_is_read(tmp_path, more, expected):
    write_log(tmp_path / "a.json", [entry(0, WIN, **more)])
    (found,) = Recorded(str(tmp_path / "a.json")).recorded()
    assert found.outcome == expected
    assert found.reason == ("" if expected else "unparsed")


def test_lists_and_lines_are_read_too(tmp_path):
    entries = [entry(n, WIN, question_id=f"q{n}", category="写作") for n in range(3)]
    (tmp_path / "a.json").write_text(json.dumps(entries, ensure_ascii=False), encoding="utf-8")
    (tmp_path / "b.jsonl").write_text("\n".join(json.dumps(one) for one in entries) + "\n")
    first, second = (Recorded(str(tmp_path / name)).recorded() for name in ("a.json", "b.jsonl"))
    assert [one.id for one in first] == ["a/q0", "a/q1", "a/q2"]
    assert {one.skill for one in first + second} == {"写作"}
    assert len(second) == 3


def test_judgements_of_ours_are_judged_again(tmp_path):
    stored = [
        Judgement(f"s/{n}", "s", outcome="win", orders=orders) for n, orders in enumerate([((8, 7), (7, 7)), (None, (1, 2))])
    ]
    run = tmp_path / "judge-1234"
    (run / "judge").mkdir(parents=True)
    (run / "judge" / "judgements.jsonl").write_bytes(encode_lines(stored))
    assert [one.outcome for one in Recorded(str(run)).recorded()] == ["win", None]
    assert [one.outcome for one in Recorded(str(run), unanimous=True).recorded()] == ["tie", None]
    rated = [Judgement("s/1", "s", score=4.5, parts={"before": 3.0}), Judgement("s/2", "s", reason="unparsed")]
    (run / "judge" / "judgements.jsonl").write_bytes(encode_lines(rated))
    judge = Recorded(str(run))
    row = judge.summary(judge.recorded())["sets"]["s"]
    assert (row["after"]["mean"], row["before"]["mean"], row["no_verdict"]) == (4.5, 3.0, 1)


def test_what_cannot_be_read_is_said(tmp_path):
    assert "none" in Recorded(str(tmp_path / "none.json")).problems()[0]
    (tmp_path / "a.json").write_text('[{"review": "8 7"}]')
    with pytest.raises(DataError, match=r"entry 0.*review_reverse"):
        Recorded(str(tmp_path / "a.json")).recorded()
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(DataError, match=r"a\.json: not JSON"):
        Recorded(str(tmp_path / "a.json")).recorded()
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "a.json").write_text("[]")
    assert "called a" in Recorded([str(tmp_path / "a.json"), str(tmp_path / "b")]).problems()[0]


def test_the_four_kinds_are_what_they_are_called():
    turned = [(a, (d, c)) for a, (c, d) in (WIN, TIE, LOSS, SPLIT)]
    assert [outcome(orders) for orders in turned] == [("win", False), ("tie", False), ("loss", False), ("tie", True)]


def test_an_item_is_counted_once(tmp_path):
    """Two runs over one test set are two sets of verdicts, not one of twice the size."""
    for name in ("judge-1", "judge-2"):
        (tmp_path / name / "judge").mkdir(parents=True)
        stored = [Judgement("vicuna/0", "vicuna", outcome="win", orders=((8, 7), (8, 7)))]
        (tmp_path / name / "judge" / "judgements.jsonl").write_bytes(encode_lines(stored))
    both = Recorded([str(tmp_path / "judge-1"), str(tmp_path / "judge-2")])
    assert both.problems() == []
    with pytest.raises(DataError, match=r"vicuna/0 .* more than once"):
        both.recorded()


def test_entries_whose_ids_repeat_are_told_apart_by_place(tmp_path):
    entry = {"question_id": 3, "review": "8 7", "review_reverse": "7 8"}
    (tmp_path / "log.json").write_text(json.dumps([entry, entry]))
    assert [one.id for one in Recorded(str(tmp_path / "log.json")).recorded()] == ["log/0", "log/1"]
    (tmp_path / "log.json").write_text(json.dumps([entry, {**entry, "question_id": 5}]))
    assert [one.id for one in Recorded(str(tmp_path / "log.json")).recorded()] == ["log/3", "log/5"]


def test_a_log_without_entries_and_a_run_of_grades_are_refused(tmp_path):
    (tmp_path / "log.json").write_text("[]")
    with pytest.raises(DataError, match="no verdicts"):
        Recorded(str(tmp_path / "log.json")).recorded()
    run = tmp_path / "judge-1"
    (run / "judge").mkdir(parents=True)
    (run / "run.json").write_text(json.dumps({"config": {"judge": {"kind": "errata.judge.mmcu.MMCU"}}}))
    (run / "judge" / "judgements.jsonl").write_bytes(encode_lines([Judgement("mmcu/0", "mmcu", score=1.0)]))
    (problem,) = Recorded(str(run)).problems()
    assert "grades" in problem
