"""Selective Reflection-Tuning (V2): the instructor rewrites, and the student that will be trained decides what it keeps.

Li et al., 2024, arXiv 2402.10110; tianyi-lab/Reflection_Tuning, `selection_code`. IFD = ppl(y|x) / ppl(y) says how hard it
is to follow the instruction, r-IFD = ppl(x|y') / ppl(x) how well the response leads back to it.

1. The instructor rewrites the instruction; the student keeps the pair with the higher IFD (at a tie, the original).
2. The instructor rewrites the response of that one; the student keeps the one with the lower r-IFD.
3. Pairs whose response was not replaced are dropped, so that the set has one style of response; what is left must have
   both measures below 1, and may be cut to the share with the highest IFD.

The ablation makes either choice by something else, `selective_measures.py`; what is needed for no choice and no limit is not
measured.

Differs from the source: two requests a pair at most, none where the original lacks the measure that the first choice goes by
(the source makes all four variants first); a measure that cannot be computed is missing, and never decides (the source's was
0, the best r-IFD).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from errata.records import Pair, Request, Revision
from errata.reviser.base import Desk
from errata.reviser.reflecting import RESPONSE, STAGES, Reflecting
from errata.reviser.sections import INSTRUCTION
from errata.reviser.selective_measures import (
    CHOICES,
    COHERENCE,
    IFD,
    LABELS,
    RIFD,
    SCORED,
    Measured,
    better,
    drawn,
    measured,
)  # fmt: skip
from errata.reviser.selective_track import Track

UNSCORED, UNREPLACED, BELOW_TOP = "unscored", "unreplaced", "below_top_share"
_UNKNOWN: Measured = (None, "")


@dataclass
class SelectiveReflection(Reflecting):
    """Selective Reflection-Tuning.

    Attributes:
        choose_instruction_by: what the student keeps a new instruction, with its answer, by: `ifd` (the higher one is kept),
            `rifd` (the lower), `perplexity` of the response given the instruction (the lower), `coherence`, the cosine of
            their vectors (the higher), `random`, a coin for each pair, or `always`, wherever there is a new one.
        choose_response_by: what it keeps a new response by; the same six.
        drop_unreplaced: drop the pairs whose response was not replaced; else they go on with the instruction they have.
        ifd_below, rifd_below: limits for what goes on (null: none), whatever the choices were made by.
        top_share: keep this share of what is left, by IFD (null: all of it).
    """

    choose_instruction_by: str = IFD
    choose_response_by: str = RIFD
    drop_unreplaced: bool = True
    ifd_below: float | None = 1.0
    rifd_below: float | None = 1.0
    top_share: float | None = None

    asks: ClassVar[bool] = True

    @property
    def scores(self) -> bool:
        """Where a choice, a limit or the share goes by what the run's model scores."""
        return any(by in SCORED for by in (self.choose_instruction_by, self.choose_response_by)) or bool(self._limits())

    @property
    def embeds(self) -> bool:
        """Where a choice goes by coherence."""
        return COHERENCE in (self.choose_instruction_by, self.choose_response_by)

    def problems(self) -> list[str]:
        """Choices by nothing that is known, limits or a share out of range; criteria, prompts or filters that are no use."""
        found = self.stage_problems(list(STAGES))
        for name in ("choose_instruction_by", "choose_response_by"):
            if getattr(self, name) not in CHOICES:
                found.append(f"reviser.{name} is {getattr(self, name)!r}: choose one of {', '.join(CHOICES)}")
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
        tracks = [Track(pair, pair, dict.fromkeys(self._score_names())) for pair in pairs]
        self._measure_originals(tracks, desk)
        self._choose_instructions(_left(tracks), desk)
        self._choose_responses(_left(tracks), desk)
        self._hold_to_limits(_left(tracks), desk)
        if self.top_share is not None:
            left = sorted(_left(tracks), key=lambda track: -(track.known[IFD] or 0))
            places = math.floor(self.top_share * len(left) + 1e-9)
            for rank, track in enumerate(left[places:], places + 1):
                track.drop(BELOW_TOP, f"IFD {track.known[IFD]:.4f}, rank {rank} of {len(left)}")
        return [track.revision() for track in tracks]

    def _measure_originals(self, tracks: list[Track], desk: Desk) -> None:
        """Those without the measure of the first choice are out before anything is paid for them."""
        by = self.choose_instruction_by
        if by not in LABELS:
            return
        found = measured(by, f"{by}_before", [track.pair for track in tracks], desk)
        for track, (value, missing) in zip(tracks, found, strict=True):
            track.scores[f"{by}_before"] = track.known[by] = value
            if value is None:
                track.drop(UNSCORED, f"{LABELS[by]} of the original: {missing}")

    def _choose_instructions(self, tracks: list[Track], desk: Desk) -> None:
        """The new instruction with its answer goes on where it is the better one, else the original."""
        by = self.choose_instruction_by
        offers = [(track, offer) for track, offer in self._asked(INSTRUCTION, tracks, desk) if offer is not None]
        if by not in LABELS:
            for track, offer in offers:
                if drawn(by, desk.seed, offer.id, INSTRUCTION):
                    track.take(offer)
            return
        found = measured(by, f"{by}_instruction", [replace(one, id=f"{one.id}/{INSTRUCTION}") for _, one in offers], desk)
        for (track, offer), (value, missing) in zip(offers, found, strict=True):
            track.scores[f"{by}_instruction"], old = value, track.known[by]
            if value is None:
                track.notes.append(f"{LABELS[by]} of the new instruction: {missing}")
            elif old is not None and better(by, value, old):
                track.take(offer, **{by: value})

    def _choose_responses(self, tracks: list[Track], desk: Desk) -> None:
        """The new response goes on where it is the better one."""
        by = self.choose_response_by
        offers = self._asked(RESPONSE, tracks, desk)
        found = self._measure_responses(offers, desk) if by in LABELS else {}
        for track, offer in offers:
            old, missing_old = found.get(f"old/{track.pair.id}", _UNKNOWN)
            new, missing_new = found.get(f"new/{track.pair.id}", _UNKNOWN)
            if offer is None:
                track.unreplaced = (track.outcomes[RESPONSE].reason, track.outcomes[RESPONSE].detail)
            elif by not in LABELS:
                if drawn(by, desk.seed, offer.id, RESPONSE):
                    track.take(offer)
                else:
                    track.unreplaced = (UNREPLACED, "the coin left the response as it was")
            elif old is None or new is None:
                track.unreplaced = (UNSCORED, f"{LABELS[by]}: {missing_old or missing_new}")
            elif better(by, new, old):
                track.take(offer, **{by: new})
            else:
                track.unreplaced = (UNREPLACED, f"{LABELS[by]} {new:.4f}, {old:.4f} before")
            if track.unreplaced and self.drop_unreplaced:
                track.drop(*track.unreplaced)

    def _measure_responses(self, offers: "list[tuple[Track, Pair | None]]", desk: Desk) -> dict[str, Measured]:
        """By `old/ID` and `new/ID`; an old one without a new one is measured where a limit will ask for it."""
        by = self.choose_response_by
        limited = not self.drop_unreplaced and by in self._limits()
        kept = [track for track, offer in offers if (offer is not None or limited) and by not in track.known]
        pairs = [replace(track.pair, id=f"old/{track.pair.id}") for track in kept]
        pairs += [replace(offer, id=f"new/{offer.id}") for _, offer in offers if offer is not None]
        found = dict(zip((pair.id for pair in pairs), measured(by, by, pairs, desk), strict=True))
        for track, _ in offers:
            old, new = f"old/{track.pair.id}", f"new/{track.pair.id}"
            if old in found:
                track.scores[f"{by}_before"] = track.known[by] = found[old][0]
            elif by in track.known:
                found[old] = (track.known[by], "")
            track.scores[f"{by}_after"] = found.get(new, _UNKNOWN)[0]
        return found

    def _hold_to_limits(self, tracks: list[Track], desk: Desk) -> None:
        """What exceeds a limit, or cannot be held against it, is out."""
        for by in self._finals():
            left, name = _left(tracks), LABELS[by]
            unknown = [track for track in left if by not in track.known]
            found = measured(by, f"{by}_after", [track.pair for track in unknown], desk)
            for track, (value, missing) in zip(unknown, found, strict=True):
                track.known[by] = value
                if value is None:
                    track.notes.append(f"{name} of the {'kept' if track.unreplaced else 'new'} response: {missing}")
            for track in left:
                value = track.known[by]
                if by != self.choose_response_by:
                    track.scores[f"{by}_after"] = value
                below = self._limits().get(by)
                if below is not None and value is None:
                    track.drop(UNSCORED, f"{name} of what would go on")
                elif below is not None and value is not None and value >= below:
                    track.drop(f"{by}_limit", f"{name} {value:.4f}, below {below:g} is allowed")

    def _limits(self) -> dict[str, float]:
        """By measure; infinite where all that is wanted is that there is one: a pair without an IFD has no rank."""
        ranked = None if self.top_share is None else math.inf
        limits = {IFD: self.ifd_below or ranked, RIFD: self.rifd_below}
        return {by: below for by, below in limits.items() if below is not None}

    def _finals(self) -> list[str]:
        """The measures of what goes on: those with a limit, and IFD where an instruction was chosen by it."""
        told = {IFD} if self.choose_instruction_by == IFD and self.choose_response_by != IFD else set()
        return [by for by in (IFD, RIFD) if by in {*self._limits(), *told}]

    def _score_names(self) -> list[str]:
        """What each revision has a score for, missing or not."""
        when = {
            "before": (self.choose_instruction_by, self.choose_response_by),
            "instruction": (self.choose_instruction_by,),
            "after": (self.choose_response_by, *self._finals()),
        }
        return [f"{by}_{moment}" for by in LABELS for moment, those in when.items() if by in those]

    def _asked(self, stage: str, tracks: list[Track], desk: Desk) -> "list[tuple[Track, Pair | None]]":
        """Each track with the pair that the instructor makes of its own, None where that failed."""
        pairs = [track.pair for track in tracks]
        outcomes = self.outcomes(stage, pairs, desk.ask(stage, self.requests(stage, pairs)))
        for track, outcome in zip(tracks, outcomes, strict=True):
            track.outcomes[stage] = outcome
        return [(track, outcome.pair) for track, outcome in zip(tracks, outcomes, strict=True)]


def _left(tracks: Sequence[Track]) -> list[Track]:
    return [track for track in tracks if not track.dropped]
