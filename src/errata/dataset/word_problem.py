"""Word problems in GSM8K's answer format: worked lines, then `#### N`. What GSM8K and `arithmetic` share."""

import ast
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

from errata.records import Parsed, Question, Verdict

_NUMBER = r"-?\$?\s?-?(?:\d[\d,]*(?:\.\d+)?|\.\d+)"
_MARKED = re.compile(rf"####\s*({_NUMBER})")
_ANY_NUMBER = re.compile(r"(?<![\w.])-?\$?(?:\d[\d,]*(?:\.\d+)?|\.\d+)")
_CALCULATOR_MARK = re.compile(r"<<([^<>=]+)=([^<>]+)>>")
_EQUATION = re.compile(rf"([\d(][\d \t.,()+\-*/x×÷$]*)=[ \t]*({_NUMBER})")
_STEP_NUMBER = re.compile(r"^[ \t]*(?:[-*][ \t]+)?(?:step[ \t]*)?\d+[.):][ \t]+", re.MULTILINE | re.IGNORECASE)
_RESULT = re.compile(rf"=\s*({_NUMBER})")
_HEADING = re.compile(
    r"^[ \t]*(?:(?:\#+[ \t]*)?\**(?:Problem|Question)[ \t]*\#?\d+[ \t]*\**[ \t]*[:.)]?\**|\d+[.)][ \t]*(?=\**Question\b))",
    re.MULTILINE | re.IGNORECASE,
)
_QUESTION_LABEL = re.compile(r"^[ \t]*\**Question\**[ \t]*:\**[ \t]*", re.MULTILINE | re.IGNORECASE)
_SOLUTION_LABEL = re.compile(r"^[ \t]*\**(?:Worked )?(?:Solution|Answer)\**[ \t]*:\**[ \t]*", re.MULTILINE | re.IGNORECASE)
_OPERATORS: dict[type, Callable[[float, float], float]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
}  # fmt: skip


@dataclass
class WordProblems:
    """Base of the datasets whose gold answer is one number.

    Attributes:
        limit: keep only the first so many questions of each split (None: all).
        max_new_tokens: where a response is cut.
        worked_line_required: reject generated problems whose solution shows no equation that can be recomputed.
    """

    name: str
    limit: int | None = None
    max_new_tokens: int = field(default=512)
    worked_line_required: bool = False

    layout = "word_problem"

    def problems(self) -> list[str]:
        """What is wrong with the settings."""
        found = []
        if self.limit is not None and self.limit < 1:
            found.append(f"dataset.{self.name}.limit is {self.limit}: it must be at least 1, or null for all questions")
        if self.max_new_tokens < 1:
            found.append(f"dataset.{self.name}.max_new_tokens is {self.max_new_tokens}: it must be at least 1")
        return found

    def show(self, question: Question) -> str:
        """The bare question, zero-shot, as in the source (LLMs-as-Instructors, evaluation code)."""
        return question.text

    def grade(self, question: Question, response: str) -> Verdict:
        """Compare the last number behind `####`, or where there is none the last number at all, with the gold answer.

        Differs from the source: a number behind `####` outranks numbers that follow it, and thousands separators, `$`
        and a trailing full stop are read as part of the number, not as its end.
        """
        found = _MARKED.findall(response) or _ANY_NUMBER.findall(response)
        if not found:
            return Verdict(None, False, "no_answer")
        answer = canonical(found[-1])
        correct = abs(float(answer) - float(question.gold)) < 1e-4
        return Verdict(answer, correct, None if correct else "wrong_value")

    def parse(self, reply: str) -> Sequence[Parsed]:
        """Read the layout that the prompts ask for (`### Problem 1`, `Question:`, `Solution:`, `#### N`).

        Common departures (bold labels, `1. Question:`, `Answer:` for `Solution:`) are read too; a problem that lacks a
        part comes back with `malformed` set.
        """
        starts = [match.span() for match in _HEADING.finditer(reply)]
        if not starts:
            starts = [(match.start(), match.start()) for match in _QUESTION_LABEL.finditer(reply)]
        ends = [start for start, _ in starts[1:]]
        return [_parse_one(reply[start:end]) for (_, start), end in zip_longest(starts, ends)]

    def check(self, solution: str, answer: str) -> tuple[str, str] | None:
        """Recompute every equation; one of them (where worked lines are required: the last) must give the answer."""
        equations = recompute(solution)
        for expression, stated, actual in equations:
            if not _agree(stated, actual):
                return "wrong_sum", f"{expression} = {stated}, but it is {actual:g}"
        if not equations:
            return ("no_worked_line", "the solution shows no equation") if self.worked_line_required else None
        results = [float(canonical(number)) for number in _RESULT.findall(solution)]
        if float(answer) not in (results[-1:] if self.worked_line_required else results):
            expression, stated, _ = equations[-1]
            return "answer_mismatch", f"no worked line gives {answer}; the last is {expression} = {stated}"
        return None


def canonical(number: str) -> str:
    """A number as it is compared and shown: `$1,200.50` -> `1200.5`, `-$3` -> `-3`."""
    value = float(re.sub(r"[$,\s]", "", number))
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)


def gold_number(text: str) -> str | None:
    """The canonical number behind `####` in a worked answer, or None."""
    found = _MARKED.findall(text)
    return canonical(found[-1]) if found else None


def recompute(solution: str) -> list[tuple[str, str, float]]:
    """Each equation of a worked solution as (expression, stated value, actual value), in order.

    GSM8K's calculator marks (`<<48/2=24>>`) are used where there are any, the plain text otherwise. What cannot be
    computed (words between the numbers, or percentages, whose base the text leaves open) is passed over: it proves
    nothing either way.
    """
    found = _CALCULATOR_MARK.findall(solution) or _EQUATION.findall(_STEP_NUMBER.sub("", solution))
    equations = []
    for expression, stated in found:
        actual = _evaluate(expression)
        if actual is not None and re.search(_NUMBER, stated):
            equations.append((expression.strip(), canonical(re.findall(_NUMBER, stated)[0]), actual))
    return equations


def _parse_one(text: str) -> Parsed:
    def malformed(lack: str) -> Parsed:
        return Parsed(text.strip(), malformed=lack)

    label = _SOLUTION_LABEL.search(text)
    if not label:
        return malformed("no 'Solution:' part")
    question = _QUESTION_LABEL.sub("", text[: label.start()], count=1).strip().strip("*").strip()
    body = text[label.end() :]
    if not question:
        return malformed("no question")
    if "####" in question:
        return malformed("the question holds an answer mark (####)")
    marks = list(_MARKED.finditer(body))
    if not marks:
        return malformed("no final '#### N' line")
    answer = canonical(marks[-1].group(1))
    if any(canonical(mark.group(1)) != answer for mark in marks):
        return malformed("more than one answer behind ####")
    worked = body[: marks[0].start()].strip()
    if not worked:
        return malformed("no worked line before the answer")
    return Parsed(text.strip(), question, f"{worked}\n#### {answer}", answer)


def _evaluate(expression: str) -> float | None:
    text = re.sub(r"[$,]", "", expression).replace("×", "*").replace("÷", "/")
    text = re.sub(r"(?<=[\d)\s])x(?=[\d(\s])", "*", text)
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        return float(_value(tree)) if isinstance(tree, ast.BinOp) else None
    except (SyntaxError, ValueError, ZeroDivisionError, OverflowError, RecursionError):
        return None


def _value(node: ast.expr) -> float:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(node.operand)
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        return _OPERATORS[type(node.op)](_value(node.left), _value(node.right))
    raise ValueError(f"not plain arithmetic: {ast.dump(node)}")


def _agree(stated: str, actual: float) -> bool:
    """Equal, or rounded to the decimals that the stated value shows."""
    decimals = len(stated.partition(".")[2])
    return abs(float(stated) - actual) <= (0.5 * 10**-decimals + 1e-9 if decimals else 1e-6)
