"""LLM2LLM (arXiv 2403.15042): practice from the wrong question and its right answer, without what the student wrote.

Its other choices are settings of their own, put together in `experiments=llm2llm`: errors on the original questions only,
each iteration from the base model (`policy=restart`), on original rows and all practice so far, nothing too like another row
(`gate=[...,rouge]`).
"""

from dataclasses import dataclass

from errata.strategy.le import LE


@dataclass
class LLM2LLM(LE):
    """The question and its worked answer; the student's answer is not shown."""

    name: str = "llm2llm"
