"""What a run folder tells of how to run it again: the same settings in another place, with nothing sent."""

import copy
import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from errata.endpoint import LOOPBACK
from errata.errors import RunFolderError
from errata.report.diff import stored_settings
from errata.report.results import manifest
from errata.revise import DECISIONS
from errata.version import __version__


@dataclass(frozen=True)
class StoredRun:
    """A run as its folder tells it.

    Attributes:
        command: `improve`, `evaluate` ...
        config: the settings that can change a result.
        settings: every setting.
        made_with: see `errata.provenance`.
    """

    path: Path
    command: str
    config: dict[str, Any]
    settings: dict[str, Any]
    made_with: dict[str, Any]

    @classmethod
    def read(cls, run: Path) -> "StoredRun":
        """What is in run.json and config.yaml.

        Raises:
            RunFolderError: it is no run folder, or one of another version, or one that does not say enough.
        """
        told = manifest(run)
        if told["version"] != __version__:
            raise RunFolderError(
                f"{run} was made with Errata {told['version']}, this is {__version__}: reproduce it with the version that "
                "made it"
            )
        settings = stored_settings(run)
        if settings is None or not told.get("errata_command"):
            words = " ".join(told.get("command") or []) or "its command"
            raise RunFolderError(
                f"{run} does not hold all its settings (config.yaml): it was made before these were kept. Start its command "
                f"once more, which skips what is finished and writes them: {words}"
            )
        return cls(run, told["errata_command"], told["config"], settings, told.get("provenance", {}))

    @property
    def asked(self) -> bool:
        """Whether the run has replies of an instructor."""
        return any(self.path.rglob("replies.jsonl"))


def settings_again(stored: StoredRun, to: Path, ledger: Path | None, fresh: bool) -> dict[str, Any]:
    """The run's settings for another place, in which nothing is sent unless `fresh`, and nothing is tracked.

    Raises:
        RunFolderError: its replies are not at hand, or something would be asked that no ledger holds.
    """
    settings = copy.deepcopy(stored.settings)
    settings |= {"output_dir": str(to), "dry_run": False, "tracking": {**settings.get("tracking", {}), "mode": "off"}}
    if "ledger" in settings:
        own = Path(settings["ledger"] or stored.path.resolve().parent / "ledger.sqlite").expanduser()
        place = ledger or (to / "ledger.sqlite" if fresh else own)
        if not fresh and not place.is_file():
            if stored.asked:
                raise RunFolderError(
                    f"the run's replies are not at hand: there is no ledger at {place}. Name it with --ledger FILE, or have "
                    "the instructor asked anew, and paid, with --fresh"
                )
            place = to / "ledger.sqlite"
        settings["ledger"] = str(place)
    if stored.command == "revise" and (decided := stored.path / DECISIONS).is_file():
        settings["decisions"] = str(decided)  # people's, whichever start of the run brought them
    if fresh:
        return settings
    for instructor in _instructors(settings):
        if _can_be_silent(instructor["_target_"]):
            instructor["sends"] = False
    model = settings.get("model") or {}
    address = urlsplit(str(model.get("base_url") or "")).hostname
    if "model" in stored.config and address is not None and address not in LOOPBACK:
        raise RunFolderError(
            f"the student of {stored.path} answers at {model['base_url']}, and no ledger holds its answers: --fresh asks it "
            "anew, and it may charge for that"
        )
    return settings


def _instructors(settings: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The settings of the instructor, and of the gates that have one of their own."""
    for part in (settings, *(settings.get("gate") or {}).values()):
        if isinstance(part, Mapping) and isinstance(part.get("instructor"), dict):
            yield part["instructor"]


def _can_be_silent(target: str) -> bool:
    """Whether an instructor has the setting `sends`; one that answers from the ledger anyway needs none.

    Raises:
        RunFolderError: it has none, and sends.
    """
    module, _, name = target.rpartition(".")
    kind = getattr(importlib.import_module(module), name)
    if any(field.name == "sends" for field in fields(kind)):
        return True
    if kind.sends:
        raise RunFolderError(f"{target} cannot be kept from sending (it has no setting `sends`): --fresh has it asked anew")
    return False
