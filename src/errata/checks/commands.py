"""What each command needs, and what it cannot do."""

from collections.abc import Mapping
from pathlib import Path

from errata.checks.draft import Draft, there
from errata.dataset.base import Dataset
from errata.judge.checks import judging_problems
from errata.reviser.human import Human
from errata.reviser.none import Unrevised
from errata.reviser.rated import Rated


def of_the_command(draft: Draft) -> list[str]:
    """What stands in this file about the draft's command."""
    check = {"improve": _improve, "train": _train, "revise": _revise, "judge": _judge}.get(draft.command)
    return check(draft) if check is not None else []


def chosen(draft: Draft) -> list[str]:
    """No run where one is to be graded anew, no wall to the tests, or no dataset."""
    found = []
    if draft.regrade is not None and not (Path(draft.regrade).expanduser() / "run.json").is_file():
        found.append(f"regrade is {draft.regrade!r}: no run folder there; expected outputs/NAME-HASH")
    if "gate" in draft.groups and "leak" not in draft.gates:
        found.append("gate.leak is left out: the wall to the test splits always stands; add leak to gate=[...]")
    if "dataset" in draft.groups and not draft.datasets:
        found.append("dataset is empty: name at least one, dataset=[arithmetic]")
    return found


def _improve(draft: Draft) -> list[str]:
    """What the loop cannot do with this student and these datasets."""
    datasets = there(draft.datasets)
    found = _loop(draft, datasets) if draft.settings is not None else []
    found += [
        f"dataset.{name} has no train split to take errors from. To measure on it in each iteration, "
        f"name it under tests: dataset@tests=[{name}]"
        for name, dataset in datasets.items()
        if not dataset.has("train")
    ]
    if isinstance(draft.reviser, Human | Rated):
        found.append(
            f"reviser {type(draft.reviser).__name__} goes by texts that people or a judge have seen, and practice is new to "
            "them: it is for errata revise; take reviser=none"
        )
    return found + _walls(datasets, {"tests": there(draft.tests), "wall": there(draft.walled)})


def _loop(draft: Draft, datasets: Mapping[str, Dataset]) -> list[str]:
    """Iterations, sizes and splits that cannot be."""
    settings, model, found = draft.settings, draft.model, []
    if model is not None and not model.trains and settings.iterations > 1:
        found.append(
            "this model can only be asked, not trained: with iterations=1 errata improve goes as far as the training "
            "set; for more, take one whose weights are at hand (model=hf)"
        )
    method = settings.training.method
    if settings.iterations > 1 and settings.policy.start == "last" and method is not None and not method.goes_on:
        found.append(
            f"training.method {type(method).__name__} cannot train an adapter of its own further: start each iteration "
            "anew (policy=restart), or take one that goes on: lora, houlsby, pfeiffer, parallel_adapter or full"
        )
    found += [f"sizes.{name}: there is no such dataset in this run" for name in settings.sizes if name not in datasets]
    found += [f"sizes.{name} is {size}: it must be at least 1" for name, size in settings.sizes.items() if size < 1]
    if "dev" in settings.errors.splits and settings.policy.patience is not None:
        found.append("policy.patience judges by dev, which errors.splits learns from: use errors=train, or no patience")
    found += [
        f"dataset.{name} has no dev split: set errors.dev_share to hold out a part of its train split, or leave dev out "
        "(errors=train policy.patience=null)"
        for name, dataset in datasets.items()
        if settings.needs_dev and not settings.errors.dev_share and not dataset.has("dev")
    ]
    return found


def _walls(datasets: Mapping[str, Dataset], groups: Mapping[str, Mapping[str, Dataset]]) -> list[str]:
    """What is wrong with the datasets that are only measured on, or only kept out."""
    found = [
        f"tests.{name} is among the datasets already, and measured as one of them: leave it out of tests"
        for name in groups.get("tests", {})
        if name in datasets
    ]
    for group, part in groups.items():
        for name, dataset in part.items():
            found += [problem.replace("dataset.", f"{group}.", 1) for problem in dataset.problems()]
            if not dataset.has("test"):
                found.append(f"{group}.{name} has no test split")
    return found


def _train(draft: Draft) -> list[str]:
    """A model that cannot be trained, or no rows, or two kinds of them."""
    settings, found = draft.settings, []
    if draft.model is not None and not draft.model.trains:
        found.append("this model can only be asked, not trained: choose one whose weights are at hand (model=hf)")
    if settings is None:
        return found
    if settings.data is None and settings.revisions is None:
        found.append(
            "data is not set: give it a file of rows, data=FILE (or revisions=FILE, experts' revisions, for a coach)"
        )
    if settings.data is not None and settings.revisions is not None:
        found.append("data and revisions are both set: a coach is trained on revisions alone; leave one of them out")
    if not 0 < settings.alpha <= 1:
        found.append(f"alpha is {settings.alpha}: choose a share above 0 and up to 1")
    return found


def _revise(draft: Draft) -> list[str]:
    """No corpus, a mixture that cannot be made of them, or decisions about nothing."""
    settings = draft.settings
    found = _walls({}, {"wall": there(draft.walled)})
    if settings is not None:
        found += settings.mixture.problems(list(draft.corpora))
        if isinstance(draft.reviser, Unrevised) and settings.decisions is not None:
            found.append("decisions are made about revisions, and reviser=none makes none: leave decisions out")
    if not draft.corpora:
        found.append("corpus is empty: name at least one, corpus=[alpaca]")
    return found


def _judge(draft: Draft) -> list[str]:
    """Answers, opponents and test sets that do not fit the judge."""
    if draft.settings is None or draft.judge is None:
        return []
    in_turns = [name for name, testset in draft.testsets.items() if getattr(testset, "format", None) == "turns"]
    return judging_problems(draft.settings, draft.judge, list(draft.testsets), in_turns)
