"""Selective Reflection-Tuning (V2): the instructor rewrites, and the student that will be trained decides what it keeps.

Li et al., 2024, arXiv 2402.10110; tianyi-lab/Reflection_Tuning, `selection_code`. IFD = ppl(y|x) / ppl(y) says how hard it
is to follow the instruction, r-IFD = ppl(x|y') / ppl(x) how well the response leads back to it.

1. The instructor rewrites the instruction; the student keeps the pair with the higher IFD (at a tie, the original).
2. The instructor rewrites the response of that one; the student keeps the one with the lower r-IFD.
3. Pairs whose response was not replaced are dropped, so that the set has one style of response; what is left must have
   both measures below 1, and may be cut to the share with the highest IFD.

Differs from the source: two requests a pair at most, and none for a pair that the student cannot score (the source makes all
four variants first); a measure that cannot be computed is missing, and never decides (the source's was 0, the best r-IFD).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from errata.records import Likelihoods, Pair, Request, Revision
from errata.reviser.base import DROPPED, KEPT, REVISED, Desk
from errata.reviser.reflecting import RESPONSE, STAGES, Outcome, Reflecting
from errata.reviser.reflection import critiques
from errata.reviser.sections import INSTRUCTION

UNSCORED, UNREPLACED, BELOW_TOP = "unscored", "unreplaced", "below_top_share"
IFD_LIMIT, RIFD_LIMIT = "ifd_limit", "rifd_limit"
_SCORES = ("ifd_before", "ifd_instruction", "ifd_after", "rifd_before", "rifd_after")
_NO_NUMBER = "no number"


@dataclass
class SelectiveReflection(Reflecting):
    """Selective Reflection-Tuning.

    Attributes:
        drop_unreplaced: drop the pairs whose response was not replaced; else they go on with the instruction they have.
        ifd_below, rifd_below: limits for what goes on (null: none).
        top_share: keep this share of what is left, by IFD (null: all of it).
    """

    drop_unreplaced: bool = True
    ifd_below: float | None = 1.0
    rifd_below: float | None = 1.0
    top_share: float | None = None

    asks: ClassVar[bool] = True
    scores: ClassVar[bool] = True
    embeds: ClassVar[bool] = False

    def problems(self) -> list[str]:
        """Limits or a share out of range; criteria, prompts or filters that cannot be used."""
        found = self.stage_problems(list(STAGES))
        for name in ("ifd_below", "rifd_below"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                found.append(f"reviser.{name} is {value}: choose a ratio above 0 (the paper's is 1), or null for no limit")
        if self.top_share is not None and not 0 < self.top_share <= 1:
            found.append(f"reviser.top_share is {self.top_share}: choose a share above 0 and up to 1, or null for all")
        return found

    def expected(self, pairs: Sequence[Pair]) -> list[Request]:
        """Two requests a pair, at most; those for the response show the original pair in place of the kept one."""
        return [request for stage in STAGES for request in self.requests(stage, pairs)]

    def revise(self, pairs: Sequence[Pair], desk: Desk) -> list[Revision]:
        """Each pair as the student chose it, or why it is dropped."""
        tracks = [_Track(pair, pair) for pair in pairs]
        self._score_originals(tracks, desk)
        self._choose_instructions([track for track in tracks if not track.dropped], desk)
        self._choose_responses([track for track in tracks if not track.dropped], desk)
        self._score_finals([track for track in tracks if not track.dropped], desk)
        if self.top_share is not None:
            left = [track for track in tracks if not track.dropped]
            left.sort(key=lambda track: -(track.ifd or 0))
            places = math.floor(self.top_share * len(left) + 1e-9)
            for rank, track in enumerate(left[places:], places + 1):
                track.drop(BELOW_TOP, f"IFD {track.ifd:.4f}, rank {rank} of {len(left)}")
        return [track.revision() for track in tracks]

    def _score_originals(self, tracks: "list[_Track]", desk: Desk) -> None:
        """Those that the student cannot score are out before anything is paid for them."""
        found = desk.score("ifd_before", [track.pair for track in tracks], ifd=True, rifd=False) if tracks else []
        for track, losses in zip(tracks, found, strict=True):
            track.scores["ifd_before"] = track.ifd = _finite(losses.ifd)
            if track.ifd is None:
                track.drop(UNSCORED, f"IFD of the original: {losses.missing or _NO_NUMBER}")

    def _choose_instructions(self, tracks: "list[_Track]", desk: Desk) -> None:
        """The new instruction with its answer goes on where its IFD is the higher one, else the original."""
        offers = [(track, offer) for track, offer in self._asked(INSTRUCTION, tracks, desk) if offer is not None]
        new = [replace(offer, id=f"{offer.id}/{INSTRUCTION}") for _, offer in offers]
        found = desk.score("ifd_instruction", new, ifd=True, rifd=False) if new else []
        for (track, offer), losses in zip(offers, found, strict=True):
            ifd = track.scores["ifd_instruction"] = _finite(losses.ifd)
            if ifd is None:
                track.notes.append(f"IFD of the new instruction: {losses.missing or _NO_NUMBER}")
            elif track.ifd is not None and ifd > track.ifd:
                track.pair, track.ifd = offer, ifd

    def _choose_responses(self, tracks: "list[_Track]", desk: Desk) -> None:
        """The new response goes on where its r-IFD is the lower one."""
        offers = self._asked(RESPONSE, tracks, desk)
        limited = not self.drop_unreplaced and self.rifd_below is not None
        scored = [(track, offer) for track, offer in offers if offer is not None or limited]
        kept = [replace(track.pair, id=f"old/{track.pair.id}") for track, _ in scored]
        new = [replace(offer, id=f"new/{offer.id}") for _, offer in scored if offer is not None]
        found = {one.id: one for one in desk.score("rifd", [*kept, *new], ifd=False, rifd=True)} if kept else {}
        for track, offer in offers:
            before, after = (found.get(name, Likelihoods("")) for name in (f"old/{track.pair.id}", f"new/{track.pair.id}"))
            old, new_one = _finite(before.rifd), _finite(after.rifd)
            track.scores |= {"rifd_before": old, "rifd_after": new_one}
            if offer is None:
                outcome = track.outcomes[RESPONSE]
                track.unreplaced = (outcome.reason, outcome.detail)
            elif old is None or new_one is None:
                track.unreplaced = (UNSCORED, f"r-IFD: {before.missing or after.missing or _NO_NUMBER}")
            elif new_one < old:
                track.pair, track.ifd = offer, None
            else:
                track.unreplaced = (UNREPLACED, f"r-IFD {new_one:.4f}, {old:.4f} before")
            if track.unreplaced and self.drop_unreplaced:
                track.drop(*track.unreplaced)

    def _score_finals(self, tracks: "list[_Track]", desk: Desk) -> None:
        """What exceeds a limit, or cannot be held against it, is out."""
        unknown = [track for track in tracks if not track.unreplaced]
        found = desk.score("ifd_after", [track.pair for track in unknown], ifd=True, rifd=False) if unknown else []
        for track, losses in zip(unknown, found, strict=True):
            track.ifd = _finite(losses.ifd)
            if track.ifd is None:
                track.notes.append(f"IFD of the new response: {losses.missing or _NO_NUMBER}")
        for track in tracks:
            track.scores["ifd_after"] = track.ifd
            rifd = track.scores["rifd_before" if track.unreplaced else "rifd_after"]
            ranked = None if self.top_share is None else math.inf  # a pair without an IFD has no rank
            for name, value, below in (("IFD", track.ifd, self.ifd_below or ranked), ("r-IFD", rifd, self.rifd_below)):
                if below is None or track.dropped:
                    continue
                if value is None:
                    track.drop(UNSCORED, f"{name} of what would go on")
                elif value >= below:
                    track.drop(IFD_LIMIT if name == "IFD" else RIFD_LIMIT, f"{name} {value:.4f}, below {below:g} is allowed")

    def _asked(self, stage: str, tracks: "list[_Track]", desk: Desk) -> "list[tuple[_Track, Pair | None]]":
        """Each track with the pair that the instructor makes of its own, None where that failed."""
        pairs = [track.pair for track in tracks]
        outcomes = self.outcomes(stage, pairs, desk.ask(stage, self.requests(stage, pairs)))
        for track, outcome in zip(tracks, outcomes, strict=True):
            track.outcomes[stage] = outcome
        return [(track, outcome.pair) for track, outcome in zip(tracks, outcomes, strict=True)]


@dataclass
class _Track:
    """A pair on its way.

    Attributes:
        pair: what goes on, as far as is known.
        ifd: its IFD; None where it is not known (yet).
        unreplaced: why its response is not a new one: a reason and the evidence.
    """

    original: Pair
    pair: Pair
    ifd: float | None = None
    dropped: str = ""
    unreplaced: tuple[str, str] | None = None
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    scores: dict[str, float | None] = field(default_factory=lambda: dict.fromkeys(_SCORES))

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


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
