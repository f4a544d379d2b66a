"""One W&B run, and what it is told of each stage. Imports W&B: only where tracking is on."""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import wandb

from errata.digests import digest
from errata.run_folder import Stage
from errata.tracking import metrics
from errata.tracking.connection import connect, run_id
from errata.tracking.lineage import Place, Product, artifact_name, product
from errata.tracking.memory import Memory
from errata.tracking.samples import VIEWS, records, sampled
from errata.tracking.secrets import Scrubber
from errata.tracking.tracker import Tracking

SHOWN = {"attempts": "attempts", "rejections": "rejections", "train": "training_examples", "revisions": "revisions"}
"""The outputs whose rows stand in the run itself, by their tables' titles; the others' are in the artifacts."""
_DATA_DIR = "WANDB_DATA_DIR"


class Sender:
    """Tells W&B of a run's stages, each once.

    An offline run may log artifacts but not call `use_artifact`, and W&B draws one run's chain of artifacts through the run.
    So each artifact is logged with the mark that the run goes on to use it (what `use_artifact` does with a new artifact),
    and names those that it was made of, with their digests, in its metadata under `from`: that is the chain, in every mode
    and after every kill. W&B's references from artifact to artifact are left out: `wandb sync` uploads artifacts side by
    side, and silently drops one whose reference is to an artifact that the server does not have yet.

    Raises:
        ConfigError: W&B refuses the key or the project.
    """

    def __init__(self, tracking: Tracking, folder: Path, config: Mapping[str, Any], command: str) -> None:
        self.tracking, self.folder, self.config = tracking, folder, config
        self.name = folder.name
        self.scrub = Scrubber(config)
        self._data_dir = os.environ.get(_DATA_DIR)
        if self._data_dir is None:  # or W&B keeps what is to be synced in the user's home
            os.environ[_DATA_DIR] = str(folder / "wandb")
        try:
            self.run = connect(tracking, folder, self.scrub.plain(config), command)
            self.memory = Memory(folder / "wandb", f"{tracking.entity or ''}/{tracking.project}/{run_id(folder)}")
        except BaseException:
            self.leave()
            raise

    def stage(self, stage: Stage) -> None:
        """Numbers, rows and artifact of a finished stage, unless they are known as they are."""
        told = digest([stage.record.inputs, stage.outputs, stage.record.counts])
        if not stage.finished or self.memory.told(stage.name) == told:
            return
        place = Place.of(stage.name)
        values: dict[str, Any] = dict(metrics.counts(place, stage.record))
        if "attempts" in stage.outputs and place.iteration is not None:
            values |= metrics.accuracy(place, records(stage.folder, "attempts"))
        for name in sorted(SHOWN.keys() & stage.outputs.keys()) if self.tracking.sample else ():
            values[f"{SHOWN[name]}/{stage.name}"] = self._table(name, records(stage.folder, name))
        for line in metrics.dev_losses(place, stage.folder):
            self._log(place, line)
        self._log(place, values)
        made = product(place, stage.outputs, self.config.get("dataset", {}), self._start())
        if made is not None:
            self._artifact(stage, place, made)
        self.memory.note("stages", stage.name, told)

    def update(self, stage: Stage, line: Mapping[str, Any]) -> None:
        """One update of a training job; those that a killed job makes again were told before."""
        job, number = f"{stage.name}/{digest(stage.record.inputs)}", int(line["update"])
        if number <= self.memory.updates(job):
            return
        place = Place.of(stage.name)
        self._log(place, metrics.update(place, line))
        self.memory.note("updates", job, number)

    def summarise(self, values: Mapping[str, Any]) -> None:
        """The run's final numbers."""
        self.run.summary.update(metrics.numbers(values))

    def finish(self, code: int) -> None:
        """All is written (offline) or sent (online)."""
        self.run.finish(exit_code=code)
        self.leave()

    def leave(self) -> None:
        """The next run of this process, a sweep's next cell, has its own place for what is to be synced."""
        if self._data_dir is None:
            os.environ.pop(_DATA_DIR, None)

    def _log(self, place: Place, values: Mapping[str, Any]) -> None:
        at = {} if place.iteration is None else {"iteration": place.iteration}
        self.run.log({**values, **at}, step=self.memory.step)
        self.memory.sent()

    def _start(self) -> str:
        policy: Mapping[str, Any] = self.config.get("policy") or {}
        return str(policy.get("start", "last"))

    def _table(self, name: str, found: Iterable[Any]) -> wandb.Table:
        columns: list[str | int] = list(VIEWS[name].columns)
        data = sampled(name, found, self.tracking.sample, self.scrub.text)
        return wandb.Table(columns=columns, data=data, allow_mixed_types=True)

    def _artifact(self, stage: Stage, place: Place, made: Product) -> None:
        """Log what a stage made: its record, a sample of its rows, and of what it was made."""
        name = artifact_name(self.name, place.dataset, place.step if made.kind in ("errors", "scores") else "", made.kind)
        label = f"{name}:{stage.outputs.get(made.output, digest(stage.outputs))}"
        sources = [key for group in made.sources if (key := next(filter(self.memory.artifact, group), None)) is not None]
        metadata = {
            "run": self.name,
            "stage": stage.name,
            "iteration": place.iteration,
            "dataset": place.dataset,
            "digest": label.rpartition(":")[2],
            "counts": metrics.numbers(stage.record.counts),
            "seconds": stage.record.seconds,
            "from": [self.memory.artifact(key) for key in sources],
        }
        artifact = wandb.Artifact(name, made.kind, metadata=self.scrub.plain(metadata))
        with artifact.new_file("stage.json") as file:
            json.dump(self.scrub.plain(msgspec.to_builtins(stage.record)), file, indent=1)
        if made.output in VIEWS and made.output in stage.outputs and self.tracking.sample:
            rows = records(stage.folder, made.output)
            wrong = (row for row in rows if not row.correct) if made.kind == "errors" else rows
            artifact.add(self._table(made.output, wrong), "rows")
        if made.kind == "model" and self.tracking.upload_model:
            artifact.add_dir(str(stage.folder / "model"))
        aliases = [] if place.iteration is None else [f"iteration_{place.iteration}"]
        self.run._log_artifact(artifact, aliases=aliases, is_user_created=True, use_after_commit=made.used)
        self.memory.note("artifacts", made.place, label)
