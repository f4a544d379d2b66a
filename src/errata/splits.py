"""The questions of a run: read and checked before any model is loaded, and walled off from each other."""

import logging
from random import Random

from errata.dataset.base import Dataset
from errata.errors import DataError
from errata.records import Question
from errata.setup import Setup

log = logging.getLogger("errata")


def load_splits(setup: Setup) -> dict[str, dict[str, list[Question]]]:
    """The questions of every dataset by split: `test`, and of those that are learnt from `train` (and `dev` where needed).

    A train or dev question that is a test question as well, of any of the run's datasets, is left out: nothing of a test
    split may become an error, a neighbour or a training row. No train question is a dev question.

    Raises:
        DataError: a file is missing or broken, or all train questions are test questions.
    """
    measured = setup.model.trains  # else the loop ends before anything is measured
    splits = {name: {"test": dataset.load("test")} if measured else {} for name, dataset in setup.tested.items()}
    walled = {_plain(question.text) for question in setup.wall}
    for name, dataset in setup.datasets.items():
        train = _behind(walled, dataset, "train")
        dev = _dev(setup, dataset, train, walled) if setup.settings.needs_dev else []
        if dev:
            splits[name]["dev"] = dev
        held_out = {_plain(question.text) for question in dev}
        splits[name]["train"] = [question for question in train if _plain(question.text) not in held_out]
        if not splits[name]["train"]:
            raise DataError(f"{name}: nothing of the train split is left; take a smaller errors.dev_share")
    return splits


def _behind(walled: set[str], dataset: Dataset, split: str) -> list[Question]:
    """A split without what stands in a test split."""
    loaded = dataset.load(split)
    kept = [question for question in loaded if _plain(question.text) not in walled]
    name = dataset.name
    if not kept:
        raise DataError(f"{name}: every {split} question stands in a test split too; are the two splits one file?")
    if len(kept) < len(loaded):
        log.warning("%s: %d %s questions stand in a test split too and are left out", name, len(loaded) - len(kept), split)
    return kept


def _dev(setup: Setup, dataset: Dataset, train: list[Question], walled: set[str]) -> list[Question]:
    """The benchmark's own dev split, or a part of the train split, drawn by the questions' own ids under any seed."""
    if dataset.has("dev"):
        return _behind(walled, dataset, "dev")
    share = setup.settings.errors.dev_share
    drawn = Random(f"dev/{dataset.name}").sample(range(len(train)), max(1, round(share * len(train))))
    return [train[place] for place in sorted(drawn)]


def _plain(text: str) -> str:
    return " ".join(text.lower().split())
