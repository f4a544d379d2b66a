import json

import pytest

from errata.model.base import NO_RESPONSE
from errata.model.recorded import Recorded
from errata.records import Prompt


def recorded(tmp_path, *lines):
    file = tmp_path / "answers.jsonl"
    file.write_text("\n".join(line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in lines))
    return Recorded(str(file))


def prompt(number, question="?", key="", twin=0):
    return Prompt(f"toy/test/{number}", "shown", question=question, key=key, twin=twin)


def texts(model, *prompts):
    return {place: answer.text if answer.failure is None else answer.failure for place, answer in model.answers(prompts, 9)}


def test_answers_are_found_by_id_by_the_files_own_id_and_by_text(tmp_path):
    model = recorded(
        tmp_path,
        {"id": "toy/test/0", "response": "by id"},
        {"task_id": "HumanEval/1", "response": "by its own id"},
        {"question": "Which\u2028one?", "response": " by text"},
    )
    assert model.problems() == []
    found = texts(model, prompt(0), prompt(1, key="HumanEval/1"), prompt(2, "Which\u2028one?"), prompt(3, "which one?"))
    assert found == {0: "by id", 1: "by its own id", 2: " by text", 3: NO_RESPONSE}


def test_questions_with_the_same_text_get_their_own_responses_in_order_even_after_a_restart(tmp_path):
    model = recorded(tmp_path, {"question": "?", "response": "first"}, {"question": "?", "response": "second"})
    both = (prompt(0, twin=0), prompt(1, twin=1))
    assert texts(model, *both) == {0: "first", 1: "second"}
    assert texts(model, both[1]) == {0: "second"}


def test_a_json_array_serves_too(tmp_path):
    (tmp_path / "answers.jsonl").write_text(json.dumps([{"question": "?", "response": "yes"}]))
    assert texts(Recorded(str(tmp_path / "answers.jsonl")), prompt(0)) == {0: "yes"}


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["{broken"], "expected one JSON object a line"),
        ([{"question": "?"}], "line 1: expected {id or question, response} texts; it has question"),
        ([{"response": "x"}], "line 1: expected {id or question, response}"),
        ([{"id": "a", "response": "x"}, {"id": "a", "response": "y"}], "line 2: the id 'a' has a response already"),
    ],
)
def test_a_broken_file_is_one_clear_problem(tmp_path, lines, said):
    (problem,) = recorded(tmp_path, *lines).problems()
    assert said in problem
    assert "answers.jsonl" in problem


def test_a_missing_file_is_named():
    assert "no such file" in Recorded("nowhere.jsonl").problems()[0]
