"""Everything a report needs, gathered from a run folder into one plain structure (what results.json holds)."""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import reduce
from pathlib import Path
from typing import Any

from errata.errors import RunFolderError
from errata.places import nothing_stored
from errata.records import Attempt, Rejection
from errata.report.statistics import Scores, accuracy, paired_p
from errata.report.stored import Graded, Stored, named, read_graded, read_lines, stage_of, where_it_stopped

ALL = "all"


def manifest(run: Path) -> dict[str, Any]:
    """What run.json says: version, command, resolved settings.

    Raises:
        RunFolderError: the folder is no run folder.
    """
    file = run / "run.json"
    if not file.is_file():
        raise nothing_stored(run)
    try:
        found: dict[str, Any] = json.loads(file.read_bytes())
        if not isinstance(found["config"], dict):
            raise TypeError("its settings are no mapping")
        return {"version": found["version"], "config": found["config"], **found}
    except (ValueError, KeyError, TypeError) as error:
        raise RunFolderError(
            f"{file} is no run's manifest ({error!r}). Give the run's command again, or leave the folder out"
        ) from error


def collect(run: Path) -> dict[str, Any]:
    """Accuracies (on the test split, or the one that `errata evaluate` was given), practice, training and cost so far.

    Raises:
        RunFolderError: the folder is no run folder.
    """
    return read(run).results


def read(run: Path) -> Stored:
    """As `collect`, with every question's score beside it.

    Raises:
        RunFolderError: the folder is no run folder, or a file in it is damaged.
    """
    described = manifest(run)
    split = described["config"].get("split", "test")
    iterations = sorted(
        (int(found.group(1)), path)
        for path in run.glob("iteration_*")
        if (found := re.fullmatch(r"iteration_(\d+)", path.name))
    )
    stored = Stored(run, run.resolve().name, {})
    start: dict[str, Scores] = {}
    datasets: dict[str, list[dict[str, Any]]] = defaultdict(list)
    practice: list[dict[str, Any]] = []
    training: list[dict[str, Any]] = []
    dev: list[dict[str, Any]] = []
    for number, folder in iterations:
        for place in sorted(path for path in folder.iterdir() if path.is_dir()):
            if attempts := read_graded(place / split):
                stored.scores[place.name][number] = measured = scores(attempts)
                stored.questions[place.name] |= {
                    each.id: hash((each.question.text, each.question.gold)) for each in attempts
                }
                start.setdefault(place.name, measured)
                left_out = _counts(place / split).get("left out", 0)
                datasets[place.name].append(_measured(number, attempts, start[place.name]) | {"left_out": left_out})
            if (place / "verify" / "stage.json").exists() or (place / "instruct" / "stage.json").exists():
                practice.append(_practice(number, place))
        training += _trained(number, folder / "train")
        judged = [list(scores(read_graded(path.parent)).values()) for path in folder.glob("*/dev_after/attempts.jsonl")]
        if judged:
            dev.append({"iteration": number, "accuracy": sum(sum(part) / len(part) for part in judged) / len(judged)})
    training += _trained(0, run / "train")
    stored.results |= {
        "run": stored.name,
        "version": described["version"],
        "config": described["config"],
        "split": split,
        "datasets": dict(datasets),
        "macro": _macro(datasets),
        "dev": dev,
        "practice": practice,
        "training": training,
        "cost": _cost(practice),
        "seconds": _seconds(run),
    }
    stored.results["unfinished"] = where_it_stopped(run, described["config"], stored.results)
    return stored


def scores(attempts: Sequence[Attempt | Graded]) -> dict[str, float]:
    """Each attempt's score by its question's id: 1 or 0, or the benchmark's own measure."""
    return {attempt.id: attempt.value for attempt in attempts}


def best_by_dev(results: dict[str, Any]) -> int | None:
    """The iteration that is best by dev (0: the start), the first of those that are; None where dev was not measured."""
    if not results["dev"]:
        return None
    return int(max(results["dev"], key=lambda part: (part["accuracy"], -part["iteration"]))["iteration"])


def _macro(datasets: Mapping[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The mean over the datasets, each counting the same (the source's "Avg"), of each iteration that has them all."""
    by_iteration: dict[int, dict[str, float]] = defaultdict(dict)
    for name, measured in datasets.items():
        for part in measured:
            by_iteration[part["iteration"]][name] = part["scores"][ALL]["accuracy"]
    return [
        {"iteration": number, "datasets": len(part), "accuracy": sum(part.values()) / len(part)}
        for number, part in sorted(by_iteration.items())
        if len(part) == len(datasets) > 1
    ]


def _measured(number: int, attempts: Sequence[Graded], start: Scores) -> dict[str, Any]:
    groups: dict[str, list[Graded]] = defaultdict(list)
    for attempt in attempts:
        groups[ALL].append(attempt)
        if attempt.question.skill:
            groups[attempt.question.skill].append(attempt)
    by_group: dict[str, dict[str, Any]] = {}
    for name, members in groups.items():
        measured = scores(members)
        p = paired_p({key: start[key] for key in measured if key in start}, measured) if number else None
        by_group[name] = {**asdict(accuracy(measured)), "p": p}
    by_skill = [part["accuracy"] for name, part in by_group.items() if name != ALL]
    macro = {"macro_over_skills": sum(by_skill) / len(by_skill)} if by_skill else {}
    kinds = Counter(attempt.kind for attempt in attempts if attempt.kind)
    return {
        "iteration": number,
        "protocol": attempts[0].protocol,
        "scores": by_group,
        "kinds": dict(kinds.most_common()),
        **macro,
    }


def _practice(number: int, place: Path) -> dict[str, Any]:
    parsed, verified, agreed = (_counts(place / step) for step in ("parse", "verify", "agree"))
    asked = asked_for([place / "instruct", place / "solve", *sorted((place / "revise").glob("*"))])
    errors = [_counts(place / split).get("wrong") for split in ("train", "dev")]
    reasons: Counter[str] = Counter()
    for step in ("parse", "verify", "agree"):
        reasons.update(rejection.reason for rejection in read_lines(place / step / "rejections.jsonl", Rejection))
    return {
        "iteration": number,
        "dataset": place.name,
        "errors": sum(number for number in errors if number is not None),
        "requests": asked.get("requests", 0),
        "failed_requests": asked.get("failed", 0),
        "failures": asked.get("failures", {}),
        "tokens": asked.get("tokens", 0),
        "usd": asked.get("usd", 0.0),
        "from_the_ledger": asked.get("from the ledger", 0),
        "paid_tokens": asked.get("paid tokens", 0),
        "paid_usd": asked.get("paid usd", 0.0),
        "estimated_tokens": asked.get("estimated tokens", 0),
        "estimated_usd": asked.get("estimated usd", 0.0),
        "problems": parsed.get("rows", 0) + parsed.get("rejected", 0)
        or verified.get("kept", 0) + verified.get("rejected", 0),
        "rejections": dict(sorted(reasons.items())),
        "kept": (agreed or verified).get("kept", 0),
        "wall": verified.get("wall", {}),
        "revised": _counts(place / "revise" / "revised"),
    }


def asked_for(places: Sequence[Path]) -> dict[str, Any]:
    """What the stages in these folders that asked an instructor have counted, together."""
    return reduce(_both, (counts for place in places if "requests" in (counts := _counts(place))), {})


def _both(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Two stages that asked, counted together; a price that is unknown makes the sum unknown."""
    both = {**second, **first}
    for name, value in both.items():
        if name in first and name in second and isinstance(value, int | float | str):
            texts = isinstance(first[name], str) or isinstance(second[name], str)
            both[name] = "unknown" if texts else first[name] + second[name]
        elif name in first and name in second and isinstance(value, dict):
            both[name] = dict(Counter(first[name]) + Counter(second[name]))
    return both


def _trained(number: int, folder: Path) -> list[dict[str, Any]]:
    path = folder / "summary.json"
    with named(path):
        return [{"iteration": number, **json.loads(path.read_bytes())}] if path.exists() else []


def _counts(folder: Path) -> dict[str, Any]:
    stage = stage_of(folder)
    return stage.counts if stage is not None else {}


def _cost(practice: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Sums over the run; `usd` is what its replies cost when they were bought, `paid_usd` what it has bought itself."""

    def money(name: str) -> float | str:
        prices = [part[name] for part in practice]
        return "unknown" if "unknown" in prices else round(sum(prices), 6)

    counts = ("requests", "tokens", "paid_tokens", "estimated_tokens")
    return {name: sum(part[name] for part in practice) for name in counts} | {
        name: money(name) for name in ("usd", "paid_usd", "estimated_usd")
    }


def _seconds(run: Path) -> dict[str, float]:
    stages = {str(path.parent.relative_to(run)): stage_of(path.parent) for path in sorted(run.glob("**/stage.json"))}
    return {name: stage.seconds for name, stage in stages.items() if stage is not None and stage.finished}
