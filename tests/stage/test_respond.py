"""respond: what a server refused is asked again, what has no room is a reason and not the end."""

from dataclasses import replace

import pytest
from tests.scripted import Scripted

from errata.errors import DataError
from errata.model.base import TOO_LONG, Answer
from errata.records import Prompt
from errata.run_folder import RunFolder
from errata.stage.respond import respond

PROMPTS = [Prompt(str(number), f"question {number}") for number in range(4)]


class Failing(Scripted):
    """Fails with the words that its rule gives behind `!`."""

    def answers(self, prompts, max_new_tokens, stop=()):
        for place, answer in super().answers(prompts, max_new_tokens, stop):
            failed = answer.text.startswith("!")
            yield place, replace(answer, text="", failure=answer.text[1:]) if failed else answer


def asked(folder, rule):
    return respond(folder.stage("respond", n=1), Failing(rule), PROMPTS, 8)


def test_after_a_stage_that_failed_whole_all_is_asked_again(tmp_path):
    with RunFolder(tmp_path / "run", {}) as folder:
        with pytest.raises(DataError, match="not one of 4 prompts was answered: 503"):
            asked(folder, lambda prompt: "!503")
        assert [answer.text for answer in asked(folder, str.upper)] == [f"QUESTION {number}" for number in range(4)]


def test_after_a_kill_failures_are_asked_again_and_answers_are_not(tmp_path):
    def killed(prompt):
        if prompt.endswith("2"):
            raise KeyboardInterrupt
        return "!503" if prompt.endswith("1") else "first"

    with RunFolder(tmp_path / "run", {}) as folder:
        with pytest.raises(KeyboardInterrupt):
            asked(folder, killed)
        assert [answer.text for answer in asked(folder, lambda prompt: "second")] == ["first", "second", "second", "second"]


def test_where_nothing_fits_each_says_so(tmp_path):
    with RunFolder(tmp_path / "run", {}) as folder:
        assert asked(folder, lambda prompt: f"!{TOO_LONG}") == [Answer("", True, TOO_LONG)] * 4
        assert folder.stage("respond", n=1).finished


def test_half_a_surrogate_ends_nothing(tmp_path):
    with RunFolder(tmp_path / "run", {}) as folder:
        assert {answer.text for answer in asked(folder, lambda prompt: "a\ud83d")} == {"a?"}
