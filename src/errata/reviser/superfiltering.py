"""Superfiltering (Li et al., 2024, tianyi-lab/Superfiltering): a small model's IFD picks the pairs worth training on.

A pair whose instruction makes its response no likelier (IFD of 1 or more) does not fit together; one of low IFD is learnt
already; the hardest below 1 are kept. With `diverse_share` (the source's ".D") the most different of these are.
Differs from the source: the share is of the pairs that are given, not of 52,002; a pair that cannot be scored is dropped
and counted, not scored 0; at least one pair is kept where one is below the limit.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from errata.records import Likelihoods, Pair, Revision
from errata.reviser.base import DROPPED, KEPT, AsksNobody, Desk
from errata.reviser.facility_location import SIMILARITIES, choose

MISSING, NOT_IN_TOP_SHARE, NOT_DIVERSE = "missing", "not_in_top_share", "not_diverse"


@dataclass
class Superfiltering(AsksNobody):
    """Keeps the hardest pairs, by the run's model.

    Attributes:
        share: how many are kept, as a share of all pairs.
        below: pairs of this IFD or a higher one are dropped first.
        measure: IFD as a ratio of perplexities (`ppl`) or of mean losses (`loss`, as Cherry LLM has it).
        diverse_share: with diversity, how many of the kept ones remain, as a share of all pairs (the source: share 0.2, then
            0.02); None: all.
        embed: by which text pairs are told apart: `whole`, `instruction` (with its input) or `response`.
        similarity: of vectors: `cosine`, or `euclidean` as in the source.
    """

    share: float = 0.1
    below: float = 1.0
    measure: str = "ppl"
    diverse_share: float | None = None
    embed: str = "whole"
    similarity: str = "cosine"

    scores: ClassVar[bool] = True

    @property
    def embeds(self) -> bool:
        """Where the most different ones are looked for."""
        return self.diverse_share is not None

    def problems(self) -> list[str]:
        """Shares out of range, and words that mean nothing."""
        found = []
        if not 0 < self.share <= 1:
            found.append(f"reviser.share is {self.share}: choose a share above 0 and up to 1")
        if not (self.below > 0 and math.isfinite(self.below)):
            found.append(f"reviser.below is {self.below}: choose an IFD above 0 (1: a pair that fits together)")
        if self.diverse_share is not None and not 0 < self.diverse_share <= self.share:
            found.append(
                f"reviser.diverse_share is {self.diverse_share}: choose above 0 and up to share ({self.share}), or null"
            )
        for name, value, allowed in (
            ("measure", self.measure, ("ppl", "loss")),
            ("embed", self.embed, ("whole", "instruction", "response")),
            ("similarity", self.similarity, SIMILARITIES),
        ):
            if value not in allowed:
                found.append(f"reviser.{name} is {value!r}: choose {' or '.join(allowed)}")
        return found

    def revise(self, pairs: Sequence[Pair], desk: Desk) -> list[Revision]:
        """Each pair kept as it is, or dropped for its reason; of pairs with one IFD the first is taken."""
        likelihoods = desk.score("ifd", pairs, ifd=True, rifd=False)
        found = [self._ifd(one) for one in likelihoods]
        hard = [(-value, place) for place, value in enumerate(found) if value is not None and value < self.below]
        top = sorted(place for _, place in sorted(hard)[: count_of(self.share, len(pairs))])
        kept, in_top = set(self._diverse([pairs[place] for place in top], top, len(pairs), desk)), set(top)
        revisions = []
        for place, (pair, value, losses) in enumerate(zip(pairs, found, likelihoods, strict=True)):
            reason, detail = "", ""
            if value is None:
                reason, detail = MISSING, losses.missing
            elif value >= self.below:
                reason, detail = f"ifd_not_below_{self.below:g}", f"IFD {value:.4f}"
            elif place not in kept:
                reason, detail = NOT_DIVERSE if place in in_top else NOT_IN_TOP_SHARE, f"IFD {value:.4f}"
            revisions.append(
                Revision(pair.id, pair, None if reason else pair, DROPPED if reason else KEPT, reason, detail,
                         scores={"ifd": value})
            )  # fmt: skip
        return revisions

    def _ifd(self, losses: Likelihoods) -> float | None:
        if self.measure == "ppl":
            return losses.ifd
        if not losses.response or losses.response_given is None:
            return None
        return losses.response_given / losses.response

    def _diverse(self, pairs: Sequence[Pair], places: Sequence[int], all_pairs: int, desk: Desk) -> list[int]:
        if self.diverse_share is None or not pairs:
            return list(places)
        vectors = desk.embed([self._text(pair) for pair in pairs])
        return [places[number] for number in choose(vectors, count_of(self.diverse_share, all_pairs), self.similarity)]

    def _text(self, pair: Pair) -> str:
        texts = {"instruction": pair.prompt, "response": pair.output}
        return texts.get(self.embed, f"{pair.prompt}\n\n{pair.output}")


def count_of(share: float, total: int) -> int:
    """The share rounded down, as in the source, but one at least; a share like 0.29 of 100 is 29, not 28."""
    return max(1, math.floor(share * total + 1e-9))
