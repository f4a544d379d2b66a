import json

import pytest

from errata.dataset.bbh import BBH
from errata.errors import DataError
from errata.records import Question

DATES = "What is the date tomorrow?\nOptions:\n(A) 12/11/1937\n(B) 12/25/1937\n(C) 01/04/1938"
CHOICES = {"(A)": "12/11/1937", "(B)": "12/25/1937", "(C)": "01/04/1938"}


def graded(gold, response, protocol="corrected"):
    choices = CHOICES if gold.startswith("(") and gold[1].isalpha() else {}
    question = Question("bbh/test/t/0", "bbh", "test", DATES, gold, skill="t", choices=choices)
    return BBH("bbh", protocol=protocol, splits={"test": "test"}).grade(question, response)


@pytest.mark.parametrize(
    ("gold", "response"),
    [
        ("(B)", "Tomorrow is 12/25/1937. So the answer is (B)."),
        ("(B)", "So the answer is B"),
        ("(B)", "**Answer: (B) 12/25/1937**"),
        ("(B)", "The answer is 12/25/1937."),
        ("(B)", "(B)"),
        (
            "(B)",
            "(A) is a year off, (C) is too late. That leaves (B). The answer is (B).\n\nQ: What else?\nA: The answer is (C).",
        ),
        ("True", "not ( False ) = True. So the answer is True."),
        ("False", "Z = True and False = False. The final answer is: false"),
        ("No", "We end at (0, -3). So the answer is no."),
        ("Yes", "Yes, you return to the start."),
        ("invalid", "The argument is not deductively sound, so the answer is invalid."),
        ("24", "This is 40 - 16 = 24. So the answer is 24."),
        ("-50", "So the answer is -50."),
        ("11520", "The answer is 11,520"),
        ("9", "2 + 3 + 4 = 9"),
        ("syndrome therefrom", "So the answer is syndrome therefrom."),
        ("syndrome therefrom", "The sorted list is as follows.\nThe answer is: Syndrome, therefrom"),
        ("] ] )", "The stack is ( [ [. So the answer is ] ] )."),
        ("] ] )", "]]) closes them. The answer is ]])"),
    ],
)
def test_right_answers_are_found_in_the_form_of_the_target(gold, response):
    verdict = graded(gold, response)
    assert verdict.correct, verdict


@pytest.mark.parametrize(
    ("gold", "response", "kind"),
    [
        ("(B)", "So the answer is (C).", "wrong_value"),
        ("(B)", "", "no_answer"),
        ("True", "So the answer is False.", "wrong_value"),
        ("24", "So the answer is 25. But 24 was near.", "wrong_value"),
        ("syndrome therefrom", "So the answer is therefrom syndrome.", "wrong_value"),
        ("syndrome therefrom", "So the answer is syndrome.", "wrong_value"),
        ("] ] )", "So the answer is ] ).", "wrong_value"),
        ("Yes", "I cannot follow the steps.", "refusal"),
    ],
)
def test_wrong_answers_have_a_kind(gold, response, kind):
    verdict = graded(gold, response)
    assert (verdict.correct, verdict.kind) == (False, kind)


@pytest.mark.parametrize(
    ("gold", "response", "correct"),
    [
        ("(B)", "So the answer is (B).", True),
        ("(B)", "So the answer is (B)", False),  # no full stop
        ("(B)", "(b)", True),  # nothing matches: the whole response
        ("True", "The answer is true. The answer is False.", True),  # the first
        ("24", "So the answer is **24**.", False),
        ("3.5", "So the answer is 3.5.", False),  # the first full stop
    ],
)
def test_the_rule_of_the_source(gold, response, correct):
    assert graded(gold, response, "paper").correct == correct


def folder(tmp_path, examples=3):
    (tmp_path / "cot-prompts").mkdir()
    record = {"input": DATES, "target": "(B)"}
    (tmp_path / "date_understanding.json").write_text(json.dumps({"canary": "x", "examples": [record] * 4}))
    shots = "\n\n".join(f"Q: example {n}?\nA: Let's think step by step.\nSo the answer is (A)." for n in range(examples))
    (tmp_path / "cot-prompts" / "date_understanding.txt").write_text(f"CANARY\n-----\nInfer the date.\n\n{shots}\n")
    return BBH("bbh", path=str(tmp_path), splits={"test": "test"})


@pytest.mark.parametrize("shots", [0, 1, 3])
def test_the_worked_examples_stand_in_front(tmp_path, shots):
    bbh = folder(tmp_path)
    bbh.shots = shots
    assert bbh.problems() == []
    (prompt, *_) = bbh.prompts(bbh.load("test"))
    assert prompt.user.count("Q: example") == shots
    assert prompt.user.startswith("Infer the date.\n\nQ: example 0?" if shots else "Q: What is the date")
    assert "CANARY" not in prompt.user


def test_limit_counts_within_a_task_and_tasks_are_checked(tmp_path):
    bbh = folder(tmp_path)
    bbh.limit = 2
    assert [question.id for question in bbh.load("test")] == [f"bbh/test/date_understanding/{n}" for n in (0, 1)]
    bbh.tasks = ["date_understanding", "dates"]
    assert "there is no task 'dates'" in " ".join(bbh.problems())
    bbh.tasks = ["navigate"]
    with pytest.raises(DataError, match=r"holds no navigate\.json; it holds date_understanding"):
        bbh.load("test")


def test_without_worked_examples_the_remedy_is_named():
    found = BBH("bbh", path="lukaemon/bbh", splits={"test": "test"}).problems()
    assert "prompts_folder=FOLDER" in found[0]
    assert BBH("bbh", path="lukaemon/bbh", splits={"test": "test"}, shots=0).problems() == []
