import random
from collections import Counter

import pytest

from errata.dataset.arithmetic import Arithmetic, recognise, split_of
from errata.instructor.tutor import FLAWS, Tutor, write_reply
from errata.records import Attempt, Case
from errata.strategy.le import LE

DATASET = Arithmetic("arithmetic", worked_line_required=True)
QUESTIONS = DATASET.load("train")[:30]


def asked(question, strategy="le", count=4):
    case = Case(f"1/{question.id}", Attempt(question, "9 + 9 = 99", True, "99", False, "wrong_value"), problems=count)
    return "\n".join(message["content"] for message in LE(name=strategy).request(case, "word_problem").messages)


@pytest.mark.parametrize("strategy", ["le", "le_informed"])
@pytest.mark.parametrize("question", QUESTIONS, ids=lambda q: q.id)
def test_it_writes_as_many_fresh_problems_of_the_skill_as_asked(question, strategy):
    problems = DATASET.parse(write_reply(asked(question, strategy), None, random.Random(1)))
    assert len(problems) == 4
    for problem in problems:
        assert problem.malformed is None
        assert recognise(problem.question).name == question.skill
        assert DATASET.check(problem.solution, problem.answer) is None
        assert problem.question != question.text


def test_its_numbers_never_belong_to_the_test_split():
    for question in QUESTIONS:
        for problem in DATASET.parse(write_reply(asked(question, count=30), None, random.Random(2))):
            skill = recognise(problem.question)
            worked = problem.solution.split()
            a, b = (int(problem.answer), int(worked[2])) if skill.operation == "/" else (int(worked[0]), int(worked[2]))
            assert split_of(skill, a, b) == "train"


@pytest.mark.parametrize("flaw", [flaw for flaw in FLAWS if not flaw.startswith("http")])
def test_every_flaw_is_one_that_a_gate_can_see(flaw):
    problems = DATASET.parse(write_reply(asked(QUESTIONS[0]), flaw, random.Random(3)))
    bad = [p for p in problems if p.malformed or DATASET.check(p.solution, p.answer)]
    if flaw == "prose":
        assert problems == []
    else:
        assert len(bad) == 1


def test_it_says_so_when_it_knows_no_such_skill():
    assert DATASET.parse(write_reply("Write 3 new problems about the moon.", None, random.Random(1))) == []


def test_identity_does_not_depend_on_the_port_but_on_seed_and_flaws():
    keys = Counter(
        Tutor(seed=seed, flaw_rate=rate).call(({"role": "user", "content": "x"},), draw).key
        for seed, rate, draw in ((0, 0.2, 0), (1, 0.2, 0), (0, 0.3, 0), (0, 0.2, 5))
    )
    assert len(keys) == 4
