"""The arms of a report as figures and page show them: accuracies by iteration, and what was gained over the start."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from errata.report.pooled import PooledArm, separate
from errata.report.results import ALL
from errata.report.statistics import Scores, compare, compare_arms
from errata.report.stored import Stored


@dataclass(frozen=True)
class Point:
    """An accuracy after an iteration (0: the start), in shares of one; no `low` and `high` where there is no interval."""

    iteration: int
    n: int
    seeds: int
    accuracy: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Gain:
    """An iteration minus the start, with its 95 % interval.

    `gained` and `lost` count questions, `p` is McNemar's, of a single run; of several seeds `p` is the bootstrap's.
    """

    n: int
    seeds: int
    iteration: int
    before: float
    after: float
    difference: float
    low: float
    high: float
    p: float
    gained: int | None = None
    lost: int | None = None


@dataclass(frozen=True)
class Arm:
    """Like runs of the loop, which differ in their seed; what they gained is computed once."""

    name: str
    runs: Sequence[Stored]
    _gains: dict[tuple[str, int], Gain | None] = field(default_factory=dict, repr=False, compare=False)
    _pooled: list[PooledArm] = field(default_factory=list, repr=False, compare=False)

    @property
    def results(self) -> list[dict[str, Any]]:
        """What results.json holds of each run."""
        return [run.results for run in self.runs]

    @property
    def datasets(self) -> list[str]:
        """What its runs have measured."""
        return list(dict.fromkeys(name for run in self.results for name in run["datasets"]))

    @property
    def config(self) -> Mapping[str, Any]:
        """The settings of its first run."""
        config: Mapping[str, Any] = self.results[0]["config"]
        return config

    @property
    def practice(self) -> list[Mapping[str, Any]]:
        """What came of the errors: all runs, iterations and datasets."""
        return [part for run in self.results for part in run["practice"]]

    def parts(self, dataset: str) -> dict[int, list[Mapping[str, Any]]]:
        """What each run has measured of a dataset, by iteration."""
        found: dict[int, list[Mapping[str, Any]]] = {}
        for run in self.results:
            for part in run["datasets"].get(dataset, []):
                found.setdefault(part["iteration"], []).append(part)
        return dict(sorted(found.items()))

    def points(self, dataset: str) -> list[Point]:
        """The accuracy after each iteration, over the seeds that have measured it."""
        if not self._pooled:
            self._pooled.append(PooledArm(self.name, list(self.runs)))
        found = []
        for iteration in self.parts(dataset):
            part = self._pooled[0].part(dataset, lambda _, at=iteration: at)  # type: ignore[misc]
            if part is not None:
                one = part["scores"][ALL]
                found.append(Point(iteration, one["n"], part["seeds"], one["accuracy"], one["low"], one["high"]))
        return found

    def asked(self, dataset: str) -> set[int]:
        """How many questions of a dataset its points are of."""
        return {point.n for point in self.points(dataset)}

    def gain(self, dataset: str, iteration: int | None = None) -> Gain | None:
        """What an iteration (None: the last) has gained over the start; None where one of them is missing."""
        last = max(self.parts(dataset), default=0) if iteration is None else iteration
        if (dataset, last) not in self._gains:
            self._gains[dataset, last] = self._gain(dataset, last)
        return self._gains[dataset, last]

    def _gain(self, dataset: str, last: int) -> Gain | None:
        held = [run.scores[dataset] for run in self.runs if dataset in run.scores]
        both = [(found[0], found[last]) for found in held if last and 0 in found and last in found]
        return _between(both, last) if both else None


def questions(arms: Sequence[Arm], dataset: str) -> str:
    """How many questions of a dataset the arms were measured on: `60`, or `58 to 60`."""
    counts = sorted(set().union(*(arm.asked(dataset) for arm in arms)))
    return " to ".join(f"{count:,}" for count in dict.fromkeys((counts[0], counts[-1]))) if counts else "0"


def gather(runs: Sequence[Stored], arms: Mapping[str, Sequence[str]] | None = None) -> list[list[Arm]]:
    """The runs of the loop by arm, under short names, in groups that may be compared: of one protocol and its questions.

    Args:
        runs: what is no run of the loop, or has measured nothing, is left out.
        arms: names of like runs by the arm's name; without it each run is an arm.
    """
    held = [run for run in runs if run.results.get("datasets")]
    named = arms if arms is not None else {run.name: [run.name] for run in held}
    groups = []
    for group in separate(held)[0]:
        by_name = {run.name: run for run in group}
        members = {arm: [by_name[name] for name in names if name in by_name] for arm, names in named.items()}
        members = {arm: each for arm, each in members.items() if each}
        groups.append([Arm(short, each) for short, each in zip(_short(list(members)), members.values(), strict=True)])
    return [group for group in groups if group]


def _between(both: Sequence[tuple[Scores, Scores]], last: int) -> Gain | None:
    if len(both) == 1:
        one = compare(*both[0])
        return None if one is None else Gain(
            one.n, 1, last, one.first, one.second, one.difference, one.low, one.high, one.p, one.gained, one.lost
        )  # fmt: skip
    mean = compare_arms([before for before, _ in both], [after for _, after in both])
    return None if mean is None else Gain(
        mean.n, len(both), last, mean.first, mean.second, mean.difference, mean.low, mean.high, mean.p
    )  # fmt: skip


def _short(names: Sequence[str]) -> list[str]:
    """Names without the words with which all begin."""
    letters = zip(*names, strict=False) if len(names) > 1 else ()
    same = "".join(each[0] for each in itertools.takewhile(lambda each: len(set(each)) == 1, letters))
    begin = max(same.rfind("_"), same.rfind("-"), same.rfind(" ")) + 1
    return [name[begin:] or name for name in names]
