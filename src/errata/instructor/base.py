"""The instructor protocol."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from errata.ledger import Call, Ledger, Stored


class FailedCall(Exception):  # noqa: N818 - a fact about one call, not a fault of the program
    """One call got no usable reply, and will get none. The reason is counted and kept; the other calls go on.

    Args:
        charged: whether it may have been charged all the same.
    """

    def __init__(self, reason: str, charged: bool = False) -> None:
        super().__init__(reason)
        self.charged = charged


class PassingTrouble(Exception):  # noqa: N818
    """One attempt failed in a way that another may not.

    Args:
        busy: the endpoint is overloaded or limits the rate.
        after: seconds that it asks to wait.
        charged: whether the attempt may have been charged all the same (an answer got lost on its way).
    """

    def __init__(self, reason: str, busy: bool = False, after: float | None = None, charged: bool = False) -> None:
        super().__init__(reason)
        self.busy, self.after, self.charged = busy, after, charged

    @property
    def down(self) -> bool:
        """Whether it speaks for an endpoint that is down: not one that limits the rate, or says when to come back."""
        return self.after is None and "HTTP 429" not in str(self)


class SchemaRefused(Exception):  # noqa: N818
    """The endpoint knows no JSON schema: the same call without one may be answered."""


class Instructor(Protocol):
    """Answers calls. Holds no connection until `running` is entered."""

    mode: str
    """`now`: each call for itself; `batch`: through the endpoint's batches."""
    concurrency: int
    timeout_s: float
    max_retries: int
    deadline_s: float
    give_up_s: float
    requests_per_minute: float | None
    tokens_per_minute: float | None
    pause_s: float
    """How long the endpoint's newest answer asks to wait before the next call."""
    sends: bool
    """Whether `reply` can answer what the ledger does not hold."""

    def problems(self, datasets: Sequence[str]) -> list[str]:
        """What is wrong with the settings, the key or the address; sends nothing."""
        ...

    def probe(self) -> None:
        """See whether the endpoint answers, at no cost.

        Raises:
            InstructorError: it does not.
        """
        ...

    def call(self, messages: tuple[dict[str, str], ...], draw: int, schema: dict[str, Any] | None = None) -> Call:
        """The call for these messages, as the ledger knows it; its reply keeps to a JSON schema, if one is given."""
        ...

    def price(self, prompt_tokens: int, completion_tokens: int, cached_tokens: int = 0) -> float | None:
        """US dollars for so many tokens (of the prompt's, so many from the endpoint's cache); None: unknown."""
        ...

    def prompt_tokens(self, messages: Sequence[Mapping[str, str]]) -> int:
        """How many tokens a prompt has, counted or estimated."""
        ...

    def expected_tokens(self, call: Call) -> int:
        """Tokens of the prompt and a guess at the reply's, for the pace."""
        ...

    def most_tokens(self, call: Call) -> tuple[int, int]:
        """How many tokens the prompt and the reply can have at most, for the budget."""
        ...

    def running(self) -> AbstractAsyncContextManager[None]:
        """The time during which `reply` works: opens and closes the connection, or the server."""
        ...

    def stored(self, call: Call, ledger: Ledger) -> Stored | None:
        """The reply that the ledger already holds for this call, if any."""
        ...

    async def reply(self, call: Call) -> Stored:
        """Send the call, once.

        Raises:
            PassingTrouble: another attempt may succeed.
            FailedCall: this call got no usable reply, and will get none.
            SchemaRefused: the endpoint knows no JSON schema.
            InstructorError: no call will (refused key, unknown model): stop.
        """
        ...
