"""Metrics to Weights & Biases: online, offline (the default: no key, no connection, sync later), or not at all."""

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

log = logging.getLogger("errata")


@dataclass
class Tracking:
    """Where metrics go.

    Attributes:
        mode: `online` (needs `wandb login` or WANDB_API_KEY), `offline`, or `off`.
        project, entity, group: as in W&B.
    """

    mode: str = "offline"
    project: str = "errata"
    entity: str | None = None
    group: str | None = None

    def problems(self) -> list[str]:
        """An unknown mode, or online without a key."""
        if self.mode not in ("online", "offline", "off"):
            return [f"tracking.mode is {self.mode!r}: choose online, offline or off"]
        if self.mode == "online" and not (os.environ.get("WANDB_API_KEY") or _netrc_knows_wandb()):
            return ["tracking=wandb needs a key: run `wandb login`, export WANDB_API_KEY, or choose tracking=offline"]
        return []


class Tracker:
    """A W&B run of the run folder's name; a continued run folder continues it. Does nothing when tracking is off."""

    def __init__(self, tracking: Tracking, folder: Path, config: Mapping[str, Any]) -> None:
        self._run: Any = None
        if tracking.mode == "off":
            return
        os.environ.setdefault("WANDB_SILENT", "true")
        import wandb

        self._run = wandb.init(
            project=tracking.project,
            entity=tracking.entity,
            group=tracking.group,
            name=folder.name,
            id=folder.name,
            resume="allow",
            mode="online" if tracking.mode == "online" else "offline",
            dir=str(folder),
            config=dict(config),
            settings=wandb.Settings(silent=True, console="off", disable_code=True, disable_git=True),
        )
        self._run.define_metric("train/*", step_metric="train/update")
        self._run.define_metric("iteration")
        for prefix in ("test", "stage"):
            self._run.define_metric(f"{prefix}/*", step_metric="iteration")

    def log(self, metrics: Mapping[str, Any]) -> None:
        """Send one set of metrics."""
        if self._run is not None:
            self._run.log({name: value for name, value in metrics.items() if isinstance(value, int | float)})

    def summarise(self, metrics: Mapping[str, Any]) -> None:
        """Set the run's final numbers."""
        if self._run is not None:
            self._run.summary.update(dict(metrics))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        if self._run is not None:
            self._run.finish(exit_code=0 if kind is None else 1)


def _netrc_knows_wandb() -> bool:
    path = Path("~/.netrc").expanduser()
    return path.is_file() and "api.wandb.ai" in path.read_text(errors="ignore")
