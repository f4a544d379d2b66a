"""LEC, Learning from Error by Contrast (LLMs-as-Instructors): the error, behind the nearest questions that were right.

Only the questions of the successes are shown, as in the source, not the student's right answers. `lec` sends no gold answer;
`lec_informed` adds the right answer, its working and how the student failed. Differs from the source: the encoder (MiniLM by
default; `retrieval=bert` is the paper's), and a question that was asked twice is never its own neighbour.
"""

from dataclasses import dataclass
from typing import ClassVar

from errata.strategy.le import LE


@dataclass
class LEC(LE):
    """Learning from Error by Contrast."""

    name: str = "lec"

    contrasts: ClassVar[bool] = True
