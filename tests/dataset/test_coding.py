import json

import pytest

from errata.dataset.coding import Coding, body_as_paper, find_program
from errata.dataset.mbpp import MBPP
from errata.records import Question

PROMPT = 'from typing import List\n\n\ndef root(number: int) -> int:\n    """ The whole square root.\n    >>> root(16)\n    4\n    """\n'
TESTS = "def check(candidate):\n    assert candidate(4) == 2\n    assert candidate(400) == 20\n"
QUESTION = Question("mbpp/test/0", "mbpp", "test", PROMPT, "", tests=TESTS, entry_point="root")
RIGHT = "def root(number: int) -> int:\n    return int(sqrt(number))"


def graded(response, protocol="corrected", question=QUESTION):
    return Coding("mbpp", protocol=protocol).grade(question, response)


PASSES = {
    "a block with its import": f"Here it is:\n\n```python\nfrom math import sqrt\n\n{RIGHT}\n```\n\nIt uses sqrt.",
    "a helper in front": "```python\nimport math\n\ndef helper(n):\n    return math.isqrt(n)\n\ndef root(n):\n    return helper(n)\n```",
    "a helper behind": "```python\ndef root(n):\n    return helper(n)\n\ndef helper(n):\n    return int(n ** 0.5)\n```",
    "a helper in a block of its own": f"First:\n```python\nfrom math import sqrt\n```\nthen:\n```python\n{RIGHT}\n```",
    "an annotation without its import": "```python\ndef root(number: Optional[List[int]]):\n    return int(number ** 0.5)\n```",
    "no block": "def root(number):\n    return int(number ** 0.5)\n\nThis takes the root.",
    "no block, an import, prose around": f" Sure!\n\nfrom math import sqrt\n\n{RIGHT}\n\nThe function is short.",
    "a wrong example behind the function": "```python\ndef root(n):\n    return int(n ** 0.5)\n\nassert root(9) == 4\nprint(root(int(input())))\n```",
    "a main block": "```python\ndef root(n):\n    return int(n ** 0.5)\n\nif __name__ == '__main__':\n    raise SystemExit(1)\n```",
    "a session as usage": "```python\ndef root(n):\n    return int(n ** 0.5)\n```\n\nUsage:\n```python\n>>> root(4)\n2\n```",
    "a second version": "```python\ndef root(n):\n    return int(n ** 0.5)\n```\nor, worse:\n```python\ndef root(n):\n    return n\n```",
    "the body alone": "```python\n    return int(number ** 0.5)\n```",
    "the body alone, not indented": "```python\nreturn int(number ** 0.5)\n```",
    "an unclosed block": "```python\ndef root(n):\n    return int(n ** 0.5)\n",
    "an indented block": "1. So:\n\n   ```python\n   def root(n):\n       return int(n ** 0.5)\n   ```",
    "a lambda": "```python\nroot = lambda n: int(n ** 0.5)\n```",
    "a future import": "```python\nfrom __future__ import annotations\n\ndef root(n: Whole) -> Whole:\n    return int(n ** 0.5)\n```",
    "a class that is used": "```python\nclass Solver:\n    def solve(self, n):\n        return int(n ** 0.5)\n\ndef root(n):\n    return Solver().solve(n)\n```",
}  # fmt: skip


@pytest.mark.parametrize("response", PASSES.values(), ids=PASSES.keys())
def test_a_right_function_passes_however_it_is_presented(response):
    verdict = graded(response)
    assert verdict.correct, verdict


FAILS = {
    "": ("no_answer", "empty"),
    "I'm sorry, I cannot write that.": ("refusal", "I'm sorry"),
    "The root of 4 is 2.": ("format", "no function root"),
    "```python\ndef other(n):\n    pass\n```": ("format", "no function root"),
    "```python\ndef root(n):\n    return n\n```": ("failed_test", "candidate(4) == 2"),
    "```python\ndef root(n):\n    return int(sqrt(n))\n```": ("exception:NameError", "sqrt"),
    "```python\ndef root(n):\n    return int(n ** 0.5\n```": ("exception:SyntaxError", ""),
    "```python\ndef root(n):\n    return [][n]\n```": ("exception:IndexError", "list index out of range"),
    "```python\ndef root(n):\n    while True: pass\n```": ("timeout", ""),
}


@pytest.mark.parametrize(("response", "expected"), FAILS.items(), ids=[kind for kind, _ in FAILS.values()])
def test_a_wrong_function_has_a_kind_with_evidence(response, expected):
    verdict = graded(response)
    assert (verdict.correct, verdict.kind) == (False, expected[0])
    assert expected[1] in verdict.detail


def test_the_source_drops_imports_and_helpers():
    response = PASSES["a block with its import"]
    verdict = graded(response, "paper")
    assert (verdict.correct, verdict.kind) == (False, "exception:NameError")
    assert graded("```python\ndef root(n):\n    return int(number ** 0.5)\n```", "paper").correct


BODIES = [
    ("```python\nimport math\ndef root(n):\n    return 1\n    # end\n```\nThat is it.", "    return 1\n    # end"),
    ("```\ndef helper():\n    pass\n\ndef root(n):\n    return 1\n```", "    return 1"),
    ("def root(n):\n    return 1\n\n    return 2\nprose", "    return 1\n\n    return 2"),
    ("def root(n):\nif n:\nreturn 1", "if n:"),
    ("def other(n):\n    return 1\nprose", "    return 1"),
    ("no code\nat all", "    no code\n    at all"),
    ("```python\ndef root(n):\n    return 1\n", "    return 1"),  # the block is not closed
]


@pytest.mark.parametrize(("response", "body"), BODIES)
def test_the_extraction_of_the_source(response, body):
    assert body_as_paper(response, "root") == body


def test_line_numbers_stay_where_they_are():
    code = find_program("```python\ndef root(n):\n    return 1\nprint(root(1))\nx = 1\n```", QUESTION)
    assert code.split("\n")[:5] == ["def root(n):", "    return 1", "", "x = 1", ""]


def test_prompts_show_the_task():
    corrected, paper = Coding("mbpp").show(QUESTION), Coding("mbpp", protocol="paper").show(QUESTION)
    assert PROMPT.rstrip() in corrected
    assert "`root(number: int) -> int`" in paper
    assert paper.endswith(PROMPT)
    assert paper.count("The whole square root.") == 2


def test_a_record_of_the_original_mbpp_becomes_a_prompt_with_a_check():
    record = {
        "task_id": 11, "text": "Double a number.", "code": "import math\r\ndef helper(x):\r\n  return x\r\ndef twice(x, y=2):\r\n  return helper(x) * y",
        "test_list": ["assert twice(2) == 4", "assert twice(3, 3) == 9"], "test_setup_code": "",
    }  # fmt: skip
    dataset = MBPP("mbpp")
    question = dataset.question(dataset._mapped(record, "here"), "here", "mbpp/test/0", "test")
    assert question.entry_point == "twice"
    assert question.text.startswith('def twice(x, y=2):\n    """ Double a number.\n    assert twice(2) == 4\n')
    assert dataset.grade(question, question.solution).correct
    assert dataset.grade(question, "```python\ndef twice(x, y=2):\n    return 2 * x\n```").kind == "failed_test"


REPLY = '''### Problem 1
Task:
```python
def twice(n: int) -> int:
    """Twice n.
    >>> twice(2)
    4
    """
```
Solution:
```python
def twice(n: int) -> int:
    return 2 * n
```
Tests:
```python
assert twice(2) == 4
assert twice(0) == 0
```

### Problem 2
Task:
```python
def half(n):
    """Half of n."""
```
Solution:
```python
def half(n):
    return n
```
Tests:
```python
assert half(4) == 2
```

### Problem 3
Only words.
'''


def test_practice_is_parsed_and_its_solution_run():
    dataset = MBPP("mbpp")
    good, wrong, words = dataset.parse(REPLY)
    assert "def twice(n: int)" in good.question
    assert good.solution.startswith("```python\ndef twice")
    assert dataset.check(good.solution, good.answer) is None
    assert dataset.check(wrong.solution, wrong.answer)[0] == "failed_test"
    assert "0 code blocks" in words.malformed


def test_a_prompt_that_imports_what_is_not_there_fails_no_right_answer(tmp_path):
    record = {
        "task_id": 1,
        "prompt": 'from typing import int\n\n\ndef twice(x: int) -> int:\n    """Twice x."""\n',
        "test": "def check(candidate):\n    assert candidate(2) == 4\n",
        "entry_point": "twice",
    }
    (tmp_path / "train.jsonl").write_text(json.dumps(record) + "\n")
    dataset = MBPP("mbpp", path=str(tmp_path), splits={"train": "train"})
    (question,) = dataset.load("train")
    assert dataset.grade(question, "```python\ndef twice(x: int) -> int:\n    return 2 * x\n```").correct


@pytest.mark.parametrize(
    ("solution", "why"),
    [("It doubles the number.", "has no code block"), ("```python\ndef twice(n:\n```", "is no Python")],
)
def test_a_solution_that_a_reviser_broke_is_an_objection(solution, why):
    reason, detail = MBPP("mbpp", path="").check(solution, "assert twice(2) == 4")
    assert reason == "malformed"
    assert why in detail
