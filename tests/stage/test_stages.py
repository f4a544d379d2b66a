"""Each stage: a list of records in, a list of the next out."""

import pytest
from tests.scripted import Scripted

from errata.dataset.arithmetic import Arithmetic
from errata.dataset.word_problem import WordProblems
from errata.gate.answer import Answer
from errata.gate.base import Context
from errata.gate.duplicate import Duplicate
from errata.records import Attempt, Example, Question, Reply
from errata.run_folder import RunFolder
from errata.stage.evaluate import evaluate
from errata.stage.mix import Blend, mix
from errata.stage.parse import parse
from errata.stage.verify import verify

DATASET = WordProblems("toy")
PROBLEM = "### Problem {0}\nQuestion: How many {0}?\nSolution: 3 + {0} = {1}\n#### {1}\n\n"


@pytest.fixture
def folder(tmp_path):
    with RunFolder(tmp_path / "run", {}) as opened:
        yield opened


def example(number, dataset="toy"):
    return Example(f"1/{dataset}/{number}", dataset, f"How many pens are {number}?", "3 + 4 = 7\n#### 7", "7", "e", "r", 1)


def test_evaluate_grades_in_the_questions_order_whatever_the_batches(folder):
    questions = Arithmetic("arithmetic").load("dev")
    gold = {question.text: question.gold for question in questions}
    rules = {0: lambda p: f"#### {gold[p]}", 1: lambda p: "no idea", 2: lambda p: "#### 999", 3: lambda p: "it goes on..."}
    student = Scripted(lambda p: rules[len(p) % 4](p))
    attempts = evaluate(folder.stage("t"), student, Arithmetic("arithmetic"), questions)
    assert [attempt.id for attempt in attempts] == [question.id for question in questions]
    for attempt in attempts:
        expected = {0: None, 1: "no_answer", 2: "wrong_value", 3: "truncated"}[len(attempt.question.text) % 4]
        assert (attempt.kind, attempt.correct) == (expected, expected is None)
    assert sorted(student.asked) == sorted(question.text for question in questions)


def test_a_killed_evaluation_goes_on_with_the_first_batch_that_is_not_done(folder):
    questions = Arithmetic("arithmetic").load("dev")

    def dies(prompt):
        if len(student.asked) > 20:
            raise KeyboardInterrupt
        return "#### 1"

    student = Scripted(dies)
    with pytest.raises(KeyboardInterrupt):
        evaluate(folder.stage("t"), student, Arithmetic("arithmetic"), questions)
    kept = folder.stage("t").journal("attempts", Attempt).records
    assert 0 < len(kept) < len(questions)
    second = Scripted(lambda prompt: "#### 1")
    attempts = evaluate(folder.stage("t"), second, Arithmetic("arithmetic"), questions)
    assert len(second.asked) == len(questions) - len(kept)
    whole = evaluate(folder.stage("u"), Scripted(lambda prompt: "#### 1"), Arithmetic("arithmetic"), questions)
    assert attempts == whole


def test_a_finished_evaluation_loads_no_model(folder):
    questions = Arithmetic("arithmetic").load("dev")
    first = evaluate(folder.stage("t"), Scripted(lambda p: "1"), Arithmetic("arithmetic"), questions)
    idle = Scripted(lambda p: "2")
    assert evaluate(folder.stage("t"), idle, Arithmetic("arithmetic"), questions) == first
    assert idle.loads == 0


def reply(text, number=0, finish_reason="stop", failure=None):
    return Reply(f"1/toy/train/{number}", "toy", f"toy/train/{number}", "key", text, finish_reason, failure)


def test_parse_keeps_every_problem_or_its_reason(folder):
    replies = [
        reply(PROBLEM.format(4, 7) + PROBLEM.format(5, 8)),
        reply("Let us think.", 1),
        reply(PROBLEM.format(4, 7) + "### Problem 2\nQuestion: How", 2, "length"),
        reply(None, 3, failure="APIStatusError 500: busy"),
        reply("### Problem 1\nQuestion: How many?\nSolution: 3 + 4 = 7", 4),
    ]
    examples, rejections = parse(folder.stage("p"), replies, DATASET, 1)
    assert [row.id for row in examples] == ["1/toy/train/0/1", "1/toy/train/0/2", "1/toy/train/2/1"]
    assert examples[1].response == "3 + 5 = 8\n#### 8"
    assert examples[1].error_id == "toy/train/0"
    assert [(r.id, r.reason) for r in rejections] == [
        ("1/toy/train/1", "no_problem"), ("1/toy/train/2/2", "truncated"), ("1/toy/train/3", "no_reply"),
        ("1/toy/train/4/1", "malformed"),
    ]  # fmt: skip
    assert "500" in rejections[2].detail
    assert folder.stage("p").record.counts["reasons"] == {"no_problem": 1, "truncated": 1, "no_reply": 1, "malformed": 1}


def test_verify_stops_at_the_first_gate_that_objects(folder):
    rows = [example(1), example(1), Example("x", "toy", "How many?", "3 + 4 = 8\n#### 8", "8", "e", "r", 1)]
    context = Context(DATASET, [], [], [], lambda p, r: 1, 10)
    kept, rejections = verify(folder.stage("v"), rows, {"answer": Answer(), "duplicate": Duplicate()}, context)
    assert kept == rows[:1]
    assert [rejection.reason for rejection in rejections] == ["duplicate", "wrong_sum"]
    assert "3 + 4 = 8" in rejections[1].text


def test_mix_is_seeded_and_without_replacement(folder):
    rows = {"a": [example(n, "a") for n in range(30)], "b": [example(n, "b") for n in range(3)], "c": []}
    blends = {name: Blend(part, 10) for name, part in rows.items()}
    mixed = mix(folder.stage("m"), blends, seed=1)
    assert [sum(row.dataset == name for row in mixed) for name in "abc"] == [10, 3, 0]
    assert len({row.id for row in mixed}) == 13
    assert mix(folder.stage("m"), blends, seed=1) == mixed
    other = mix(folder.stage("n"), blends, seed=2)
    assert {row.id for row in other} != {row.id for row in mixed}


def test_mix_of_nothing_is_nothing(folder):
    assert mix(folder.stage("m"), {"a": Blend([], 10)}, seed=1) == []


def test_records_name_their_origin():
    question = Question("toy/train/3", "toy", "train", "?", "7")
    assert Attempt(question, "7", True, "7", True).id == "toy/train/3"
