"""Keeps what was rated high: AlpaGasus's choice of Alpaca's pairs by ChatGPT's ratings, an arm of CoachLM's table.

The ratings are those of a finished `errata judge judge=rating` run, so they are paid for once, whatever the limit.
"""

import json
import logging
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from errata.errors import DataError
from errata.jsonl import decode_lines
from errata.records import Judgement, Pair, Revision
from errata.reviser.base import DROPPED, KEPT, AsksNobody, Desk
from errata.reviser.expert import fingerprint
from errata.run_folder import read_stage

UNRATED, RATED_LOW, NO_RATING = "unrated", "rated_low", "no_rating"
_BEFORE = "before"  # the part of a judgement that holds the second answer's score
log = logging.getLogger("errata")


class Rating(NamedTuple):
    """A text's score; None where the judge gave none, for the reason."""

    score: float | None
    reason: str


@dataclass(frozen=True)
class _Item:
    """What was rated, of a judge's items: the answer, and the one it came from, where there is one."""

    question: Pair
    answer: str
    against: str | None = None
    against_question: Pair | None = None


@dataclass
class Rated(AsksNobody):
    """Keeps a pair that is rated `minimum` or more and drops any other, for its reason.

    A rating belongs to what was rated, white space aside, whatever its id: a run that rated pairs before and after a
    revision serves both. Reasons to drop one: `rated_low`, `unrated` (the run did not rate this text), and the judge's own
    where it gave no rating (`no_reply`, `unparsed`; `no_rating` of a text before its revision).

    Attributes:
        ratings: the run folder of `errata judge judge=rating`.
        minimum: the lowest rating that is kept.
    """

    ratings: str | None = None
    minimum: float = 4.5

    def problems(self) -> list[str]:
        """No run, one that is not finished or has rated nothing, or a limit off its scale."""
        if self.ratings is None:
            return ["reviser.ratings is not set: give the run folder of errata judge judge=rating"]
        where = f"reviser.ratings is {self.ratings!r}"
        stage = read_stage(self._folder)
        asked = read_stage(self._folder.parent / "instruct")
        if (stage is None and asked is not None) or (stage is not None and not stage.finished):
            return [f"{where}: that run is not finished; give its command again, which goes on where it stopped"]
        if stage is None:
            return [f"{where}: no judge's run is there; errata judge judge=rating leaves one (outputs/NAME-HASH)"]
        try:
            summary = json.loads((self._folder / "summary.jsonl").read_bytes())
            if summary["kind"] != "rating":
                return [f"{where}: that run's judge is {summary['kind']!r}, which gives no ratings; choose judge=rating's"]
            lowest, highest = summary["edges"][0], summary["edges"][-1]
        except (OSError, ValueError, LookupError, TypeError) as error:
            return [f"{where}: its judge/summary.jsonl cannot be read ({error}); give the judge's command again"]
        if not lowest < self.minimum <= highest:
            return [
                f"reviser.minimum is {self.minimum:g}: the ratings go from {lowest:g} to {highest:g}; "
                f"choose one above {lowest:g} and up to {highest:g}"
            ]
        return []

    def revise(self, pairs: Sequence[Pair], desk: Desk) -> list[Revision]:
        """As `outcomes`."""
        desk.relies_on("ratings", [self._folder / "items.jsonl", self._folder / "judgements.jsonl"])
        return self.outcomes(pairs)

    def outcomes(self, pairs: Sequence[Pair]) -> list[Revision]:
        """Each pair kept as it is, or dropped for its reason; the rating is among the scores.

        Raises:
            DataError: the ratings cannot be read, none is of one of these pairs, or none is high enough.
        """
        ratings = self._read()
        revisions = [self._revision(pair, ratings.get(_key(pair), Rating(None, UNRATED))) for pair in pairs]
        reasons = Counter(revision.reason for revision in revisions)
        if reasons[UNRATED] == len(pairs):
            raise DataError(
                f"reviser.ratings {self.ratings}: none of its {len(ratings)} rated texts is one of the {len(pairs)} pairs; "
                "choose the corpus that was rated, or rate this one (errata judge judge=rating)"
            )
        if not reasons[""]:
            highest = max((value for one in revisions if (value := one.scores["rating"]) is not None), default=math.nan)
            raise DataError(
                f"reviser.minimum is {self.minimum:g}: no pair is rated so high (the highest: {highest:g}); take a lower one"
            )
        if reasons[UNRATED]:
            log.warning(
                "%d of %d pairs are dropped because %s has no rating of them", reasons[UNRATED], len(pairs), self.ratings
            )
        return revisions

    def _revision(self, pair: Pair, rating: Rating) -> Revision:
        made = partial(Revision, pair.id, pair, scores={"rating": rating.score})
        if rating.score is None:
            return made(None, DROPPED, rating.reason)
        if rating.score < self.minimum:
            return made(None, DROPPED, RATED_LOW, f"{rating.score:g}, {self.minimum:g} is asked for")
        return made(pair, KEPT)

    def _read(self) -> dict[Any, Rating]:
        """The rating of each text; of one that was rated twice the first that there is."""
        try:
            items = decode_lines((self._folder / "items.jsonl").read_bytes(), _Item)
            judgements = decode_lines((self._folder / "judgements.jsonl").read_bytes(), Judgement)
        except (OSError, msgspec.DecodeError) as error:
            raise DataError(f"reviser.ratings {self.ratings}: {error}; give the judge's command again") from error
        if len(items) != len(judgements):
            raise DataError(f"reviser.ratings {self.ratings}: {len(items)} items, {len(judgements)} judgements; judge again")
        found: dict[Any, Rating] = {}
        for item, judgement in zip(items, judgements, strict=True):
            texts = [(item.question, item.answer, Rating(judgement.score, judgement.reason))]
            if item.against is not None and _BEFORE in judgement.parts:
                texts.append(
                    (item.against_question or item.question, item.against, Rating(judgement.parts[_BEFORE], NO_RATING))
                )
            for question, answer, rating in texts:
                key = _key(replace(question, output=answer))
                if key not in found or found[key].score is None:
                    found[key] = rating
        return found

    @property
    def _folder(self) -> Path:
        return Path(self.ratings or "").expanduser() / "judge"


def _key(pair: Pair) -> tuple[str, tuple[tuple[str, str], ...]]:
    """What a pair says, its earlier turns too."""
    return fingerprint(pair), pair.history
