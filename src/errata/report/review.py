"""A reviser's work as a page that people decide on: one HTML file, which needs no network and no server.

Each pair stands there before and after, with the changed words marked, to be accepted, rejected or edited; the decisions are
downloaded as `decisions.json`, `{id: "accept" | "reject" | "remove" | {"edit": {instruction, input, output}}}`, and read
back here. The page itself is the template `errata/cards/review.jinja`.
"""

import json
import re
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rapidfuzz.distance import Indel

from errata.digests import digest
from errata.errors import DataError
from errata.jsonl import storable, write_atomically
from errata.records import Pair, Revision
from errata.report.html import filled, inert

ACCEPT, REJECT, REMOVE, EDIT = "accept", "reject", "remove", "edit"
_FIELDS = ("instruction", "input", "output")
_STATUSES = ("revised", "kept", "dropped")
_EAST = r"\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"([{_EAST}]|[^\s{_EAST}]*)(\s*)")
_SAME, _GONE, _NEW = 0, -1, 1

Run = tuple[int, str]


@dataclass(frozen=True)
class Group:
    """The pairs of one status and reason: how many, and their share of all."""

    status: str
    reason: str
    count: int
    share: float


def write_review(path: Path, revisions: Sequence[Revision], title: str) -> None:
    """Write the page for these revisions, in one atomic step."""
    texts = [[revision.id, asdict(revision.final) if revision.final else None] for revision in revisions]
    page = filled(
        "cards",
        "review.jinja",
        title=title,
        total=len(revisions),
        groups=_groups(revisions),
        growth=_growth(revisions),
        key=digest(texts),
        data=inert([_row(revision) for revision in revisions]),
    )
    write_atomically(path, page)


def read_decisions(path: Path, revisions: Sequence[Revision]) -> dict[str, Any]:
    """What was decided, by the revision's id.

    Raises:
        DataError: the file cannot be read, decides on a row that is not among the revisions, or in a way that is none.
    """
    try:
        decisions = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"decisions {path}: {error.strerror}") from error
    except ValueError as error:
        raise DataError(f"decisions {path}: no JSON ({error}); download it from the review again") from error
    if not isinstance(decisions, dict):
        raise DataError(f"decisions {path}: expected one object, a decision by each id")
    _check(decisions, revisions, f"decisions {path}")
    return {
        name: value if isinstance(value, str) else {EDIT: {part: storable(text) for part, text in value[EDIT].items()}}
        for name, value in decisions.items()
    }


def decide(revisions: Sequence[Revision], decisions: Mapping[str, Any]) -> list[Pair]:
    """The pairs that go on: accepted ones as the revision has them, rejected ones as they were, edited ones as edited.

    A pair that was removed is left out. Where nothing was decided the revision stands. A dropped pair is left out, unless
    that is rejected or the pair edited.

    Raises:
        DataError: a decision is on no row of these, or none of the four.
    """
    _check(decisions, revisions, "decisions")
    pairs = []
    for revision in revisions:
        decision = decisions.get(revision.id, ACCEPT)
        if isinstance(decision, Mapping):
            base = revision.final or revision.original
            pairs.append(replace(base, **{"input": "", **decision[EDIT]}))
        elif decision == REMOVE:
            continue
        elif decision == REJECT:
            pairs.append(revision.original)
        elif revision.final is not None:
            pairs.append(revision.final)
    return pairs


def differences(before: str, after: str) -> list[Run]:
    """Two texts as runs of words: (0, in both), (-1, in the first only), (1, in the second only).

    The runs of 0 and -1 are the first text, those of 0 and 1 the second, to the letter.
    """
    old, new = _words(before), _words(after)
    runs: list[Run] = []
    for step in Indel.opcodes([word for word, _ in old], [word for word, _ in new]):
        gone, added = old[step.src_start : step.src_end], new[step.dest_start : step.dest_end]
        if step.tag == "equal":
            for (word, gap), (_, other) in zip(gone, added, strict=True):
                runs += [(_SAME, word + gap)] if gap == other else [(_SAME, word), (_GONE, gap), (_NEW, other)]
        else:
            runs += [(_GONE, "".join(map("".join, gone))), (_NEW, "".join(map("".join, added)))]
    return _in_order(runs)


def _words(text: str) -> list[tuple[str, str]]:
    """(Word, white space behind it); a Chinese or Japanese letter is a word."""
    return [(found[1], found[2]) for found in _WORD.finditer(text) if found[0]]


def _in_order(runs: Sequence[Run]) -> list[Run]:
    """Between two runs of common words, what has gone stands before what is new; neighbours of a kind are one run."""
    ordered: list[Run] = []
    changed = {_GONE: "", _NEW: ""}
    for kind, text in [*runs, (_SAME, "")]:
        if kind != _SAME:
            changed[kind] += text
            continue
        ordered += [(side, said) for side, said in changed.items() if said]
        changed = {_GONE: "", _NEW: ""}
        if ordered and ordered[-1][0] == _SAME:
            text = ordered.pop()[1] + text
        ordered += [(_SAME, text)] if text else []
    return ordered


def _check(decisions: Mapping[str, Any], revisions: Sequence[Revision], where: str) -> None:
    unknown = sorted(decisions.keys() - {revision.id for revision in revisions})
    if unknown:
        raise DataError(
            f"{where}: {len(unknown)} of {len(decisions)} ids are not among these revisions, {unknown[0]!r} first; "
            "take the decisions that were made on this run's own review"
        )
    for name, decision in decisions.items():
        if decision in (ACCEPT, REJECT, REMOVE):
            continue
        edit = decision.get(EDIT) if isinstance(decision, Mapping) and len(decision) == 1 else None
        if not isinstance(edit, Mapping) or not {"instruction", "output"} <= edit.keys() <= set(_FIELDS):
            raise DataError(
                f"{where}: {name} is {str(decision)[:80]!r}; expected accept, reject, remove or "
                '{"edit": {"instruction": ..., "input": ..., "output": ...}}'
            )
        if not all(isinstance(text, str) for text in edit.values()):
            raise DataError(f"{where}: {name} is edited to something that is no text")
        if not edit["instruction"].strip() or not edit["output"].strip():
            raise DataError(f"{where}: {name} is edited to an empty instruction or response; reject it, or write both")


def _row(revision: Revision) -> dict[str, Any]:
    """What the page needs of a revision; the texts stand in it once, as runs."""
    before, after = revision.original, revision.final or revision.original
    scores = {name: "missing" if value is None else f"{value:.4g}" for name, value in revision.scores.items()}
    return {
        "id": revision.id,
        "status": revision.status,
        "reason": revision.reason,
        "detail": revision.detail,
        "critiques": [(name, text) for name, text in revision.critiques.items() if text],
        "scores": ", ".join(f"{name} {value}" for name, value in scores.items()),
        "rejected": revision.rejected,
        "history": before.history,
        "texts": [differences(getattr(before, name), getattr(after, name)) for name in _FIELDS],
    }


def _groups(revisions: Sequence[Revision]) -> list[Group]:
    counts = Counter((revision.status, revision.reason) for revision in revisions)
    rows = sorted(counts.items(), key=lambda item: (_STATUSES.index(item[0][0]), -item[1], item[0][1]))
    return [Group(*name, count, count / len(revisions)) for name, count in rows]


def _growth(revisions: Sequence[Revision]) -> dict[str, float] | None:
    """Median lengths of the revised responses in characters, before and after, and the median ratio; None without any."""
    pairs = [
        (len(revision.original.output), len(revision.final.output))
        for revision in revisions
        if revision.status == "revised" and revision.final is not None
    ]
    ratios = [after / before for before, after in pairs if before]
    if not ratios:
        return None
    before, after = (statistics.median(lengths) for lengths in zip(*pairs, strict=True))
    return {"before": before, "after": after, "ratio": statistics.median(ratios)}
