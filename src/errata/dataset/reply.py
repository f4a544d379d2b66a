"""An instructor's reply, cut into its problems: what the layouts of all kinds of practice share."""

import re
from itertools import zip_longest

_HEADING = re.compile(
    r"^[ \t]*(?:(?:\#+[ \t]*)?\**(?:Problem|Question)[ \t]*\#?\d+[ \t]*\**[ \t]*[:.)]?\**|\d+[.)][ \t]*(?=\**Question\b))",
    re.MULTILINE | re.IGNORECASE,
)
LABEL = re.compile(r"^[ \t]*\**Question\**[ \t]*:\**[ \t]*", re.MULTILINE | re.IGNORECASE)
"""What stands before a question's text."""


def split_problems(reply: str) -> list[str]:
    """The text of each problem, behind its heading (`### Problem 1`); of each `Question:` where there are no headings."""
    starts = [match.span() for match in _HEADING.finditer(reply)]
    if not starts:
        starts = [(match.start(), match.start()) for match in LABEL.finditer(reply)]
    ends = [start for start, _ in starts[1:]]
    return [reply[start:end] for (_, start), end in zip_longest(starts, ends)]
