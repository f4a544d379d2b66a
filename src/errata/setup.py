"""From a composed config to built and checked components: all problems together, before anything is loaded or paid."""

import logging
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from errata.allocation.base import Allocation
from errata.allocation.uniform import Uniform
from errata.config import SCHEMAS
from errata.corpus.base import Corpus
from errata.dataset.base import Dataset, Examiner, no_weights
from errata.errors import ConfigError, DataError
from errata.gate.base import Gate
from errata.gate.consensus import Consensus
from errata.instructor.base import Instructor
from errata.judge.base import Judge
from errata.judge.checks import judging_problems
from errata.judge.recorded import Recorded
from errata.ledger import Purse
from errata.model.base import Model
from errata.records import Question
from errata.retrieval.base import Retrieval
from errata.reviser.base import Reviser
from errata.reviser.coach import Coach
from errata.reviser.none import Unrevised
from errata.run_folder import digest
from errata.strategy.base import Strategy, Supply

log = logging.getLogger("errata")


@dataclass(frozen=True)
class Setup:
    """A checked command: its plain settings and its components, built."""

    settings: Any
    plain: dict[str, Any]
    model: Model
    datasets: Mapping[str, Dataset]
    tests: Mapping[str, Dataset]
    gates: Mapping[str, Gate | Consensus]
    strategy: Strategy | None
    instructor: Instructor | None
    retrieval: Retrieval | None = None
    allocation: Allocation = field(default_factory=Uniform)
    walled: Mapping[str, Dataset] = field(default_factory=dict)
    corpora: Mapping[str, Corpus] = field(default_factory=dict)
    testsets: Mapping[str, Corpus] = field(default_factory=dict)
    reviser: Reviser = field(default_factory=Unrevised)
    judge: Judge | None = None

    @property
    def embeddings(self) -> Path:
        """The file of all embeddings, which all runs in `output_dir` share."""
        return Path(self.settings.output_dir).expanduser() / "embeddings.sqlite"

    @property
    def tested(self) -> dict[str, Dataset]:
        """Every dataset that the student is measured on."""
        return {**self.datasets, **self.tests}

    @cached_property
    def wall(self) -> list[Question]:
        """Every test question of them all: nothing of these may be trained on.

        Where nothing is trained (recorded answers), a test split that is not at hand is said, not an error.
        """
        found: list[Question] = []
        for name, dataset in {**self.walled, **self.tested}.items():
            try:
                found += dataset.wall()
            except DataError as error:
                if self.model.trains or name in self.walled:
                    raise
                log.warning("%s: no wall to its test split, which is not at hand (%s)", name, error)
        for name, testset in self.testsets.items():
            found += [Question(pair.id, name, "test", pair.prompt, pair.output) for pair in testset.pairs(name)]
        return found

    def size(self, name: str) -> int:
        """How many training rows of a dataset are wanted in an iteration."""
        return int(self.settings.sizes.get(name, self.settings.sample_size))

    @property
    def folder(self) -> Path:
        """The run folder: `OUTPUT_DIR/NAME-HASH`, the hash over all that can change a result."""
        return Path(self.settings.output_dir).expanduser() / f"{self.settings.name}-{digest(self.plain)[:8]}"

    @property
    def ledger(self) -> Path:
        """The ledger's file."""
        return ledger_file(self.settings)

    def purse(self, stage: str) -> Purse:
        """Who pays for a stage, and how far."""
        budget = self.settings.budget
        return Purse(budget.account or self.settings.name, self.folder.name, stage, budget.usd, budget.tokens)


def ledger_file(settings: Any) -> Path:
    """The ledger that the settings name, or the one that all runs in `output_dir` share."""
    return Path(settings.ledger or Path(settings.output_dir) / "ledger.sqlite").expanduser()


def check(command: str, composed: DictConfig) -> Setup:
    """Build and check everything that a composed config names, reporting all problems together.

    Raises:
        ConfigError: with every problem found.
    """
    problems: list[str] = []
    with _collecting(problems, ""):
        composed = OmegaConf.merge(OmegaConf.structured(SCHEMAS[command]), composed)  # type: ignore[assignment]
        OmegaConf.resolve(composed)
    if problems:
        raise ConfigError(problems)

    def built(node: Any, where: str) -> Any:
        with _collecting(problems, where):
            return build(node, where)

    def group(name: str) -> dict[str, Any]:
        nodes = composed.get(name) or {}
        return {key: built(nodes[key], f"{name}.{key}") for key in nodes}

    regrade = composed.get("regrade")
    model = built(composed.model, "model") if regrade is None else None
    datasets, tests, gates = group("dataset"), group("tests"), group("gate")
    for name, gate in gates.items():
        if isinstance(gate, Consensus) and gate.instructor is not None:
            gate.instructor = built(OmegaConf.create(gate.instructor), f"gate.{name}.instructor")
    strategy = built(composed.strategy, "strategy") if "strategy" in composed else None
    reviser = built(composed.reviser, "reviser") if "reviser" in composed else None
    if isinstance(reviser, Coach) and reviser.model is not None:
        reviser.model = built(OmegaConf.create(reviser.model), "reviser.model")
    judge = built(composed.judge, "judge") if command == "judge" else None
    corpora, testsets = group("corpus"), group("testset")
    asking = [part for part in (reviser, judge) if part is not None and part.asks]
    asks = (command == "improve" and not isinstance(strategy, Supply)) or bool(asking)
    instructor = built(composed.instructor, "instructor") if asks else None
    allocation = built(composed.allocation, "allocation") if "allocation" in composed else Uniform()
    embeds = getattr(strategy, "contrasts", False) or (allocation is not None and allocation.embeds)
    embeds = embeds or any(getattr(part, "embeds", False) for part in (*gates.values(), reviser))
    retrieval = built(composed.retrieval, "retrieval") if embeds and "retrieval" in composed else None
    walled = group("wall")
    method = built(composed.training.method, "training.method") if "training" in composed else None
    polymorphic = (
        "model", "dataset", "tests", "wall", "gate", "strategy", "allocation", "instructor", "retrieval",
        "corpus", "testset", "reviser", "judge",
    )  # fmt: skip
    rest = OmegaConf.masked_copy(composed, [str(key) for key in composed if key not in polymorphic])
    if "training" in rest:
        rest.training.method = None
    missing = sorted(str(key) for key in OmegaConf.missing_keys(rest))
    problems += [f"{name} is not set: give it a value, {name}=..." for name in missing]
    settings: Any = None
    if not missing:
        with _collecting(problems, ""):
            settings = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(SCHEMAS[command]), rest))
    if settings is not None and method is not None:
        settings.training.method = method
        problems += method.problems()
    if settings is not None:
        problems += _range_problems(settings)
    for component in (model, retrieval, allocation, reviser, judge, *datasets.values(), *gates.values()):
        if component is not None:
            problems += component.problems()
    for kind, part in (("corpus", corpora), ("testset", testsets)):
        for name, one in part.items():
            problems += one.problems(f"{kind}.{name}") if one is not None else []
    known = {name: dataset for name, dataset in datasets.items() if dataset is not None}
    if model is None or not model.trains:
        problems += [no_weights(name) for name, dataset in known.items() if isinstance(dataset, Examiner)]
    if command == "improve":
        problems += _improve_problems(
            model,
            known,
            {name: dataset for name, dataset in tests.items() if dataset is not None},
            {name: dataset for name, dataset in walled.items() if dataset is not None},
            settings,
        )
    elif command == "train":
        problems += _train_problems(model, settings)
    elif command == "revise":
        walls = {name: dataset for name, dataset in walled.items() if dataset is not None}
        problems += _wall_problems({}, {"wall": walls})
        problems += settings.mixture.problems(list(corpora)) if settings is not None else []
        if isinstance(reviser, Unrevised) and settings is not None and settings.decisions is not None:
            problems.append("decisions are made about revisions, and reviser=none makes none: leave decisions out")
        if not composed.corpus:
            problems.append("corpus is empty: name at least one, corpus=[alpaca]")
    elif command == "judge" and settings is not None and judge is not None:
        problems += judging_problems(settings, judge, list(testsets))
    if isinstance(reviser, Coach) and reviser.model is None and model is not None:
        problems += reviser.base_problems(model)
    if reviser is not None and reviser.scores and model is not None and not model.trains:
        problems.append(
            "reviser scores pairs by the model's own probabilities: choose one whose weights are at hand (model=hf)"
        )
    if regrade is not None and not (Path(regrade).expanduser() / "run.json").is_file():
        problems.append(f"regrade is {regrade!r}: no run folder there; expected outputs/NAME-HASH")
    if "gate" in composed and "leak" not in gates:
        problems.append("gate.leak is left out: the wall to the test splits always stands; add leak to gate=[...]")
    if "dataset" in composed and not composed.dataset:
        problems.append("dataset is empty: name at least one, dataset=[arithmetic]")
    if strategy is not None:
        layouts = {name: dataset.layout for name, dataset in known.items() if not isinstance(dataset, Examiner)}
        problems += strategy.problems(layouts)
    if instructor is not None:
        topics = [*datasets, *(type(part).__name__.lower() for part in asking)]
        for asked in (instructor, *(gate.instructor for gate in gates.values() if isinstance(gate, Consensus))):
            problems += asked.problems(topics) if asked is not None else []
        if settings is not None and not instructor.sends and not ledger_file(settings).is_file():
            problems.append(f"there is no ledger at {ledger_file(settings)}: record one first, or set ledger=FILE")
    if settings is not None and instructor is not None:
        solvers = [gate.instructor for gate in gates.values() if isinstance(gate, Consensus)]
        for paid in (instructor, *filter(None, solvers)):
            problems += [problem for problem in _budget_problems(settings.budget, paid) if problem not in problems]
    if problems:
        raise ConfigError(problems)
    ordered_gates = list(gates.values())  # their order can change what is rejected, and why
    uses_model = {
        "revise": reviser is not None and (reviser.scores or (isinstance(reviser, Coach) and reviser.model is None)),
        "judge": command == "judge"
        and settings is not None
        and settings.answers is None
        and not isinstance(judge, Recorded),
    }
    parts = {
        "model": model if uses_model.get(command, True) else None,
        "dataset": datasets,
        "tests": tests,
        "gate": ordered_gates,
        "strategy": strategy,
        "instructor": instructor,
        "retrieval": retrieval,
        "allocation": allocation if command == "improve" else None,
        "wall": walled,
        "corpus": corpora,
        "testset": testsets,
        "reviser": None if isinstance(reviser, Unrevised) else reviser,
        "judge": judge,
    }
    plain = result_changing(settings) | {key: result_changing(part) for key, part in parts.items() if part}
    student: Any = model  # None only where stored responses are graded anew
    return Setup(
        settings, plain, student, datasets, tests, gates, strategy, instructor, retrieval, allocation, walled,
        corpora, testsets, reviser or Unrevised(), judge,
    )  # fmt: skip


def _improve_problems(
    model: Model | None,
    datasets: Mapping[str, Dataset],
    tests: Mapping[str, Dataset],
    walled: Mapping[str, Dataset],
    settings: Any,
) -> list[str]:
    """What the loop cannot do with this student and these datasets."""
    found = []
    if settings is not None:
        if model is not None and not model.trains and settings.iterations > 1:
            found.append(
                "this model can only be asked, not trained: with iterations=1 errata improve goes as far as the training "
                "set; for more, take one whose weights are at hand (model=hf)"
            )
        method = settings.training.method
        if settings.iterations > 1 and settings.policy.start == "last" and method is not None and not method.goes_on:
            found.append(
                f"training.method {type(method).__name__} cannot train an adapter of its own further: start each iteration "
                "anew (policy=restart), or take lora or full"
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
    for name, dataset in datasets.items():
        if not dataset.has("train"):
            found.append(
                f"dataset.{name} has no train split to take errors from. To measure on it in each iteration, "
                f"name it under tests: dataset@tests=[{name}]"
            )
    return found + _wall_problems(datasets, {"tests": tests, "wall": walled})


def _wall_problems(datasets: Mapping[str, Dataset], groups: Mapping[str, Mapping[str, Dataset]]) -> list[str]:
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


def _train_problems(model: Model | None, settings: Any) -> list[str]:
    """A model that cannot be trained, or no rows, or two kinds of them."""
    found = []
    if model is not None and not model.trains:
        found.append("this model can only be asked, not trained: choose one whose weights are at hand (model=hf)")
    if settings is not None and (settings.data is None) == (settings.revisions is None):
        found.append(
            "data is not set: give it a file of rows, data=FILE (or revisions=FILE, experts' revisions, for a coach)"
        )
        if settings.data is not None:
            found[-1] = "data and revisions are both set: a coach is trained on revisions alone; leave one of them out"
    if settings is not None and not 0 < settings.alpha <= 1:
        found.append(f"alpha is {settings.alpha}: choose a share above 0 and up to 1")
    return found


def build(node: Any, where: str) -> Any:
    """The component that a group's node names in `_target_`, its fields typed by the component's dataclass.

    Raises:
        ConfigError: an unknown field, a value of the wrong type, or a field without a value.
    """
    if node is None or "_target_" not in node:
        raise ConfigError([f"{where} is not chosen: pick an option, {where.partition('.')[0]}=..."])
    try:
        kind = get_class(node._target_)
    except (ImportError, ValueError) as error:
        raise ConfigError([f"{where}._target_ is {node._target_!r}: {str(error).splitlines()[0]}"]) from error
    values = {str(key): node[key] for key in node if key != "_target_" and not OmegaConf.is_missing(node, key)}
    typed = OmegaConf.merge(OmegaConf.structured(kind), values)
    if missing := sorted(str(key) for key in OmegaConf.missing_keys(typed)):
        raise ConfigError([f"{where}.{name} is not set: give it a value, {where}.{name}=..." for name in missing])
    return OmegaConf.to_object(typed)


def result_changing(part: Any) -> Any:
    """A dataclass (or a dict or list of them) as plain values, without the neutral fields."""
    if is_dataclass(part) and not isinstance(part, type):
        kept = {f.name: result_changing(getattr(part, f.name)) for f in fields(part) if not f.metadata.get("neutral")}
        return {"kind": f"{type(part).__module__}.{type(part).__qualname__}", **kept}
    if isinstance(part, Mapping):
        return {str(key): result_changing(value) for key, value in part.items()}
    return [result_changing(value) for value in part] if isinstance(part, list | tuple) else part


def _budget_problems(budget: Any, instructor: Instructor) -> list[str]:
    """Limits that mean nothing, or that cannot be kept."""
    found = [
        f"budget.{name} is {value}: it must be 0 or more"
        for name, value in (("usd", budget.usd), ("tokens", budget.tokens))
        if value is not None and not 0 <= value < math.inf
    ]
    limited = budget.usd is not None or budget.tokens is not None
    if budget.usd is not None and instructor.price(1, 1) is None:
        found.append(
            "budget.usd cannot be kept without prices: set instructor.usd_per_million_in and "
            "instructor.usd_per_million_out, or limit budget.tokens"
        )
    if limited and instructor.sends and getattr(instructor, "max_tokens", None) is None:
        found.append("a budget cannot be kept where a reply has no longest length: set instructor.max_tokens")
    return found


def rows_file(given: str) -> Path:
    """A file of rows: the one that is given, or the final set of a run of `errata revise`."""
    path = Path(given).expanduser()
    return path / "final" / "train.messages.jsonl" if (path / "final").is_dir() else path


_HOLDS = dict.fromkeys(("data", "dev"), "; it must hold one {prompt, response} object a line")


def _range_problems(settings: Any) -> list[str]:
    at_least: dict[str, int] = {"iterations": 1, "sample_size": 1, "seed": 0, "max_length": 8}
    found = [
        f"{name} is {getattr(settings, name)}: it must be at least {least}"
        for name, least in at_least.items()
        if getattr(settings, name, least) < least
    ]
    if not re.fullmatch(r"[\w.-]+", settings.name):
        found.append(f"name is {settings.name!r}: use letters, digits, dots, dashes and underscores only")
    if getattr(settings, "split", "test") not in ("train", "dev", "test"):
        found.append(f"split is {settings.split!r}: choose train, dev or test")
    for name in ("data", "dev", "revisions", "decisions"):
        file = getattr(settings, name, None)
        if file is not None and not rows_file(file).is_file():
            found.append(f"{name} is {file!r}: no such file{_HOLDS.get(name, '')}")
    if getattr(settings, "preview", None) is not None and settings.preview < 0:
        found.append(f"preview is {settings.preview}: it must be 0 or more rows")
    training = getattr(settings, "training", None)
    measured = training is not None and (training.dev_share or getattr(settings, "dev", None))
    if training is not None and not measured and (training.keep == "best" or training.patience is not None):
        found.append("training.keep=best and training.patience go by a dev loss: set training.dev_share, or dev=FILE")
    parts = ("training", "tracking", "errors", "equalise", "policy")
    for part in (getattr(settings, name, None) for name in parts):
        found += part.problems() if part is not None else []
    return found


@contextmanager
def _collecting(problems: list[str], where: str) -> Iterator[None]:
    """Turn config errors into problems, so that the next part is checked too."""
    try:
        yield
    except ConfigError as error:
        problems += error.problems
    except OmegaConfBaseException as error:
        place = ".".join(part for part in (where, str(error.full_key or "")) if part)
        message = str(error.msg or error).splitlines()[0]
        options = ""
        if error.object_type is not None and is_dataclass(error.object_type) and "not in" in message:
            options = f"; it has {', '.join(f.name for f in fields(error.object_type))}"
        problems.append(f"{place}: {message}{options}" if place else message + options)
