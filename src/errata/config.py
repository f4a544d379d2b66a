"""The configuration's schema: one dataclass a command.

Hydra composes YAML onto these, so a misspelt name or a value of the wrong type fails at composition. The members of the
polymorphic groups (`_target_`) are dataclasses too, typed the same way by `errata.setup.build`. A field whose metadata says
`neutral` cannot change a result: it is left out of the run's identity, so that changing it continues the same run folder.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

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
class Budget:
    """How much the instructor may cost: hard limits, kept by setting aside what a call may cost before it is sent.

    Attributes:
        usd: US dollars.
        tokens: tokens of prompts and replies.
        account: what is limited (None: the run's name, so that restarts and the cells of a sweep share it).
    """

    usd: float | None = neutral(None)
    tokens: int | None = neutral(None)
    account: str | None = neutral(None)


@dataclass
class ErrorSource:
    """Where errors, and the right answers to contrast them with, come from. Never the test split.

    Attributes:
        splits: train, dev or both.
        dev_share: share of the train split that is held out as dev where a benchmark has no dev split and one is needed.
        leave_out: kinds of error that nothing is asked about.
    """

    splits: list[str] = field(default_factory=lambda: ["train"])
    dev_share: float = 0.0
    leave_out: list[str] = field(default_factory=list)

    def problems(self) -> list[str]:
        """No split, a strange one, or a share out of range."""
        found = [f"errors.splits names {name!r}: choose train, dev or both" for name in set(self.splits) - {"train", "dev"}]
        if not self.splits:
            found.append("errors.splits is empty: choose train, dev or both")
        elif len(set(self.splits)) < len(self.splits):
            found.append(f"errors.splits is {list(self.splits)}: name train, dev or both, each once")
        if not 0 <= self.dev_share < 1:
            found.append(f"errors.dev_share is {self.dev_share}: choose a share from 0 to 1")
        return found


@dataclass
class Equalise:
    """Equal budgets for strategies that are compared, kept exactly, for each dataset and iteration.

    Attributes:
        by: which of the two the option sets: none, requests or train_tokens.
        requests: how many requests.
        train_tokens: how many tokens the training rows have together, template included.
    """

    by: str = neutral("none")
    requests: int | None = None
    train_tokens: int | None = None

    def problems(self) -> list[str]:
        """Budgets below 1, or none where one is asked for."""
        if self.by not in ("none", "requests", "train_tokens"):
            return [f"equalise.by is {self.by!r}: choose none, requests or train_tokens"]
        if self.by != "none" and getattr(self, self.by) is None:
            return [f"equalise.{self.by} is not set: give it a value, equalise.{self.by}=..."]
        given = (("requests", self.requests), ("train_tokens", self.train_tokens))
        return [
            f"equalise.{name} is {value}: it must be at least 1" for name, value in given if value is not None and value < 1
        ]


@dataclass
class Policy:
    """What an iteration starts from, trains on, and when the loop ends; the paper leaves it open.

    Attributes:
        start: `last` (the student of the iteration before) or `base`.
        data: `latest` (this iteration's practice) or `all` (what former iterations trained on as well).
        replay: share of each training set that is drawn from former practice or original rows.
        replay_from: `earlier` (practice of former iterations) or `original` (the benchmarks' own training rows).
        patience: end after so many iterations without a better dev accuracy (None: never, and dev is not measured).
    """

    start: str = "last"
    data: str = "latest"
    replay: float = 0.0
    replay_from: str = "earlier"
    patience: int | None = None

    def problems(self) -> list[str]:
        """Choices that there are not."""
        found = [
            f"policy.{name} is {value!r}: choose {' or '.join(options)}"
            for name, value, options in (
                ("start", self.start, ("last", "base")),
                ("data", self.data, ("latest", "all")),
                ("replay_from", self.replay_from, ("earlier", "original")),
            )
            if value not in options
        ]
        if not 0 <= self.replay < 1:
            found.append(f"policy.replay is {self.replay}: choose a share from 0 to 1")
        if self.patience is not None and self.patience < 1:
            found.append(f"policy.patience is {self.patience}: it must be at least 1, or null")
        return found


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
        protocol: `corrected`, or `paper`: prompts and grading as in the source, for its tables.
        tests: further datasets to measure on in each iteration, never learnt from (`dataset@tests=[arc]`).
        iterations: rounds of the loop.
        sample_size: training rows wanted of each dataset in each iteration.
        sizes: another number for some of the datasets: `sizes={mmlu: 1000}`.
        wall: further datasets whose test splits no training row may touch (`dataset@wall=[bbh]`); those of `dataset` and
            `tests` always stand.
        ledger: the file that holds every paid reply (None: ledger.sqlite in `output_dir`).
        budget: what the instructor may cost.
    """

    iterations: int = 1
    sample_size: int = MISSING
    sizes: dict[str, int] = field(default_factory=dict)
    protocol: str = "corrected"
    ledger: str | None = neutral(None)
    budget: Budget = field(default_factory=Budget, metadata={"neutral": True})
    dataset: dict[str, Any] = field(default_factory=dict)
    tests: dict[str, Any] = field(default_factory=dict)
    wall: dict[str, Any] = field(default_factory=dict)
    errors: ErrorSource = field(default_factory=ErrorSource)
    strategy: Any = None
    allocation: Any = None
    equalise: Equalise = field(default_factory=Equalise)
    policy: Policy = field(default_factory=Policy)
    retrieval: Any = None
    instructor: Any = None
    gate: dict[str, Any] = field(default_factory=dict)
    training: Training = field(default_factory=Training)
    experiments: Any = neutral(None)
    sweeps: Any = neutral(None)

    @property
    def needs_dev(self) -> bool:
        """Whether a dev split is learnt from or measured on."""
        return "dev" in self.errors.splits or self.policy.patience is not None


@dataclass
class EvaluateConfig(Common):
    """`errata evaluate`: a model on the `split` of each dataset.

    Attributes:
        protocol: `corrected`, or `paper`: prompts and grading as in the source, for its tables.
        regrade: a run folder whose stored responses are graded anew, by these datasets and this protocol; no model is used.
    """

    split: str = "test"
    protocol: str = "corrected"
    regrade: str | None = None
    dataset: dict[str, Any] = field(default_factory=dict)


@dataclass
class TrainConfig(Common):
    """`errata train`: a JSON Lines file of {prompt, response} pairs (`data`) in, a model folder out."""

    data: str = MISSING
    training: Training = field(default_factory=Training)


SCHEMAS: dict[str, type] = {"improve": ImproveConfig, "evaluate": EvaluateConfig, "train": TrainConfig}


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
