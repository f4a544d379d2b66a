"""`replay`: answers from a recorded ledger, with no network and no key."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from errata.errors import InstructorError
from errata.identity import neutral
from errata.instructor.base import FailedCall
from errata.ledger import Call, Ledger, Stored


@dataclass
class Replay:
    """Finds a reply by its messages and draw, whoever gave it.

    Attributes:
        endpoint, model, seed: take only such replies, where the ledger holds several to the same request.
        concurrency: without effect: nothing is sent.
    """

    endpoint: str | None = None
    model: str | None = None
    seed: int | None = None
    concurrency: int = neutral(1)

    sends = False
    mode = "now"
    timeout_s = deadline_s = give_up_s = pause_s = 0.0
    max_retries = 0
    requests_per_minute = tokens_per_minute = None

    def problems(self, datasets: Sequence[str]) -> list[str]:
        """Nothing can be wrong with the settings; a ledger that is not there is reported when it is opened."""
        return []

    def probe(self) -> None:
        """There is nothing to reach."""

    def call(self, messages: tuple[dict[str, str], ...], draw: int, schema: dict[str, Any] | None = None) -> Call:
        """The call, with the recorded endpoint, model and parameters left open."""
        return Call(self.endpoint or "replay", self.model or "replay", messages, {}, draw)

    def price(self, prompt_tokens: int, completion_tokens: int, cached_tokens: int = 0) -> float | None:
        """Nothing is paid."""
        return 0.0

    def prompt_tokens(self, messages: Sequence[Mapping[str, str]]) -> int:
        """About a quarter of the characters."""
        return sum(len(message["content"]) for message in messages) // 4

    def expected_tokens(self, call: Call) -> int:
        """Nothing is sent."""
        return 0

    def most_tokens(self, call: Call) -> tuple[int, int]:
        """Nothing is sent."""
        return 0, 0

    def stored(self, call: Call, ledger: Ledger) -> Stored | None:
        """The recorded reply.

        Raises:
            InstructorError: the ledger holds different replies to these messages, and the settings do not say which.
        """
        found = [
            one
            for one in ledger.recorded(call.asked, self.endpoint, self.model)
            if self.seed is None or json.loads(one[2]).get("seed") == self.seed
        ]
        if len({reply.text for *_, reply in found}) > 1:
            givers = sorted({f"endpoint={endpoint} model={model} {parameters}" for endpoint, model, parameters, _ in found})
            raise InstructorError(
                f"{ledger.path} holds {len(givers)} different replies to the same request: {'; '.join(givers)}. "
                "Choose with instructor.endpoint, instructor.model and instructor.seed, or point ledger= to one recording."
            )
        return found[0][-1] if found else None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Nothing to open."""
        yield

    async def reply(self, call: Call) -> Stored:
        """Reached only for what the recording lacks."""
        raise FailedCall("not in the recorded ledger")
