"""Strategies side by side in one run, Self-Instruct, a user's prompts, and what the instructor says went wrong."""

import json
from collections import Counter
from random import Random

import pytest
from omegaconf import OmegaConf

from errata.cases import named
from errata.dataset.reply import diagnosis
from errata.errors import ConfigError
from errata.records import Attempt, Case, Question
from errata.setup import build
from errata.strategy.base import Prompts, load_prompts
from errata.strategy.le import LE
from errata.strategy.lec import LEC
from errata.strategy.mixed import Mixed
from errata.strategy.self_instruct import SelfInstruct

LAYOUTS = ("word_problem", "multiple_choice", "code")


def attempt(number, correct=False):
    question = Question(f"t/train/{number}", "t", "train", f"the text of {number}", f"gold-{number}", f"working-{number}")
    return Attempt(question, f"answer-{number}", True, None, correct, None if correct else "wrong_value", f"detail-{number}")


ERRORS, SUCCESSES = [attempt(n) for n in range(10)], [attempt(n, correct=True) for n in range(50, 60)]


def cases(count=10):
    return [Case(f"1/{n}", ERRORS[n], (SUCCESSES[n],), (0.5,)) for n in range(count)]


@pytest.mark.parametrize(
    ("shares", "dealt"),
    [
        ({"le": 0.3, "lec": 0.7}, {"le": 3, "lec": 7}),
        ({"le": 0.34, "lec": 0.33, "auggpt": 0.33}, {"le": 4, "lec": 3, "auggpt": 3}),
        ({"le_informed": 0.26, "lec_informed": 0.74}, {"le_informed": 3, "lec_informed": 7}),
        ({"lec": 1.0, "le": 0.0}, {"lec": 10}),
    ],
)
def test_the_shares_are_kept_and_only_what_contrasts_has_neighbours(shares, dealt):
    arranged = Mixed(shares=shares).arranged(cases(), Random(0))
    assert Counter(case.strategy for case in arranged) == dealt
    assert [case.id for case in arranged] == [case.id for case in cases()]
    for case in arranged:
        assert bool(case.neighbours) == bool(case.similarities) == case.strategy.startswith("lec")
    assert arranged == Mixed(shares=shares).arranged(cases(), Random(0))


def test_a_request_is_the_one_its_part_would_make():
    strategy = Mixed(shares={"le": 0.5, "lec": 0.5})
    for case in strategy.arranged(cases(), Random(1)):
        request = strategy.request(case, "word_problem")
        assert request == {"le": LE(), "lec": LEC()}[case.strategy].request(case, "word_problem")
        assert request.strategy == case.strategy
    assert strategy.seeds(ERRORS, SUCCESSES, Random(0)) == ERRORS


def test_the_parts_are_those_that_the_settings_name():
    node = OmegaConf.create({"_target_": "errata.strategy.mixed.Mixed", "shares": {"le_informed": 0.5, "auggpt": 0.5}})
    assert build(node, "strategy").shares == {"le_informed": 0.5, "auggpt": 0.5}


def test_a_mix_contrasts_where_a_part_does():
    assert Mixed(shares={"le": 0.5, "lec": 0.5}).contrasts
    assert not Mixed(shares={"le": 0.5, "auggpt": 0.5}).contrasts
    assert not Mixed(shares={"le": 1.0, "lec": 0.0}).contrasts


@pytest.mark.parametrize("shares", [{"le": 0.5, "lec": 0.6}, {"le": 0.5}, {}, {"le": 1.5, "lec": -0.5}])
def test_shares_that_do_not_add_up_are_a_problem(shares):
    (problem,) = Mixed(shares=shares).problems({"t": "code"})
    assert "does not add up to 1" in problem


def test_a_strategy_that_cannot_be_mixed_is_a_problem():
    strategy = Mixed(shares={"le": 0.5, "random_seed": 0.5})
    (problem,) = strategy.problems({"t": "code"})
    assert "'random_seed'" in problem and "lec_informed" in problem
    assert not strategy.contrasts


def test_every_part_needs_its_prompts(tmp_path):
    (tmp_path / "le/t").mkdir(parents=True)
    (tmp_path / "le/t/user.txt").write_text("{question}")
    (problem,) = Mixed(shares={"le": 0.5, "lec": 0.5}, prompts_dir=str(tmp_path)).problems({"t": "code"})
    assert f"write {tmp_path / 'lec/t/user.txt'}" in problem


@pytest.mark.parametrize("layout", LAYOUTS)
def test_self_instruct_shows_other_questions_than_its_own_as_examples(layout):
    strategy = SelfInstruct()
    seeds = strategy.seeds(ERRORS, SUCCESSES, Random(3))
    arranged = [case for seed in range(5) for case in strategy.arranged(named(seeds, 1), Random(seed))]
    assert len(seeds) == len({seed.id for seed in seeds}) == 10
    assert {seed.correct for seed in seeds} == {True, False}
    for case in arranged:
        assert len(case.neighbours) == 2
        assert case.error not in case.neighbours
        text = "\n".join(message["content"] for message in strategy.request(case, layout).messages)
        own = case.error.question.text
        assert text.count(f"{own}\n") == 1 and text.index(own) > text.index(case.neighbours[1].question.text)
        assert "answer-" not in text and "gold-" not in text


def test_self_instruct_shows_no_example_twice():
    strategy = SelfInstruct()
    few = named([ERRORS[n % 4] for n in range(40)], 1)
    for case in strategy.arranged(few, Random(0)):
        assert len(case.neighbours) == len({near.id for near in case.neighbours}) == 2
        assert case.error.id not in {near.id for near in case.neighbours}


def test_self_instruct_with_no_examples_to_show_is_a_problem():
    assert SelfInstruct().problems({"t": "code"}) == []
    assert "strategy.examples is 0" in SelfInstruct(examples=0).problems({"t": "code"})[0]


def test_a_flat_folder_of_system_texts_goes_with_our_user_text(tmp_path):
    (tmp_path / "t.txt").write_text("The source's own words.\n{layout}")
    request = LE(prompts_dir=str(tmp_path)).request(Case("1/x", ERRORS[0], problems=4), "word_problem")
    ours = LE().request(Case("1/x", ERRORS[0], problems=4), "word_problem")
    assert request.messages[0]["content"].startswith("The source's own words.\nWhat every problem must be")
    assert request.messages[1] == ours.messages[1]
    assert request.prompt != ours.prompt
    (tmp_path / "le/t").mkdir(parents=True)
    (tmp_path / "le/t/user.txt").write_text("Only {question}")
    own = LE(prompts_dir=str(tmp_path)).request(Case("1/x", ERRORS[0]), "word_problem")
    assert [message["content"] for message in own.messages] == ["Only the text of 0"]


def test_a_flat_file_with_an_unknown_placeholder_is_named(tmp_path):
    (tmp_path / "t.txt").write_text("Write {nn} problems")
    with pytest.raises(ConfigError) as caught:
        load_prompts("le", "t", "word_problem", str(tmp_path))
    assert "{nn}" in str(caught.value)
    assert str(tmp_path / "t.txt") in str(caught.value)


def test_empty_and_doubled_braces_are_literal():
    prompts = Prompts("as \\boxed{} and {{n}}", "{n} of {question}: {}")
    texts = [message["content"] for message in prompts.render({"n": 3, "question": "{n} {}"})]
    assert texts == ["as \\boxed{} and {n}", "3 of {n} {}: {}"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_only_informed_prompts_ask_for_a_diagnosis(layout):
    case = Case("1/x", ERRORS[0], tuple(SUCCESSES[:1]), (0.9,), problems=4)
    for strategy, asks in ((LE(), False), (LEC(), False), (LE("le_informed"), True), (LEC("lec_informed"), True)):
        strategy.structured = True
        request = strategy.request(case, layout)
        assert ("`Diagnosis:`" in request.messages[-1]["content"]) is asks
        assert ("diagnosis" in request.schema["required"]) is asks
        assert next(iter(request.schema["properties"])) == ("diagnosis" if asks else "problems")


PROBLEM = "### Problem 1\nQuestion: How many?\nSolution: 3 + 4 = 7\n#### 7"


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (f"Diagnosis: it adds where\nit should subtract.\n\n{PROBLEM}", "it adds where it should subtract."),
        (f"**Diagnosis:** it adds.\n\n{PROBLEM}", "it adds."),
        (f"**Diagnosis**: it adds.\n\n{PROBLEM}", "it adds."),
        (f"## Diagnosis: it adds.\n{PROBLEM.replace('### ', '**').replace(' 1', ' 1**')}", "it adds."),
        (f"Of course.\ndiagnosis: it adds.\n{PROBLEM.partition(chr(10))[2]}", "it adds."),
        (json.dumps({"diagnosis": " it adds. ", "problems": []}), "it adds."),
        (f"```json\n{json.dumps({'diagnosis': 'it adds.', 'problems': []})}\n```", "it adds."),
        (f"Diagnosis: -3 was read as 3.\n{PROBLEM}", "-3 was read as 3."),
        (PROBLEM, ""),
        (f"{PROBLEM}\n\nDiagnosis: too late", ""),
        (json.dumps({"problems": []}), ""),
        (json.dumps({"diagnosis": None, "problems": []}), ""),
        ('{"diagnosis": "it adds.", "problems": [{"question": "How', ""),
        ("", ""),
    ],
)
def test_a_diagnosis_is_read_from_ahead_of_the_problems(reply, said):
    assert diagnosis(reply) == said
