"""Experts' own revisions in the place of the pairs that they revised: CoachLM's arm Alpaca-human (arXiv 2311.13246).

No model has a part in it. Differs from the source, whose merge is not published: pairs are known by what they say and not by
a place in a file, and revisions that were cut when the experts' file was made are put together again.
"""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from errata.errors import DataError
from errata.records import Pair, Revision
from errata.reviser.base import KEPT, REVISED, AsksNobody, Desk
from errata.reviser.expert import Edit, fingerprint, read_revisions, repaired

UNCHANGED, EMPTY, OTHER_TEXT, NO_REVISION = "unchanged", "empty", "other_text", "no_revision"
log = logging.getLogger("errata")


@dataclass
class Human(AsksNobody):
    """A pair that an expert revised goes on as revised, any other as it was.

    A pair is the expert's where instruction, input and response are, white space aside. Reasons to keep one:
    `no_revision`; `other_text` (an expert revised the same question, by its letters and digits, but not this pair: another
    edition of the set); `empty` (half of the revision is); `unchanged`.

    Attributes:
        revisions: the experts' file, as for `errata train revisions=`.
    """

    revisions: str | None = None

    def problems(self) -> list[str]:
        """No file, or one that does not hold experts' revisions."""
        if self.revisions is None:
            return ["reviser.revisions is not set: give the experts' file (lunyiliu/CoachLM, expert_revisions.json)"]
        try:
            read_revisions(self._file)
        except DataError as error:
            return [f"reviser.{error}; give the experts' file (lunyiliu/CoachLM, expert_revisions.json)"]
        return []

    def revise(self, pairs: Sequence[Pair], desk: Desk) -> list[Revision]:
        """As `outcomes`."""
        desk.relies_on("revisions", [self._file])
        return self.outcomes(pairs)

    def outcomes(self, pairs: Sequence[Pair]) -> list[Revision]:
        """Each pair with its expert's revision; the log says how many revisions found no pair.

        Raises:
            DataError: the file cannot be read, or none of its revisions is of one of these pairs.
        """
        edits = read_revisions(self._file)
        known = {fingerprint(raw): edit for edit in reversed(edits) for raw in (edit.raw, repaired(edit.raw))}
        asked = {_letters(repaired(edit.raw)): edit for edit in reversed(edits)}
        revisions, met = [], set()
        for pair in pairs:
            edit = None if pair.history else known.get(fingerprint(pair))
            if edit is not None:
                met.add(edit.raw.id)
                revisions.append(_revision(pair, edit))
            elif not pair.history and (near := asked.get(_letters(pair))) is not None:
                met.add(near.raw.id)
                detail = f"{near.raw.id} is a revision of this question with another text"
                revisions.append(Revision(pair.id, pair, pair, KEPT, OTHER_TEXT, detail))
            else:
                revisions.append(Revision(pair.id, pair, pair, KEPT, NO_REVISION))
        self._say(revisions, edits, met)
        return revisions

    def _say(self, revisions: Sequence[Revision], edits: Sequence[Edit], met: set[str]) -> None:
        """Log what became of the file's revisions; none used is an error."""
        reasons = Counter(revision.reason for revision in revisions)
        near = f"{reasons[OTHER_TEXT]} pairs have the question of a revision, but another text"
        if not reasons[""]:
            raise DataError(
                f"reviser.revisions {self._file}: none of its {len(edits)} revisions is of one of the {len(revisions)} "
                f"pairs; {near}. Choose the set that the experts revised (corpus=[alpaca])"
            )
        absent = [edit.raw.id for edit in edits if edit.raw.id not in met]
        used = {revision.detail for revision in revisions if revision.status == REVISED}
        log.info("%s: %d of %d revisions are used", self._file.name, len(used), len(edits))
        if absent or reasons[OTHER_TEXT]:
            some = f"; {len(absent)} revisions met no pair, {absent[0]} first" if absent else ""
            log.warning("%s: %s%s", self._file.name, near, some)

    @property
    def _file(self) -> Path:
        return Path(self.revisions or "").expanduser()


def _revision(pair: Pair, edit: Edit) -> Revision:
    """The pair as the expert left it, whole or not at all."""
    after = repaired(edit.revised)
    revised = replace(pair, instruction=after.instruction, input=after.input, output=after.output)
    if not (after.instruction.strip() and after.output.strip()):
        return Revision(
            pair.id, pair, pair, KEPT, EMPTY, f"the revision {edit.raw.id} lacks its instruction or its response"
        )
    if revised == pair:
        return Revision(pair.id, pair, pair, KEPT, UNCHANGED, f"as in {edit.raw.id}")
    return Revision(pair.id, pair, revised, REVISED, detail=edit.raw.id)


def _letters(pair: Pair) -> str:
    """What is asked, by its letters and digits alone."""
    return "".join(filter(str.isalnum, pair.prompt.casefold()))
