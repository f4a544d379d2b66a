"""MMCU: 11,845 Chinese multiple-choice questions in medicine, psychology, law and education.

Some have several right letters. An answer is right when its letters are the reference's, as sets. Nobody is asked.

Differs from the source: Alpaca-CoT ships no scorer for MMCU; the rules for reading letters are ours.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from errata.judge.base import Item
from errata.judge.graded import summarise
from errata.records import Judgement, Reply, Request

_SUBJECTS = {
    "医疗": "Medicine", "医学": "Medicine", "医药": "Medicine", "medicine": "Medicine", "medical": "Medicine",
    "心理": "Psychology", "心理学": "Psychology", "psychology": "Psychology",
    "法律": "Law", "法学": "Law", "law": "Law",
    "教育": "Education", "教育学": "Education", "education": "Education",
}  # fmt: skip
_LETTERS = re.compile(r"[\s,;/、]*(?:[A-H][\s,;/、]*)+")
_GROUP = r"(?<![A-Za-z])([A-H](?:\s*(?:(?:[,;/&+]|和|与|及|以及|and)\s*){0,2}[A-H](?![a-zI-Z]))*+)(?![A-Za-z])"
_LEAD = (
    r"(?:(?<!不)(?<!不应)(?<!不该)(?<!不能)(?:答案|选择?)(?!项)"
    r"|(?<!不)正确的?(?:选项|项)?(?=\s*[是为应:])"
    r"|(?i:\b(?:answers?|choose|select)\b(?: to the question)?|\bcorrect options?(?= is\b| are\b)))"
    r"(?:\s|[:\"'(*\[\]【】「]|是|为|应|该|选项|选|正确|的|项|(?i:\bis\b|\bare\b|\bwould be\b|\boptions?\b))*"
)
_STATED = re.compile(_LEAD + _GROUP)
_FIRST = re.compile(rf"^[\s\"'(*\[【「]*(?:选项|(?i:options?)\s*)?{_GROUP}\s*(?=$|[.:,;)\]】」*\"'\n]|项|是?正确|是?对的)")
_RIGHT = re.compile(rf"{_GROUP}\s*(?:[两三四]项|选项|项|都|均|是)*\s*(?:正确|对的)")
_OPTION = re.compile(r"^\s*([A-H])\s*[:.,、)]\s*(.+?)\s*$", re.MULTILINE)


@dataclass
class MMCU:
    """Right or wrong by the letters that the answer names first and clearly; one that names none is wrong."""

    asks: ClassVar[bool] = False
    compares: ClassVar[bool] = False

    def problems(self) -> list[str]:
        """There is nothing to set."""
        return []

    def requests(self, item: Item) -> list[Request]:
        """None."""
        return []

    def judgement(self, item: Item, replies: Sequence[Reply]) -> Judgement:
        """1 or 0; the part `named` says whether any letters were found. Without reference letters there is no verdict."""
        pair = item.question
        reference = unicodedata.normalize("NFKC", pair.output).upper()
        gold = frozenset(re.findall("[A-H]", reference) if _LETTERS.fullmatch(reference) else ())
        options = dict(_OPTION.findall(unicodedata.normalize("NFKC", f"{pair.input}\n{pair.instruction}")))
        found = letters(item.answer, options)
        return Judgement(
            pair.id, pair.source, pair.skill, score=float(found == gold) if gold else None,
            parts={"named": float(found is not None)}, reason="" if gold else "no_reference_letters",
            lengths=(len(item.answer), 0),
        )  # fmt: skip

    def summary(self, judgements: Sequence[Judgement]) -> dict[str, object]:
        """Accuracy by subject, and the macro average over them; how many answers named no letter."""
        found: dict[str, Any] = summarise(judgements, "accuracy, %", subject, list(dict.fromkeys(_SUBJECTS.values())))
        for name, row in found["sets"].items():
            row["named_no_letter"] = sum(j.testset == name and j.parts.get("named") == 0 for j in judgements)
        return found


def letters(answer: str, options: dict[str, str] | None = None) -> frozenset[str] | None:
    """The letters that an answer gives: the first clear statement of some; None where there is none.

    Args:
        answer: the model's words.
        options: the options' texts by letter: `A family` counts as A where that is what A says.
    """
    text = re.sub(r"<think>.*?(?:</think>|\Z)", "", answer, flags=re.DOTALL)
    text = unicodedata.normalize("NFKC", text).replace("、", ",").replace("。", ".").strip()
    for letter, said in (options or {}).items():
        if re.match(rf"{letter}\s*[:.]?\s*{re.escape(said.replace('、', ','))}", text):
            return frozenset(letter)
    for pattern in (_STATED, _FIRST, _RIGHT):
        found = pattern.search(text)
        if found and not re.match(r"\s*(?:或|还是|or\b|错|不对|不正确|不是)", text[found.end() :]):
            return frozenset(re.findall("[A-H]", found.group(1)))
    return None


def subject(skill: str) -> str:
    """The subject: the skill's first part, by its English name where it is one of the four."""
    first = re.split(r"[/:|,>]", unicodedata.normalize("NFKC", skill), maxsplit=1)[0].strip()
    return _SUBJECTS.get(first.lower(), first)
