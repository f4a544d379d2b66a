"""Any OpenAI-compatible chat-completions endpoint, through the `openai` client over aiohttp."""

import socket
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit
from urllib.request import getproxies

import openai

from errata.endpoint import LOOPBACK, Endpoint
from errata.errors import InstructorError
from errata.instructor.base import FailedCall
from errata.ledger import Call, Ledger, Stored

_NEUTRAL = {"neutral": True}


@dataclass
class OpenAI(Endpoint):
    """A model behind an endpoint.

    Attributes:
        temperature, max_tokens, seed: sampling; null leaves one to the endpoint.
        usd_per_million_in, usd_per_million_out: prices; null means unknown, and costs are then shown as unknown.
    """

    temperature: float | None = 0.8
    max_tokens: int | None = 4095
    seed: int | None = None
    usd_per_million_in: float | None = field(default=None, metadata=_NEUTRAL)
    usd_per_million_out: float | None = field(default=None, metadata=_NEUTRAL)

    sends = True

    def problems(self, datasets: Sequence[str]) -> list[str]:
        """No key, a malformed address, impossible numbers."""
        return self.address_problems("instructor") + [
            f"instructor.{name} is {value}: it must be {least} or more"
            for name, value, least in (
                ("max_tokens", 1 if self.max_tokens is None else self.max_tokens, 1),
                ("temperature", 0 if self.temperature is None else self.temperature, 0),
                ("usd_per_million_in", self.usd_per_million_in or 0, 0),
                ("usd_per_million_out", self.usd_per_million_out or 0, 0),
            )
            if value < least
        ]

    def probe(self) -> None:
        """Open and close a connection to the endpoint's host and port."""
        address = urlsplit(self.base_url)
        if address.hostname not in LOOPBACK and address.scheme in getproxies():
            return  # only the proxy can tell
        port = address.port or (443 if address.scheme == "https" else 80)
        try:
            socket.create_connection((address.hostname or "", port), timeout=10).close()
        except OSError as error:
            raise InstructorError(
                f"nothing answers at instructor.base_url={self.base_url} ({error}). Start the server, or mend the address."
            ) from error

    def call(self, messages: tuple[dict[str, str], ...], draw: int) -> Call:
        """The call, its parameters as they will be sent (a seed moves on with the draw)."""
        seed = None if self.seed is None else self.seed + draw
        asked = {"temperature": self.temperature, "max_tokens": self.max_tokens, "seed": seed}
        return Call(self._endpoint, self.model, messages, {k: v for k, v in asked.items() if v is not None}, draw)

    def price(self, prompt_tokens: int, completion_tokens: int) -> float | None:
        """US dollars, where both prices are known."""
        if self.usd_per_million_in is None or self.usd_per_million_out is None:
            return None
        return (prompt_tokens * self.usd_per_million_in + completion_tokens * self.usd_per_million_out) / 1e6

    def stored(self, call: Call, ledger: Ledger) -> Stored | None:
        """The reply to this very call."""
        return ledger.get(call)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Hold a client open."""
        async with self.connected(self.base_url):
            yield

    async def reply(self, call: Call) -> Stored:
        """One chat completion; the client retries what can pass."""
        start = time.monotonic()
        try:
            completion = await self._client.chat.completions.create(
                model=call.model, messages=list(call.messages), **call.parameters
            )
            choice = completion.choices[0]
            text, reason = choice.message.content, choice.finish_reason or ""
        except (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError) as error:
            raise InstructorError(
                f"{self.base_url} refuses every request for model {self.model}: {self.say(error)}. "
                f"Check {self.api_key_env or 'the key'} and instructor.model."
            ) from None
        except (openai.OpenAIError, ValueError, AttributeError, TypeError, IndexError) as error:
            raise FailedCall(self.say(error)) from None
        text = text or ""  # paid for all the same; an empty reply holds no problem
        usage = completion.usage
        seconds = time.monotonic() - start
        if usage is None:
            return Stored(text, reason, 0, 0, None, seconds)
        usd = self.price(usage.prompt_tokens, usage.completion_tokens)
        return Stored(text, reason, usage.prompt_tokens, usage.completion_tokens, usd, seconds)

    @property
    def _endpoint(self) -> str:
        return self.base_url.rstrip("/")
