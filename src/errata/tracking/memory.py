"""What W&B has been told of a run, so that a run which goes on is one run there and nothing stands in it twice."""

import json
from pathlib import Path
from typing import Any

from errata.jsonl import write_atomically

FILE = "told.json"


class Memory:
    """Which stages, artifacts and updates have been sent, and W&B's next step, in `told.json` beside W&B's own folders.

    It belongs to one W&B run (`target`): for another project everything is sent anew. Deleting the `wandb` folder deletes it
    too, and then everything is sent again. Written after each sending: a kill in between repeats one, with the same step.
    """

    def __init__(self, folder: Path, target: str) -> None:
        self.path = folder / FILE
        stored = _read(self.path)
        fresh: dict[str, Any] = {"target": target, "step": 0, "stages": {}, "artifacts": {}, "updates": {}, "made_by": {}}
        self._state = fresh | stored if stored.get("target") == target else fresh

    @property
    def step(self) -> int:
        """W&B's step for what is sent next; it never goes back."""
        return int(self._state["step"])

    def told(self, stage: str) -> str | None:
        """Digest of what was sent of a stage last."""
        value: str | None = self._state["stages"].get(stage)
        return value

    def artifact(self, place: str) -> str | None:
        """NAME:DIGEST of the artifact that was logged last for a place in the lineage."""
        value: str | None = self._state["artifacts"].get(place)
        return value

    def made_by(self, place: str) -> str | None:
        """The stage that left that artifact."""
        value: str | None = self._state["made_by"].get(place)
        return value

    def updates(self, job: str) -> int:
        """How many updates of a training job were sent."""
        return int(self._state["updates"].get(job, 0))

    def sent(self) -> None:
        """The step is used up."""
        self._state["step"] += 1
        self._save()

    def note(self, what: str, key: str, value: str | int) -> None:
        """Remember a digest in `stages` or `artifacts`, a stage in `made_by`, or a number in `updates`."""
        self._state[what][key] = value
        self._save()

    def _save(self) -> None:
        self.path.parent.mkdir(exist_ok=True)
        write_atomically(self.path, json.dumps(self._state).encode())


def _read(path: Path) -> dict[str, Any]:
    """What the file holds; nothing where there is none, or where it is no JSON: then all is sent again."""
    try:
        found: dict[str, Any] = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return found
