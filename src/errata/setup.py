"""From a composed config to built and checked components: all problems together, before anything is loaded or paid."""

import logging
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from errata.allocation.base import Allocation
from errata.allocation.uniform import Uniform
from errata.checks import commands, paying, together, values
from errata.checks.draft import Draft, ledger_file, there
from errata.checks.outvoted import outvoted
from errata.config import SCHEMAS, config_folder
from errata.corpus.base import Corpus
from errata.dataset.base import Dataset
from errata.digests import digest
from errata.errors import ConfigError, DataError
from errata.gate.base import Gate
from errata.gate.consensus import Consensus
from errata.identity import result_changing
from errata.instructor.base import Instructor
from errata.judge.base import Judge
from errata.ledger import Purse
from errata.model.base import Model
from errata.records import Question
from errata.retrieval.base import Retrieval
from errata.reviser.base import Reviser
from errata.reviser.coach import Coach
from errata.reviser.none import Unrevised
from errata.smoke.shrink import PREFIX, shrink
from errata.strategy.base import Strategy

log = logging.getLogger("errata")


@dataclass(frozen=True)
class Setup:
    """A checked command: its plain settings and its components, built.

    Attributes:
        plain: what can change a result.
        resolved: every setting as a plain value, by which `check` comes to the same setup again (a model's or an
            instructor's `headers` are left out: nobody knows what is in them).
        payer: under what name the ledger books what is paid; empty: the folder's.
        over: whether a former start came to its end, and what it read is as it was: there is nothing left to ask.
    """

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
    command: str = ""
    resolved: dict[str, Any] = field(default_factory=dict)
    payer: str = ""
    over: bool = False

    @property
    def embeddings(self) -> Path:
        """The file of all embeddings, which all runs in `output_dir` share."""
        return Path(self.settings.output_dir).expanduser() / "embeddings.sqlite"

    @property
    def evaluations(self) -> Path:
        """The folder of what start models have answered, which all runs in `output_dir` share."""
        return Path(self.settings.output_dir).expanduser() / "evaluations"

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
        return Purse(budget.account or self.settings.name, self.payer or self.folder.name, stage, budget.usd, budget.tokens)


_GROUPS = (
    "model", "dataset", "tests", "wall", "gate", "strategy", "allocation", "instructor", "retrieval",
    "corpus", "testset", "reviser", "judge",
)  # fmt: skip
"""Settings whose members are parts (`_target_`)."""

CHECKS = (
    values.training_method,
    values.ranges,
    values.each_part,
    values.each_corpus,
    together.examiners,
    commands.of_the_command,
    together.reviser_and_model,
    commands.chosen,
    together.strategy_and_datasets,
    paying.instructors,
    paying.recording,
    paying.budgets,
)
"""Every check, in the order in which problems are told."""


def check(command: str, given: DictConfig | dict[str, Any], chosen: Collection[str] | None = None) -> Setup:
    """Build and check everything that a composed config, or a stored one, names, reporting all problems together.

    Args:
        command: `improve`, `evaluate` ...
        given: the config.
        chosen: the settings that somebody has given values, which a smoke size leaves alone (None: those of Hydra's job).

    Raises:
        ConfigError: with every problem found.
    """
    problems: list[str] = []
    with _collecting(problems, ""):
        composed: Any = _composed(command, given, _on_command_line() if chosen is None else chosen)
    if problems:
        raise ConfigError(problems)
    draft = _draft(command, composed, problems)
    for problems_in in CHECKS:
        problems += problems_in(draft)
    if problems:
        raise ConfigError(problems)
    return Setup(
        settings=draft.settings,
        plain=_identity(draft),
        model=draft.model,  # type: ignore[arg-type]  # None only where stored responses are graded anew
        datasets=there(draft.datasets),
        tests=there(draft.tests),
        gates=there(draft.gates),
        strategy=draft.strategy,
        instructor=draft.instructor,
        retrieval=draft.retrieval,
        allocation=draft.allocation or Uniform(),
        walled=there(draft.walled),
        corpora=there(draft.corpora),
        testsets=there(draft.testsets),
        reviser=draft.reviser or Unrevised(),
        judge=draft.judge,
        command=command,
        resolved=_without_headers(OmegaConf.to_container(composed)),
    )


def _composed(command: str, given: DictConfig | dict[str, Any], chosen: Collection[str]) -> Any:
    """The config merged into the command's schema; at its smoke size, where that is wanted."""
    schema = OmegaConf.structured(SCHEMAS[command])
    composed: Any = OmegaConf.merge(schema, given)
    OmegaConf.resolve(composed)
    if isinstance(given, DictConfig):
        for line in outvoted(config_folder(), _words(), OmegaConf.to_container(given)):  # type: ignore[arg-type]
            log.warning("%s", line)
    if not composed.smoke:
        stored = isinstance(given, dict)  # a run of smoke size, run again, is as its config says
        if not stored and str(composed.name).startswith(PREFIX):
            raise ConfigError([f"name is {composed.name!r}: names in {PREFIX}... are those of smoke=true; choose another"])
        return composed
    plain: Any = OmegaConf.to_container(composed)
    return OmegaConf.merge(schema, shrink(command, plain, chosen))


def _draft(command: str, composed: Any, problems: list[str]) -> Draft:
    """Every part that the config names and the command needs, built; what cannot be built is a problem and None."""

    def built(node: Any, where: str) -> Any:
        with _collecting(problems, where):
            return build(node, where)

    def one(name: str) -> Any:
        return built(composed[name], name) if name in composed else None

    def group(name: str) -> dict[str, Any]:
        nodes = composed.get(name) or {}
        return {key: built(nodes[key], f"{name}.{key}") for key in nodes}

    draft = Draft(command, frozenset(f.name for f in fields(SCHEMAS[command])), regrade=composed.get("regrade"))
    draft.model = one("model") if draft.regrade is None else None
    draft.datasets, draft.tests, draft.gates = group("dataset"), group("tests"), group("gate")
    for name, gate in draft.gates.items():
        if isinstance(gate, Consensus) and gate.instructor is not None:
            gate.instructor = built(OmegaConf.create(gate.instructor), f"gate.{name}.instructor")
    draft.strategy, draft.reviser = one("strategy"), one("reviser")
    if isinstance(draft.reviser, Coach) and draft.reviser.model is not None:
        draft.reviser.model = built(OmegaConf.create(draft.reviser.model), "reviser.model")
    draft.judge = one("judge")
    draft.corpora, draft.testsets = group("corpus"), group("testset")
    draft.instructor = one("instructor") if draft.asks else None
    draft.allocation = one("allocation")
    draft.retrieval = one("retrieval") if draft.embeds else None
    draft.walled = group("wall")
    draft.method = built(composed.training.method, "training.method") if "training" in composed else None
    draft.settings = _settings(command, composed, problems)
    if draft.settings is not None and draft.method is not None:
        draft.settings.training.method = draft.method
    return draft


def _settings(command: str, composed: Any, problems: list[str]) -> Any:
    """Everything but the parts, as the command's dataclass; None where a value is missing or cannot be."""
    rest = OmegaConf.masked_copy(composed, [str(key) for key in composed if key not in _GROUPS])
    if "training" in rest:
        rest.training.method = None
    if missing := sorted(str(key) for key in OmegaConf.missing_keys(rest)):
        problems += [f"{name} is not set: give it a value, {name}=..." for name in missing]
        return None
    with _collecting(problems, ""):
        return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(SCHEMAS[command]), rest))


def _identity(draft: Draft) -> dict[str, Any]:
    """What can change a result, as plain values."""
    parts = {
        "model": draft.model if draft.uses_model else None,
        "dataset": draft.datasets,
        "tests": draft.tests,
        "gate": list(draft.gates.values()),  # their order can change what is rejected, and why
        "strategy": draft.strategy,
        "instructor": draft.instructor,
        "retrieval": draft.retrieval,
        "allocation": draft.allocation,
        "wall": draft.walled,
        "corpus": draft.corpora,
        "testset": draft.testsets,
        "reviser": None if isinstance(draft.reviser, Unrevised) else draft.reviser,
        "judge": draft.judge,
    }
    return result_changing(draft.settings) | {key: result_changing(part) for key, part in parts.items() if part}


def _on_command_line() -> list[str]:
    """The settings that the command line, or the cell of a sweep, gives values."""
    return [word.lstrip("+~").partition("=")[0] for word in _words()]


def _words() -> list[str]:
    """The overrides of Hydra's job, as they were given."""
    return list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []


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


def _without_headers(part: Any) -> Any:
    if isinstance(part, dict):
        return {str(key): _without_headers(value) for key, value in part.items() if key != "headers"}
    return [_without_headers(value) for value in part] if isinstance(part, list) else part


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
