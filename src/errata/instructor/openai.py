"""Any OpenAI-compatible chat-completions endpoint, through the `openai` client over aiohttp."""

import os
import re
import socket
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import openai

from errata.errors import InstructorError
from errata.instructor.base import FailedCall
from errata.ledger import Call, Ledger, Stored

_NEUTRAL = {"neutral": True}
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass
class OpenAI:
    """A model behind an endpoint.

    Attributes:
        model: its name there.
        base_url: the endpoint, up to and including `/v1`.
        api_key_env: the environment variable that holds the key (the key itself never stands in a config).
        temperature, max_tokens, seed: sampling; null leaves one to the endpoint.
        timeout_s: seconds for one attempt.
        max_retries: further attempts after 429, 5xx, a timeout or a broken connection, with growing pauses, or as
            long as Retry-After says (a longer one than the client's bound of two minutes ends the call).
        concurrency: requests in flight.
        usd_per_million_in, usd_per_million_out: prices; null means unknown, and costs are then shown as unknown.
    """

    model: str = "???"
    base_url: str = "https://api.openai.com/v1"
    api_key_env: str | None = field(default="OPENAI_API_KEY", metadata=_NEUTRAL)
    temperature: float | None = 0.8
    max_tokens: int | None = 4095
    seed: int | None = None
    timeout_s: float = field(default=120.0, metadata=_NEUTRAL)
    max_retries: int = field(default=5, metadata=_NEUTRAL)
    concurrency: int = field(default=16, metadata=_NEUTRAL)
    usd_per_million_in: float | None = field(default=None, metadata=_NEUTRAL)
    usd_per_million_out: float | None = field(default=None, metadata=_NEUTRAL)

    sends = True

    def __post_init__(self) -> None:
        self._client: Any = None

    def problems(self, datasets: Sequence[str]) -> list[str]:
        """No key, a malformed address, impossible numbers."""
        found = []
        address = urlsplit(self.base_url)
        if address.scheme not in ("http", "https") or not address.hostname:
            found.append(f"instructor.base_url is {self.base_url!r}: it must start with http:// or https:// and name a host")
        elif address.username or address.password:
            found.append("instructor.base_url holds a user name or a password: keep secrets out of the configuration")
        elif self.api_key_env and not re.fullmatch(r"[A-Za-z_]\w*", self.api_key_env):
            found.append("instructor.api_key_env must be the NAME of an environment variable, not a key")
        elif not self._key() and address.hostname not in _LOOPBACK:
            found.append(
                f"no API key: the environment variable {self.api_key_env} is not set. Export it, or name another with "
                "instructor.api_key_env=NAME"
            )
        found += [
            f"instructor.{name} is {value}: it must be {least} or more"
            for name, value, least in (
                ("concurrency", self.concurrency, 1),
                ("max_retries", self.max_retries, 0),
                ("timeout_s", self.timeout_s, 1),
                ("max_tokens", 1 if self.max_tokens is None else self.max_tokens, 1),
                ("temperature", 0 if self.temperature is None else self.temperature, 0),
                ("usd_per_million_in", self.usd_per_million_in or 0, 0),
                ("usd_per_million_out", self.usd_per_million_out or 0, 0),
            )
            if value < least
        ]
        return found

    def probe(self) -> None:
        """Open and close a connection to the endpoint's host and port."""
        address = urlsplit(self.base_url)
        if address.hostname not in _LOOPBACK and address.scheme in getproxies():
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
        async with self._connected(self.base_url):
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
                f"{self.base_url} refuses every request for model {self.model}: {self._say(error)}. "
                f"Check {self.api_key_env or 'the key'} and instructor.model."
            ) from None
        except (openai.OpenAIError, ValueError, AttributeError, TypeError, IndexError) as error:
            raise FailedCall(self._say(error)) from None
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

    def _key(self) -> str | None:
        return os.environ.get(self.api_key_env) if self.api_key_env else None

    @asynccontextmanager
    async def _connected(self, base_url: str) -> AsyncIterator[None]:
        client = openai.AsyncOpenAI(
            base_url=base_url,
            api_key=self._key() or "none",
            timeout=self.timeout_s,
            max_retries=self.max_retries,
            # a proxy cannot reach a server on this machine
            http_client=openai.DefaultAioHttpClient(trust_env=urlsplit(base_url).hostname not in _LOOPBACK),
        )
        async with client as self._client:
            yield

    def _say(self, error: Exception) -> str:
        """The error in one line, the key taken out should the endpoint have repeated it."""
        status = getattr(error, "status_code", None)
        text = " ".join(f"{type(error).__name__}{f' {status}' if status else ''}: {error}".split())
        key = self._key()
        return (text.replace(key, "***") if key else text)[:300]
