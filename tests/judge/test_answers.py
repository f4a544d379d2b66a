"""Answers find their items, or nothing is judged."""

import json
from pathlib import Path

import pytest

from errata.errors import DataError
from errata.judge.answers import answer_file, match, read_answers
from errata.records import Pair

PAIRS = [
    Pair("set/0", "Add.", "1 2", "3"),
    Pair("set/1", "Add.", "2 2", "4"),
    Pair("set/2", "写一首诗。", "", "春眠不觉晓"),
]


def matched(tmp_path, records, pairs=PAIRS):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(records, ensure_ascii=False), encoding="utf-8")
    return [found.text for found in match("set", pairs, read_answers(path), path)]


@pytest.mark.parametrize(
    "records",
    [
        [{"id": "set/2", "output": "c"}, {"id": "set/0", "output": "a"}, {"id": "set/1", "output": "b"}],
        [{"id": 2, "response": "c", "output": "the reference"}, {"id": 1, "response": "b"}, {"id": 0, "response": "a"}],
        [{"id": n, "text": t} for n, t in enumerate("abcd")],  # one answer to another question
        [{"instruction": "写一首诗。", "answer": "c"}, {"instruction": "Add.", "input": "2 2", "answer": "b"},
         {"instruction": "Add.", "input": "1 2", "answer": "a"}],
        [{"id": f"x{n}", "instruction": i, "input": j, "generate": t}
         for n, (i, j, t) in enumerate([("Add.", "1 2", "a"), ("Add.", "2 2", "b"), ("写一首诗。", "", "c")])],
        [{"prompt": "Add.\n\n1 2", "output": "a"}, {"prompt": "Add.\n\n2 2", "output": "b"}, {"prompt": "写一首诗。", "output": "c"}],
        [{"output": "a"}, {"output": "b"}, {"output": "c"}],
    ],
    ids=["ids", "own ids", "more than asked", "instructions", "instructions, other ids", "prompts", "position"],
)  # fmt: skip
def test_answers_find_their_items(tmp_path, records):
    assert matched(tmp_path, records) == ["a", "b", "c"]


def test_ids_that_are_another_sets_numbering_are_not_trusted(tmp_path):
    records = [{"id": 0, "instruction": "写一首诗。", "output": "c"}, {"id": 1, "instruction": "Add.", "input": "1 2", "output": "a"},
               {"id": 2, "instruction": "Add.", "input": "2 2", "output": "b"}]  # fmt: skip
    assert matched(tmp_path, records) == ["a", "b", "c"]


def test_items_with_the_same_words_are_served_in_order(tmp_path):
    twins = [Pair("set/0", "Go.", "", ""), Pair("set/1", "Go.", "", "")]
    assert matched(tmp_path, [{"instruction": "Go.", "output": "a"}, {"instruction": "Go.", "output": "b"}], twins) == [
        "a",
        "b",
    ]


@pytest.mark.parametrize(
    ("records", "said"),
    [
        ([{"output": "a"}, {"output": "b"}], ["set has 3 items", "2 answers", "neither ids nor instructions"]),
        (
            [{"id": "set/0", "output": "a"}, {"id": "set/2", "output": "c"}],
            ["2 answers", "1 of the items", "set/1", "'Add.'"],
        ),
        ([{"instruction": "Add.", "output": "a"}] * 3, ["3 of the items", "set/0"]),
        ([{"id": 1, "output": "a"}, {"id": 1, "output": "b"}], ["'1'", "several"]),
        ([{"id": 1, "review": "a"}], ["record 0", "no answer", "review"]),
        ({"id": 1}, ["record 0"]),
        ("text", ["array of objects"]),
    ],
)
def test_a_file_that_does_not_fit_is_refused(tmp_path, records, said):
    with pytest.raises(DataError) as caught:
        matched(tmp_path, records)
    for words in ["mine.json", *said]:
        assert words in str(caught.value)


def test_where_answers_are_looked_for(tmp_path):
    with pytest.raises(DataError, match="not there"):
        answer_file(tmp_path / "none", "set")
    with pytest.raises(DataError, match=r"without set\.json"):
        answer_file(tmp_path, "set")
    (tmp_path / "set.jsonl").write_text(
        '{"id": "set/0", "text": "", "failure": "prompt_too_long"}\n{"id": "set/1", "text": "b"}\n'
    )
    found = read_answers(answer_file(tmp_path, "set"))
    assert [(one.text, one.failure) for one in found] == [(None, "prompt_too_long"), ("b", "")]
    stored = tmp_path / "respond" / "set"
    stored.mkdir(parents=True)
    (stored / "responses.jsonl").write_text('{"id": "set/0", "text": "a"}\n')
    assert answer_file(tmp_path, "set").name == "responses.jsonl"
    wrapped = tmp_path / "w.json"
    wrapped.write_text('{"meta": 1,\n "data": [{"output": "a"}]}')
    assert read_answers(wrapped)[0].text == "a"


def test_answers_to_a_real_test_set_in_another_order(tmp_path):
    path = Path(__file__).parents[2] / "../shared/data/coachlm/coachlm150.json"
    if not path.is_file():
        pytest.skip("the CoachLM150 test set is not at hand")
    records = json.loads(path.read_bytes())
    pairs = [Pair(f"set/{n}", r["instruction"], r["input"], r["reference response"]) for n, r in enumerate(records)]
    answers = [{"instruction": pair.instruction, "input": pair.input, "output": f"to {pair.id}"} for pair in pairs]
    assert matched(tmp_path, answers[::-1], pairs) == [f"to {pair.id}" for pair in pairs]
    with pytest.raises(DataError, match=r"1 of the items have none there\. The first is set/149"):
        matched(tmp_path, answers[:-1], pairs)


def test_one_instruction_that_disagrees_is_enough_not_to_trust_the_ids(tmp_path):
    records = [{"id": 0, "instruction": "Add.", "input": "1 2", "output": "a"},
               {"id": 1, "instruction": "写一首诗。", "output": "c"},
               {"id": 2, "instruction": "Add.", "input": "2 2", "output": "b"}]  # fmt: skip
    assert matched(tmp_path, records) == ["a", "b", "c"]


def test_a_file_with_a_byte_order_mark(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text('[{"output": "a"}]', encoding="utf-8-sig")
    assert read_answers(path)[0].text == "a"
