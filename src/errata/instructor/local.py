"""An instructor on this machine that no server stands for: a function from messages to text."""

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields

from errata.identity import neutral
from errata.instructor.base import PassingTrouble
from errata.instructor.openai import OpenAI
from errata.jsonl import storable
from errata.ledger import Call, Stored


@dataclass
class Local(OpenAI):
    """Base of instructors that answer by themselves; free, unless prices are given.

    The ledger knows them by their class, `model` and the settings that they add: another value, another instructor.
    """

    base_url: str = neutral("http://127.0.0.1")
    api_key_env: str | None = neutral(None)
    usd_per_million_in: float | None = neutral(0.0)
    usd_per_million_out: float | None = neutral(0.0)

    def answer(self, messages: Sequence[dict[str, str]]) -> str:
        """The reply to a request; called from several threads at once (`concurrency`).

        Raises:
            OSError, TimeoutError, subprocess.TimeoutExpired: another attempt may succeed.
            FailedCall: this call will get no reply.
            InstructorError: no call will.
        """
        raise NotImplementedError

    def problems(self, datasets: Sequence[str]) -> list[str]:
        """Those of any endpoint's settings; and batches, which nobody takes."""
        found = super().problems(datasets)
        if self.mode == "batch":
            found.append("instructor.mode is 'batch', and this instructor takes no batches: set instructor.mode=now")
        return found

    def probe(self) -> None:
        """Nothing to reach before the first call."""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Nothing to hold open."""
        yield

    async def reply(self, call: Call) -> Stored:
        """The answer, with its length guessed in tokens."""
        start = time.monotonic()
        try:
            text = storable(await asyncio.to_thread(self.answer, call.messages))
        except (OSError, subprocess.TimeoutExpired) as error:
            raise PassingTrouble(f"{type(error).__name__}: {error}") from error
        asked, said = self.prompt_tokens(call.messages), self.prompt_tokens([{"content": text}])
        return Stored(text, "stop", asked, said, self.price(asked, said), time.monotonic() - start)

    @property
    def _endpoint(self) -> str:
        shared = {one.name for one in fields(Local)}
        own = {one.name: getattr(self, one.name) for one in fields(self) if not one.metadata.get("neutral")}
        given = ", ".join(f"{name}={value!r}" for name, value in own.items() if name not in shared)
        return f"{type(self).__module__}.{type(self).__qualname__}({given})"
