"""A run under way: its folder, ledger and tracker held open, and how a step of it becomes a stage."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from errata.dataset.base import Dataset, Examiner
from errata.digests import digest
from errata.identity import result_changing
from errata.instructor.base import Instructor
from errata.jsonl import encode_lines
from errata.ledger import Ledger
from errata.model.base import Model
from errata.records import Attempt, Question, Reply, Request
from errata.run_folder import RunFolder, Stage
from errata.setup import Setup
from errata.stage.evaluate import evaluate
from errata.stage.instruct import instruct
from errata.tracking.tracker import Tracker


@dataclass(frozen=True)
class Run:
    """What the steps of a run work with; the ledger is None where the command asks no instructor."""

    setup: Setup
    folder: RunFolder
    ledger: Ledger | None
    tracker: Tracker

    @contextmanager
    def stage(self, name: str, **inputs: Any) -> Iterator[Stage]:
        """The stage of that name with these inputs; the tracker hears of it when it has come to its end."""
        stage = self.folder.stage(name, **inputs)
        yield stage
        self.tracker.stage(stage)

    def asked(self, name: str, requests: Sequence[Request], instructor: Instructor) -> tuple[list[Reply], dict[str, str]]:
        """The instructor's replies, through the ledger and within the budget, and the digests of what the stage left."""
        if self.ledger is None:
            raise TypeError(f"errata {self.setup.command} asks nobody; its settings name no ledger")
        inputs = {"requests": digest_of(requests), "instructor": result_changing(instructor)}
        with self.stage(name, **inputs) as stage:
            return instruct(stage, requests, instructor, self.ledger, self.setup.purse(name)), stage.outputs

    def attempts(
        self, name: str, student: Model, dataset: Dataset | Examiner, questions: Sequence[Question], shared: Path | None
    ) -> list[Attempt]:
        """The student's graded answers; `shared` as in `evaluate`."""
        inputs = {
            "model": student.fingerprint,
            "dataset": result_changing(dataset),
            "protocol": dataset.protocol,
            "questions": digest_of(questions),
        }
        with self.stage(name, **inputs) as stage:
            return evaluate(stage, student, dataset, questions, shared)

    def embed(self, texts: Sequence[str]) -> Any:
        """The vectors of the run's encoder, kept for all runs in `output_dir`."""
        return present(self.setup.retrieval).vectors(texts, self.setup.embeddings)

    def encoder(self, parts: Iterable[Any]) -> dict[str, str]:
        """The encoder, as an input of a stage, where one of these parts needs vectors."""
        needed = any(getattr(part, "embeds", False) for part in parts)
        return {"encoder": present(self.setup.retrieval).encoder.fingerprint} if needed else {}


@contextmanager
def under_way(setup: Setup) -> Iterator[Run]:
    """Hold the run's folder, its tracker and, where the command may ask, its ledger; one that is only read must exist."""
    with ExitStack() as stack:
        folder = stack.enter_context(RunFolder(setup.folder, setup.plain, setup.command, setup.resolved))
        ledger = None
        if hasattr(setup.settings, "ledger"):
            must_exist = setup.instructor is not None and not setup.instructor.sends
            ledger = stack.enter_context(Ledger(setup.ledger, must_exist=must_exist))
        tracker = stack.enter_context(Tracker(setup.settings.tracking, folder.path, setup.plain, setup.command))
        yield Run(setup, folder, ledger, tracker)


def digest_of(records: Iterable[Any]) -> str:
    """What a stage knows its input records by."""
    return digest(encode_lines(records))


def present(part: Any) -> Any:
    """A part that the command cannot do without.

    Raises:
        TypeError: it is not there.
    """
    if part is None:
        raise TypeError("a part is missing that this command needs; the checks make sure of it")
    return part
