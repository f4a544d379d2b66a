"""An instructor's reply, cut into its problems: what the layouts of all kinds of practice share."""

import json
import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from itertools import zip_longest
from typing import Any

_HEADING = re.compile(
    r"^[ \t]*(?:(?:\#+[ \t]*)?\**(?:Problem|Question)[ \t]*\#?\d+[ \t]*\**[ \t]*[:.)]?\**|\d+[.)][ \t]*(?=\**Question\b))",
    re.MULTILINE | re.IGNORECASE,
)
_DIAGNOSIS = re.compile(r"^\W*Diagnosis(?:\W*:[\s*_]*|[ \t]*\n\s*)(.+)", re.MULTILINE | re.IGNORECASE | re.DOTALL)
LABEL = re.compile(r"^[ \t]*\**Question\**[ \t]*:\**[ \t]*", re.MULTILINE | re.IGNORECASE)
"""What stands before a question's text."""


def split_problems(reply: str, written: Callable[[Mapping[str, Any]], str]) -> list[str]:
    """The text of each problem, behind its heading (`### Problem 1`); of each `Question:` where there are no headings.

    A reply in JSON (`{"problems": [...]}`) gives the same texts: `written` writes one of its problems in the plain layout.
    """
    problems = _json_problems(reply)
    if problems is not None:
        return [written(defaultdict(str, problem)) for problem in problems]
    starts = [match.span() for match in _HEADING.finditer(reply)]
    if not starts:
        starts = [(match.start(), match.start()) for match in LABEL.finditer(reply)]
    ends = [start for start, _ in starts[1:]]
    return [reply[start:end] for (_, start), end in zip_longest(starts, ends)]


def diagnosis(reply: str) -> str:
    """What the reply says, ahead of its problems, went wrong; "" where it says nothing."""
    said = _json(reply)
    if said is not None:
        return str(said.get("diagnosis") or "").strip()
    if re.sub(r"^```(?:json)?\s*", "", reply.strip()).startswith("{"):
        return ""  # JSON that was cut
    first = min((match.start() for match in (_HEADING.search(reply), LABEL.search(reply)) if match), default=len(reply))
    found = _DIAGNOSIS.search(reply[:first])
    return " ".join(re.sub(r"\n\s*-{3,}\s*$", "", found.group(1)).split()).strip("* ") if found else ""


def _json_problems(reply: str) -> list[dict[str, Any]] | None:
    """The problems of a reply that is JSON; None where it is none."""
    said = _json(reply)
    found = None if said is None else said.get("problems")
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else None


def _json(reply: str) -> dict[str, Any] | None:
    """A reply that is a JSON object, perhaps in a code fence."""
    text = re.sub(r"^```(?:json)?\s*|\s*```$", "", reply.strip())
    try:
        found = json.loads(text) if text.startswith("{") else None
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
