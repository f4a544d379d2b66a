"""From errors to scores: which artifact each stage leaves, and of which others it was made."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

_LONGEST_NAME = 128


@dataclass(frozen=True)
class Place:
    """Where a stage stands: `iteration_2/gsm8k/instruct`, `iteration_2/mix`, or, outside the loop, its name alone."""

    iteration: int | None
    dataset: str
    step: str

    @classmethod
    def of(cls, stage: str) -> "Place":
        """The place that a stage's name says."""
        found = re.fullmatch(r"iteration_(\d+)/(?:([^/]+)/)?(.+)", stage)
        if found is None:
            return cls(None, "", stage)
        return cls(int(found.group(1)), found.group(2) or "", found.group(3))


@dataclass(frozen=True)
class Product:
    """An artifact that a stage leaves.

    Attributes:
        kind: its type in W&B: errors, cases, replies, training_set, model, scores, corpus, revisions.
        output: the stage's output that it stands for.
        place: its key in the run's lineage.
        sources: keys of what it was made of, the nearest first; of these those count that there are.
    """

    kind: str
    output: str
    place: str
    sources: tuple[tuple[str, ...], ...] = field(default=())


def product(place: Place, outputs: Iterable[str], datasets: Iterable[str], start: str) -> Product | None:
    """What the stage at that place leaves, or None for a step on the way.

    Args:
        datasets: which ones the loop learns from: a training set is made of them all.
        start: `last` where an iteration trains the student of the one before, as the policy has it.
    """
    names, number, step = set(outputs), place.iteration, place.step

    def here(kind: str, dataset: str = place.dataset) -> str:
        return "/".join(part for part in (str(number), dataset, kind) if part)

    if "attempts" in names and number is not None:
        if number and step in ("train", "dev"):
            return Product("errors", "attempts", f"{here('errors')}/{step}", ((f"{number - 1}/model",),))
        return Product("scores", "attempts", f"{here('scores')}/{step}", ((f"{number}/model",),))
    if number is None:
        return _outside_the_loop(step)
    train, dev = f"{here('errors')}/train", f"{here('errors')}/dev"
    if step == "allocate":
        return Product("cases", "cases", here("cases"), ((train,), (dev,)))
    if step == "retrieve":  # the same cases, each beside its neighbours
        return Product("cases", "cases", here("cases"), ((here("cases"), train),))
    if step == "instruct":
        return Product("replies", "replies", here("replies"), ((here("cases"),),))
    if step == "mix":
        made_of = [(here("replies", name), f"{here('errors', name)}/train") for name in datasets]
        return Product("training_set", "train", f"{number}/training_set", tuple(made_of))
    if step == "train":
        before = ((f"{number - 1}/model",),) if start == "last" else ()
        return Product("model", "model", f"{number}/model", ((f"{number}/training_set",), *before))
    return None


def _outside_the_loop(step: str) -> Product | None:
    """What `errata train`, `revise` and `judge` leave."""
    return {
        "train": Product("model", "model", "model"),
        "corpus": Product("corpus", "pairs", "corpus"),
        "revise": Product("revisions", "revisions", "revisions", (("corpus",),)),
        "final": Product("training_set", "pairs", "training_set", (("revisions", "corpus"),)),
        "instruct": Product("replies", "replies", "replies"),
        "judge": Product("scores", "judgements", "scores", (("replies",),)),
    }.get(step)


def artifact_name(*parts: Any) -> str:
    """The parts as W&B allows a name: letters, digits, dots, dashes and underscores, at most 128."""
    name = "-".join(str(part) for part in parts if part != "")
    return re.sub(r"[^A-Za-z0-9._-]", "_", name)[-_LONGEST_NAME:]
