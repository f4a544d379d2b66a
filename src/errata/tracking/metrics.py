"""The numbers of a stage, by the names that they have in W&B."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from errata.records import Attempt, StageRecord
from errata.tracking.lineage import Place

CONFIDENCE = 0.95


def counts(place: Place, record: StageRecord) -> dict[str, float]:
    """All that a stage has counted (reasons and kinds one by one), its cost, and its seconds."""
    prefix = "/".join(part for part in ("stage", place.dataset, place.step) if part)
    return _flat(record.counts, prefix) | {f"{prefix}/seconds": record.seconds}


def accuracy(place: Place, attempts: Iterable[Attempt]) -> dict[str, float]:
    """The mean score; where answers are right or wrong, with Wilson's interval (the report has it for other measures)."""
    from scipy.stats import binomtest

    name, values = f"accuracy/{place.step}/{place.dataset}", [attempt.value for attempt in attempts]
    found = {name: sum(values) / len(values)}
    if all(value in (0.0, 1.0) for value in values):
        interval = binomtest(int(sum(values)), len(values)).proportion_ci(CONFIDENCE, "wilson")
        found |= {f"{name}_low": float(interval.low), f"{name}_high": float(interval.high)}
    return found


def update(place: Place, line: Mapping[str, Any]) -> dict[str, float]:
    """One update of a training job: a curve an iteration, all over `train/update`."""
    prefix = "train" if place.iteration is None else f"train/iteration_{place.iteration}"
    named = {f"{prefix}/{name}": value for name, value in line.items() if name != "update"}
    return numbers(named | {"train/update": line["update"]})


def dev_losses(place: Place, folder: Path) -> list[dict[str, float]]:
    """What a training job has measured on the rows it held out; nothing where it held out none."""
    file = folder / "dev.json"
    lines = json.loads(file.read_bytes()) if file.is_file() else []
    return [update(place, {"update": line["update"], "dev_loss": line["loss"]}) for line in lines]


def numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """What of it is a number: a price that is unknown is left out, not 0."""
    return {name: value for name, value in values.items() if isinstance(value, int | float)}


def _flat(values: Mapping[str, Any], prefix: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, value in values.items():
        key = f"{prefix}/{str(name).replace(' ', '_')}"
        found |= _flat(value, key) if isinstance(value, Mapping) else numbers({key: value})
    return found
