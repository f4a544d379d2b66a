r"""A reply cut into its marked parts, or the reason why it cannot be.

Our prompts ask for `<new_instruction> ... </new_instruction>`, `<new_input>`, `<new_answer>` and `<better_answer>`. Read
as well, at the beginning of a line: the brackets of the source (tianyi-lab/Reflection_Tuning: `[New Answer] ... [End]`),
so that its recorded replies can be replayed, and headings (`## New answer:`, `**New Answer:** ...`).

Differs from the source: an answer ends at the last end marker that closes a line, not at the "End" of any word; a part that
comes twice, or one that was not asked for, makes the reply ambiguous; "N/A" is a placeholder only where it stands alone.
"""

import re
from collections.abc import Sequence

NO_MARKERS, HALF, AMBIGUOUS, PLACEHOLDER, EMPTY = "no_markers", "half", "ambiguous", "placeholder", "empty"
CRITIQUE, INSTRUCTION, INPUT, ANSWER = "critique", "instruction", "input", "answer"

_NAME = r"(?:new|better|improved)[ _-](?:instruction|input|answer|response)"
_END = r"[*_`]{0,3}\[ ?/? ?end ?\][*_`]{0,3}"
_OPENING = re.compile(
    rf"(?:^[ \t]*|(?:</{_NAME}>|{_END})\s*)"
    r"(?:(?:[>#~-]|\d+[.)]|[*_]+(?=[ \t\d]))[ \t]*)*(?P<emphasis>[*_`]+)?"
    rf"(?:<(?P<tag>{_NAME})>|\[(?P<bracket>{_NAME})\]|(?P<heading>{_NAME})(?=[*_`]*[:：]|[*_`]*[ \t]*$))"
    r"(?(emphasis)[*_`]*[:：]?[*_`]*|[:：]?(?:[*_`]+[ \t]*$)?)",
    re.IGNORECASE | re.MULTILINE,
)
_CLOSED = re.compile(rf"(?:{_END}|</{_NAME}>)[ \t]*$", re.IGNORECASE | re.MULTILINE)
_ENDED_WITHIN = re.compile(rf"^[ \t]*{_END}[ \t]*\S", re.IGNORECASE | re.MULTILINE)
_BARE = ("```", "~~~")
_FENCE = re.compile(r"^[ \t]*(?:```|~~~)", re.MULTILINE)
_LEFTOVER = re.compile(r"\d+[.)]|[-*_]+")  # the numbering of the next marker, or a rule before it
_SHORT = 200  # characters: what is longer is no placeholder
_WHAT = r"(?:instruction|input|question|answer|response|text)"
_PLACEHOLDER = re.compile(
    r"\W*(?:n/?a|todo|tbd|(?:insert |write |put )?(?:your|the(?: text of the)?)(?: (?:new|better|improved|own))?"
    rf" {_WHAT}(?: (?:goes )?here| to the new instruction| that the new instruction is about)?|{_WHAT} (?:goes )?here)?\W*",
    re.IGNORECASE,
)
_LEFT_IN = re.compile(
    rf"[\[<{{](?:insert|write|put|your)\b[^\]>}}\n]{{0,40}}\b{_WHAT}\b[^\]>}}\n]{{0,20}}[\]>}}]", re.IGNORECASE
)
_NO_INPUT = re.compile(r"[\s()<>.*_-]*(?:n/?a|none|no input|not needed|empty)?[\s()<>.*_-]*", re.IGNORECASE)


def read(text: str, wanted: Sequence[str]) -> dict[str, str] | tuple[str, str]:
    """The parts of a reply by name, or (reason, evidence).

    Args:
        text: the reply.
        wanted: the parts that must be there: INSTRUCTION and ANSWER (an INPUT may come with them), or ANSWER alone.

    Returns:
        The wanted parts, INPUT where the reply gives one, and CRITIQUE: what stands before the first marker.
    """
    text = text.replace("\r\n", "\n")
    found = _sections(text)
    if not found:
        return NO_MARKERS, _start(text)
    names = [name for name, _ in found]
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        return AMBIGUOUS, f"{names.count(twice[0])} times a new {twice[0]}"
    parts = dict(found)
    may = {*wanted, INPUT} if INSTRUCTION in wanted else {*wanted}
    if strange := [name for name in parts if name not in may]:
        return AMBIGUOUS, f"a new {strange[0]}, which was not asked for"
    if missing := [name for name in wanted if name not in parts]:
        return HALF, f"no new {' and no new '.join(missing)}"
    if open_ends := [name for name, part in parts.items() if part is None]:
        return AMBIGUOUS, f"text stands behind the end of the new {open_ends[0]}"
    read_parts = {name: part for name, part in parts.items() if part is not None}
    if _NO_INPUT.fullmatch(read_parts.get(INPUT, "")[:_SHORT]):
        read_parts.pop(INPUT, None)
    for name, part in read_parts.items():
        if not part.strip("*_`#>~-:.… \t\n"):
            return EMPTY, f"nothing in the new {name}"
        if (len(part) < _SHORT and _PLACEHOLDER.fullmatch(part)) or _LEFT_IN.search(part):
            return PLACEHOLDER, f"new {name}: {_start(part)}"
    opening = _OPENING.search(text)
    critique = text[: opening.start()] if opening else ""
    return {CRITIQUE: re.sub(r"(?:```|~~~)\w*$", "", critique.strip()).strip("*#- \t\n"), **read_parts}


def asks_for(prompt: str, part: str) -> bool:
    """Whether a prompt names a marker that this part is read by."""
    return any(_part(name) == part for name in re.findall(rf"[\[<]({_NAME})[\]>]", prompt, re.IGNORECASE))


def _sections(text: str) -> list[tuple[str, str | None]]:
    """Each part's name and text, in order; None where it cannot be said where the text ends."""
    found: list[tuple[str, str | None]] = []
    opening, behind = _OPENING.search(text), 0
    fenced = False
    while opening is not None:
        fenced ^= len(_FENCE.findall(text, behind, opening.end())) % 2 == 1
        label = opening["tag"] or opening["bracket"] or opening["heading"]
        closing = re.compile(rf"</{label}>", re.IGNORECASE).search(text, opening.end()) if opening["tag"] else None
        following = _OPENING.search(text, closing.start() if closing else opening.end())
        end = following.start() if following else len(text)
        if closing:
            again = f"</{label}>".lower() in text[closing.end() : end].lower()
            part, behind = None if again else text[opening.end() : closing.start()], closing.end()
        else:
            part, length = _ended(text[opening.end() : end], following is not None, opening["bracket"] is not None)
            behind = opening.end() + length
        if part is not None:
            part, fenced = _without_stray_fences(part, fenced, following is not None and not closing)
        found.append((_part(label), part))
        opening = following
    return found


def _part(label: str) -> str:
    word = re.split(r"[ _-]", label.lower())[1]
    return ANSWER if word == "response" else word


def _ended(section: str, followed: bool, bracketed: bool) -> tuple[str | None, int]:
    """A section up to its end marker, the last that closes a line, or whole, where it has none; and how far it goes.

    None where it cannot be said: text stands behind the end; in the form in brackets also on its line.
    """
    ends = list(_CLOSED.finditer(section))
    if ends:
        behind = section[ends[-1].end() :].strip("`~*_- \t\n")
        return None if behind else section[: ends[-1].start()], ends[-1].end()
    if bracketed and _ENDED_WITHIN.search(section):
        return None, len(section)
    lines = section.rstrip().split("\n")
    while followed and len(lines) > 1 and (_LEFTOVER.fullmatch(lines[-1].strip()) or not lines[-1].strip()):
        del lines[-1]
    return "\n".join(lines), len(section)


def _without_stray_fences(part: str, fenced: bool, followed: bool) -> tuple[str, bool]:
    """Without the halves of code fences around markers, not around text, and whether one is open behind the part.

    Args:
        part: a section's text.
        fenced: a code fence is open where it begins.
        followed: another marker follows, which may have a fence of its own.
    """
    lines = part.strip().split("\n")
    if fenced and lines[0].strip() in _BARE:
        del lines[0]
        fenced = False
    if lines and lines[-1].strip() in _BARE and (fenced or followed) and len(_FENCE.findall("\n".join(lines))) % 2:
        del lines[-1]
        fenced = not fenced
    return "\n".join(lines).strip(), fenced


def _start(text: str) -> str:
    """The first words, as evidence."""
    words = " ".join(text.split())
    return words if len(words) <= 120 else f"{words[:119]}…"
