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

from errata.corpus.mixture import Mixture
from errata.identity import neutral
from errata.tracking.tracker import Tracking
from errata.training.job import PRECISIONS, SCHEDULES, STRATEGIES, conflicts


@dataclass
class Training:
    """How the student is fine-tuned. What cannot change the result beyond rounding is left out of the run's identity.

    Attributes:
        method: all weights, or a PEFT method with its own settings; see `errata.training.methods`.
        epochs: passes over the rows.
        batch_size: rows of an update, on all devices together.
        micro_batch_size: most rows in one forward pass, where rows are padded.
        packing: rows stand one behind the other in one forward pass, apart from each other, without padding; null: where the
            model can.
        micro_tokens: most tokens in one packed forward pass.
        group_by_length: updates of rows of like length, which saves padding and changes the order.
        max_length: longest row in tokens, template included.
        too_long: what becomes of longer ones: `error`, `drop`, or `cut` at the left of the prompt; counted. In the
            loop the length gate has rejected them before.
        learning_rate, schedule, warmup_steps: peak, its course afterwards, and updates of linear warm-up.
        warmup_share: the warm-up as a share of all updates instead, rounded up (as transformers has it).
        warmup_too_long: a warm-up beyond a tenth of the run is `cut` to it; or `error`: none may outlast the run.
        betas, weight_decay: AdamW's.
        clip: largest gradient norm (0: no clipping).
        bad_loss: `stop` at a loss that is not finite, or jumps, or `skip` the update, counted.
        spike: a loss of so many times the median of the last 20 updates is a jump (null: none is).
        precision: Lightning's name; `auto` takes bf16-mixed on a GPU that has it and 32-true elsewhere.
        gradient_checkpointing: compute activations twice instead of keeping them.
        strategy: `one` device; `ddp`; `zero1`, `zero2`, `zero3`, and `_offload` of the last two (DeepSpeed); `fsdp`;
            `auto`: one, and on several devices zero2 for all weights and ddp for an adapter.
        devices: how many on this machine (null: those of model.device; under torchrun or srun as many as were started).
        launch: words before `python -m errata.training FOLDER`: `[torchrun,"--nproc-per-node=4"]` or `[srun,"--nodes=2"]`.
        dev_share: share of the rows held out to measure the loss on.
        dev_every_steps: updates between two measurements (null: each epoch).
        patience: end after so many measurements without a better one (null: never).
        keep: the `last` weights or the `best` by dev loss.
        checkpoint_every_steps, keep_checkpoints: updates between checkpoints, and how many are kept.
        threads: CPU threads of each rank (null: torch's choice, divided by the ranks).
    """

    method: Any = None
    epochs: int = 1
    batch_size: int = 8
    micro_batch_size: int = neutral(8)
    packing: bool | None = neutral(None)
    micro_tokens: int = neutral(4096)
    group_by_length: bool = False
    max_length: int = 512
    too_long: str = "error"
    learning_rate: float = MISSING
    schedule: str = "cosine"
    warmup_steps: int = 0
    warmup_share: float | None = None
    warmup_too_long: str = "cut"
    betas: list[float] = field(default_factory=lambda: [0.9, 0.95])
    weight_decay: float = 0.0
    clip: float = 1.0
    bad_loss: str = "stop"
    spike: float | None = None
    precision: str = "auto"
    gradient_checkpointing: bool = neutral(False)
    strategy: str = neutral("auto")
    devices: int | None = neutral(None)
    launch: list[str] = neutral(factory=list)
    dev_share: float = 0.0
    dev_every_steps: int | None = None
    patience: int | None = None
    keep: str = "last"
    checkpoint_every_steps: int = neutral(10)
    keep_checkpoints: int = neutral(1)
    threads: int | None = neutral(None)

    def problems(self) -> list[str]:
        """Values out of range, and choices that there are not."""
        found = [
            f"training.{name} is {value}: it must be {'at least ' if closed else 'above '}{least}"
            for name, least, closed in (
                ("epochs", 1, True),
                ("batch_size", 1, True),
                ("micro_batch_size", 1, True),
                ("micro_tokens", 1, True),
                ("learning_rate", 0, False),
                ("warmup_steps", 0, True),
                ("weight_decay", 0, True),
                ("clip", 0, True),
                ("max_length", 8, True),
                ("checkpoint_every_steps", 1, True),
                ("keep_checkpoints", 1, True),
                ("devices", 1, True),
                ("dev_every_steps", 1, True),
                ("patience", 1, True),
                ("spike", 1, False),
            )
            if (value := getattr(self, name)) is not None and (value < least or (not closed and value == least))
        ]
        found += [
            f"training.{name} is {value!r}: choose {', '.join(options)}"
            for name, value, options in (
                ("precision", self.precision, PRECISIONS),
                ("strategy", self.strategy, STRATEGIES),
                ("schedule", self.schedule, SCHEDULES),
                ("too_long", self.too_long, ("error", "drop", "cut")),
                ("warmup_too_long", self.warmup_too_long, ("cut", "error")),
                ("bad_loss", self.bad_loss, ("stop", "skip")),
                ("keep", self.keep, ("last", "best")),
            )
            if value not in options
        ]
        if len(self.betas) != 2:
            found.append(f"training.betas is {self.betas}: AdamW takes two numbers")
        if self.warmup_share is not None and not 0 <= self.warmup_share < 1:
            found.append(f"training.warmup_share is {self.warmup_share}: choose a share from 0 to 1, or null")
        if not 0 <= self.dev_share < 1:
            found.append(f"training.dev_share is {self.dev_share}: choose a share from 0 to 1")
        if self.strategy == "one" and (self.devices or 1) > 1:
            found.append(f"training.strategy=one trains on one device; training.devices is {self.devices}")
        if self.devices and self.batch_size % self.devices and not self.launch:
            found.append(
                f"training.batch_size is {self.batch_size}: its rows do not divide over training.devices={self.devices}"
            )
        if self.method is not None:
            found += conflicts(self, self.strategy)
        if self.packing and self.group_by_length:
            found.append("training.group_by_length saves padding, and packing leaves none: choose one of them")
        return found


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
        seed: of everything that is drawn.
        output_dir: where the run folders are made.
        dry_run: print the plan and stop.
        smoke: small real parts in the place of the large ones; see `errata.smoke.shrink`.
    """

    name: str = neutral(MISSING)
    seed: int = 0
    output_dir: str = neutral("outputs")
    dry_run: bool = neutral(False)
    smoke: bool = neutral(False)
    model: Any = None
    tracking: Tracking = neutral(factory=Tracking)
    experiments: Any = neutral(None)
    sweeps: Any = neutral(None)


@dataclass
class Paying(Common):
    """What the commands take that ask an instructor.

    Attributes:
        ledger: the file that holds every paid reply (None: ledger.sqlite in `output_dir`).
        budget: what the instructor may cost.
    """

    ledger: str | None = neutral(None)
    budget: Budget = neutral(factory=Budget)
    instructor: Any = None


@dataclass
class ImproveConfig(Paying):
    """`errata improve`.

    Attributes:
        protocol: `corrected`, or `paper`: prompts and grading as in the source, for its tables.
        tests: further datasets to measure on in each iteration, never learnt from (`dataset@tests=[arc]`).
        iterations: rounds of the loop.
        sample_size: training rows wanted of each dataset in each iteration.
        sizes: another number for some of the datasets: `sizes={mmlu: 1000}`.
        wall: further datasets whose test splits no training row may touch (`dataset@wall=[bbh]`); those of `dataset` and
            `tests` always stand.
        reviser: what is made of the verified practice before it is mixed (`none`: nothing).
    """

    iterations: int = 1
    sample_size: int = MISSING
    sizes: dict[str, int] = field(default_factory=dict)
    protocol: str = "corrected"
    dataset: dict[str, Any] = field(default_factory=dict)
    tests: dict[str, Any] = field(default_factory=dict)
    wall: dict[str, Any] = field(default_factory=dict)
    errors: ErrorSource = field(default_factory=ErrorSource)
    strategy: Any = None
    allocation: Any = None
    equalise: Equalise = field(default_factory=Equalise)
    policy: Policy = field(default_factory=Policy)
    retrieval: Any = None
    gate: dict[str, Any] = field(default_factory=dict)
    reviser: Any = None
    training: Training = field(default_factory=Training)

    @property
    def needs_dev(self) -> bool:
        """Whether a dev split is learnt from or measured on."""
        return "dev" in self.errors.splits or self.policy.patience is not None


@dataclass
class EvaluateConfig(Common):
    """`errata evaluate`: a model on a split of each dataset.

    Attributes:
        split: train, dev or test.
        protocol: `corrected`, or `paper`: prompts and grading as in the source, for its tables.
        regrade: a run folder whose stored responses are graded anew, by these datasets and this protocol; no model is used.
    """

    split: str = "test"
    protocol: str = "corrected"
    regrade: str | None = None
    dataset: dict[str, Any] = field(default_factory=dict)


@dataclass
class TrainConfig(Common):
    """`errata train`: a JSON Lines file of rows in, a model folder out.

    Attributes:
        data: the rows: {prompt, response}, {messages} or {instruction, input, output} objects, one a line; or a run of
            `errata revise`.
        revisions: instead of `data`, experts' revisions of instruction pairs (CoachLM's file): a coach is trained on them.
        alpha: share of the revisions, those of the largest edit distance, that the coach is trained on.
        dev: further rows on which the loss is measured (null: training.dev_share of `data`, if any).
        preview: show so many rows with their trained tokens, and what the job would take, and stop.
        prepare: write the job's folder, say how to start it on several machines, and stop.
    """

    data: str | None = None
    revisions: str | None = None
    alpha: float = 0.3
    dev: str | None = None
    preview: int | None = neutral(None)
    prepare: bool = neutral(False)
    training: Training = field(default_factory=Training)


@dataclass
class ReviseConfig(Paying):
    """`errata revise`: instruction sets in, a better one out.

    Attributes:
        corpus: the instruction sets that are mixed (`corpus=[alpaca,cot]`).
        mixture: how much of each, and what is left out.
        wall: datasets whose test splits no record may touch (`dataset@wall=[gsm8k]`).
        protocol: of the datasets in `wall`.
        testset: test sets of instructions that no record may touch either (`testset=[vicuna80]`).
        reviser: what is made of the records (`none`: the mixture as it is).
        max_length: longest record in tokens that the model scores.
        decisions: what people decided in review.html, row by row; only the final set depends on it.
    """

    corpus: dict[str, Any] = field(default_factory=dict)
    mixture: Mixture = field(default_factory=Mixture)
    wall: dict[str, Any] = field(default_factory=dict)
    testset: dict[str, Any] = field(default_factory=dict)
    protocol: str = neutral("corrected")
    reviser: Any = None
    retrieval: Any = None
    max_length: int = 2048
    decisions: str | None = neutral(None)


@dataclass
class JudgeConfig(Paying):
    """`errata judge`: answers to test sets, compared or rated.

    Attributes:
        testset: the test sets (`testset=[vicuna80,koala180]`).
        answers: what is judged: a file of answers, a run of `errata revise`, or `reference`; null: the model's own answers.
        against: what the answers are compared with: another file, or `reference`.
        judge: how they are judged.
        max_new_tokens: longest answer of the model.
    """

    testset: dict[str, Any] = field(default_factory=dict)
    answers: str | None = None
    against: str | None = None
    judge: Any = None
    max_new_tokens: int = 1024


SCHEMAS: dict[str, type] = {
    "improve": ImproveConfig,
    "evaluate": EvaluateConfig,
    "train": TrainConfig,
    "revise": ReviseConfig,
    "judge": JudgeConfig,
}


def register() -> None:
    """Put the schemas where the primary configs' defaults lists find them."""
    store = ConfigStore.instance()
    for command, schema in SCHEMAS.items():
        store.store(name=f"{command}_schema", node=schema)
    vars(store)["__deepcopy__"] = lambda memo: store  # Hydra copies it for every group that it looks into, and never writes


def config_folder() -> Path:
    """The folder of the primary configs and the groups: conf/ in a checkout, errata/conf in an installed package.

    `experiments` and `sweeps` are groups in it too: links to the folders at the top of the checkout.
    """
    package = Path(__file__).resolve().parent
    checkout = package.parents[1] / "conf"
    return checkout if (checkout / "improve.yaml").is_file() else package / "conf"
