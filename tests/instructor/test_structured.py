"""Replies as JSON by a schema, and as plain text: the same problems."""

import json
from collections import Counter

import pytest
from tests.instructor.test_openai import Server

from errata.dataset.gsm8k import GSM8K
from errata.dataset.mbpp import MBPP
from errata.dataset.mmlu import MMLU
from errata.instructor.openai import OpenAI
from errata.ledger import Ledger
from errata.records import Request
from errata.run_folder import RunFolder
from errata.stage.instruct import instruct
from errata.strategy.base import load_schema

WORD = (
    {"question": "Ann has 2 pens and buys 3. How many?", "solution": "2 + 3 = 5", "answer": "5"},
    "### Problem 1\nQuestion: Ann has 2 pens and buys 3. How many?\nSolution: 2 + 3 = 5\n#### 5",
)
CHOICE = (
    {
        "question": "The capital of France?",
        "options": ["Rome", "Paris", "Bonn", "Bern"],
        "answer": "B",
        "explanation": "It lies there.",
    },
    "### Problem 1\nQuestion: The capital of France?\nA. Rome\nB. Paris\nC. Bonn\nD. Bern\nAnswer: B\nExplanation: It lies there.",
)
TASK = 'def double(x):\n    """Twice x."""\n'
CODE = (
    {"task": TASK, "solution": "def double(x):\n    return 2 * x", "tests": "assert double(2) == 4"},
    f"### Problem 1\nTask:\n```python\n{TASK}```\nSolution:\n```python\ndef double(x):\n    return 2 * x\n```\n"
    "Tests:\n```python\nassert double(2) == 4\n```",
)


@pytest.mark.parametrize(
    ("dataset", "problem", "text"),
    [(GSM8K("gsm8k"), *WORD), (MMLU("mmlu"), *CHOICE), (MBPP("mbpp"), *CODE)],
    ids=["word_problem", "multiple_choice", "code"],
)
def test_both_forms_are_read_to_the_same_problem(dataset, problem, text):
    schema = load_schema(dataset.layout, diagnosis=False)
    (kind,) = (schema["properties"]["problems"]["items"],)
    assert set(kind["required"]) == set(problem)
    reply = json.dumps({"problems": [problem, problem]})
    (plain,) = dataset.parse(text)
    assert plain.malformed is None
    for form in (reply, f"```json\n{reply}\n```"):
        structured = dataset.parse(form)
        assert [(p.question, p.solution, p.answer, p.malformed) for p in structured] == [
            (plain.question, plain.solution, plain.answer, None)
        ] * 2
    lacking = {**problem, next(iter(problem)): ""}
    assert dataset.parse(json.dumps({"problems": [lacking]}))[0].malformed
    assert dataset.parse(reply[:-9]) == []  # cut: no problem can be told


@pytest.fixture
def server():
    one = Server()
    yield one
    one.stop()


def ask(server, folder, name, **settings):
    asked = [
        Request(
            f"1/t/{n}",
            "t",
            f"t/{n}",
            ({"role": "user", "content": f"say {n}"},),
            2,
            schema=load_schema("word_problem", diagnosis=False),
        )
        for n in range(6)
    ]
    with RunFolder(folder / name, {}) as run, Ledger(folder / "ledger.sqlite") as ledger:
        return instruct(run.stage("instruct", n=1), asked, OpenAI("m", server.url, api_key_env=None, **settings), ledger)


def test_the_schema_is_sent(server, tmp_path):
    ask(server, tmp_path, "one")
    assert all(
        body["response_format"]["json_schema"]["schema"] == load_schema("word_problem", diagnosis=False)
        for body in server.bodies
    )


def test_an_endpoint_that_knows_no_schema_is_asked_without(server, tmp_path):
    server.knows_schemas = False
    replies = ask(server, tmp_path, "one", concurrency=2)
    assert all(reply.text for reply in replies)
    kinds = Counter("response_format" in body for body in server.bodies)
    assert kinds[False] == 6
    assert 1 <= kinds[True] <= 2  # those under way when the first was refused
    assert [reply.text for reply in ask(server, tmp_path, "two")] == [reply.text for reply in replies]
    assert len(server.bodies) == sum(kinds.values())  # the plain replies are known again
