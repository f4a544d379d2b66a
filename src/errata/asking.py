"""What would be asked, before anything is: how many requests, which of them were paid before, tokens, price, budget."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, NamedTuple

from errata.digests import digest
from errata.instructor.base import Instructor
from errata.ledger import Ledger
from errata.records import Question, Request
from errata.setup import Setup
from errata.stage.instruct import held

_LATER = ("iterations", "training", "policy", "gate", "reviser")
"""Settings that come into play only behind the requests of the first iteration."""
TOO_LITTLE = "That may not do for all of this: it stops at the limit, and goes on when the budget is raised."


class Tokens(NamedTuple):
    """So many requests, with the tokens of their prompts and, to be expected, of their replies."""

    requests: int
    prompt: int
    completion: int


@dataclass(frozen=True)
class Asking:
    """The requests of one stage, as far as they are known.

    Attributes:
        at_most: whether `requests` is a bound: the errors, or the replies that come before, are not known yet.
        held: how many were paid before.
        unpaid: the others, each under a name that an equal request of another cell has as well.
        payer: who prices them (None: nobody is asked).
    """

    stage: str
    requests: int = 0
    at_most: bool = False
    held: int = 0
    unpaid: Mapping[str, Tokens] = field(default_factory=dict)
    payer: Instructor | None = None

    def beside(self, others: Collection[str]) -> "Bill":
        """What is left to send where `others` are sent anyway."""
        new = [tokens for name, tokens in self.unpaid.items() if name not in others]
        requests, prompt, completion = (sum(part) for part in zip(*new, strict=True)) if new else (0, 0, 0)
        return Bill(requests, prompt, completion, self.payer.price(prompt, completion) if self.payer and new else 0.0)


class Bill(NamedTuple):
    """Requests to send, their tokens and their price (None: unknown)."""

    requests: int = 0
    prompt: int = 0
    completion: int = 0
    usd: float | None = 0.0

    @property
    def price(self) -> str:
        """In dollars and cents."""
        if self.usd is None:
            return "unknown"
        return "<$0.01" if 0 < self.usd < 0.005 else f"${self.usd:.2f}"

    @property
    def tokens(self) -> str:
        """In both directions; empty where nothing is sent."""
        return f"{self.prompt:,} in + {self.completion:,} out" if self.prompt or self.completion else ""


def in_all(bills: Iterable[Bill]) -> Bill:
    """The sum; its price is unknown where one of them is."""
    columns = list(zip(*bills, strict=True))
    if not columns:
        return Bill()
    requests, prompt, completion, usd = columns
    return Bill(sum(requests), sum(prompt), sum(completion), None if None in usd else sum(usd))


class Watched(Random):
    """Notices that something is drawn, were it nothing: where it is, another seed asks other things."""

    drawn = False

    def sample(self, *args: Any, **kwargs: Any) -> Any:
        """As Random's."""
        self.drawn = True
        return super().sample(*args, **kwargs)

    def random(self) -> float:
        """As Random's."""
        self.drawn = True
        return super().random()

    def getrandbits(self, k: int, /) -> int:
        """As Random's: what shuffles and chooses comes from here."""
        self.drawn = True
        return super().getrandbits(k)


def kin(setup: Setup, iteration: int, drawn: bool, asked: Sequence[Question]) -> str:
    """What cells must have in common to ask the same once the errors are known; later students are each cell's own.

    Args:
        drawn: the seed has a say in what is asked.
        asked: the questions that errors are taken from; how many are wrong decides what is asked about each.
    """
    if iteration > 1:
        return f"{setup.folder}/{iteration}"
    left_out = (*_LATER, *(() if drawn else ("seed",)))
    return digest([{name: value for name, value in setup.plain.items() if name not in left_out}, [one.id for one in asked]])


def asking(stage: str, setup: Setup, requests: Sequence[Request], at_most: bool, alike: str, look: bool = True) -> Asking:
    """The requests of a stage.

    Args:
        alike: what cells must have in common for equal requests to be one (empty: nothing, they are the very requests;
            others stand for requests that are not known yet, and two that look the same may come to differ).
        look: look them up in the ledger.
    """
    payer: Any = setup.instructor
    calls = {request.id: payer.call(request.messages, request.draw, request.schema) for request in requests}
    paid: set[str] = set()
    if look and setup.ledger.exists():
        with Ledger(setup.ledger) as ledger:
            paid = {name for name, call in calls.items() if held(call, payer, ledger) is not None}
    unpaid = {
        f"{alike} {request.id if alike else ''} {calls[request.id].key}": Tokens(
            1, payer.prompt_tokens(request.messages), request.expected_tokens
        )
        for request in requests
        if request.id not in paid
    }
    return Asking(stage, len(requests), at_most, len(paid), unpaid, payer)


def money(setup: Setup, expected: Bill) -> str:
    """How the prices were made, and what the budget leaves."""
    return f"{prices_of(setup)} {budget(setup, expected)}"


def prices_of(setup: Setup) -> str:
    """How the prices were made."""
    tokenizer = getattr(setup.instructor, "tokenizer", None)
    counted = f"Prompts are counted by the tokenizer of {tokenizer}" if tokenizer else "A token is taken for 4 characters"
    return f"{counted}; replies are expected to be as long as the questions and solutions they are modelled on."


def budget(setup: Setup, expected: Bill) -> str:
    """What the account has spent, and whether the rest will do."""
    limit = setup.settings.budget
    if limit.usd is None and limit.tokens is None:
        return "There is no budget: set budget.usd or budget.tokens to bound what is spent."
    account, usd, tokens = setup.purse("").account, 0.0, 0
    if setup.ledger.exists():
        with Ledger(setup.ledger) as ledger:
            spent, _ = ledger.spent(account)
        usd, tokens = spent.usd or 0.0, spent.tokens
    limits = [] if limit.usd is None else [f"${usd:.4f} of ${limit.usd:g}"]
    limits += [] if limit.tokens is None else [f"{tokens:,} of {limit.tokens:,} tokens"]
    dear = limit.usd is not None and expected.usd is not None and usd + expected.usd > limit.usd
    long = limit.tokens is not None and tokens + expected.prompt + expected.completion > limit.tokens
    said = f"The account {account!r} has spent {' and '.join(limits)}."
    return f"{said} {TOO_LITTLE}" if dear or long else said
