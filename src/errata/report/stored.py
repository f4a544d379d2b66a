"""A run of the loop as it is stored, each file read once: its results, and every score by question for comparisons."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from errata.errors import RunFolderError
from errata.jsonl import decode_lines
from errata.records import StageRecord
from errata.report.statistics import Scores
from errata.run_folder import read_stage

Record = TypeVar("Record")


class Asked(msgspec.Struct, frozen=True):
    """What a report needs of a question."""

    id: str
    text: str = ""
    gold: str = ""
    skill: str = ""


class Graded(msgspec.Struct, frozen=True):
    """What a report needs of a stored attempt: the response, which is most of the file, is passed over."""

    question: Asked
    correct: bool
    kind: str | None = None
    protocol: str = ""
    score: float | None = None

    @property
    def id(self) -> str:
        """The question's id."""
        return self.question.id

    @property
    def value(self) -> float:
        """What is averaged."""
        return float(self.correct) if self.score is None else self.score


@dataclass
class Stored:
    """One run.

    Attributes:
        path: its folder.
        name: how it is called: the folder's name, with its parent's where two runs have the same.
        results: what results.json holds.
        scores: by dataset and iteration, each question's score by its id.
        questions: by dataset, a hash of each question's text by its id: one id may be another question elsewhere.
    """

    path: Path
    name: str
    results: dict[str, Any]
    scores: dict[str, dict[int, Scores]] = field(default_factory=lambda: defaultdict(dict))
    questions: dict[str, dict[str, int]] = field(default_factory=lambda: defaultdict(dict))

    def part(self, dataset: str, iteration: int) -> dict[str, Any] | None:
        """What the results say of a dataset after an iteration; None where it is not measured."""
        parts: list[dict[str, Any]] = self.results["datasets"].get(dataset, [])
        return next((part for part in parts if part["iteration"] == iteration), None)

    @property
    def last(self) -> int:
        """The iteration whose students count as the run's outcome: of an unfinished run the one that it is to reach."""
        reached = [part["iteration"] for parts in self.results["datasets"].values() for part in parts]
        if self.results["unfinished"]:
            return int(self.results["config"].get("iterations", max(reached, default=0)))
        return int(max(reached, default=0))


_LINES: msgspec.json.Decoder[Graded] = msgspec.json.Decoder(Graded)


def read_graded(folder: Path) -> list[Graded]:
    """A stage's attempts; none where it has not finished.

    Raises:
        RunFolderError: the file is damaged.
    """
    path = folder / "attempts.jsonl"
    with named(path):
        return [_LINES.decode(line) for line in path.read_bytes().split(b"\n") if line] if path.exists() else []


def read_lines(path: Path, kind: type[Record]) -> list[Record]:
    """The records of a file; none where it is not there.

    Raises:
        RunFolderError: the file is damaged.
    """
    with named(path):
        return decode_lines(path.read_bytes(), kind) if path.exists() else []


def stage_of(folder: Path) -> StageRecord | None:
    """The stage record in a folder, or None where no stage was started.

    Raises:
        RunFolderError: the record is damaged.
    """
    with named(folder / "stage.json"):
        return read_stage(folder)


@contextmanager
def named(path: Path) -> Iterator[None]:
    """What cannot be read is said with the file's name, and with what helps."""
    try:
        yield
    except (msgspec.MsgspecError, ValueError) as error:
        raise RunFolderError(
            f"{path} cannot be read ({error}). Remove its folder and give the run's command again: it does that stage anew"
        ) from error


def where_it_stopped(run: Path, config: Mapping[str, Any], results: Mapping[str, Any]) -> str:
    """The stage in which a run of improve or evaluate stopped, or is; empty where it came to its end.

    A run without the mark of an end (an older one, or one killed between two stages) goes by its stages.
    """
    if (run / "finished.json").is_file():
        return ""
    open_stages = [
        path.parent.relative_to(run).as_posix()
        for path in sorted(run.rglob("stage.json"))
        if (stage := stage_of(path.parent)) is not None and not stage.finished
    ]
    if open_stages:
        return open_stages[-1]
    if "iterations" in config:
        return _missing_step(run, config, results)
    asked = [name for name in config.get("dataset", {}) if name not in results["datasets"]]
    return f"before {asked[0]} was asked" if asked else ""


def _missing_step(run: Path, config: Mapping[str, Any], results: Mapping[str, Any]) -> str:
    """What a run of the loop, of which every stage that was begun is finished, has not come to."""
    tested = [*config.get("dataset", {}), *config.get("tests", {})]
    if not (run / "iteration_0").is_dir():  # a student that can only be asked, or nothing yet
        return "" if (run / "iteration_1").is_dir() else "before the first answer"
    reached = max([0, *(part["iteration"] for part in results["training"])])
    for name in tested:
        if not any(part["iteration"] == reached for part in results["datasets"].get(name, [])):
            return f"iteration_{reached}, before {name} was measured"
    if reached >= config["iterations"] or _out_of_patience(config, results, reached):
        return ""
    following = [part for part in results["practice"] if part["iteration"] == reached + 1]
    if (run / f"iteration_{reached + 1}" / "mix").is_dir() or any(part["kept"] for part in following):
        return f"iteration_{reached + 1}, before its training"
    return "" if (run / f"iteration_{reached + 1}").is_dir() else f"before iteration_{reached + 1}"


def _out_of_patience(config: Mapping[str, Any], results: Mapping[str, Any], reached: int) -> bool:
    patience = (config.get("policy") or {}).get("patience")
    if patience is None or not results["dev"]:
        return False
    best = max(results["dev"], key=lambda part: (part["accuracy"], -part["iteration"]))["iteration"]
    return bool(reached - best >= patience)
