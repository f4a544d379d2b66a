"""What a run tells Weights & Biases: online, offline (the default: no key, no connection, sync later), or nothing."""

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from errata.errors import ConfigError
from errata.run_folder import Stage

SWEEP = "ERRATA_SWEEP"
"""The environment variable that holds the sweep's name while one of its cells runs."""
log = logging.getLogger("errata")


@dataclass
class Tracking:
    """What is sent, and where to.

    Attributes:
        mode: `online` (needs `wandb login` or WANDB_API_KEY), `offline`, or `off`.
        project, entity: as in W&B.
        group: runs that are looked at together (None: the sweep that the run is a cell of, or else the run's name).
        lineage: who leaves the artifacts in W&B: each `stage` as a small run of its own beside the run, which W&B draws as
            a graph from errors to scores; or the `run`, for fewer runs.
        sample: rows of a table at most (0: no rows of anything are sent).
        upload_model: send the trained weights too; otherwise the model's artifact says where they are.
    """

    mode: str = "offline"
    project: str = "errata"
    entity: str | None = None
    group: str | None = None
    lineage: str = "stage"
    sample: int = 50
    upload_model: bool = False

    def problems(self) -> list[str]:
        """An unknown mode or lineage, online without a key, or fewer rows than none."""
        if self.mode not in ("online", "offline", "off"):
            return [f"tracking.mode is {self.mode!r}: choose online, offline or off"]
        found = []
        if self.lineage not in ("run", "stage"):
            found.append(f"tracking.lineage is {self.lineage!r}: choose stage or run")
        if self.sample < 0:
            found.append(f"tracking.sample is {self.sample}: it must be 0 or more rows")
        if self.mode == "online" and not (os.environ.get("WANDB_API_KEY") or _netrc_knows_wandb()):
            found.append("tracking=wandb needs a key: run `wandb login`, export WANDB_API_KEY, or choose tracking=offline")
        return found


class Tracker:
    """A W&B run of the run folder's name; a continued run folder continues it. Does nothing when tracking is off.

    Tracking never ends a run: should W&B not start, or fail in the middle, that is said once and the run goes on without it.

    Raises:
        ConfigError: W&B refuses the key or the project, before any work begins.
    """

    def __init__(self, tracking: Tracking, folder: Path, config: Mapping[str, Any], command: str = "") -> None:
        self._sender: Any = None
        if tracking.mode == "off":
            return
        try:
            from errata.tracking.sender import Sender  # W&B takes a second to import

            self._sender = Sender(tracking, folder, config, command)
        except ConfigError:
            raise
        except Exception as error:  # noqa: BLE001 - a W&B that does not start (broken, no room) is no reason not to work
            log.warning("this run is not tracked: %s: %s", type(error).__name__, error)

    def stage(self, stage: Stage) -> None:
        """Tell of a finished stage: numbers, sampled rows, and what it made of what; of an unchanged one nothing again."""
        self._tell("stage", stage)

    def update(self, stage: Stage, line: Mapping[str, Any]) -> None:
        """Tell of one update of a training job, once."""
        self._tell("update", stage, line)

    def summarise(self, metrics: Mapping[str, Any]) -> None:
        """Set the run's final numbers."""
        self._tell("summarise", metrics)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        self._tell("finish", 0 if kind is None else 1)

    def _tell(self, what: str, *given: Any) -> None:
        if self._sender is None:
            return
        try:
            getattr(self._sender, what)(*given)
        except Exception as error:  # noqa: BLE001 - whatever W&B raises, no training may be lost to it
            log.warning("tracking stops here, the run goes on: %s: %s", type(error).__name__, error)
            self._sender.leave()
            self._sender = None


def _netrc_knows_wandb() -> bool:
    path = Path("~/.netrc").expanduser()
    return path.is_file() and "api.wandb.ai" in path.read_text(errors="ignore")
