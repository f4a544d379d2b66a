"""Functions to be written: the program in a response, run against the benchmark's tests. What MBPP and HumanEval share."""

import ast
import functools
import logging
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from errata.dataset.base import FORMAT, PAPER, FileBenchmark, nothing_found
from errata.dataset.reply import split_problems
from errata.errors import DataError
from errata.python_code import is_python, tree_of
from errata.record_files import Record
from errata.records import Parsed, Question, Verdict
from errata.sandbox import Limits, Outcome, Program, Sandbox

log = logging.getLogger("errata")
_FENCE = re.compile(r"^[ \t]*(```+|~~~+)[ \t]*([\w+-]*)[^\n]*\n(.*?)(?:^[ \t]*\1|\Z)", re.MULTILINE | re.DOTALL)
_CODE_BEGINS = re.compile(
    r"^(?:from\s+[\w.]+\s+import\b|import\s+\w|def\s+\w|async\s+def\s+\w|class\s+\w|@\w)", re.MULTILINE
)
_FUTURE = re.compile(r"^from __future__ import .*\n?", re.MULTILINE)
_TYPING = "from typing import *\n"


@dataclass
class Coding(FileBenchmark):
    """Base of the benchmarks whose questions are a function's signature and docstring, graded by running its tests.

    Attributes:
        timeout_s: wall time of one program with all its tests.
        memory_mb: memory that a program may have.
    """

    timeout_s: float = 3.0
    memory_mb: int = 1024

    layout = "code"
    cheap_to_grade = False
    required: ClassVar[tuple[str, ...]] = ("prompt", "test", "entry_point")

    def problems(self) -> list[str]:
        """What is wrong with the settings."""
        found = super().problems()
        found += [
            f"dataset.{self.name}.{name} is {value}: it must be above 0"
            for name, value in (("timeout_s", self.timeout_s), ("memory_mb", self.memory_mb))
            if value <= 0
        ]
        return found

    def show(self, question: Question) -> str:
        """The task in words, and the code to complete.

        Under `paper` the signature and the description stand in front of the code again, as in the source (in our words).
        """
        if self.protocol == PAPER:
            signature, description = _signature(question), _description(question)
            return f"Write the Python function `{signature}`, which solves this problem:\n{description}\n{question.text}"
        return (
            "Complete this Python function. Give the whole function, with every import and helper it needs, in one "
            f"```python block.\n\n```python\n{question.text.rstrip()}\n```"
        )

    def grade_corrected(self, question: Question, response: str) -> Verdict:
        """Run the response's whole code, imports and helpers included, behind the prompt's own code.

        Names of `typing` are always there. Examples and prints behind the function are left out: a wrong example does not
        make a function wrong. Differs from the source: see `grade_as_paper`.
        """
        code = find_program(response, question)
        if code is None:
            verdict = nothing_found(response)
            if not response.strip() or verdict.kind == "refusal":
                return verdict
            return Verdict(None, False, FORMAT, f"no function {question.entry_point} in the response")
        future = "".join(_FUTURE.findall(code))
        prompt = _TYPING_LINE.sub("", question.text)  # those names are there, and one MBPP prompt asks it for `int`
        head = f"{prompt}\n    pass\n" if is_python(f"{prompt}\n    pass\n") else ""
        return self._run(question, f"{future}{_TYPING}{head}\n{_FUTURE.sub('', code)}", shown=code)

    def grade_as_paper(self, question: Question, response: str) -> Verdict:
        """Run the body of the function, and nothing else of the response, behind the prompt.

        The source's rule (`evaluation/get_performance_humaneval.py`, and the stored MBPP records): imports and helpers that
        the student wrote are dropped, so that a right program may fail with a NameError.
        """
        body = body_as_paper(response, question.entry_point)
        return self._run(question, question.text + body, shown=body)

    def parse(self, reply: str) -> Sequence[Parsed]:
        """Read the layout that the prompts ask for: `### Problem 1`, then the blocks `Task`, `Solution` and `Tests`."""
        return [self._parse_one(text) for text in split_problems(reply, _written)]

    def _parse_one(self, text: str) -> Parsed:
        blocks = [textwrap.dedent(block).strip("\n") for _, _, block in _FENCE.findall(text)]
        if len(blocks) != 3:
            return Parsed(text, malformed=f"{len(blocks)} code blocks; expected three: the task, its solution, its tests")
        task, solution, tests = blocks
        for name, block in (("task", task), ("solution", solution), ("tests", tests)):
            if not is_python(block):
                return Parsed(text, malformed=f"the {name} block is no Python")
        functions = [node for node in tree_of(task).body if isinstance(node, ast.FunctionDef)]
        if not functions or not ast.get_docstring(functions[-1]):
            return Parsed(text, malformed="the task block has no function with a docstring")
        name = functions[-1].name
        if not _mentions(solution, name):
            return Parsed(text, malformed=f"the solution does not define {name}")
        if not re.search(rf"^assert\b.*\b{re.escape(name)}\(", tests, re.MULTILINE):
            return Parsed(text, malformed=f"the tests assert nothing about {name}")
        asked = self.show(Question("", self.name, "", f"{task}\n", "", entry_point=name))
        return Parsed(text, asked, f"```python\n{solution}\n```", tests)

    def check(self, solution: str, answer: str) -> tuple[str, str] | None:
        """Run the solution (a code block) against its tests (asserts): `failed_test`, `exception:...`, `timeout`.

        One that a reviser wrote may have lost its block, or be no Python any more: `malformed`.
        """
        code = next((block for _, _, block in _FENCE.findall(solution)), None)
        if code is None or not is_python(code):
            return "malformed", f"the solution {'has no code block' if code is None else 'is no Python'}"
        called = next(match.group(1) for match in re.finditer(r"^assert\b.*?\b(\w+)\(", answer, re.MULTILINE))
        names = [node.name for node in tree_of(code).body if isinstance(node, ast.FunctionDef) and f"{node.name}(" in answer]
        entry_point = names[-1] if names else called
        check = f"def check(candidate):\n    global {entry_point}\n    {entry_point} = candidate\n"
        question = Question(
            "", self.name, "", "", "", tests=check + textwrap.indent(answer, "    "), entry_point=entry_point
        )
        verdict = self._run(question, _TYPING + code, shown=code)
        return None if verdict.correct else (verdict.kind or "failed_test", verdict.detail)

    def _run(self, question: Question, code: str, shown: str) -> Verdict:
        program = Program(code, setup=_TYPING + question.text, tests=question.tests, entry_point=question.entry_point)
        return _verdict(_sandbox(Limits(wall_s=self.timeout_s, memory_mb=self.memory_mb)).run(program), shown)

    def _question(self, record: Record, place: str, name: str, split: str, solution: str = "") -> Question:
        tests, entry_point = str(record["test"]), str(record["entry_point"])
        if "def check" not in tests:
            raise DataError(f"{place} ({name}): the tests must define check(candidate)")
        if not is_python(tests):
            log.warning("%s (%s): the tests are no Python, so no answer can be right", place, name)
        key = str(record.get("task_id", ""))
        text, worked = str(record["prompt"]), f"```python\n{solution.strip()}\n```" if solution else ""
        return Question(name, self.name, split, text, solution, worked, key=key, tests=tests, entry_point=entry_point)


@functools.cache
def _sandbox(limits: Limits) -> Sandbox:
    return Sandbox(limits)


def _verdict(outcome: Outcome, code: str) -> Verdict:
    if outcome.status == "passed":
        return Verdict(code, True)
    kind = f"exception:{outcome.exception}" if outcome.status == "exception" and outcome.exception else outcome.status
    return Verdict(code, False, kind, outcome.detail)


def find_program(response: str, question: Question) -> str | None:
    """The program in a response that defines the function asked for, or None.

    All code blocks are put together, except further definitions of the function and blocks that are no Python (a session
    with `>>>`, an output). Without a block, the text from the first import, def or class on, as far as it is Python. A body
    alone is put behind the prompt.
    """
    blocks = [textwrap.dedent(block) for _, language, block in _FENCE.findall(response) if language.lower() in _LANGUAGES]
    name = question.entry_point
    at = next((place for place, block in enumerate(blocks) if _mentions(block, name)), None)
    if at is not None:
        helpers = [block for block in blocks[:at] + blocks[at + 1 :] if is_python(block) and not _mentions(block, name)]
        return "\n\n".join([*helpers, _without_examples(blocks[at], name)])
    for block in blocks or [response]:
        bare = _longest_python(block, name)
        if bare is not None:
            return bare
    for block in blocks or [response]:
        body = textwrap.indent(textwrap.dedent(block.strip("\n")), "    ")
        if body.strip() and "return" in body and is_python(question.text + body):
            return question.text + body
    return None


_LANGUAGES = ("", "python", "python3", "py", "py3", "python2", "pycon", "code")


_TYPING_LINE = re.compile(r"^from typing import [\w, ]+$", re.MULTILINE)


def _longest_python(text: str, name: str) -> str | None:
    """The longest part of a text that begins with an import, a def or a class, is Python, and defines the function."""
    if not _mentions(text, name):
        return None
    lines = text.split("\n")
    starts = [text.count("\n", 0, match.start()) for match in _CODE_BEGINS.finditer(text)]
    defined = next(number for number, line in enumerate(lines) if _mentions(line, name))
    for start in [place for place in starts if place <= defined] or [defined]:
        for end in range(len(lines), defined, -1):
            part = "\n".join(lines[start:end])
            if is_python(part):
                return _without_examples(part, name)
    return "\n".join(lines[defined:])  # broken code: its SyntaxError is the evidence


def _without_examples(code: str, name: str) -> str:
    """The code with the asserts, calls and `__main__` blocks behind the function blanked out; line numbers stay."""
    try:
        tree = tree_of(code)
    except SyntaxError:
        return code
    lines, defined = code.split("\n"), False
    for node in tree.body:
        defined = defined or (isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name)
        if defined and _is_example(node):
            for number in range(node.lineno - 1, node.end_lineno or node.lineno):
                lines[number] = ""
    return "\n".join(lines)


def _is_example(node: ast.stmt) -> bool:
    if isinstance(node, ast.Expr):
        return "setrecursionlimit" not in ast.unparse(node)
    return isinstance(node, ast.Assert) or (isinstance(node, ast.If) and "__name__" in ast.unparse(node.test))


def _mentions(code: str, name: str) -> bool:
    return (
        re.search(rf"^[ \t]*(?:async\s+)?def\s+{re.escape(name)}\s*\(|^{re.escape(name)}\s*=", code, re.MULTILINE)
        is not None
    )


def body_as_paper(response: str, entry_point: str) -> str:
    """The function's body by the source's rules, to be put behind the prompt.

    The first that finds one: behind the function's `def` in a code block, up to the block's end; behind its `def` anywhere,
    up to the first line that is not indented; behind any `def`; the whole response, indented.
    """
    fence = response.find("```")
    if fence >= 0:
        start = _behind_def(response, rf"def\s+{entry_point}", fence + 3)
        end = response.find("\n```", start) if start is not None else -1
        if end >= 0:
            return response[start:end]
    for head in (rf"def\s+{entry_point}", "def"):
        start = _behind_def(response, head, 0)
        if start is not None:
            stop = _NOT_INDENTED.search(response, start)
            return response[start : stop.start() if stop else None]
    return textwrap.indent(response, "    ")


_NOT_INDENTED = re.compile(r"\n(?!\n*(?:  |\t))|$")


def _behind_def(text: str, head: str, start: int) -> int | None:
    match = re.compile(head).search(text, start)
    end = text.find(":\n", match.end()) if match else -1
    return end + 2 if end >= 0 else None


def _signature(question: Question) -> str:
    match = re.search(rf"def\s+({re.escape(question.entry_point)}.*?):\s*\n", question.text)
    return match.group(1) if match else ""


def _description(question: Question) -> str:
    match = re.search(r"(?:\"\"\"|''')(.*?)(?:\"\"\"|''')", question.text, re.DOTALL)
    return "\n".join(line.strip() for line in match.group(1).split("\n")) if match else ""


def _written(problem: Mapping[str, Any]) -> str:
    blocks = [str(problem[name]).strip("\n") for name in ("task", "solution", "tests")]
    return "\n".join(block if block.startswith("```") else f"```python\n{block}\n```" for block in blocks)
