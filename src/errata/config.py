"""The configuration: a typed schema for every command, and the checks that come before anything is loaded or paid.

Hydra composes YAML onto these dataclasses, so a misspelt name or a value of the wrong type fails at composition. The
members of a polymorphic group (`_target_`) are dataclasses too and are typed the same way by `build`. A field whose
metadata says `neutral` cannot change a result: it is left out of the run's identity, so that changing it continues the
same run folder.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.utils import get_class
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from errata.dataset.base import Dataset
from errata.errors import ConfigError
from errata.gate.base import Gate
from errata.instructor.base import Instructor
from errata.model.base import Model
from errata.run_folder import digest
from errata.strategy.base import Strategy
from errata.tracking.tracker import Tracking


def neutral(default: Any) -> Any:
    """A field that cannot change a result."""
    return field(default=default, metadata={"neutral": True})


@dataclass
class Training:
    """How the student is fine-tuned; see `errata.training.job.Job` for the meaning of each field.

    Attributes:
        max_length: longest row in tokens, template included; longer ones are rejected, never cut.
    """

    method: str = MISSING
    epochs: int = 1
    micro_batch_size: int = 8
    accumulate: int = 1
    learning_rate: float = MISSING
    warmup_steps: int = 0
    betas: list[float] = field(default_factory=lambda: [0.9, 0.95])
    weight_decay: float = 0.0
    clip: float = 1.0
    max_length: int = 512
    precision: str = "auto"
    gradient_checkpointing: bool = neutral(False)
    checkpoint_every_steps: int = neutral(10)
    threads: int | None = neutral(None)
    lora_r: int = 16
    lora_alpha: int = 32
    lora_dropout: float = 0.0
    lora_targets: list[str] = field(default_factory=lambda: ["all-linear"])

    def problems(self) -> list[str]:
        """Values out of range."""
        found = [
            f"training.{name} is {getattr(self, name)}: it must be {'at least ' if closed else 'above '}{least}"
            for name, least, closed in (
                ("epochs", 1, True),
                ("micro_batch_size", 1, True),
                ("accumulate", 1, True),
                ("learning_rate", 0, False),
                ("warmup_steps", 0, True),
                ("weight_decay", 0, True),
                ("clip", 0, True),
                ("max_length", 8, True),
                ("checkpoint_every_steps", 1, True),
                ("lora_r", 1, True),
                ("lora_alpha", 1, True),
            )
            if getattr(self, name) < least or (not closed and getattr(self, name) == least)
        ]
        if self.method not in ("full", "lora"):
            found.append(f"training.method is {self.method!r}: choose full or lora")
        if self.precision not in _PRECISIONS:
            found.append(f"training.precision is {self.precision!r}: choose {', '.join(_PRECISIONS)}")
        if len(self.betas) != 2:
            found.append(f"training.betas is {self.betas}: AdamW takes two numbers")
        if not 0 <= self.lora_dropout < 1:
            found.append(f"training.lora_dropout is {self.lora_dropout}: choose a share from 0 to 1")
        return found


_PRECISIONS = ("auto", "32-true", "bf16-mixed", "bf16-true", "16-mixed")


@dataclass
class Common:
    """What every command takes.

    Attributes:
        name: first part of the run folder's name.
        output_dir: where the run folders are made.
        dry_run: print the plan and stop.
    """

    name: str = neutral(MISSING)
    seed: int = 0
    output_dir: str = neutral("outputs")
    dry_run: bool = neutral(False)
    model: Any = None
    tracking: Tracking = field(default_factory=Tracking, metadata={"neutral": True})


@dataclass
class ImproveConfig(Common):
    """`errata improve`.

    Attributes:
        iterations: rounds of the loop.
        sample_size: training rows wanted of each dataset in each iteration.
        batch_size: questions that the student answers at once.
        ledger: the file that holds every paid reply (None: ledger.sqlite in `output_dir`).
    """

    iterations: int = 1
    sample_size: int = MISSING
    batch_size: int = neutral(64)
    ledger: str | None = neutral(None)
    dataset: dict[str, Any] = field(default_factory=dict)
    strategy: Any = None
    instructor: Any = None
    gate: dict[str, Any] = field(default_factory=dict)
    training: Training = field(default_factory=Training)
    experiments: Any = neutral(None)
    sweeps: Any = neutral(None)


@dataclass
class EvaluateConfig(Common):
    """`errata evaluate`: a model on the `split` of each dataset."""

    split: str = "test"
    batch_size: int = neutral(64)
    dataset: dict[str, Any] = field(default_factory=dict)


@dataclass
class TrainConfig(Common):
    """`errata train`: a JSON Lines file of {prompt, response} pairs (`data`) in, a model folder out."""

    data: str = MISSING
    training: Training = field(default_factory=Training)


SCHEMAS: dict[str, type] = {"improve": ImproveConfig, "evaluate": EvaluateConfig, "train": TrainConfig}


@dataclass(frozen=True)
class Setup:
    """A checked command: its plain settings and its components, built."""

    settings: Any
    plain: dict[str, Any]
    model: Model
    datasets: Mapping[str, Dataset]
    gates: Mapping[str, Gate]
    strategy: Strategy | None
    instructor: Instructor | None

    @property
    def folder(self) -> Path:
        """The run folder: `OUTPUT_DIR/NAME-HASH`, the hash over all that can change a result."""
        return Path(self.settings.output_dir).expanduser() / f"{self.settings.name}-{digest(self.plain)[:8]}"

    @property
    def ledger(self) -> Path:
        """The ledger's file."""
        return ledger_file(self.settings)


def ledger_file(settings: Any) -> Path:
    """The ledger that the settings name, or the one that all runs in `output_dir` share."""
    return Path(settings.ledger or Path(settings.output_dir) / "ledger.sqlite").expanduser()


def register() -> None:
    """Put the schemas where the primary configs' defaults lists find them."""
    for command, schema in SCHEMAS.items():
        ConfigStore.instance().store(name=f"{command}_schema", node=schema)


def config_folder() -> Path:
    """The folder of the primary configs and the groups: conf/ in a checkout, errata/conf in an installed package.

    `experiments` and `sweeps` are groups in it too: links to the folders at the top of the checkout.
    """
    package = Path(__file__).resolve().parent
    checkout = package.parents[1] / "conf"
    return checkout if (checkout / "improve.yaml").is_file() else package / "conf"


def check(command: str, composed: DictConfig) -> Setup:
    """Build and check everything that a composed config names, reporting all problems together.

    Raises:
        ConfigError: with every problem found.
    """
    problems: list[str] = []
    with _collecting(problems, ""):
        composed = OmegaConf.merge(OmegaConf.structured(SCHEMAS[command]), composed)  # type: ignore[assignment]
    if problems:
        raise ConfigError(problems)

    def built(node: Any, where: str) -> Any:
        with _collecting(problems, where):
            return build(node, where)

    def group(name: str) -> dict[str, Any]:
        nodes = composed.get(name) or {}
        return {key: built(nodes[key], f"{name}.{key}") for key in nodes}

    model = built(composed.model, "model")
    datasets, gates = group("dataset"), group("gate")
    strategy = built(composed.strategy, "strategy") if "strategy" in composed else None
    instructor = built(composed.instructor, "instructor") if "instructor" in composed else None
    polymorphic = ("model", "dataset", "gate", "strategy", "instructor")
    rest = OmegaConf.masked_copy(composed, [str(key) for key in composed if key not in polymorphic])
    missing = sorted(str(key) for key in OmegaConf.missing_keys(rest))
    problems += [f"{name} is not set: give it a value, {name}=..." for name in missing]
    settings = None
    if not missing:
        with _collecting(problems, ""):
            settings = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(SCHEMAS[command]), rest))
    if settings is not None:
        problems += _range_problems(settings)
    for component in (model, *datasets.values(), *gates.values()):
        if component is not None:
            problems += component.problems()
    if "gate" in composed and "leak" not in gates:
        problems.append("gate.leak is left out: the wall to the test splits always stands; add leak to gate=[...]")
    if "dataset" in composed and not composed.dataset:
        problems.append("dataset is empty: name at least one, dataset=[arithmetic]")
    known = {name: dataset for name, dataset in datasets.items() if dataset is not None}
    if strategy is not None:
        problems += strategy.problems({name: dataset.layout for name, dataset in known.items()})
    if instructor is not None:
        problems += instructor.problems(list(datasets))
        if settings is not None and not instructor.sends and not ledger_file(settings).is_file():
            problems.append(f"there is no ledger at {ledger_file(settings)}: record one first, or set ledger=FILE")
    if problems:
        raise ConfigError(problems)
    parts = {"model": model, "dataset": datasets, "gate": gates, "strategy": strategy, "instructor": instructor}
    plain = result_changing(settings) | {key: result_changing(part) for key, part in parts.items() if part}
    return Setup(settings, plain, model, datasets, gates, strategy, instructor)


def build(node: Any, where: str) -> Any:
    """The component that a group's node names in `_target_`, its fields typed by the component's dataclass.

    Raises:
        ConfigError: an unknown field, a value of the wrong type, or a field without a value.
    """
    if node is None or "_target_" not in node:
        raise ConfigError([f"{where} is not chosen: pick an option, {where.partition('.')[0]}=..."])
    kind = get_class(node._target_)
    values = {str(key): node[key] for key in node if key != "_target_" and not OmegaConf.is_missing(node, key)}
    typed = OmegaConf.merge(OmegaConf.structured(kind), values)
    if missing := sorted(str(key) for key in OmegaConf.missing_keys(typed)):
        raise ConfigError([f"{where}.{name} is not set: give it a value, {where}.{name}=..." for name in missing])
    return OmegaConf.to_object(typed)


def result_changing(part: Any) -> Any:
    """A dataclass (or a dict of them) as plain values, without the neutral fields."""
    if is_dataclass(part) and not isinstance(part, type):
        kept = {f.name: result_changing(getattr(part, f.name)) for f in fields(part) if not f.metadata.get("neutral")}
        return {"kind": type(part).__name__, **kept}
    if isinstance(part, Mapping):
        return {str(key): result_changing(value) for key, value in part.items()}
    return list(part) if isinstance(part, list | tuple) else part


def _range_problems(settings: Any) -> list[str]:
    at_least: dict[str, int] = {"iterations": 1, "sample_size": 1, "batch_size": 1, "seed": 0}
    found = [
        f"{name} is {getattr(settings, name)}: it must be at least {least}"
        for name, least in at_least.items()
        if getattr(settings, name, least) < least
    ]
    if getattr(settings, "split", "test") not in ("train", "dev", "test"):
        found.append(f"split is {settings.split!r}: choose train, dev or test")
    data = getattr(settings, "data", None)
    if data is not None and not Path(data).expanduser().is_file():
        found.append(f"data is {data!r}: no such file; it must hold one {{prompt, response}} object a line")
    for part in (getattr(settings, "training", None), settings.tracking):
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
