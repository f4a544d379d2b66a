"""Whether two runs of one configuration have left the same, stage by stage, and where they part."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from errata.records import StageRecord
from errata.report.tables import TextTable
from errata.run_folder import changed_fields, read_stage

SAME, OTHER, MISSING, ADDED, OPEN = "the same", "other", "missing", "added", "unfinished"
_TIMES = ("duration_s",)
"""Fields of records that tell how long something took: no two runs have them in common."""
_SHOWN = 60  # characters of a value


@dataclass(frozen=True)
class StageDifference:
    """What a stage of the second run has left beside the first run's.

    Attributes:
        outcome: SAME, OTHER, MISSING (the second run has none), ADDED (the first has none) or OPEN (one is unfinished).
        inputs: dotted names of the inputs that differ.
        outputs: the outputs that differ.
        first: where the first differing record stands, and what differs in it.
    """

    stage: str
    outcome: str
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    first: str = ""


def compare_stages(first: Path, second: Path) -> list[StageDifference]:
    """Every stage of both runs, in the order in which the second came by them; those that it lacks at the end."""
    before, after = _stages(first), _stages(second)
    names = [*after, *(name for name in before if name not in after)]
    return [_compared(name, first, second, before.get(name), after.get(name)) for name in names]


def stage_table(found: list[StageDifference]) -> TextTable:
    """The stages, and of those that differ what does."""
    rows = [(each.stage, each.outcome, ", ".join(each.inputs), each.first or ", ".join(each.outputs)) for each in found]
    return TextTable("stage by stage", ("stage", "outputs", "inputs that differ", "first difference"), rows)


def _stages(run: Path) -> dict[str, StageRecord]:
    places = sorted(run.rglob("stage.json"), key=lambda path: (path.stat().st_mtime_ns, path))
    records = {path.parent.relative_to(run).as_posix(): read_stage(path.parent) for path in places}
    return {name: record for name, record in records.items() if record is not None}


def _compared(
    name: str, first: Path, second: Path, before: StageRecord | None, after: StageRecord | None
) -> StageDifference:
    if before is None or after is None:
        return StageDifference(name, ADDED if before is None else MISSING)
    inputs = tuple(changed_fields(before.inputs, after.inputs))
    if not before.finished or not after.finished:
        return StageDifference(name, OPEN, inputs)
    outputs: list[str] = []
    told = ""
    for output in sorted(before.outputs.keys() | after.outputs.keys()):
        if before.outputs.get(output) == after.outputs.get(output):
            continue
        one, other = (run / name / f"{output}.jsonl" for run in (first, second))
        where = _first_difference(one, other) if one.is_file() and other.is_file() else "its digest"
        if where:
            outputs.append(output)
            told = told or f"{output}: {where}"
    return StageDifference(name, OTHER if outputs else SAME, inputs, tuple(outputs), told)


def _first_difference(one: Path, other: Path) -> str:
    """The first record that differs in more than times, by its line and id; empty where none does."""
    with one.open("rb") as lines, other.open("rb") as others:
        for number, (before, after) in enumerate(zip_longest(lines, others), 1):
            if before == after:
                continue
            if before is None or after is None:
                return f"record {number} is in the {'second' if before is None else 'first'} run only"
            records = json.loads(before), json.loads(after)
            if parts := list(_parting(*records)):
                name, old, new = parts[0]
                key = _key(records[0])
                beside = f" (and {len(parts) - 1} more fields)" if len(parts) > 1 else ""
                return f"record {number}{f', {key}' if key else ''}: {name} {_short(old)} / {_short(new)}{beside}"
    return ""


def _parting(before: Any, after: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Fields that differ, by dotted name, with both values."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for name in [*before, *(name for name in after if name not in before)]:
            if name not in _TIMES:
                yield from _parting(before.get(name), after.get(name), f"{prefix}{name}.")
    elif before != after:
        yield prefix.rstrip("."), before, after


def _key(record: Any) -> str:
    """A record's own id, or its question's."""
    if not isinstance(record, Mapping):
        return ""
    return str(record.get("id") or record.get("request_id") or _key(record.get("question")))


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
