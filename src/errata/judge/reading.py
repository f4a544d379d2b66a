"""What a judge's words say: two scores, a choice, a rating, by strict rules; None where they say nothing clear.

A verdict that cannot be read is missing. Guessing would count as a verdict what is none: "the 2 answers have 3 faults" holds
two numbers and no scores.
"""

import re
import unicodedata

from errata.records import Reply

_CUT = ("length", "content_filter")
_LINES = 3  # how far down a verdict may stand, behind an opening remark
_THOUGHT = re.compile(r"<think>.*?(?:</think>|\Z)|\A.*?</think>", re.DOTALL)
_WHO = r"(?:assistant|answer|response|model|candidate|output|system|ai|助手|回答|答案|模型|回复)"
_LABEL = re.compile(rf"{_WHO}['\"*\s_#-]*([12ab])\b", re.IGNORECASE)
_SCALE = re.compile(
    r"\(\s*\d+\s*(?:-|–|~|to|至|到)\s*\d+\s*\)|\(?(?:\s*/\s*|\bout\s+of\s+)10(?:\.0+)?(?!\d|\.\d)\)?", re.IGNORECASE
)
_NUMBER = re.compile(r"(?<![A-Za-z0-9_.])[-−]?\d+(?:\.\d+)?(?![A-Za-z0-9_%]|\.\d)")
_FILLER = re.compile(
    r"\b(?:the|scores?|ratings?|verdict|points?|and|vs\.?|versus|is|are|gets?|overall|final|of|for)\b|'s\b|总分|评分|得分|分数|打分|分别|分|和|与|为|是",
    re.IGNORECASE,
)
_ENUMERATED = re.compile(r"^\W*\d+[.)]\s")
_COMMA = re.compile(r"(?<![\d.,])(\d),(\d{1,2})(?![\d,]|\.\d)")
_DECIMAL_COMMAS = re.compile(r"^\D*\d,\d\s+\d,\d\D*$")
_TIE = re.compile(
    r"^(?:it(?: s| is) )?(?:an? )?(?:tie|tied|draw|equal|both (?:are )?equal(?:ly good)?|平局|平手|一样好?|不分上下|c)$"
)
_SAID = r"(?:scores?|rating|rate (?:it|this|that|the \w+)|grade|评分|得分|分数|打分|给分)"
_ANNOUNCED = re.compile(
    r"^(?:my |the |final |best )*(?:verdict|decision|choice|winner|preference|结论|选择)\s*(?:is\b|为|是)?\s*"
)
_CHOICE = re.compile(rf"^(?:{_WHO}[\s_#]*)?([12ab])$")
_BETTER = r"(?:is (?!not\b)(?:\w+ ){0,2}?(?<!not )(?:better|best|stronger|preferred|winner)\b|wins\b|更[好优佳]|较好|胜)"
_PREFERS = re.compile(rf"^{_WHO}[\s_#]*([12ab])\s*{_BETTER}")


def scores(text: str, lowest: float = 1, highest: float = 10) -> tuple[float, float] | None:
    """The two scores on the first line, in the order in which the answers were shown, or labelled (`Answer 1: 8`).

    Up to two lines of opening remarks are passed over, and two labelled lines are read as one.
    """
    lines = [line for line in _plain(text).splitlines() if line.strip()][:_LINES]
    for number, line in enumerate(lines):
        found = _two(line)
        if found is None and number + 1 < len(lines) and _one_label(line) and _one_label(lines[number + 1]):
            found = _two(f"{line} {lines[number + 1]}")
        if found is not None:
            return found if all(lowest <= score <= highest for score in found) else None
    return None


def choice(text: str) -> tuple[float, float] | None:
    """Which answer the first line prefers: (1, 0), (0, 1), or (0.5, 0.5) for a tie."""
    lines = [line for line in _plain(text).splitlines() if line.strip()]
    if not lines:
        return None
    line = " ".join(re.sub(r"[*_`\[\]()\"'’{}:.,!]+", " ", lines[0].lower()).split())
    line = _ANNOUNCED.sub("", line)
    if _TIE.fullmatch(line):
        return 0.5, 0.5
    found = _CHOICE.fullmatch(line) or _PREFERS.match(line)
    if found is None:
        return None
    return (1.0, 0.0) if found.group(1) in "1a" else (0.0, 1.0)


def rating(text: str, lowest: float, highest: float) -> float | None:
    """One score between the limits: first on its line, or behind a word that announces it (`Score: 4.5/5`, `得分:0.8`).

    A score of another scale (`4.5/10` where the highest is 5) is none.
    """
    plain = re.sub(r"\(\s*\d+\s*(?:-|–|~|to|至|到)\s*\d+\s*\)|[*_`#\[\]()\"'{}]", " ", _plain(text))
    top = rf"{highest:g}(?:\.0+)?"
    plain = _COMMA.sub(r"\1.\2", plain)
    number = r"([-−]?\d+(?:\.\d+)?)(?!\d|\.\d)(?!\s*(?:-|–|~|to\b|到|至)\s*\d)(?!\s*%)"
    scale = rf"\s*(?:(?:/|out of)\s*{top}(?![\d.]))?(?!\s*(?:/|out of)\s*\d)"
    lines = [line.strip() for line in plain.splitlines() if line.strip()]
    start = rf"{number}{scale}\s*(?:points?|分)?\s*(?:$|[,;:.]\s|[-–—]\s)"
    found = next((match for line in lines[:_LINES] if (match := re.match(start, line, re.IGNORECASE))), None)
    if found is not None and re.match(r"\d+\.\s+\S", found.string):  # an enumeration
        found = None
    announced = rf"{_SAID}[^\d\n]{{0,24}}?(?<![\w.]){number}{scale}"
    found = found or re.search(announced, plain, re.IGNORECASE)
    if found is None:
        return None
    value = float(found.group(1).replace("−", "-"))
    return value if lowest <= value <= highest else None


def whole_lines(reply: Reply) -> str:
    """What can be trusted of a reply's words: of one that was cut, all lines but the last (`10 1` may have been `10 10`)."""
    text = reply.text or ""
    return text[: text.rfind("\n") + 1] if reply.finish_reason in _CUT else text


def _plain(text: str) -> str:
    """Without the thinking, with full-width signs as ASCII."""
    return unicodedata.normalize("NFKC", _THOUGHT.sub("", text)).replace("、", ",").replace("。", ".").strip()


def _two(line: str) -> tuple[float, float] | None:
    if _ENUMERATED.match(line):
        return None
    line = _SCALE.sub(" ", line)
    if _DECIMAL_COMMAS.match(line):
        line = re.sub(r"(\d),(\d)", r"\1.\2", line)
    labels = [match.group(1).lower() for match in _LABEL.finditer(line)]
    bare = _LABEL.sub(" ; ", line)
    numbers = [float(match.group().replace("−", "-")) for match in _NUMBER.finditer(bare)]
    rest = _FILLER.sub(" ", _NUMBER.sub(" ", bare))
    if len(numbers) != 2 or re.search(r"[^\s\[\]{}()\"'*_#`|,;:=&.>~-]", rest):
        return None
    if labels and labels not in (["1", "2"], ["a", "b"], ["2", "1"], ["b", "a"]):
        return None
    first, second = numbers
    return (second, first) if labels in (["2", "1"], ["b", "a"]) else (first, second)


def _one_label(line: str) -> bool:
    return len(_LABEL.findall(line)) == 1
