"""Reflection-Tuning (V1): the instructor rewrites every pair, the instruction first and then the response.

Li et al., 2023, arXiv 2310.11716. Asks at most twice a pair. What is asked and how replies are read: `reflecting.py`.

Differs from the source: a pair of which a stage makes nothing goes on as it was before that stage, whole, with the reason.
(The source's response stage wrote an empty set; its fall-backs joined new instructions to old answers.)
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from errata.records import Pair, Request, Revision
from errata.reviser.base import KEPT, REVISED, Desk
from errata.reviser.reflecting import STAGES, Outcome, Reflecting


@dataclass
class Reflection(Reflecting):
    """Reflection-Tuning.

    Attributes:
        stages: what is rewritten: `instruction` (with an answer of its own), `response`, or both in this order.
    """

    stages: list[str] = field(default_factory=lambda: list(STAGES))

    asks: ClassVar[bool] = True
    scores: ClassVar[bool] = False
    embeds: ClassVar[bool] = False

    def problems(self) -> list[str]:
        """Unknown stages, or stages in another order; criteria, prompts or filters that cannot be used."""
        if not self.stages or self.stages != [stage for stage in STAGES if stage in self.stages]:
            given = ", ".join(self.stages)
            return [
                f"reviser.stages is [{given}]: choose [instruction], [response] or [instruction,response]",
                *self.stage_problems([stage for stage in STAGES if stage in self.stages]),
            ]
        return self.stage_problems(self.stages)

    def expected(self, pairs: Sequence[Pair]) -> list[Request]:
        """One request a stage and pair; those of the response stage show the original pair in place of the new one."""
        return [request for stage in self.stages for request in self.requests(stage, pairs)]

    def revise(self, pairs: Sequence[Pair], desk: Desk) -> list[Revision]:
        """Each pair as the last stage that made something of it left it."""
        current: list[Pair] = list(pairs)
        outcomes: list[dict[str, Outcome]] = [{} for _ in pairs]
        for stage in self.stages:
            replies = desk.ask(stage, self.requests(stage, current))
            for place, outcome in enumerate(self.outcomes(stage, current, replies)):
                outcomes[place][stage] = outcome
                current[place] = outcome.pair or current[place]
        return [revision(*one) for one in zip(pairs, current, outcomes, strict=True)]


def revision(original: Pair, final: Pair, outcomes: dict[str, Outcome]) -> Revision:
    """A pair's outcomes in one: where one stage of two failed, it is revised, and the reason is that stage's."""
    failed = {stage: outcome for stage, outcome in outcomes.items() if outcome.pair is None}
    return Revision(
        original.id,
        original,
        final,
        REVISED if len(failed) < len(outcomes) else KEPT,
        reason=next((outcome.reason for outcome in failed.values()), ""),
        detail="; ".join(f"{stage}: {outcome.reason}: {outcome.detail}" for stage, outcome in failed.items()),
        critiques=critiques(outcomes),
        request_ids=tuple(f"{original.id}/{stage}" for stage in outcomes),
        rejected=next((outcome.rejected for outcome in reversed(failed.values()) if outcome.rejected), ""),
    )


def critiques(outcomes: dict[str, Outcome]) -> dict[str, str]:
    """What was found wanting, by stage."""
    return {stage: outcome.critique for stage, outcome in outcomes.items() if outcome.critique}
