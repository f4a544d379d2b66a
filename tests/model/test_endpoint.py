"""A student behind a real server on loopback, which misbehaves on request (see `tests/instructor/test_openai.py`)."""

import pytest
from tests.instructor.test_openai import KEY, Server

from errata.errors import ModelError
from errata.model.base import TOO_LONG
from errata.model.endpoint import EndpointStudent
from errata.records import Prompt


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("SOME_KEY", KEY)
    running = Server()
    yield running
    running.stop()


def student(server, **settings):
    return EndpointStudent("m", server.url, **{"api_key_env": "SOME_KEY", "timeout_s": 5, "max_retries": 2} | settings)


def answers(model, *texts, **settings):
    return dict(model.answers([Prompt(f"q/{n}", text, **settings) for n, text in enumerate(texts)], 16, ["\n\n"]))


def test_every_question_gets_its_own_answer_whatever_the_order(server):
    found = answers(student(server, concurrency=4), *(f"question {n}" for n in range(20)))
    assert {place: answer.text for place, answer in found.items()} == {n: f"reply to question {n}" for n in range(20)}
    assert 1 < server.most_at_once <= 4
    assert (found[0].finished, found[0].tokens, found[0].failure) == (True, 5, None)


def test_what_is_sent_is_greedy_and_carries_the_prefill(server):
    answers(student(server, extra_body={"chat_template_kwargs": {"thinking": False}}), "hello", prefill="A:")
    (body,) = server.bodies
    assert (body["temperature"], body["max_tokens"], body["stop"]) == (0, 16, ["\n\n"])
    assert body["messages"] == [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "A:"}]
    assert body["continue_final_message"] is True
    assert body["chat_template_kwargs"] == {"thinking": False}


def test_a_system_prompt_goes_first(server):
    answers(student(server, system="Be brief."), "hello")
    (body,) = server.bodies
    assert body["messages"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"}]


def test_one_refused_request_is_left_out_and_a_prompt_too_long_has_its_own_kind(server):
    found = answers(student(server, concurrency=1), "hello", "400 always", "400 always context length", "429 twice")
    assert found[0].failure is None
    assert "400" in found[1].failure
    assert found[2].failure == TOO_LONG
    assert found[3].text == "reply to 429 twice"


@pytest.mark.parametrize("trouble", ["401 always", "404 always"])
def test_a_server_that_refuses_everything_is_one_clear_error_without_the_key(server, trouble):
    with pytest.raises(ModelError, match=r"gives no answers for model m") as error:
        answers(student(server), trouble)
    assert KEY not in str(error.value)


def test_a_server_that_goes_down_ends_the_work_and_what_was_answered_is_kept(server):
    kept = []
    with pytest.raises(ModelError, match="the same command goes on"):
        for place, _ in student(server, concurrency=1, max_retries=0).answers(
            [Prompt(str(n), text) for n, text in enumerate(["hello", *["500 always"] * 9])], 16
        ):
            kept.append(place)
    assert kept[0] == 0
    assert len(kept) < 9


def test_a_server_that_is_not_there_is_named():
    model = EndpointStudent("m", "http://127.0.0.1:9/v1", api_key_env=None, max_retries=0, timeout_s=2)
    assert model.problems() == []
    with pytest.raises(ModelError, match=r"http://127\.0\.0\.1:9/v1"):
        answers(model, "hello")
