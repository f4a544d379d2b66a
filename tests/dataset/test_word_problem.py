"""Real strings for grade, parse and check."""

import pytest

from errata.dataset.word_problem import WordProblems, canonical, recompute
from errata.records import Question

DATASET = WordProblems("toy")


def graded(response: str, gold: str = "18"):
    return DATASET.grade(Question("toy/test/0", "toy", "test", "?", gold), response)


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("9 + 9 = 18\n#### 18", "18"),
        ("The answer is 18.", "18"),
        ("She makes $18 every day.", "18"),
        ("#### $18", "18"),
        ("#### 18.00", "18"),
        ("#### 18\nThis took 3 steps.", "18"),
        ("#### 7\nwait, no\n#### 18", "18"),
        ("It is 1,018 - 1,000 = 18", "18"),
        ("answer: **18**", "18"),
    ],
)
def test_right_answers_are_found(response, answer):
    verdict = graded(response)
    assert verdict.correct
    assert verdict.answer == answer
    assert verdict.kind is None


@pytest.mark.parametrize(
    ("response", "failure"),
    [
        ("", "no_answer"),
        ("I cannot tell.", "refusal"),
        ("There is no way to know this.", "no_answer"),
        ("#### 81", "wrong_value"),
        ("18 apples, and then 3 more make 21", "wrong_value"),
        ("#### -18", "wrong_value"),
    ],
)
def test_wrong_answers_have_a_reason(response, failure):
    verdict = graded(response)
    assert not verdict.correct
    assert verdict.kind == failure


@pytest.mark.parametrize(
    ("text", "number"),
    [("$1,200.50", "1200.5"), ("-$3", "-3"), ("18.", "18"), ("007", "7"), (".5", "0.5"), ("1,000,000", "1000000")],
)
def test_numbers_have_one_form(text, number):
    assert canonical(text) == number


LAYOUT = """### Problem 1
Question: Mia has 3 pens and Leo has 4. How many pens is that?
Solution: 3 + 4 = 7
#### 7

### Problem 2
Question: A pen costs $1,200.50 and a cap costs $2. What is the price of both?
Solution: 1,200.50 + 2 = 1,202.50
#### $1,202.50
"""


def test_the_requested_layout_is_read_whole():
    first, second = DATASET.parse(LAYOUT)
    assert (first.question, first.solution, first.answer, first.malformed) == (
        "Mia has 3 pens and Leo has 4. How many pens is that?",
        "3 + 4 = 7\n#### 7",
        "7",
        None,
    )
    assert second.answer == "1202.5"


@pytest.mark.parametrize(
    "reply",
    [
        "**Problem 1**\n**Question:** How many?\n**Solution:** 3 + 4 = 7\n#### 7",
        "1. Question: How many?\nAnswer: 3 + 4 = 7\n#### 7",
        "Question 1: How many?\nAnswer: 3 + 4 = 7 #### 7",
        "## Problem 1:\nHow many?\nSolution: 3 + 4 = 7\n\n#### 7",
        "Sure! Here it is.\n\nQuestion: How many?\nSolution: 3 + 4 = 7\n#### 7",
        "### Problem #1\nQuestion: How many?\nSolution:\n3 + 4 = 7\n#### 7 pens\n",
    ],
)
def test_common_departures_are_read_too(reply):
    (problem,) = DATASET.parse(reply)
    assert (problem.question, problem.solution, problem.malformed) == ("How many?", "3 + 4 = 7\n#### 7", None)


@pytest.mark.parametrize(
    ("reply", "lack"),
    [
        ("### Problem 1\nQuestion: How many?\nSolution: 3 + 4 = 7", "no final"),
        ("### Problem 1\nQuestion: How many?", "no 'Solution:'"),
        ("### Problem 1\nSolution: 3 + 4 = 7\n#### 7", "no question"),
        ("### Problem 1\nQuestion: How many? #### 7\nSolution: 3 + 4 = 7\n#### 7", "answer mark"),
        ("### Problem 1\nQuestion: How many?\nSolution:\n#### 7", "no worked line"),
        (
            "### Problem 1\nQuestion: How many?\nSolution: 3 + 4 = 7\n#### 7\n\nNext one: 8 + 4 = 12\n#### 12",
            "more than one",
        ),
    ],
)
def test_a_problem_that_lacks_a_part_says_which(reply, lack):
    (problem,) = DATASET.parse(reply)
    assert lack in problem.malformed
    assert problem.text


@pytest.mark.parametrize("reply", ["", "Read the question slowly.", "#### 7"])
def test_prose_holds_no_problem(reply):
    assert DATASET.parse(reply) == []


@pytest.mark.parametrize(
    ("solution", "answer", "reason"),
    [
        ("3 + 4 = 7", "7", None),
        ("Mia pays 3 * $4 = $12 and 12 - 2 = 10.", "10", None),
        ("48/2 = <<48/2=24>>24 clips, 48+24 = <<48+24=72>>72", "72", None),
        ("(3 + 4) x 2 = 14", "14", None),
        ("10 / 3 = 3.33", "3.33", None),
        ("1,000 ÷ 4 = 250", "250", None),
        ("3 + 4 = 8", "8", "wrong_sum"),
        ("48/2 = <<48/2=25>>25", "25", "wrong_sum"),
        ("7 / 2 = 4", "4", "wrong_sum"),
        ("3 + 4 = 7", "8", "answer_mismatch"),
        ("5 / 0 = 5", "5", None),
        ("It is plainly seven.", "7", None),
        ("1. 3 * 4 = 13", "13", "wrong_sum"),
        ("Step 1: 3 * 4 = 13", "13", "wrong_sum"),
        ("Step 1\n3 * 4 = 13", "13", "wrong_sum"),
        ("1. 3 * 4 = 12\n2. 12 + 5 = 17", "17", None),
        ("1" * 400 + " + 1 = 5", "5", None),
    ],
)
def test_worked_lines_are_recomputed(solution, answer, reason):
    found = DATASET.check(f"{solution}\n#### {answer}", answer)
    assert (found and found[0]) == reason


def test_worked_lines_can_be_required():
    assert WordProblems("toy", worked_line_required=True).check("Seven.\n#### 7", "7")[0] == "no_worked_line"


@pytest.mark.parametrize("hostile", ["__import__('os') = 3", "9 ** 9 ** 9 = 3", "(" * 500 + "1 = 1", "1 // 1 = 1"])
def test_only_plain_arithmetic_is_evaluated(hostile):
    assert all(expression.count("*") < 2 for expression, *_ in recompute(hostile))
