"""Arms: like runs, their seeds together; and which runs may stand in one table at all."""

import itertools
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from errata.digests import digest
from errata.report.results import ALL
from errata.report.statistics import Pooled, Scores, compare_means, compare_runs, pool, pool_mean
from errata.report.stored import Stored

Moment = Callable[[Stored], int | None]
"""The iteration of a run that is looked at: its last, its best by dev, the third; None where it has none such."""


@dataclass
class PooledArm:
    """Like runs that differ in their seed alone."""

    name: str
    runs: list[Stored]
    _parts: dict[Any, Any] = field(default_factory=dict, repr=False)

    def results(self, moment: Moment) -> dict[str, Any]:
        """What the arm has measured, in the form of a run's results; `outcome` holds each dataset's part of that moment."""
        datasets = sorted({name for run in self.runs for name in run.results["datasets"]})
        iterations = sorted(
            {part["iteration"] for run in self.runs for name in datasets for part in run.results["datasets"].get(name, [])}
        )
        by_iteration = {
            name: [part for at in iterations if (part := self.part(name, lambda _, at=at: at)) is not None]  # type: ignore[misc]
            for name in datasets
        }
        outcome = {name: part for name in datasets if (part := self.part(name, moment)) is not None}
        first = self.runs[0].results
        return {
            "run": self.name,
            "config": first["config"],
            "split": first["split"],
            "datasets": by_iteration,
            "outcome": outcome,
        }

    def part(self, dataset: str, moment: Moment) -> dict[str, Any] | None:
        """The dataset's score at that moment over the seeds that have it: one run's own, or pooled."""
        at = {run.name: moment(run) for run in self.runs}
        key = (dataset, tuple(at.values()))
        if key not in self._parts:
            self._parts[key] = self._part(dataset, at)
        found: dict[str, Any] | None = self._parts[key]
        return found

    def _part(self, dataset: str, at: Mapping[str, int | None]) -> dict[str, Any] | None:
        parts = {
            run.name: part
            for run in self.runs
            if (place := at[run.name]) is not None and (part := run.part(dataset, place)) is not None
        }
        if not parts:
            return None
        first = next(iter(parts.values()))
        each = [part["scores"][ALL]["accuracy"] for part in parts.values()]
        told = {"seeds": len(parts), "by_seed": each, "runs": list(parts), "sd": None}
        if len(parts) == 1:
            return first | told
        scores = [run.scores[dataset][parts[run.name]["iteration"]] for run in self.runs if run.name in parts]
        pooled = pool(scores)
        skills = {
            name: {
                "n": first["scores"][name]["n"],
                "accuracy": sum(part["scores"][name]["accuracy"] for part in parts.values()) / len(parts),
                "low": None,
                "high": None,
            }
            for name in first["scores"]
            if all(name in part["scores"] for part in parts.values())
        }
        if pooled is not None:
            skills[ALL] = {"n": pooled.n, "accuracy": pooled.accuracy, "low": pooled.low, "high": pooled.high}
            told["sd"] = pooled.sd
        return {
            "iteration": max(part["iteration"] for part in parts.values()),
            "protocol": first["protocol"],
            "scores": skills,
            **told,
        }

    def scores(self, datasets: Sequence[str], moment: Moment) -> list[list[Scores]]:
        """By dataset, the scores of each run that has measured them all at that moment."""
        able = [
            (run, at)
            for run in self.runs
            if (at := moment(run)) is not None and all(at in run.scores.get(name, {}) for name in datasets)
        ]
        return [[run.scores[name][at] for run, at in able] for name in datasets]

    def mean(self, datasets: Sequence[str], moment: Moment) -> Pooled | None:
        """The mean over datasets, each counting the same, of the runs that have measured them all; None where none has."""
        held = self.scores(datasets, moment)
        return pool_mean(held) if held and held[0] else None


def p_of(first: Sequence[Sequence[Scores]], second: Sequence[Sequence[Scores]]) -> float | None:
    """The p-value of two arms' scores, given by dataset; None where one of them has none."""
    if not first or not first[0] or not second or not second[0]:
        return None
    if len(first) == 1:
        return compare_runs(first[0], second[0])
    found = compare_means(list(zip(first, second, strict=True)))
    return None if found is None else found.p


def arms_of(runs: Sequence[Stored]) -> tuple[list[PooledArm], list[str]]:
    """Runs grouped by their settings without the seed, and what is to be said of it.

    The same seed twice is no second seed: such a run stands as an arm of its own.
    """
    alike: dict[str, list[Stored]] = defaultdict(list)
    lines = []
    for run in runs:
        key, seed = digest(_without_seed(run.results["config"])), run.results["config"].get("seed")
        again = 0
        while any(other.results["config"].get("seed") == seed for other in alike[f"{key}{again or ''}"]):
            again += 1
        alike[f"{key}{again or ''}"].append(run)
        if again:
            twin = alike[key][[other.results["config"].get("seed") for other in alike[key]].index(seed)]
            lines.append(f"{run.name} has the settings and the seed of {twin.name}: shown apart, not as another seed")
    arms = [group for group in alike.values() if group]
    return [PooledArm(name, group) for name, group in zip(_names(arms), arms, strict=True)], lines


def separate(runs: Sequence[Stored]) -> tuple[list[list[Stored]], list[str]]:
    """Runs that may stand in one table: of one split, and of every dataset in both one protocol and the same questions.

    The lines say what keeps the others apart.
    """
    groups: list[list[Stored]] = []
    lines: list[str] = []
    for run in runs:
        reasons = []
        for group in groups:
            reason = next(filter(None, (_apart(other, run) for other in group)), "")
            if not reason:
                group.append(run)
                break
            reasons.append(reason)
        else:
            groups.append([run])
            lines += [
                f"table {len(groups)} stands apart from table {number}: {why}" for number, why in enumerate(reasons, 1)
            ]
    return groups, lines


def _apart(first: Stored, second: Stored) -> str:
    """Why two runs cannot stand in one column; empty where they can."""
    if first.results["split"] != second.results["split"]:
        return f"{second.name} is of the split {second.results['split']}, {first.name} of {first.results['split']}"
    for name in sorted(first.questions.keys() & second.questions.keys()):
        one, other = (run.results["datasets"][name] for run in (first, second))
        protocols = [part["protocol"] for part in (one[0], other[0])]
        if protocols[0] != protocols[1]:
            return (
                f"{name} is graded by protocol={protocols[1]} in {second.name}, by protocol={protocols[0]} in {first.name}"
            )
        asked, also = first.questions[name], second.questions[name]
        if asked == also:
            continue
        gaps = any(part["left_out"] for part in (*one, *other))  # what could not be asked is no other question set
        same = {key for key in asked.keys() & also.keys() if asked[key] == also[key]}
        if (len(same) < len(asked.keys() & also.keys())) if gaps else (len(same) < max(len(asked), len(also))):
            return (
                f"{second.name} was asked other questions of {name} than {first.name} "
                f"({len(also):,} and {len(asked):,}, {len(same):,} of them the same)"
            )
    return ""


def _without_seed(config: Mapping[str, Any]) -> dict[str, Any]:
    plain = {key: value for key, value in config.items() if key not in ("seed", "name")}
    if isinstance(plain.get("instructor"), dict):  # it may follow the run's seed
        plain["instructor"] = {key: value for key, value in plain["instructor"].items() if key != "seed"}
    return plain


def _names(arms: Sequence[Sequence[Stored]]) -> list[str]:
    """How arms are called: by what their runs' names have in common, or by the settings in which they differ."""
    stems = _short([_stem(arm) for arm in arms])
    if len(set(stems)) == len(stems):
        return stems
    varies = varying([arm[0].results["config"] for arm in arms])
    named = [f"{stem} {label}".strip() for stem, label in zip(stems, varies, strict=True)]
    if len(set(stems)) == 1:
        named = [label or stem for stem, label in zip(stems, varies, strict=True)]
    return [name if named.count(name) == 1 else arm[0].name for name, arm in zip(named, arms, strict=True)]


def common_start(names: Sequence[str]) -> str:
    """The letters with which all names begin."""
    same = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(min(names), max(names), strict=False))
    return "".join(one for one, _ in same)


def _short(stems: Sequence[str]) -> list[str]:
    """The stems without the words with which all begin."""
    same = common_start(stems) if len(set(stems)) > 1 else ""
    same = same[: same.rfind("_") + 1]
    return [stem.removeprefix(same) or stem for stem in stems]


def _stem(arm: Sequence[Stored]) -> str:
    names = [run.name.rpartition("-")[0] or run.name for run in arm]
    return common_start(names).rstrip("_-/") or arm[0].name


def varying(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Of each config, the settings in which it differs from the others: `strategy=le, retrieval.k=3`."""
    flat = [dict(_flat(_without_seed(config))) for config in configs]
    differ = [
        key
        for key in dict.fromkeys(itertools.chain.from_iterable(flat))
        if len({json.dumps(each.get(key), sort_keys=True, default=str) for each in flat}) > 1
    ]
    options = {key.rpartition(".")[0]: key for key in differ if key.endswith(".kind")}
    options |= {key.rpartition(".")[0]: key for key in differ if key.endswith(".name")}
    kept = [key for key in differ if options.get(key.rpartition(".")[0], key) == key]
    shared = [key for key in kept if all(key in each for each in flat)]
    labels = [_label(each, shared) for each in flat]
    return labels if len(set(labels)) == len(labels) else [_label(each, kept) for each in flat]


def _label(config: Mapping[str, Any], keys: Sequence[str]) -> str:
    parts = []
    for key in keys:
        if config.get(key) is not None:
            value = str(config[key]).rpartition(".")[2] if key.endswith(".kind") else config[key]
            parts.append(f"{key.removesuffix('.name').removesuffix('.kind')}={value}")
    return ", ".join(parts[:4])


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
