"""One W&B run, and what it is told of each stage. Imports W&B: only where tracking is on."""

import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import wandb
import yaml

from errata.digests import digest
from errata.records import StageRecord
from errata.run_folder import CONFIG, Stage, read_stage
from errata.secrets import Scrubber
from errata.tracking import metrics
from errata.tracking.artifacts import Artifacts
from errata.tracking.connection import connect, connect_stage, first_line, run_id
from errata.tracking.lineage import Place, Product, product
from errata.tracking.memory import Memory
from errata.tracking.samples import VIEWS, records, sampled
from errata.tracking.tracker import Tracking

SHOWN = {"attempts": "attempts", "rejections": "rejections", "train": "training_examples", "revisions": "revisions"}
"""The outputs whose rows stand in the run itself, by their tables' titles; the others' are in the artifacts."""
_DATA_DIR = "WANDB_DATA_DIR"
log = logging.getLogger("errata")


class Sender:
    """Tells W&B of a run's stages, each once.

    Each artifact is an output of a run, and names those that it was made of, with their digests, in its metadata under
    `from`: that is the chain, in every mode and after every kill. W&B draws edges between runs and artifacts only, so that
    it draws the chain where each stage is a run (`lineage: stage`).

    Raises:
        ConfigError: W&B refuses the key or the project.
    """

    def __init__(self, tracking: Tracking, folder: Path, config: Mapping[str, Any], command: str) -> None:
        self.tracking, self.folder, self.config = tracking, folder, config
        self.scrub = Scrubber([config, _every_setting(folder)])
        self._data_dir = os.environ.get(_DATA_DIR)
        if self._data_dir is None:  # or W&B keeps what is to be synced in the user's home
            os.environ[_DATA_DIR] = str(folder / "wandb")
        try:
            self.run = connect(tracking, folder, self.scrub.plain(config), command)
            self.memory = Memory(folder / "wandb", f"{tracking.entity or ''}/{tracking.project}/{run_id(folder)}")
            self.artifacts = Artifacts(tracking, folder.name, self.memory, self.scrub, self._table)
            # an agent of W&B's sweeps gives every run of this process one id, its own
            self.runs_of_stages = tracking.lineage == "stage" and self.run.id == run_id(folder)
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
        made = self._product(stage.record)
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

    def _product(self, record: StageRecord) -> Product | None:
        policy: Mapping[str, Any] = self.config.get("policy") or {}
        return product(
            Place.of(record.name), record.outputs, self.config.get("dataset", {}), str(policy.get("start", "last"))
        )

    def _table(self, name: str, found: Iterable[Any]) -> wandb.Table:
        columns: list[str | int] = list(VIEWS[name].columns)
        data = sampled(name, found, self.tracking.sample, self.scrub.text)
        return wandb.Table(columns=columns, data=data, allow_mixed_types=True)

    def _artifact(self, stage: Stage, place: Place, made: Product) -> None:
        """Log what a stage made, as an output of a small run of the stage's own or, where that cannot be, of the run."""
        aliases = [] if place.iteration is None else [f"iteration_{place.iteration}"]
        if not (self.runs_of_stages and self._run_of(stage, place, made, aliases)):
            self.run.log_artifact(self.artifacts.make(stage.folder, stage.record, made), aliases=aliases)
        self.memory.note("made_by", made.place, stage.name)
        self.memory.note("artifacts", made.place, self.artifacts.label(stage.record, made))

    def _run_of(self, stage: Stage, place: Place, made: Product, aliases: list[str]) -> bool:
        """Tell W&B of the stage as a run; a failure is said once, and the stages after it have none."""
        kind = "evaluate" if made.output == "attempts" else place.step  # not "train", which is another stage
        patient = made.kind == "model" and self.tracking.upload_model  # weights take their time
        try:
            run = connect_stage(self.tracking, self.folder, stage.name, kind, self.run.offline, patient)
            try:  # not `with`: W&B would print the traceback
                for key in self.artifacts.sources(made):
                    self._use(run, key)
                run.log_artifact(self.artifacts.make(stage.folder, stage.record, made), aliases=aliases)
                run.summary.update(metrics.counts(place, stage.record))
            finally:
                run.finish()
        except Exception as error:  # noqa: BLE001 - the run itself may do without, and has more to tell
            log.warning(
                "%s is no run of its own in W&B, nor are the stages after it (%s: %s): their artifacts are the run's",
                stage.name, type(error).__name__, first_line(error),
            )  # fmt: skip
            self.runs_of_stages = False
        return self.runs_of_stages

    def _use(self, run: Any, key: str) -> None:
        """Mark an earlier stage's artifact as an input of a later one's run.

        Offline, W&B's `use_artifact` refuses. This is what it does online with an artifact that it was not given by the
        server: log it without a producer, and use it. By its content the server finds the one that is there already.
        """
        name = self.memory.made_by(key) or ""
        record = read_stage(self.folder / name) if name else None
        made = self._product(record) if record is not None and record.finished else None
        if record is None or made is None or self.artifacts.label(record, made) != self.memory.artifact(key):
            return  # it is no longer what it was
        artifact = self.artifacts.make(self.folder / name, record, made)
        run._log_artifact(artifact, is_user_created=True, use_after_commit=True)


def _every_setting(folder: Path) -> Any:
    """The run's config.yaml: where a key is found changes no result, and what W&B shows are settings that do."""
    file = folder / CONFIG
    return yaml.safe_load(file.read_bytes()) if file.is_file() else {}
