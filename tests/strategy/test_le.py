import pytest

from errata.allocation.uniform import Uniform
from errata.errors import ConfigError
from errata.records import Attempt, Case, Question
from errata.strategy.base import Prompts, load_prompts
from errata.strategy.le import LE

QUESTION = Question("toy/train/3", "toy", "train", "What is 3 + 4?", "7", "3 + 4 = 7\n#### 7")
CASE = Case("1/toy/train/3", Attempt(QUESTION, "It is {8}.", True, "8", False, "wrong_value"), problems=4)


@pytest.mark.parametrize(("errors", "each"), [(4303, 2), (724, 6), (247, 14), (3000, 2), (1, 3001)])
def test_problems_per_error_follow_the_papers_rule(errors, each):
    assert Uniform(rule="paper").each(3000, errors, first=1) == each
    assert Uniform().each(3000, errors, first=None) == each
    assert Uniform().each(3000, errors, first=5) == 5


def test_le_shows_the_question_and_the_wrong_answer_but_not_the_gold():
    request = LE().request(CASE, "word_problem")
    text = "\n".join(message["content"] for message in request.messages)
    assert [message["role"] for message in request.messages] == ["system", "user"]
    assert "What is 3 + 4?" in text
    assert "It is {8}." in text
    assert "4 new problems" in text
    assert "3 + 4 = 7" not in text
    assert (request.id, request.error_id, request.problems) == ("1/toy/train/3", "toy/train/3", 4)


def test_le_informed_shows_the_gold_and_the_failure():
    request = LE(name="le_informed").request(CASE, "word_problem")
    text = "\n".join(message["content"] for message in request.messages)
    assert "3 + 4 = 7" in text
    assert "wrong value" in text


def test_a_folder_of_the_users_is_filled_the_same_way(tmp_path):
    folder = tmp_path / "le" / "toy"
    folder.mkdir(parents=True)
    (folder / "user.txt").write_text("Q {question} A {response} N {n} {{json}}")
    request = LE(prompts_dir=str(tmp_path)).request(CASE, "word_problem")
    assert request.messages[0]["content"] == "Q What is 3 + 4? A It is {8}. N 4 {json}"


def test_missing_and_misspelt_prompts_are_problems(tmp_path):
    strategy = LE(prompts_dir=str(tmp_path))
    (missing,) = strategy.problems({"toy": "word_problem"})
    assert str(tmp_path / "le" / "toy" / "user.txt") in missing
    (tmp_path / "le" / "toy").mkdir(parents=True)
    (tmp_path / "le" / "toy" / "user.txt").write_text("{questoin}")
    (misspelt,) = strategy.problems({"toy": "word_problem"})
    assert "{questoin}" in misspelt
    assert "{question}" in misspelt
    with pytest.raises(ConfigError):
        load_prompts("le", "toy", "word_problem", str(tmp_path))


def test_values_are_never_filled_in_twice():
    assert Prompts("", "{question}").render({"question": "{n}"})[0]["content"] == "{n}"
