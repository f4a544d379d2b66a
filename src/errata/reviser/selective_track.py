"""A pair on its way through Selective Reflection-Tuning."""

from dataclasses import dataclass, field

from errata.records import Pair, Revision
from errata.reviser.base import DROPPED, KEPT, REVISED
from errata.reviser.reflecting import RESPONSE, Outcome
from errata.reviser.reflection import critiques


@dataclass
class Track:
    """What is known of a pair so far.

    Attributes:
        pair: what goes on, as far as is known.
        scores: what its revision will say was measured, of the original and of its new versions.
        known: the measures of `pair` that were taken; None where one is missing.
        unreplaced: why its response is not a new one: a reason and the evidence.
    """

    original: Pair
    pair: Pair
    scores: dict[str, float | None]
    known: dict[str, float | None] = field(default_factory=dict)
    dropped: str = ""
    unreplaced: tuple[str, str] | None = None
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def take(self, offer: Pair, **known: float) -> None:
        """The new version goes on; of what was measured only its own is known."""
        self.pair, self.known = offer, dict(known)

    def drop(self, reason: str, detail: str) -> None:
        """Nothing of it goes on."""
        self.dropped = reason
        self.notes.append(f"{reason}: {detail}")

    def revision(self) -> Revision:
        """What became of it: a pair that goes on has the reason of the stage that failed, if one did."""
        failed = [(stage, outcome) for stage, outcome in self.outcomes.items() if outcome.pair is None]
        notes = [f"{stage}: {outcome.reason}: {outcome.detail}" for stage, outcome in failed] + self.notes
        reasons = [outcome.reason for _, outcome in failed]
        if self.unreplaced and not self.dropped:
            reasons.append(self.unreplaced[0])
            notes += [] if RESPONSE in dict(failed) else [": ".join(self.unreplaced)]
        unused = [outcome.rejected or (outcome.pair or self.original).output for outcome in self.outcomes.values()]
        return Revision(
            self.original.id,
            self.original,
            None if self.dropped else self.pair,
            DROPPED if self.dropped else KEPT if self.pair is self.original else REVISED,
            reason=self.dropped or next(iter(reasons), ""),
            detail="; ".join(notes),
            critiques=critiques(self.outcomes),
            scores=self.scores,
            request_ids=tuple(f"{self.original.id}/{stage}" for stage in self.outcomes),
            rejected=unused[-1] if unused and (self.dropped or self.unreplaced) else "",
        )
