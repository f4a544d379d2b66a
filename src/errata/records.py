"""The frozen records that flow through the loop, one JSON object a line wherever they are stored.

Each stage maps a list of one record to a list of the next. Ids name their origin, so that any training row leads back to
the question it came from: a question is `arithmetic/train/17`; the request made for it in iteration 2 is
`2/arithmetic/train/17`; the third problem in the reply to that is `2/arithmetic/train/17/3`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

TOO_LONG = "prompt_too_long"
"""The kind of an attempt that was never asked: its prompt does not fit the model's context."""


@dataclass(frozen=True)
class Question:
    """One benchmark item: what is asked (`text`) and the answer that counts as right (`gold`).

    Attributes:
        solution: the gold answer worked out, where the benchmark has it.
        skill: the subject, task or kind of problem, by which scores are also given.
        key: the item's own identifier in its file, where it has one.
        choices: the options of a multiple-choice question by their labels, in order.
        tests: for code, Python source that defines `check(candidate)`.
        entry_point: for code, the name of the function that is asked for.
    """

    id: str
    dataset: str
    split: str
    text: str
    gold: str
    solution: str = ""
    skill: str = ""
    key: str = ""
    choices: dict[str, str] = field(default_factory=dict)
    tests: str = ""
    entry_point: str = ""

    @property
    def with_choices(self) -> str:
        """The text, and its options one a line."""
        return "\n".join([self.text, *(f"{label}. {option}" for label, option in self.choices.items())])


@dataclass(frozen=True)
class Prompt:
    """What a model is given: the user turn, and how its own turn is made to begin (`prefill`), if at all.

    `id`, `key` and `question` (its text) are the question's own, by which recorded answers are found; `twin` counts the
    questions of the split before it that have the same text. `history` are the turns before it, (user, assistant) each.
    """

    id: str
    user: str
    prefill: str = ""
    question: str = ""
    key: str = ""
    twin: int = 0
    history: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Verdict:
    """What a grader makes of a response: the answer it found, whether that is right, and if not, why.

    `kind` is one word: `no_answer`, `refusal`, `format`, `wrong_value`, `failed_test`, `timeout`, `exception:NameError` ...;
    `detail` is the evidence: the failing assert, the exception's line.
    """

    answer: str | None
    correct: bool
    kind: str | None = None
    detail: str = ""


@dataclass(frozen=True)
class Attempt:
    """A student's response to a question, graded.

    `finished` is false when it was cut at `max_new_tokens`; `kind` and `detail` are the verdict's, with two kinds more:
    `truncated` (wrong, and cut) and `prompt_too_long` (never asked: it does not fit the model's context). `score` is set
    where the benchmark's measure is no yes or no (TruthfulQA's mc2): then it is what is averaged.
    """

    question: Question
    response: str
    finished: bool
    answer: str | None
    correct: bool
    kind: str | None = None
    detail: str = ""
    protocol: str = "corrected"
    tokens: int = 0
    score: float | None = None

    @property
    def id(self) -> str:
        """The question's id: one attempt a question, stage and iteration."""
        return self.question.id

    @property
    def value(self) -> float:
        """What is averaged: the score, or 1 for right and 0 for wrong."""
        return float(self.correct) if self.score is None else self.score


@dataclass(frozen=True)
class Case:
    """An error, beside the successes that a contrastive strategy wants to show (none for LE), and their cosines to it.

    Attributes:
        problems: how many problems are asked for.
        draw: tells repeated requests about one error apart.
        group: what the allocation counts it to: a cluster, a kind of error.
        strategy: which part of a mixed strategy asks ("" where there is one only).
    """

    id: str
    error: Attempt
    neighbours: tuple[Attempt, ...] = ()
    similarities: tuple[float, ...] = ()
    problems: int = 1
    draw: int = 0
    group: str = ""
    strategy: str = ""


@dataclass(frozen=True)
class Request:
    """Messages for an instructor, asking for `problems` problems. `draw` tells repeated samples of it apart.

    `schema` is the JSON schema that the reply shall keep to, where the endpoint can see to it. `expected_tokens` is a guess
    at the reply's length, for estimates. `strategy` and `prompt` (a hash of the prompt files) say what wrote the messages.
    """

    id: str
    dataset: str
    error_id: str
    messages: tuple[dict[str, str], ...]
    problems: int
    draw: int = 0
    schema: dict[str, Any] | None = None
    expected_tokens: int = 0
    strategy: str = ""
    prompt: str = ""


@dataclass(frozen=True)
class Reply:
    """The instructor's answer to a request, or the failure it ended as (`text` is None and `failure` says why).

    `usd` is None when the price is unknown. `key` is what the ledger knows the reply by.
    """

    request_id: str
    dataset: str
    error_id: str
    key: str
    text: str | None
    finish_reason: str = ""
    failure: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    usd: float | None = None
    duration_s: float = 0.0


@dataclass(frozen=True)
class Example:
    """A training row: `prompt` is the user turn, `response` what the student is trained to say.

    `error_id` is the question it goes back to; `request_id` is "" where nobody was asked (an original training row).
    """

    id: str
    dataset: str
    prompt: str
    response: str
    answer: str
    error_id: str
    request_id: str
    iteration: int


@dataclass(frozen=True)
class Diagnosis:
    """What the instructor said went wrong, where the prompt asks for that before the problems."""

    request_id: str
    error_id: str
    text: str


@dataclass(frozen=True)
class Rejection:
    """A generated row that was not kept: the `reason` is counted, the `detail` is the evidence, the `text` is kept."""

    id: str
    dataset: str
    reason: str
    detail: str
    text: str
    request_id: str
    iteration: int


@dataclass(frozen=True)
class Parsed:
    """One problem read out of a reply; `malformed` says what its layout lacks, and then it is no candidate."""

    text: str
    question: str = ""
    solution: str = ""
    answer: str = ""
    malformed: str | None = None


@dataclass(frozen=True)
class Pair:
    """One record of an instruction set (Alpaca-CoT's form: instruction, input, output).

    Attributes:
        input: what the instruction is about; "" for many.
        source: the corpus it comes from; `id` begins with it: `alpaca/17`.
        language: ISO 639 code, "" where unknown.
        licence: what the corpus says of itself.
        history: earlier turns, (user, assistant) each, oldest first; the last turn is instruction, input and output.
        skill: the kind of task, where the corpus has it.
        template: which template a converted record was filled into.
    """

    id: str
    instruction: str
    input: str
    output: str
    source: str = ""
    language: str = ""
    licence: str = ""
    history: tuple[tuple[str, str], ...] = ()
    skill: str = ""
    template: str = ""

    @property
    def prompt(self) -> str:
        """The user turn: the instruction, and its input behind an empty line."""
        return f"{self.instruction}\n\n{self.input}" if self.input else self.instruction

    @property
    def messages(self) -> list[dict[str, str]]:
        """The whole conversation as chat messages."""
        turns = [*self.history, (self.prompt, self.output)]
        return [
            {"role": role, "content": text} for turn in turns for role, text in zip(("user", "assistant"), turn, strict=True)
        ]


def goes_on(history: Sequence[tuple[str, str]], earlier: Sequence[tuple[str, str]], asked: str) -> bool:
    """Whether a history waits for answers: it holds what was asked before (`earlier`, then `asked`), each answer empty.

    So stands a question of several turns in a list: a record a turn, one behind the other, each waiting for those before it.
    """
    return tuple(history) == tuple((question, "") for question, _ in (*earlier, (asked, "")))


def turn_id(question: str, turn: int) -> str:
    """The id of one turn of a question, counted from 1: `mt_bench/81/turn_2`."""
    return f"{question}/turn_{turn}"


@dataclass(frozen=True)
class Revision:
    """What a reviser made of a pair: it is `revised`, `kept` as it was, or `dropped`, for the `reason` that is counted.

    Attributes:
        final: the pair that goes on: never half of one and half of the other; None where it was dropped.
        detail: the evidence for the reason.
        critiques: what was found wanting, by what was looked at (`instruction`, `response`).
        scores: measures that decided, by name; None where one could not be computed.
        request_ids: the requests that were made for it.
        rejected: the text that was not used, where there is one.
    """

    id: str
    original: Pair
    final: Pair | None
    status: str
    reason: str = ""
    detail: str = ""
    critiques: dict[str, str] = field(default_factory=dict)
    scores: dict[str, float | None] = field(default_factory=dict)
    request_ids: tuple[str, ...] = ()
    rejected: str = ""


@dataclass(frozen=True)
class Likelihoods:
    """Mean losses (nats a token) of a pair's texts under a model; None where one could not be computed, `missing` says why.

    Attributes:
        response: of the response alone.
        response_given: of the response behind its instruction, on the same tokens.
        instruction: of the instruction alone.
        instruction_given: of the instruction behind a request to guess it from the response, on the same tokens.
    """

    id: str
    response: float | None = None
    response_given: float | None = None
    instruction: float | None = None
    instruction_given: float | None = None
    missing: str = ""

    @property
    def ifd(self) -> float | None:
        """Instruction-following difficulty, a ratio of perplexities: exp(L(y|x) - L(y)); higher is harder."""
        return _ratio(self.response_given, self.response)

    @property
    def rifd(self) -> float | None:
        """Reversed IFD: exp(L(x|y') - L(x)); lower is more feasible."""
        return _ratio(self.instruction_given, self.instruction)


_LARGEST = 700.0  # nats; the exponential of more is no float


def _ratio(given: float | None, alone: float | None) -> float | None:
    if given is None or alone is None:
        return None
    return math.inf if given - alone > _LARGEST else math.exp(given - alone)


@dataclass(frozen=True)
class Judgement:
    """What a judge makes of one item of a test set.

    Attributes:
        testset, skill: where the item is from, and its kind of task.
        outcome: `win`, `tie` or `loss` of the first answer against the second; None where nothing was compared, or there
            is no verdict.
        orders: for each order of showing, the scores (first answer, second answer); None where it could not be read.
        contradicts: the two orders prefer different answers.
        score: of a single answer, where it is rated by itself; `parts` by dimension.
        reason: why there is no verdict.
        lengths: characters of the first answer and of the second.
    """

    id: str
    testset: str
    skill: str = ""
    outcome: str | None = None
    orders: tuple[tuple[float, float] | None, ...] = ()
    contradicts: bool = False
    score: float | None = None
    parts: dict[str, float | None] = field(default_factory=dict)
    reason: str = ""
    lengths: tuple[int, int] = (0, 0)
    request_ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class StageRecord:
    """What `stage.json` holds: the inputs a stage was run with, whether it finished, and what it left."""

    name: str
    inputs: dict[str, Any]
    finished: bool = False
    outputs: dict[str, str] = field(default_factory=dict)
    counts: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
