"""Fresh problems of the three kinds that strategies ask for, made by rule: what the rehearsal writes.

A word problem is one of `arithmetic`'s; a question asks which word names a thing of a kind; a task is a function of a line.
"""

import random
import re
from collections.abc import Callable
from typing import Any

from errata.dataset import arithmetic

KINDS = {
    "fruit": "plum quince mango cherry papaya apricot".split(),
    "bird": "heron swift magpie plover raven wren".split(),
    "tree": "alder maple cedar larch aspen yew".split(),
    "tool": "chisel wrench pliers mallet rasp spanner".split(),
    "garment": "waistcoat mitten scarf kilt apron anorak".split(),
    "vehicle": "tricycle lorry barge sledge tractor moped".split(),
    "fish": "perch trout cod turbot herring carp".split(),
    "dish": "risotto goulash omelette porridge paella stew".split(),
}
_STEMS = (
    "Which of these words names a {kind}?",
    "Only one of the four is a {kind}. Which?",
    "A child asks you for an example of a {kind}. Which word do you choose?",
    "Pick the {kind} from the list.",
)
_LETTERS = "ABCD"
_TASKS: tuple[tuple[str, str, str, Callable[[int, int], Any]], ...] = (
    ("plus_{c}", "Return the number with {c} added.", "number + {c}", lambda c, x: x + c),
    ("minus_{c}", "Return what is left of the number when {c} is taken away.", "number - {c}", lambda c, x: x - c),
    ("times_{c}", "Return {c} times the number.", "number * {c}", lambda c, x: x * c),
    ("rest_by_{c}", "Return the remainder of the number when it is divided by {c}.", "number % {c}", lambda c, x: x % c),
    ("above_{c}", "Say whether the number is larger than {c}.", "number > {c}", lambda c, x: x > c),
    ("at_most_{c}", "Return the number, or {c} where it is larger.", "min(number, {c})", lambda c, x: min(x, c)),
    ("multiples_of_{c}", "Count the multiples of {c} from 1 up to the number.", "number // {c}", lambda c, x: x // c),
    ("list_of_{c}", "Return a list that holds the number {c} times.", "[number] * {c}", lambda c, x: [x] * c),
)


def word_problem(asked: str, rng: random.Random) -> dict[str, Any]:
    """A problem of the skill that the question in the request needs, where it is one of `arithmetic`'s; else of any."""
    skill = arithmetic.recognise(asked) or rng.choice(arithmetic.SKILLS)
    question, worked, answer = arithmetic.draw(skill, "train", rng)
    return {"question": question, "solution": worked, "answer": str(answer)}


def multiple_choice(asked: str, rng: random.Random) -> dict[str, Any]:
    """A question with one right option of four."""
    kind, *others = rng.sample(sorted(KINDS), 4)
    options = [rng.choice(KINDS[name]) for name in (kind, *others)]
    right = options[0]
    rng.shuffle(options)
    stem = rng.choice(_STEMS).format(kind=kind)
    why = f"Of these only the word {right} names a {kind}."
    return {"question": stem, "options": options, "answer": _LETTERS[options.index(right)], "explanation": why}


def code(asked: str, rng: random.Random) -> dict[str, Any]:
    """A task with its solution, and asserts that hold."""
    name, says, body, compute = rng.choice(_TASKS)
    constant = rng.randrange(2, 60)
    called = name.format(c=constant)
    head = f"def {called}(number: int):"
    shown = rng.sample(range(1, 100), 3)
    example = f">>> {called}({shown[0]})\n    {compute(constant, shown[0])}"
    return {
        "task": f'{head}\n    """{says.format(c=constant)}\n    {example}\n    """',
        "solution": f"{head}\n    return {body.format(c=constant)}",
        "tests": "\n".join(f"assert {called}({number}) == {compute(constant, number)}" for number in shown),
    }


WRITERS = {"word_problem": word_problem, "multiple_choice": multiple_choice, "code": code}


def in_words(layout: str, number: int, problem: dict[str, Any]) -> str:
    """A problem as its layout has it (`strategy/prompts/layouts`)."""
    lines = [f"### Problem {number}"]
    if layout == "code":
        lines += [f"{part.title()}:\n```python\n{problem[part]}\n```" for part in ("task", "solution", "tests")]
        return "\n".join(lines)
    lines.append(f"Question: {problem['question']}")
    if layout == "word_problem":
        return "\n".join([*lines, f"Solution: {problem['solution']}", f"#### {problem['answer']}"])
    lines += [f"{letter}. {option}" for letter, option in zip(_LETTERS, problem["options"], strict=True)]
    return "\n".join([*lines, f"Answer: {problem['answer']}", f"Explanation: {problem['explanation']}"])


def solved(question: str) -> str:
    """The answer to a problem of the rehearsal's own, or of `arithmetic`'s; prose where it is neither."""
    if arithmetic.recognise(question) is not None:
        worked, answer = arithmetic.solve(question)
        return f"{worked}\n#### {answer}"
    kind = next((kind for kind in KINDS if re.search(rf"\b{kind}\b[?. ]", question)), "")
    lines = [line.partition(". ") for line in question.splitlines()]
    right = [letter for letter, _, option in lines if letter in _LETTERS and option in KINDS.get(kind, ())]
    return f"It names a {kind}.\nAnswer: {right[0]}" if right else "I have not seen such a question."
