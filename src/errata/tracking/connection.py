"""The W&B run that belongs to a run folder, and what becomes of a server that cannot be reached."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import wandb

from errata.digests import digest
from errata.errors import ConfigError
from errata.tracking.tracker import SWEEP, Tracking

_LONGEST = 64
_STAGE = 51
_WAIT_S = 30
log = logging.getLogger("errata")


def connect(tracking: Tracking, folder: Path, config: Mapping[str, Any], command: str) -> Any:
    """The W&B run of the folder's name, begun or gone on with.

    A server that does not answer costs no work: the run is kept offline, to be synced later, and that is said.

    Raises:
        ConfigError: the key or the project is refused, which waiting would not mend.
    """
    os.environ.setdefault("WANDB_SILENT", "true")
    known = _known(tracking, folder) | {
        "job_type": command or None,
        "tags": tags(config),
        "name": folder.name,
        "id": run_id(folder),
        "config": dict(config),
    }
    if tracking.mode == "online":
        _say_unsynced(folder)
        try:
            return _begun("online", known, resume="allow")
        except wandb.errors.AuthenticationError as error:
            raise _refused(tracking, error) from error
        except (wandb.errors.CommError, TimeoutError) as error:
            if any(word in str(error) for word in ("401", "403", "404", "permission")):
                raise _refused(tracking, error) from error
            wandb.teardown()  # the attempt holds the run's id
            log.warning(
                "wandb.ai cannot be reached (%s): this run is tracked offline. Send it later: %s",
                first_line(error), sync_command(folder),
            )  # fmt: skip
        except (wandb.Error, ValueError) as error:
            raise _refused(tracking, error) from error
    return _begun("offline", known)


def connect_stage(tracking: Tracking, folder: Path, stage: str, kind: str, offline: bool, patient: bool = False) -> Any:
    """The small run of a stage, beside the run of its folder: the stage's kind is its job type; it holds no metrics.

    Its end waits for the server, as the work does meanwhile: no longer than its beginning may, unless it is to be patient.

    Raises:
        TimeoutError: at its end: the server has not taken all of it.
    """
    known = _known(tracking, folder) | {
        "job_type": kind,
        "name": f"{folder.name}/{stage}"[-128:],
        "id": f"{run_id(folder)[:_STAGE]}-{digest([folder.name, stage])[: _LONGEST - _STAGE - 1]}",
        "config": {"run": folder.name, "stage": stage},
    }
    settings = _settings() | {"x_disable_stats": True}
    if offline:
        return wandb.init(mode="offline", settings=wandb.Settings(**settings), **known)
    settings |= {"finish_timeout": 0 if patient else _WAIT_S, "finish_timeout_raises": True}
    return wandb.init(mode="online", settings=wandb.Settings(**settings), resume="allow", **known)


def _known(tracking: Tracking, folder: Path) -> dict[str, Any]:
    group = tracking.group or os.environ.get(SWEEP) or folder.name.rpartition("-")[0] or folder.name
    return {"project": tracking.project, "entity": tracking.entity, "group": group[:128], "dir": str(folder)}


def _settings() -> dict[str, Any]:
    return {
        "silent": True, "console": "off", "disable_code": True, "disable_git": True, "init_timeout": _WAIT_S,
        "x_disable_meta": True,  # the command line and the user; run.json has what is needed
        "reinit": "create_new",  # or a cell would go on in the run of the one before, had that one lost W&B on its way
    }  # fmt: skip


def _begun(mode: Literal["online", "offline"], known: dict[str, Any], **more: Any) -> Any:
    run = wandb.init(mode=mode, settings=wandb.Settings(**_settings()), **known, **more)
    run.define_metric("iteration")
    run.define_metric("train/update")
    run.define_metric("train/*", step_metric="train/update")
    for prefix in ("accuracy", "stage"):
        run.define_metric(f"{prefix}/*", step_metric="iteration")
    return run


def run_id(folder: Path) -> str:
    """The folder's name, as the id that makes every start of it one run."""
    name = folder.name
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 9]}{name[-9:]}"


def tags(config: Mapping[str, Any]) -> list[str]:
    """By what runs are picked: strategy, model and datasets (or corpora and test sets)."""
    strategy: Mapping[str, Any] = config.get("strategy") or {}
    model: Mapping[str, Any] = config.get("model") or {}
    called = str(model.get("path") or model.get("model") or model.get("kind", "").rpartition(".")[2])
    found = [str(strategy.get("name", "")), called.rstrip("/").rpartition("/")[2]]
    for group in ("dataset", "tests", "corpus", "testset"):
        found += map(str, config.get(group) or {})
    return list(dict.fromkeys(tag[:_LONGEST] for tag in found if tag))


def sync_command(folder: Path) -> str:
    """What sends a folder's offline parts, in their order, as one run.

    Offline files do not hold the setting by which a later part continues an earlier one: the environment gives it.
    """
    return f"WANDB_RESUME=allow wandb sync {folder}/wandb"


def _say_unsynced(folder: Path) -> None:
    parts = [file for file in folder.glob("wandb/offline-run-*/*.wandb") if not file.with_suffix(".wandb.synced").exists()]
    if parts:
        log.warning("%d offline parts of this run are not at wandb.ai yet. Send them: %s", len(parts), sync_command(folder))


def _refused(tracking: Tracking, error: Exception) -> ConfigError:
    where = "/".join(part for part in (tracking.entity, tracking.project) if part)
    return ConfigError([
        f"tracking=wandb: wandb.ai does not take runs for {where} with this key ({first_line(error)}). Run `wandb login` "
        "or set tracking.entity and tracking.project; tracking=offline needs neither"
    ])  # fmt: skip


def first_line(error: Exception) -> str:
    """What a message says first; the rest of W&B's are a server's JSON."""
    words = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return words.partition(": {")[0]
