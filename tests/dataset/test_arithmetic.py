from collections import Counter

import pytest

from errata.dataset.arithmetic import SKILLS, Arithmetic, recognise, split_of

SPLITS = ("train", "dev", "test")


@pytest.fixture(scope="module")
def questions():
    dataset = Arithmetic("arithmetic", train=1000, dev=1000, test=1000)
    return {split: dataset.load(split) for split in SPLITS}


def test_there_are_at_least_eight_skills_evenly_spread(questions):
    assert len(SKILLS) >= 8
    for split in SPLITS:
        counts = Counter(question.skill for question in questions[split])
        assert max(counts.values()) - min(counts.values()) <= 1


def test_gold_is_accepted_and_its_working_holds(questions):
    dataset = Arithmetic("arithmetic", worked_line_required=True)
    for question in (q for split in SPLITS for q in questions[split]):
        assert dataset.grade(question, question.solution).correct
        assert dataset.check(question.solution, question.gold) is None


def test_splits_share_no_question(questions):
    texts = [{question.text for question in questions[split]} for split in SPLITS]
    assert not (texts[0] & texts[1] or texts[0] & texts[2] or texts[1] & texts[2])


def test_splits_share_no_skill_with_the_same_numbers(questions):
    seen: dict[tuple[str, str], str] = {}
    for split in SPLITS:
        for question in questions[split]:
            numbers = question.solution.partition("=")[0]
            assert seen.setdefault((question.skill, numbers), split) == split
    assert {split_of(skill, a, b) for skill in SKILLS for a in skill.a for b in skill.b} == set(SPLITS)


def test_every_question_is_recognised_as_its_skill(questions):
    for question in questions["train"]:
        assert recognise(f"some words before\n{question.text}\nand after").name == question.skill


def test_drawing_is_seeded():
    assert Arithmetic("a", draw_seed=1).load("test") == Arithmetic("a", draw_seed=1).load("test")
    assert Arithmetic("a", draw_seed=1).load("test") != Arithmetic("a", draw_seed=2).load("test")
    assert len(Arithmetic("a", limit=7).load("test")) == 7


def test_the_last_of_several_questions_is_recognised():
    first, *rest = Arithmetic("arithmetic").load("train")
    last = next(question for question in rest if question.skill != first.skill)
    assert recognise(f"1. {first.text}\n\nThe question:\n{last.text}\nsome answer").name == last.skill
