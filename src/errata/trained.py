"""The models that a run has trained: where each one's weights are, and what they were trained on top of."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from errata.errors import ErrataError
from errata.places import no_hub_id, nothing_stored
from errata.run_folder import read_stage
from errata.weights import Weights

RECORD = "errata.json"
"""What an exported model folder says of itself."""
COACH = "coach.json"
"""Beside a coach: which revisions it was trained on."""


@dataclass(frozen=True)
class Trained:
    """A model that training left.

    Attributes:
        folder: its train stage, which holds `training.yaml` and `model`.
        iteration: which one (0: `errata train`, which has none).
        weights: all of it: base, adapter, template, system prompt.
        stop_tokens: tokens that end an answer beside the template's end token.
    """

    folder: Path
    iteration: int
    weights: Weights
    stop_tokens: tuple[str, ...] = ()


def trained_models(run: Path) -> dict[int, Trained]:
    """Every finished model of a run, by iteration, in order.

    Raises:
        RunFolderError: the folder is no run folder.
        ErrataError: the run has trained nothing yet.
    """
    manifest = run / "run.json"
    if not manifest.is_file():
        raise nothing_stored(run)
    model = json.loads(manifest.read_bytes())["config"].get("model") or {}
    found = {}
    for place in (run / "train", *run.glob("iteration_*/train")):
        number = re.fullmatch(r"iteration_(\d+)", place.parent.name)
        stage = read_stage(place)
        if stage is not None and stage.finished and (place / "model").is_dir():
            iteration = int(number.group(1)) if number and place.parent != run else 0
            found[iteration] = Trained(place, iteration, weights_in(place), tuple(model.get("stop_tokens") or ()))
    if not found:
        raise ErrataError(
            f"{run} holds no trained model: no train stage of it is finished. Run its command to the end (`errata improve` "
            "and `errata train` leave models, `errata evaluate` does not)"
        )
    return dict(sorted(found.items()))


def weights_in(folder: Path) -> Weights:
    """The weights that the training job in a folder has left.

    Raises:
        ErrataError: the folder does not say of what they were made, or in the words of another version.
    """
    try:
        job: dict[str, Any] = yaml.safe_load((folder / "training.yaml").read_text())
        weights = Weights(**job["weights"])
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise ErrataError(
            f"{folder / 'training.yaml'} does not say which weights were trained ({error}): another version of Errata has "
            "made it, or it is damaged; errata reproduce runs it again"
        ) from error
    return weights.after_training(folder / "model")


def check_base(weights: Weights) -> None:
    """See that a base that was a local folder is still there.

    Raises:
        ErrataError: it is not.
    """
    place = Path(weights.base)
    if not place.is_dir() and no_hub_id(weights.base):
        raise ErrataError(
            f"the base weights {weights.base} are not there: put them back, or go to the folder that they lie under"
        )
