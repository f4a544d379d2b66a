"""LEC and the controls: what stands in a request, and what does not."""

from dataclasses import replace
from random import Random

import pytest

from errata.cases import named
from errata.records import Attempt, Case, Question
from errata.strategy.auggpt import AugGPT
from errata.strategy.lec import LEC
from errata.strategy.random_seed import RandomSeed
from errata.strategy.shuffled_neighbours import ShuffledNeighbours

LAYOUTS = ("word_problem", "multiple_choice", "code")


def attempt(number, correct=False):
    question = Question(f"t/train/{number}", "t", "train", f"the text of {number}", f"gold-{number}", f"working-{number}")
    return Attempt(question, f"answer-{number}", True, None, correct, None if correct else "wrong_value", f"detail-{number}")


ERRORS, SUCCESSES = [attempt(n) for n in range(6)], [attempt(n, correct=True) for n in range(50, 60)]


def shown(strategy, case, layout):
    return "\n".join(message["content"] for message in strategy.request(replace(case, problems=4), layout).messages)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_each_strategy_shows(layout):
    case = Case("1/x", ERRORS[0], tuple(SUCCESSES[:2]), (0.9, 0.8))
    for strategy, holds, lacks in (
        (LEC(), ["the text of 0", "answer-0", "1. the text of 50", "2. the text of 51"], ["gold", "answer-50", "working"]),
        (LEC("lec_informed"), ["the text of 51", "answer-0", "wrong value"], ["answer-50"]),
        (AugGPT(), ["the text of 0"], ["answer-0", "gold", "the text of 50", "got wrong"]),
    ):
        text = shown(strategy, case, layout)
        assert all(word in text for word in holds), strategy
        assert not any(word in text for word in lacks), (strategy, [word for word in lacks if word in text])
        assert "### Problem 1" in text
        assert "{" not in text.replace("{{", "")
    right = shown(RandomSeed(), Case("1/x", SUCCESSES[0]), layout)
    assert "answer-50" in right and "which is right" in right and "got wrong" not in right


def test_a_random_seed_stands_in_the_place_of_each_error():
    drawn = RandomSeed().seeds(ERRORS, SUCCESSES, Random(0))
    assert len(drawn) == 6 and all(seed.correct for seed in drawn)
    assert len({seed.id for seed in drawn}) == 6
    assert drawn == RandomSeed().seeds(ERRORS, SUCCESSES, Random(0))
    few = RandomSeed().seeds(ERRORS, SUCCESSES[:4], Random(0))
    assert len(few) == 6 and len({seed.id for seed in few}) == 4
    names = [case.id for case in named(few, 1)]
    assert len(set(names)) == 6 and sum("~2" in name for name in names) == 2
    assert RandomSeed().seeds(ERRORS, [], Random(0)) == []


def test_shuffled_neighbours_are_another_errors():
    cases = [Case(f"1/{n}", error, (SUCCESSES[n],), (0.5 + n / 100,)) for n, error in enumerate(ERRORS)]
    shuffled = ShuffledNeighbours().arranged(cases, Random(0))
    assert [case.error for case in shuffled] == ERRORS
    assert all(new.neighbours != old.neighbours for new, old in zip(shuffled, cases, strict=True))
    assert {case.neighbours[0].id for case in shuffled} == {case.neighbours[0].id for case in cases}
    assert ShuffledNeighbours().name == "lec"
    assert LEC().arranged(cases, Random(0)) == cases


def test_a_folder_of_the_users_prompts_is_rendered(tmp_path):
    (tmp_path / "lec/t").mkdir(parents=True)
    (tmp_path / "lec/t/system.txt").write_text("My words. {layout}")
    (tmp_path / "lec/t/user.txt").write_text("Right: {neighbours} Wrong: {question} / {response}; {n} more.")
    strategy = LEC(prompts_dir=str(tmp_path))
    request = strategy.request(Case("1/x", ERRORS[0], tuple(SUCCESSES[:1]), (0.9,), problems=4), "word_problem")
    assert request.messages[1]["content"] == "Right: 1. the text of 50 Wrong: the text of 0 / answer-0; 4 more."
    assert request.messages[0]["content"].startswith("My words. What every problem must be")
    (tmp_path / "layouts").mkdir()
    (tmp_path / "layouts/word_problem.txt").write_text("my layout")
    assert strategy.request(Case("1/x", ERRORS[0]), "word_problem").messages[0]["content"] == "My words. my layout"
