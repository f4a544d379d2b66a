"""The instructor protocol."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from errata.ledger import Call, Ledger, Stored


class FailedCall(Exception):  # noqa: N818 - a fact about one call, not a fault of the program
    """One call got no usable reply. The reason is counted and kept; the other calls go on."""


class Instructor(Protocol):
    """Answers calls. Holds no connection until `running` is entered."""

    concurrency: int
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

    def call(self, messages: tuple[dict[str, str], ...], draw: int) -> Call:
        """The call for these messages, as the ledger knows it."""
        ...

    def price(self, prompt_tokens: int, completion_tokens: int) -> float | None:
        """US dollars for so many tokens, or None where the price is unknown."""
        ...

    def running(self) -> AbstractAsyncContextManager[None]:
        """The time during which `reply` works: opens and closes the connection, or the server."""
        ...

    def stored(self, call: Call, ledger: Ledger) -> Stored | None:
        """The reply that the ledger already holds for this call, if any."""
        ...

    async def reply(self, call: Call) -> Stored:
        """Send the call.

        Raises:
            FailedCall: this call got no usable reply.
            InstructorError: no call will (refused key, unknown model): stop.
        """
        ...
