"""Revisions by experts, and what a coach is trained on: the largest of them (CoachLM, arXiv 2311.13246).

The file is lunyiliu/CoachLM's: a JSON array of Raw and Revised Instruction, Input and Response, each with its edit distance.
`errata train revisions=FILE alpha=0.3` makes a coach of it.
"""

import json
import logging
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

from rapidfuzz.distance import Levenshtein

from errata.digests import digest
from errata.errors import ConfigError, DataError
from errata.jsonl import encode_lines, storable, write_atomically
from errata.records import Pair
from errata.reviser.markers import write
from errata.trained import COACH

REQUEST = (
    "Improve this instruction and its response. Make the instruction clear, specific and possible to carry out. Make the "
    "response correct, complete, well ordered and friendly, with reasons or steps where they help, and mend every mistake "
    "of language. Write both out in full between the same markers, even where nothing had to be changed."
)
ROWS = "coach.jsonl"
_SIDES = {"instruction": "Instruction", "input": "Input", "output": "Response"}
_NEAR = 3  # how far the file's distances are from ours at most
log = logging.getLogger("errata")


class Edit(NamedTuple):
    """A pair before and after an expert's revision, and how far apart they are."""

    raw: Pair
    revised: Pair
    distance: int


def distance(before: Pair, after: Pair) -> int:
    """Edit distance (Levenshtein, in characters) of two pairs, each written out as one line.

    The file's own `Distance` is this: 2,290 of its 2,301 values to the unit, and the other 11 within 3.
    """
    return Levenshtein.distance(_line(before), _line(after))


def _line(pair: Pair) -> str:
    given = f" Input: {pair.input}" if pair.input else ""
    return f"Instruction: {pair.instruction}{given} Response: {pair.output}"


def read_revisions(path: Path) -> list[Edit]:
    """The file's pairs in its order, as they stand there.

    Each has the file's distance, or ours where the file gives none; the log says if the file's are not what we compute.

    Raises:
        DataError: the file cannot be read; names the row and what it lacks.
    """
    try:
        rows = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"revisions {path}: {error.strerror}") from error
    except ValueError as error:
        raise DataError(f"revisions {path}: no JSON ({error}); expected one array of objects") from error
    if not isinstance(rows, list) or not rows:
        raise DataError(f"revisions {path}: expected a JSON array of objects, with at least one in it")
    edits = [_edit(row, f"{path.stem}/{number}", f"{path}, row {number}") for number, row in enumerate(rows, 1)]
    far = [edit.raw.id for edit in edits if abs(edit.distance - distance(edit.raw, edit.revised)) > _NEAR]
    if far:
        log.warning("%s: %d of %d distances are not those of their texts, %s first", path, len(far), len(edits), far[0])
    return edits


def _edit(row: Any, name: str, where: str) -> Edit:
    sides = []
    for side in ("Raw", "Revised"):
        names = {field: f"{side} {label}" for field, label in _SIDES.items()}
        bad = [key for key in names.values() if not isinstance(row, dict) or not isinstance(row.get(key), str)]
        if bad:
            raise DataError(f"revisions {where}: {', '.join(map(repr, bad))} must be there, as text")
        texts: dict[str, Any] = {field: storable(row[key]) for field, key in names.items()}
        sides.append(Pair(name, **texts))
    given = row.get("Distance")
    if given is not None and (not isinstance(given, int) or isinstance(given, bool) or given < 0):
        raise DataError(f"revisions {where}: Distance is {given!r}; expected a whole number, or none")
    return Edit(sides[0], sides[1], distance(*sides) if given is None else given)


def select(edits: Sequence[Edit], alpha: float) -> list[Edit]:
    """The share `alpha` with the largest distances, rounded down, largest first; of equal ones those that come first.

    Raises:
        ConfigError: `alpha` is no share, or so small that nothing is left.
    """
    if not 0 < alpha <= 1:
        raise ConfigError([f"alpha is {alpha}: choose a share above 0 and up to 1 (CoachLM recommends 0.3)"])
    count = math.floor(Fraction(str(alpha)) * len(edits))  # 0.29 of 100 is 29, which floats deny
    if not count:
        raise ConfigError([f"alpha is {alpha}: that keeps none of {len(edits)} revisions; choose a larger share"])
    return sorted(edits, key=lambda edit: -edit.distance)[:count]


def clean(edits: Sequence[Edit]) -> tuple[list[Edit], dict[str, int]]:
    """The pairs fit to be trained on, and counts: `repaired` ones, and by reason those that are left out.

    22 rows of the file were cut at the word "input" when it was made ("Use the" | "to write a poem. Input: Magpies"); an
    input that holds its own label shows it, and they are put together again. Rows with an empty half are left out.
    """
    kept, counts = [], Counter(repaired=0, empty=0, unchanged=0)
    for edit in edits:
        raw, revised = repaired(edit.raw), repaired(edit.revised)
        counts["repaired"] += (raw, revised) != (edit.raw, edit.revised)
        if not all(text.strip() for pair in (raw, revised) for text in (pair.instruction, pair.output)):
            counts["empty"] += 1
        elif raw == revised:
            counts["unchanged"] += 1
        else:
            kept.append(Edit(raw, revised, edit.distance))
    return kept, dict(counts)


def repaired(pair: Pair) -> Pair:
    """The pair with an instruction that was cut at the word "input" made whole."""
    head, label, given = pair.input.partition("Input:")
    if not label or pair.instruction.endswith((".", "?", "!", ":")):
        return pair
    word = "input" if pair.instruction else "Input"
    tail = head.strip()
    gap = "" if tail[:1] in tuple(".,;:?!") else " "
    return replace(pair, instruction=f"{pair.instruction} {word}{gap}{tail}".strip(), input=given.strip())


def coach_prompt(pair: Pair) -> str:
    """What the coach is asked: in training, and in use."""
    return f"{REQUEST}\n\n{write(pair)}"


def coach_rows(edits: Sequence[Edit]) -> list[dict[str, str]]:
    """Training rows: asked for a better one, the raw pair is answered by the revised one."""
    return [{"prompt": coach_prompt(edit.raw), "response": write(edit.revised)} for edit in edits]


def fingerprint(pair: Pair) -> str:
    """Names what a pair says, whatever its id and its white space: how a coach's training pairs are known again."""
    return digest([" ".join(text.split()) for text in (pair.instruction, pair.input, pair.output)])


def write_coach_data(revisions: Path, alpha: float, folder: Path) -> Path:
    """Write a coach's training rows into a folder, and beside them `coach.json`, which says what they were made of.

    The share is taken first and cleaned then: the sizes stay those of the paper (690 at 0.3), less what is left out.
    `trained_on` names the raw pairs both as the file has them and repaired. Returns the rows' file.

    Raises:
        DataError: the file cannot be read.
        ConfigError: `alpha` is no share.
    """
    selected = select(read_revisions(revisions), alpha)
    kept, counts = clean(selected)
    if not kept:
        raise DataError(f"revisions {revisions}: of the {len(selected)} selected rows none has both halves and a change")
    record = {
        "revisions": {"file": revisions.name, "digest": digest(revisions.read_bytes())},
        "alpha": alpha,
        "selected": len(selected),
        "threshold": selected[-1].distance,
        "rows": len(kept),
        "cleaning": counts,
        "trained_on": sorted({fingerprint(pair) for edit in selected for pair in (edit.raw, repaired(edit.raw))}),
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / ROWS, encode_lines(coach_rows(kept)))
    write_atomically(folder / COACH, json.dumps(record, indent=1).encode())
    return folder / ROWS
