"""Word problems in GSM8K's answer format: worked lines, then `#### N`. What GSM8K and `arithmetic` share."""

import ast
import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from errata.dataset.base import WRONG_VALUE, Benchmark, nothing_found
from errata.dataset.reply import LABEL, split_problems
from errata.python_code import tree_of
from errata.records import Parsed, Question, Verdict

_NUMBER = r"-?\$?\s?-?(?:\d[\d,]*(?:\.\d+)?|\.\d+)"
_MARKED = re.compile(rf"####\s*({_NUMBER}(?:/[1-9]\d*)?)")
_ANY_NUMBER = re.compile(
    r"(?<![\w./])-?\$?(?:(?:\d{1,4} )?\d{1,6}/[1-9]\d{0,5}(?![\d/])|\d[\d,]*(?:\.\d+)?|\.\d+)"
    r"|(?<=\d/)\d[\d,]*(?:\.\d+)?"
)
_PAPER_NUMBER = re.compile(r"[+-]?(?:(?:[1-9]\d{0,2}(?:,\d{3})+|\d+)(?:\.\d*)?|\.\d+)(?!\d)")
_CALCULATOR_MARK = re.compile(r"<<([^<>=]+)=([^<>]+)>>")
_EQUATION = re.compile(rf"([\d(][\d \t.,()+\-*/x×÷$]*)=[ \t]*({_NUMBER})")
_STEP_NUMBER = re.compile(r"^[ \t]*(?:[-*][ \t]+)?(?:step[ \t]*)?\d+[.):][ \t]+", re.MULTILINE | re.IGNORECASE)
_RESULT = re.compile(rf"=\s*({_NUMBER})")
_SOLUTION_LABEL = re.compile(r"^[ \t]*\**(?:Worked )?(?:Solution|Answer)\**[ \t]*:\**[ \t]*", re.MULTILINE | re.IGNORECASE)
_OPERATORS: dict[type, Callable[[float, float], float]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
}  # fmt: skip


@dataclass
class WordProblems(Benchmark):
    """Base of the datasets whose gold answer is one number.

    Attributes:
        worked_line_required: reject generated problems whose solution shows no equation that can be recomputed.
    """

    worked_line_required: bool = False

    layout = "word_problem"

    def grade_corrected(self, question: Question, response: str) -> Verdict:
        """Compare the answer that the response ends in with the gold answer.

        The answer is the number behind the last `####`; else in the last `\\boxed{}`; else the last number of the text.
        `$`, thousands separators, a fraction (`1/2`, `1 1/2`), and a trailing full stop are read as parts of a number. A
        response that rounds less than a gold answer of two or more decimals does is right.

        Differs from the source: see `grade_as_paper`.
        """
        found = final_number(response)
        if found is None:
            return nothing_found(response)
        correct = same_number(found, question.gold)
        return Verdict(
            found, correct, None if correct else WRONG_VALUE, "" if correct else _difference(found, question.gold)
        )

    def grade_as_paper(self, question: Question, response: str) -> Verdict:
        """Compare the last number anywhere in the response with the last number of the gold text, to within 1e-4.

        The source's rule (`evaluation/get_performance_gsm8k.py`): any trailing number counts, `1/2` ends in 2, and an
        integer with leading zeros cannot be compared.
        """
        found, gold = last_number_as_paper(response), last_number_as_paper(question.solution)
        if found is None:
            return nothing_found(response)
        correct = gold is not None and _equal_as_paper(found, gold)
        return Verdict(found, correct, None if correct else WRONG_VALUE, "" if correct else _difference(found, gold))

    def parse(self, reply: str) -> Sequence[Parsed]:
        """Read the layout that the prompts ask for (`### Problem 1`, `Question:`, `Solution:`, `#### N`).

        Common departures (bold labels, `1. Question:`, `Answer:` for `Solution:`) are read too; a problem that lacks a
        part comes back with `malformed` set.
        """
        return [_parse_one(text) for text in split_problems(reply, _written)]

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
    """A number as it is compared and shown: `$1,200.50` -> `1200.5`, `-$3` -> `-3`, `1 1/2` -> `1.5`."""
    value = _value_of(number)
    return str(int(value)) if math.isfinite(value) and value.is_integer() and abs(value) < 1e15 else repr(value)


def final_number(response: str) -> str | None:
    """The canonical number that a response gives as its answer, or None."""
    marked = _MARKED.findall(response)
    boxed = re.findall(r"\\boxed\{([^{}]*(?:\{[^{}]*\}[^{}]*)*)\}", response)
    for text in (*marked[-1:], *boxed[-1:], response):
        text = re.sub(r"\\[dt]?frac\{(\d+)\}\{(\d+)\}", r"\1/\2", text)
        found = [match.group() for match in _ANY_NUMBER.finditer(text)]
        if found:
            return canonical(found[-1])
    return None


def same_number(answer: str, gold: str) -> bool:
    """Equal to within 1e-4, or equal when rounded to the gold's decimals, where it shows two or more."""
    difference = abs(float(answer) - float(gold))
    decimals = len(gold.partition(".")[2])
    return difference < 1e-4 or (2 <= decimals < len(answer.partition(".")[2]) and difference <= 0.5 * 10**-decimals + 1e-9)


def last_number_as_paper(text: str) -> str | None:
    """The last number of a text by the source's rule: a sign, digits or groups of three, a decimal point; no more."""
    found = _PAPER_NUMBER.findall(text)
    return found[-1].replace(",", "").replace("+", "") if found else None


def _equal_as_paper(found: str, gold: str) -> bool:
    if any(re.fullmatch(r"-?0+[1-9]\d*", number) for number in (found, gold)):
        return False  # the source evaluates the text as Python, where an integer cannot begin with 0
    return math.isclose(float(found), float(gold), rel_tol=0, abs_tol=1e-4)


def _difference(found: str, gold: str | None) -> str:
    return f"answered {found}, the answer is {gold}"


def _value_of(number: str) -> float:
    whole, slash, denominator = re.sub(r"[$,]", "", number).strip().partition("/")
    if not slash:
        return float(re.sub(r"\s", "", whole))
    *units, numerator = whole.split()
    sign = -1 if whole.startswith("-") else 1
    value = float(numerator) / float(denominator) if float(denominator) else math.inf
    return sign * (abs(float(units[0])) + abs(value)) if units else value


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


def _written(problem: Mapping[str, Any]) -> str:
    return f"Question: {problem['question']}\nSolution: {problem['solution']}\n#### {problem['answer']}"


def _parse_one(text: str) -> Parsed:
    def malformed(lack: str) -> Parsed:
        return Parsed(text.strip(), malformed=lack)

    label = _SOLUTION_LABEL.search(text)
    if not label:
        return malformed("no 'Solution:' part")
    question = LABEL.sub("", text[: label.start()], count=1).strip().strip("*").strip()
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
        match tree_of(text.strip()).body:
            case [ast.Expr(ast.BinOp() as calculation)]:
                return float(_value(calculation))
    except (SyntaxError, ValueError, ZeroDivisionError, OverflowError, RecursionError):
        pass
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
