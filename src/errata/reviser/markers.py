r"""A pair as one text that a model can write and a program can read back without guessing.

    ### Instruction
    Add up the list.
    ### Input
    1, 2, 3
    ### Response
    The sum is 6.
    ### End

A marker is a line by itself; a line of the pair that would be taken for one gets a backslash before it, which reading takes
off again. So every pair, whatever it holds, comes back as it was. The input is left out where it is empty.

Differs from the source: CoachLM writes `Instruction: ... Input: ... Response: ...` on one line, which cannot be read back
(`Input:` occurs inside 25 of its own rows), and ships no reader.
"""

import re
from dataclasses import dataclass

from errata.records import Pair

NO_MARKERS, HALF, TRUNCATED, DISORDERED = "no_markers", "half", "truncated", "disordered"
FIELDS = ("Instruction", "Input", "Response")
END = "End"
_MARKER = re.compile(r"[*_`]*\s*###\s*[*_]*\s*(instruction|input|response|end)\s*:?\s*[*_`]*\s*:?", re.IGNORECASE)
_LONGEST = 60  # characters; a longer line is no marker, and the pattern is slow on long runs of spaces


@dataclass(frozen=True)
class Malformed:
    """Why a text is no pair: the `reason` that is counted (one of the four above), and what was seen."""

    reason: str
    detail: str


def marker_in(text: str) -> str | None:
    """The first line of a text that would be read as a marker."""
    return next((line.strip() for line in text.split("\n") if _marker(line)), None)


def write(pair: Pair) -> str:
    """The pair's last turn between its markers."""
    parts = []
    for name, text in zip(FIELDS, (pair.instruction, pair.input, pair.output), strict=True):
        if text or name != "Input":
            parts += [f"### {name}", *map(_escape, text.split("\n"))]
    return "\n".join([*parts, f"### {END}"])


def read(text: str, finished: bool = True) -> tuple[str, str, str] | Malformed:
    """The pair in a text as (instruction, input, output), exactly as it was written, or why there is none.

    Spaces, a colon and markdown emphasis around a marker are overlooked, and so is what stands before the first one and
    behind the end. Both halves or nothing: a text with one of them only is no pair, nor one without its end.

    Args:
        text: what a model said, or what `write` wrote.
        finished: false where the model was cut short: then a missing part is `truncated`, not `half`.
    """
    found: list[tuple[str, list[str]]] = []
    ended = False
    for line in text.split("\n"):
        name = _marker(line)
        if name is None:
            if found:
                found[-1][1].append(line[1:] if line.startswith("\\") and _escapable(line) else line)
            continue
        if name == END:
            ended = True
            break
        found.append((name, []))
    names = [name for name, _ in found]
    if not names:
        if not finished:
            return Malformed(TRUNCATED, "cut before the first marker")
        return Malformed(NO_MARKERS, "it has none of the markers")
    if names not in (order := [[name for name in FIELDS if name in names]]):
        return Malformed(DISORDERED, f"markers {', '.join(names)}; expected {', '.join(order[0])}, each once")
    if not ended and (not finished or names[-1] == FIELDS[-1]):
        return Malformed(TRUNCATED, f"cut in {names[-1]}: no ### {END}")
    lacking = [name for name in (FIELDS[0], FIELDS[-1]) if name not in names]
    if lacking:
        return Malformed(HALF, f"no ### {lacking[0]}")
    texts = {name: "\n".join(lines) for name, lines in found}
    return texts["Instruction"], texts.get("Input", ""), texts["Response"]


def _marker(line: str) -> str | None:
    """The name of the marker that a line is, if it is one."""
    bare = line.strip()
    found = _MARKER.fullmatch(bare) if len(bare) <= _LONGEST else None
    return found[1].capitalize() if found else None


def _escapable(line: str) -> bool:
    """Whether a line is a marker, but for backslashes before it."""
    return _marker(line.lstrip("\\")) is not None


def _escape(line: str) -> str:
    return f"\\{line}" if _escapable(line) else line
