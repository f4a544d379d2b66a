"""Multiple choice by generation: which option a free response chooses. What MMLU and ARC share."""

import functools
import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from errata.dataset.base import CORRECTED, FORMAT, NO_ANSWER, PAPER, WRONG_VALUE, FileBenchmark, nothing_found, refuses
from errata.dataset.reply import LABEL, split_problems
from errata.errors import DataError
from errata.record_files import Record
from errata.records import Parsed, Question, Verdict

LETTERS = string.ascii_uppercase
_PRACTICE_OPTIONS = 4  # what the prompts ask for


_REPLY_OPTION = re.compile(r"^[ \t]*[*(]*([A-H])[.):][*)]*[ \t]*(\S.*)?$", re.MULTILINE)
_REPLY_ANSWER = re.compile(
    r"^[ \t]*\**(?:Correct )?Answer\**[ \t]*:?\**[ \t]*[*(]*([A-Ha-h])\b[^\n]*$", re.MULTILINE | re.IGNORECASE
)


@dataclass
class MultipleChoice(FileBenchmark):
    """Base of the benchmarks whose gold answer is the label of an option.

    Attributes:
        instruction: the line in front of the question (None: our own for the protocol; empty: none).
    """

    instruction: str | None = None

    layout = "multiple_choice"
    instructions: ClassVar[dict[str, str]] = {
        CORRECTED: "Answer the multiple-choice question. End with a line `Answer: X`, X being the right label.",
        PAPER: "",
    }

    def show(self, question: Question) -> str:
        """The stem and the options one a line, behind the protocol's instruction."""
        return self._instructed(question.with_choices)

    def grade(self, question: Question, response: str) -> Verdict:
        """The verdict of the chosen protocol; of a question without options, as a reviser may leave one, none is right."""
        if not question.choices:
            return Verdict(None, False, FORMAT, "the question has no options")
        return super().grade(question, response)

    def grade_corrected(self, question: Question, response: str) -> Verdict:
        """The option that the response settles on; see `chosen`.

        Differs from the source: see `grade_as_paper`.
        """
        label = chosen(response, question.choices)
        if label is not None:
            return _verdict(question, label)
        verdict = nothing_found(response)
        if verdict.kind == NO_ANSWER and response.strip():
            return Verdict(None, False, FORMAT, "no option is chosen, by letter or by text")
        return verdict

    def grade_as_paper(self, question: Question, response: str) -> Verdict:
        """The source's rules (`evaluation/get_performance_mmlu.py`), which know the letters A to D only.

        In this order, the first that finds one: a letter behind "answer", "choice" or "choose"; a letter before "correct" or
        "right"; a letter that begins the response; the first capital A to D that stands alone, be it the article "A"; and
        where there is none, the option whose text is most like the response, whatever that says.
        """
        for rule in _PAPER_RULES:
            found = rule.search(response)
            if found:
                return _verdict(question, found.group(1))
        return _verdict(question, _most_alike(response, question.choices))

    def parse(self, reply: str) -> Sequence[Parsed]:
        """Read the layout that the prompts ask for: `### Problem 1`, `Question:`, the options one a line, `Answer: X`.

        What stands behind the answer (an explanation) becomes a part of the response, in front of the answer.
        """
        return [self._parse_one(text) for text in split_problems(reply, _written)]

    def _parse_one(self, text: str) -> Parsed:
        body = LABEL.sub("", text, count=1).strip()
        answer = _REPLY_ANSWER.search(body)
        if not answer:
            return Parsed(text, malformed="no 'Answer: X' line")
        options = list(_REPLY_OPTION.finditer(body, 0, answer.start()))
        choices = {match.group(1): (match.group(2) or "").strip() for match in options}
        if list(choices) != list(LETTERS[: len(choices)]) or not 2 <= len(options) == len(choices):
            return Parsed(
                text, malformed=f"the options are {', '.join(choices) or 'missing'}; expected A, B, C, D one a line"
            )
        stem = body[: options[0].start()].strip()
        label = answer.group(1).upper()
        if not stem:
            return Parsed(text, malformed="no question")
        if label not in choices:
            return Parsed(text, malformed=f"the answer is {label}, which is no option")
        if len(choices) != _PRACTICE_OPTIONS:
            return Parsed(text, malformed=f"{len(choices)} options; expected {_PRACTICE_OPTIONS}")
        if empty := [letter for letter, option in choices.items() if not option]:
            return Parsed(text, malformed=f"option {empty[0]} has no text")
        if twins := _equal_options(choices):
            return Parsed(text, malformed=f"the options {' and '.join(twins)} are the same: {choices[twins[0]]}")
        why = re.sub(r"^\W*Explanation\W*", "", body[answer.end() :], flags=re.IGNORECASE).strip()
        question = Question("", self.name, "", stem, label, choices=choices)
        solution = "\n\n".join(part for part in (why, f"Answer: {label}") if part)
        return Parsed(text, self._instructed(question.with_choices), solution, label)

    def _instructed(self, text: str) -> str:
        instruction = self.instructions[self.protocol] if self.instruction is None else self.instruction
        return f"{instruction}\n\n{text}" if instruction else text

    def _worked(self, example: Question) -> str:
        return f"Answer: {example.gold}"

    def _question(self, record: Record, place: str, name: str, split: str, choices: Mapping[str, str]) -> Question:
        """A question with checked options and gold."""
        for label, text in choices.items():
            if not str(text).strip():
                raise DataError(f"{place} ({name}): option {label} has no text; give it one, or leave the record out")
        gold = record["answer"]
        if isinstance(gold, int) and str(gold) not in choices:
            gold = list(choices)[gold] if 0 <= gold < len(choices) else gold
        if str(gold) not in choices:
            raise DataError(f"{place} ({name}): the answer is {gold!r}, and the options are {', '.join(choices)}")
        skill = str(record.get("subject") or "")
        plain = {label: str(text) for label, text in choices.items()}
        text = str(record["question"])
        solution = f"Answer: {gold}"
        return Question(name, self.name, split, text, str(gold), solution, skill, str(record.get("id") or ""), plain)


def _written(problem: Mapping[str, Any]) -> str:
    options = [f"{letter}. {option}" for letter, option in lettered(problem["options"] or []).items()]
    lines = [f"Question: {problem['question']}", *options, f"Answer: {problem['answer']}"]
    return "\n".join([*lines, f"Explanation: {problem['explanation']}"] if problem["explanation"] else lines)


def _equal_options(choices: Mapping[str, str]) -> tuple[str, str] | None:
    """The labels of two options that say the same, letter case and spaces aside."""
    seen: dict[str, str] = {}
    for label, option in choices.items():
        first = seen.setdefault(" ".join(option.split()).casefold(), label)
        if first != label:
            return first, label
    return None


def lettered(options: Sequence[object]) -> dict[str, str]:
    """Options as they are labelled where the file gives them as a list."""
    return {LETTERS[place]: str(text) for place, text in enumerate(options)}


def chosen(response: str, choices: Mapping[str, str]) -> str | None:
    """The label of the option that a response settles on, or None.

    The first of these that speaks:
    1. a statement ("the correct answer is C", "Answer: (C)", "option C is correct", `\\boxed{C}`), the last one that is not
       denied;
    2. a label that begins the response ("C. Paris", "(C)", "C");
    3. a label right before its own option's text, where only one option is so named;
    4. an option's text that stands for the answer: the only one mentioned, or the only one that ends a sentence of the
       conclusion;
    5. a label that stands alone, where only one does (the article "A" does not count).
    A response that refuses, or finds none of the options right, chooses none by 4 or 5.
    """
    text = _without_markup(response)
    labels = "|".join(sorted(map(re.escape, choices), key=len, reverse=True))
    label = _stated(text, labels, choices) or _leading(text, labels)
    if label is not None:
        return label
    paired = _paired(text, choices)
    if paired is None and refuses(text) and not any(refuses(option) for option in choices.values()):
        return None
    return paired or _by_text(text, choices, 0) or _by_text(text, choices, re.IGNORECASE) or _alone(text, labels)


_SUBJECT = (
    r"\b(?:answers?|choices?|options?|solution|response|conclusion"
    r"|(?:I|we)(?:\s+would|'d|\s+will)?\s+(?:choose|pick|select|say))\b"
)
_COPULA = r"\b(?:is|are|be|would be|should be|was|must be|being)\b\s*(?:likely|probably|therefore|thus|then|still)?"
_RIGHT = r"(?:correct|right|best|true|accurate|appropriate|suitable|answer|closest)"


@functools.cache
def _statements(labels: str) -> tuple[re.Pattern[str], ...]:
    """The forms of a statement, each with the group `label`."""
    listed = rf"\s*(?:and|or|&|/)\s*[\"'(]*(?:{labels})\b"  # "A and B" names no option
    label = rf"(?P<label>{labels})(?![\w'’%°(]|\.\d|{listed})"
    one = rf"[\s\"'(\[]*(?:option|choice|letter|statement)?\s*[\"'(\[]*{label}"
    forms = (
        rf"{_SUBJECT}(?:[^.\n]{{0,80}}?{_COPULA}|\s*)\s*[:=\-–—]?\s*{one}",
        rf"(?:\boption|\bchoice|\banswer|^|\()\s*[\"'(\[]*(?P<label>{labels})[\"')\].:]*"
        rf"\s+(?:is|would be|must be|seems|appears)\s+(?:the\s+|most\s+|likely\s+)*{_RIGHT}",
        rf"\\boxed\{{\s*(?:\\text\{{)?\s*\(?(?P<label>{labels})\)?",
        rf"(?:^|[.!?]\s)\s*(?:so|therefore|thus|hence),?\s+(?:it(?:'s|\s+is|\s+must\s+be)\s+)?{one}[.)]?\s*$",
        rf"\bit(?:'s|\s+is|\s+must\s+be|\s+should\s+be)\s+{one}[.)]",
    )
    return tuple(re.compile(form, re.MULTILINE | re.IGNORECASE) for form in forms)


def _stated(text: str, labels: str, choices: Mapping[str, str]) -> str | None:
    """The label of the last undenied statement."""
    found = []
    for form in _statements(labels):
        for match in form.finditer(text):
            if re.fullmatch(labels, match["label"]) and not _denied(text, match, choices):
                found.append((match.start("label"), match["label"]))
    return max(found)[1] if found else None


def _denied(text: str, match: re.Match[str], choices: Mapping[str, str]) -> bool:
    """Whether the statement says what the answer is not, or takes the article "A" for a label."""
    inside = match.group().lower()
    after = text[match.end("label") :]
    if re.search(r"\b(?:not|isn't|aren't|n't|cannot|incorrect|wrong|false|neither|if|whether)\b", inside):
        return True
    if re.match(r"\W{0,2}\s*(?:is|are|was)\s+(?:not|in(?:correct|accurate|valid)|wrong|false|also (?:in|not))", after):
        return True
    begins = text[match.start("label") :]
    if any(
        option.startswith("A ") and re.match(_loose(option), begins) for label, option in choices.items() if label != "A"
    ):
        return match["label"] == "A"  # "The answer is A Progressive", where that is the text of option B
    return match["label"] == "A" and _article(after)


def _article(after: str) -> bool:
    """Whether the "A" in front of this text is an article: a word follows that can have one."""
    words = "because|since|as|is|was|with|which|and|or|nor|for|based|due|in|according|but|where|when|if|that"
    return re.match(rf"\s+(?!(?:{words})\b)[a-z]", after) is not None


def _leading(text: str, labels: str) -> str | None:
    match = re.match(rf"\W*(?:option\s+)?\(?({labels})(?:[.):,\]]|\s*$|\s*\n|\s+[-–—])(?!\w\.)", text)
    return match.group(1) if match else None


def _paired(text: str, choices: Mapping[str, str]) -> str | None:
    named = {
        label
        for label, option in choices.items()
        if re.search(rf"(?<!\w){re.escape(label)}\W{{1,4}}{_loose(option)}", text, re.IGNORECASE)
    }
    return named.pop() if len(named) == 1 else None


def _by_text(text: str, choices: Mapping[str, str], case: int) -> str | None:
    spans: list[tuple[int, int, str]] = []
    for label, option in sorted(choices.items(), key=lambda item: -len(item[1])):  # a longer option hides one inside it
        for match in re.finditer(rf"(?<![\w.]){_loose(option)}(?![\w]|\.\d)", text, case):
            if not any(start < match.end() and match.start() < end for start, end, _ in spans):
                spans.append((*match.span(), label))
    mentioned = {label for _, _, label in spans}
    if len(mentioned) == 1:
        return mentioned.pop()
    sentences = [match.span() for match in re.finditer(r"[^.!?\n](?:[^.!?\n]|[.](?=\d))*", text)]
    for start, end in (sentences[-1:] + sentences[:1]) if sentences else []:
        closing = {label for _, stop, label in spans if start <= stop <= end and not text[stop:end].strip(" \"')*")}
        if len(closing) == 1 and re.search(r"\b(?:is|are|was|be|=|equals)\b|=", text[start:end]):
            return closing.pop()
    return None


def _alone(text: str, labels: str) -> str | None:
    found = {
        match.group(1)
        for match in re.finditer(rf"(?<![\w'’.-])({labels})(?![\w'’]|-\w)", text)
        if match.group(1) not in ("A", "I") or not _article(text[match.end() :])
    }
    return found.pop() if len(found) == 1 else None


def _loose(option: str) -> str:
    """An option's text as a pattern: spaces and a final full stop do not matter."""
    words = option.strip().rstrip(".").split()
    return r"\s+".join(map(re.escape, words)) or r"(?!)"


def _without_markup(text: str) -> str:
    return re.sub(r"\*\*|__|`", "", text).strip()


def _verdict(question: Question, label: str) -> Verdict:
    if label == question.gold:
        return Verdict(label, True)
    return Verdict(label, False, WRONG_VALUE, f"chose {label}, the answer is {question.gold}")


# The source's four rules, rewritten. `far` and `near` are runs of text without a capital A to D.
_FAR, _NEAR, _LETTER = r"[^ABCD]{0,20}?", r"[^ABCD]{0,10}?", r"\b([ABCD])\b"
_PAPER_RULES = tuple(
    map(
        re.compile,
        (
            rf"(?:[Cc]hoose|(?:[Aa]nswer|[Cc]hoice)(?!{_FAR}(?:n't|not)){_NEAR}\b(?:is|:|be)?\b){_FAR}{_LETTER}",
            rf"{_LETTER}(?![^ABCD]{{0,8}}?(?:n't|not)[^ABCD]{{0,5}}?(?:correct|right)){_NEAR}\b(?:correct|right)\b",
            r"^([ABCD])(?:[.,:]|$)",
            r"(?<![a-zA-Z])([ABCD])(?![a-zA-Z=])",
        ),
    )
)


def _most_alike(response: str, choices: Mapping[str, str]) -> str:
    """The label of the option whose text is most like the response.

    As thefuzz 0.22 has it, which stands on rapidfuzz: the first of the highest scores, Latin-1 letters left out.
    """
    from rapidfuzz import fuzz
    from rapidfuzz.utils import default_process

    def processed(text: str) -> str:
        return default_process("".join(letter for letter in text if not "\x80" <= letter <= "\xff"))

    asked = processed(default_process(response))
    scores = {text: fuzz.WRatio(asked, processed(text)) for text in choices.values()}
    best = max(scores, key=lambda text: scores[text])
    return next(label for label, text in choices.items() if text == best)
