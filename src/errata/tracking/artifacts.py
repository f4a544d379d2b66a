"""What a stage left, as a W&B artifact: its record, a sample of its rows, and of what it was made."""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import wandb

from errata.digests import digest
from errata.records import StageRecord
from errata.secrets import Scrubber
from errata.tracking import metrics
from errata.tracking.lineage import Place, Product, artifact_name
from errata.tracking.memory import Memory
from errata.tracking.samples import VIEWS, records
from errata.tracking.tracker import Tracking

Table = Callable[[str, Iterable[Any]], wandb.Table]


class Artifacts:
    """Makes the artifacts of one run; of an unchanged stage always the same, to the byte.

    By its content W&B knows that what a later stage names as its input is what an earlier one left. References from
    artifact to artifact are left out: `wandb sync` uploads artifacts side by side, and silently drops one whose reference
    is to an artifact that the server does not have yet.
    """

    def __init__(self, tracking: Tracking, run: str, memory: Memory, scrub: Scrubber, table: Table) -> None:
        self.tracking, self.run, self.memory, self.scrub, self.table = tracking, run, memory, scrub, table

    def label(self, record: StageRecord, made: Product) -> str:
        """NAME:DIGEST, the digest of the output that it stands for."""
        place = Place.of(record.name)
        name = artifact_name(self.run, place.dataset, place.step if made.kind in ("errors", "scores") else "", made.kind)
        return f"{name}:{record.outputs.get(made.output, digest(record.outputs))}"

    def sources(self, made: Product) -> list[str]:
        """Their keys in the lineage: of each group the first that there is."""
        found = (next(filter(self.memory.artifact, group), None) for group in made.sources)
        return [key for key in found if key is not None]

    def make(self, folder: Path, record: StageRecord, made: Product) -> wandb.Artifact:
        """The artifact of the stage in that folder."""
        place, label = Place.of(record.name), self.label(record, made)
        metadata: Mapping[str, Any] = {
            "run": self.run,
            "stage": record.name,
            "iteration": place.iteration,
            "dataset": place.dataset,
            "digest": label.rpartition(":")[2],
            "counts": metrics.numbers(record.counts),
            "seconds": record.seconds,
            "from": [self.memory.artifact(key) for key in self.sources(made)],
        }
        artifact = wandb.Artifact(label.rpartition(":")[0], made.kind, metadata=self.scrub.plain(metadata))
        with artifact.new_file("stage.json") as file:
            json.dump(self.scrub.plain(msgspec.to_builtins(record)), file, indent=1)
        if made.output in VIEWS and made.output in record.outputs and self.tracking.sample:
            rows = records(folder, made.output)
            wrong = (row for row in rows if not row.correct) if made.kind == "errors" else rows
            artifact.add(self.table(made.output, wrong), "rows")
        if made.kind == "model" and self.tracking.upload_model:
            artifact.add_dir(str(folder / "model"), policy="immutable")  # sent from where it lies, not from a copy
        return artifact
