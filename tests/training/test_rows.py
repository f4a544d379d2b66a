"""Rows as token ids: what bears loss, what is cut, what is refused, what is kept."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from tests.training.jobs import pairs, write_job, write_rows

from errata.chat import prompt_ids, response_ids
from errata.errors import DataError
from errata.training import rows as module
from errata.training.job import read_job
from errata.training.rows import messages, read_rows
from errata.weights import Weights, load_tokenizer

USER, OWN = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}


@pytest.fixture(scope="module")
def tokenizer(tiny_model):
    return load_tokenizer(Weights(str(tiny_model)))


@pytest.fixture
def job(tiny_model, tmp_path):
    return read_job(write_job(tmp_path / "job", tiny_model, rows=1))


def read(tmp_path, job, tokenizer, given, name="rows.jsonl", **changes):
    path = write_rows(tmp_path / name, given)
    return read_rows(path, replace(job, **changes), tokenizer, tmp_path / "cache")


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"prompt": "a", "response": "b"}, [USER, OWN]),
        ({"prompt": "a", "response": "b", "id": 3, "system": "s"}, [{"role": "system", "content": "s"}, USER, OWN]),
        ({"instruction": "a", "output": "b"}, [USER, OWN]),
        ({"instruction": "a", "input": "", "output": "b"}, [USER, OWN]),
        ({"instruction": "a", "input": "x", "output": "b"}, [{**USER, "input": "x"}, OWN]),
        ({"messages": [USER, OWN, USER, OWN]}, [USER, OWN, USER, OWN]),
        ({"messages": [{**USER, "name": "Mia"}, OWN], "prompt": "no"}, [USER, OWN]),
        (
            {"messages": [{"role": "system", "content": "t"}, USER, OWN], "system": "s"},
            [{"role": "system", "content": "t"}, USER, OWN],
        ),
    ],
)
def test_forms_of_rows(row, expected):
    assert messages(row) == expected


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({}, "it has nothing"),
        ({"question": "a", "answer": "b"}, "no prompt and response in it; it has question, answer; expected {prompt"),
        ({"prompt": "a"}, "the field 'response' is missing; it has prompt"),
        ({"response": "b"}, "the field 'prompt' is missing"),
        ({"prompt": "a", "response": None}, "'response' is missing"),
        ({"prompt": "a", "response": ""}, "it has no response"),
        ({"prompt": "a", "response": " \n"}, "it has no response"),
        ({"prompt": ["a"], "response": "b"}, "the user turn must be a text"),
        ({"prompt": "a", "response": 5}, "the assistant turn must be a text"),
        ({"instruction": "a"}, "'output' is missing"),
        ({"messages": "a"}, "messages must be a list"),
        ({"messages": [], "system": "s"}, "messages must be a list"),
        ({"messages": ["a"]}, "messages must be a list"),
        ({"messages": [USER]}, "it has no response"),
        ({"messages": [USER, OWN, USER]}, "the last turn must be the assistant's"),
        ({"messages": [{"role": "tool", "content": "a"}, OWN]}, "a turn has the role 'tool'"),
        ({"messages": [{**USER, "input": {"x": 1}}, OWN]}, "the user turn must be a text"),
        ({"prompt": "a", "response": "b", "system": 3}, "the system turn must be a text"),
    ],
)
def test_what_is_no_row_is_said(row, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        messages(row)


def test_the_response_and_its_end_token_bear_loss_and_nothing_else(tokenizer, job, tmp_path):
    given = [("How many?", "3 + 4 = 7\n#### 7"), ("How many pens has Mia left?", "5"), ("<|end|>", "<|user|> <|end|>")]
    rows = read(tmp_path, job, tokenizer, [{"prompt": p, "response": r} for p, r in given])
    for row, (prompt, response), length, trained in zip(rows, given, rows.lengths, rows.trained, strict=True):
        own = response_ids(tokenizer, response)
        assert row.ids.tolist() == [*prompt_ids(tokenizer, prompt), *own]
        assert row.trained.tolist() == [False] * (length - len(own)) + [True] * len(own)
        assert row.ids[-1] == tokenizer.eos_token_id
        assert (len(row.ids), len(own)) == (length, trained)


def test_of_many_turns_the_assistants_bear_loss(tokenizer, job, tmp_path):
    turns = [
        {"role": role, "content": text}
        for role, text in (
            ("system", "S"),
            ("user", "one"),
            ("assistant", "two 2"),
            ("user", "three"),
            ("assistant", "four"),
        )
    ]
    (row,) = read(tmp_path, job, tokenizer, [{"messages": turns}])
    whole = "".join(f"<|{turn['role']}|>\n{turn['content']}<|end|>\n" for turn in turns)
    assert tokenizer.decode(row.ids) == whole[:-1]
    own = np.split(row.ids[row.trained], np.flatnonzero(row.ids[row.trained] == tokenizer.eos_token_id)[:-1] + 1)
    assert [tokenizer.decode(part) for part in own] == ["two 2<|end|>", "four<|end|>"]


def test_a_system_prompt_stands_where_a_row_brings_none(tokenizer, job, tmp_path):
    given = [{"prompt": "a", "response": "b"}, {"prompt": "a", "response": "b", "system": "own"}]
    weights = replace(job.weights, system="usual")
    rows = read(tmp_path, job, tokenizer, given, weights=weights)
    for row, system in zip(rows, ("usual", "own"), strict=True):
        assert tokenizer.decode(row.ids).startswith(f"<|system|>\n{system}<|end|>")


class TestTooLong:
    prompt = "How many pens has Mia, who had 30 pens and gave 7 pens away, left in the end?"

    def ids(self, tokenizer):
        return prompt_ids(tokenizer, self.prompt), response_ids(tokenizer, "23")

    def test_cut_at_the_left_of_the_prompt(self, tokenizer, job, tmp_path):
        asked, own = self.ids(tokenizer)
        (row,) = read(tmp_path, job, tokenizer, [{"prompt": self.prompt, "response": "23"}], max_length=12, too_long="cut")
        assert row.ids.tolist() == [*asked, *own][-12:]
        assert row.trained.sum() == len(own)
        assert row.ids[-1] == tokenizer.eos_token_id

    def test_the_token_that_begins_a_text_stays(self, tiny_model, job, tmp_path, monkeypatch):
        tokenizer = load_tokenizer(Weights(str(tiny_model)))
        tokenizer.bos_token = "<|pad|>"
        tokenizer.chat_template = "{{ bos_token }}" + tokenizer.chat_template
        monkeypatch.setattr(module, "_tokenizer", lambda weights: tokenizer)
        (row,) = read(tmp_path, job, tokenizer, [{"prompt": self.prompt, "response": "23"}], max_length=12, too_long="cut")
        asked, own = prompt_ids(tokenizer, self.prompt), response_ids(tokenizer, "23")
        assert asked[0] == tokenizer.bos_token_id
        assert row.ids.tolist() == [asked[0], *[*asked, *own][-11:]]

    def test_a_response_is_never_cut(self, tokenizer, job, tmp_path):
        given = [{"prompt": "a", "response": "b"}, {"prompt": "a", "response": "7 " * 50}]
        rows = read(tmp_path, job, tokenizer, given, max_length=12, too_long="cut")
        assert len(rows) == 1
        assert rows.counts == {"given": 2, "cut": 0, "too_long": 1}

    def test_dropped_and_counted(self, tokenizer, job, tmp_path):
        given = [{"prompt": "a", "response": "b"}, {"prompt": self.prompt, "response": "23"}]
        rows = read(tmp_path, job, tokenizer, given, max_length=12, too_long="drop")
        assert [tokenizer.decode(row.ids[row.trained]) for row in rows] == ["b<|end|>"]
        assert rows.counts == {"given": 2, "cut": 0, "too_long": 1}

    @pytest.mark.parametrize("row", [{"prompt": prompt, "response": "23"}, {"prompt": "a", "response": "7 " * 50}])
    def test_an_error_where_nothing_else_was_chosen(self, tokenizer, job, tmp_path, row):
        with pytest.raises(DataError, match=r"line 2: \d+ tokens, training.max_length is 12: raise it"):
            read(tmp_path, job, tokenizer, [{"prompt": "a", "response": "b"}, row], max_length=12)

    def test_none_left(self, tokenizer, job, tmp_path):
        with pytest.raises(DataError, match=r"no row to train on: 1 given, 1 of them longer than training.max_length=12"):
            read(tmp_path, job, tokenizer, [{"prompt": "a", "response": "7 " * 50}], max_length=12, too_long="drop")


def test_bad_rows_are_named_by_their_lines(tokenizer, job, tmp_path):
    path = tmp_path / "rows.jsonl"
    good = json.dumps({"prompt": "a", "response": "b"})
    path.write_bytes(f'{good}\n\n{{"prompt": "a"}}\n[1]\n{good}\n{{oops\n'.encode() + b'{"prompt": "\xff"}\n')
    with pytest.raises(DataError) as error:
        read_rows(path, job, tokenizer, tmp_path / "cache")
    first, *lines = str(error.value).splitlines()
    assert first == f"{path}: 4 of 6 rows cannot be trained on."
    assert lines[0] == "line 3: the field 'response' is missing; it has prompt"
    assert lines[1] == "line 4: a line must be one JSON object"
    assert lines[2].startswith("line 6: ")
    assert len(lines) == 3


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_an_empty_file(tokenizer, job, tmp_path, content):
    path = tmp_path / "rows.jsonl"
    path.write_text(content)
    with pytest.raises(DataError, match="is empty: there is no row to train on"):
        read_rows(path, job, tokenizer, tmp_path / "cache")


def test_lines_end_at_newlines_alone(tokenizer, job, tmp_path):
    text = "one\u2028two\u2029three\x85four\x0bfive"
    path = tmp_path / "rows.jsonl"
    path.write_bytes((json.dumps({"prompt": "a", "response": text}, ensure_ascii=False) + "\r\n").encode() * 2)
    rows = read_rows(path, job, tokenizer, tmp_path / "cache")
    assert [tokenizer.decode(row.ids[row.trained]) for row in rows] == [f"{text}<|end|>"] * 2


def test_what_was_tokenised_is_kept_by_content(tokenizer, job, tmp_path, monkeypatch):
    given = pairs(5)
    first = read(tmp_path, job, tokenizer, given)
    made = []
    right = module._tokenised
    monkeypatch.setattr(module, "_tokenised", lambda **settings: made.append(1) or right(**settings))
    same = read(tmp_path, job, tokenizer, given, name="copy.jsonl")
    assert made == []
    assert [row.ids.tolist() for row in same] == [row.ids.tolist() for row in first]
    read(tmp_path, job, tokenizer, pairs(5, start=1))
    read(tmp_path, job, tokenizer, given, max_length=200)
    read(tmp_path, job, tokenizer, given, too_long="drop")
    read(tmp_path, job, tokenizer, given, weights=replace(job.weights, system="S"))
    assert len(made) == 4
    other = load_tokenizer(job.weights)
    other.chat_template = other.chat_template.replace("<|end|>", "<|end|> ")
    read(tmp_path, job, other, given)
    other = load_tokenizer(job.weights)
    other.bos_token = "<|pad|>"
    read(tmp_path, job, other, given)
    assert len(made) == 6


def test_parts_read_in_parallel_give_the_same_rows(tokenizer, job, tmp_path, monkeypatch):
    given = pairs(30)
    whole = read(tmp_path, job, tokenizer, given)
    monkeypatch.setattr(module, "_PART_BYTES", 997)
    parts = read_rows(tmp_path / "rows.jsonl", job, tokenizer, tmp_path / "other")
    assert [row.ids.tolist() for row in parts] == [row.ids.tolist() for row in whole]
    assert parts.trained.tolist() == whole.trained.tolist()


@pytest.mark.parametrize("part", [1, 7, 64, 10_000])
def test_each_line_is_read_once_whatever_the_parts(tmp_path, part):
    lines = [b"a\n", b"\n", b"long line " * 9 + b"\n", b"xy\n", b"the last, without an end"]
    path = tmp_path / "file"
    path.write_bytes(b"".join(lines))
    size = path.stat().st_size
    with path.open("rb") as file:
        found = [one for begin in range(0, size, part) for one in module._lines(file, begin, min(begin + part, size))]
    assert [line for _, line in found] == lines
    assert [place for place, _ in found] == np.cumsum([0, *map(len, lines)])[:-1].tolist()


def test_a_share_is_held_out_by_the_seed(tokenizer, job, tmp_path):
    rows = read(tmp_path, job, tokenizer, pairs(20))
    (kept, held), (again, _), (other, _) = (rows.divided(0.2, seed) for seed in (1, 1, 2))
    assert (len(kept), len(held)) == (16, 4)
    both = sorted(tuple(row.ids.tolist()) for part in (kept, held) for row in part)
    assert both == sorted(tuple(row.ids.tolist()) for row in rows)
    assert [row.ids.tolist() for row in again] == [row.ids.tolist() for row in kept]
    assert [row.ids.tolist() for row in other] != [row.ids.tolist() for row in kept]
