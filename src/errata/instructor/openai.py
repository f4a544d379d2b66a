"""Any OpenAI-compatible endpoint for chat completions, with what the `openai` client would send."""

import contextlib
import json
import math
import re
import socket
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from errata.endpoint import LOOPBACK, Endpoint
from errata.errors import InstructorError
from errata.identity import neutral
from errata.instructor.base import FailedCall, PassingTrouble, SchemaRefused
from errata.jsonl import storable
from errata.ledger import Call, Ledger, Stored
from errata.places import no_hub_id

_CHARACTERS_PER_TOKEN = 4  # a common rule of thumb for English
_PER_MESSAGE = 8  # the roles' own tokens, at most
_OWN_FIELDS = ("model", "messages", "max_tokens", "max_completion_tokens", "n", "stream", "response_format")
_BUSY = (429, 503, 529)
UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError)
"""What reading an answer that is no chat completion may raise."""
_DURATION = re.compile(r"([\d.]+)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass
class OpenAI(Endpoint):
    """A model behind an endpoint.

    Attributes:
        temperature, max_tokens, seed: sampling; null leaves one to the endpoint.
        max_tokens_field: what the endpoint calls the limit: newer OpenAI models want `max_completion_tokens`.
        extra_body: further fields of every request.
        usd_per_million_in, usd_per_million_out, usd_per_million_cached: prices (of input, output, and input that the
            endpoint had in its cache); null means unknown, and costs are then shown as unknown. Without a price for cached
            input it costs as much as other input.
        requests_per_minute, tokens_per_minute: the account's limits, where they are known beforehand.
        deadline_s: seconds for a call with all its attempts.
        give_up_s: seconds without any answer after which the endpoint counts as down.
        tokenizer: a folder or hub id whose tokenizer counts the prompts (null: about 4 characters a token).
        mode: `now`, or `batch`: through the endpoint's Batch API, slower and cheaper.
        batch_discount: the share of the price that a batch saves.
        batch_poll_s: seconds between two looks at a batch.
        sends: false: only what the ledger holds is given, failures too; nothing is sent, no key is needed.
    """

    temperature: float | None = 0.8
    max_tokens: int | None = 4095
    seed: int | None = None
    max_tokens_field: str = neutral("max_tokens")
    extra_body: dict[str, Any] = field(default_factory=dict)
    usd_per_million_in: float | None = neutral(None)
    usd_per_million_out: float | None = neutral(None)
    usd_per_million_cached: float | None = neutral(None)
    requests_per_minute: float | None = neutral(None)
    tokens_per_minute: float | None = neutral(None)
    deadline_s: float = neutral(900.0)
    give_up_s: float = neutral(10.0)
    tokenizer: str | None = neutral(None)
    mode: str = neutral("now")
    batch_discount: float = neutral(0.5)
    batch_poll_s: float = neutral(60.0)
    sends: bool = neutral(True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.pause_s = 0.0

    def problems(self, datasets: Sequence[str]) -> list[str]:
        """No key, a malformed address, impossible numbers."""
        found = self.address_problems("instructor") if self.sends else []
        at_least: dict[str, float] = {
            "max_tokens": 1, "temperature": 0, "usd_per_million_in": 0, "usd_per_million_out": 0,
            "usd_per_million_cached": 0, "requests_per_minute": 0.001, "tokens_per_minute": 1, "deadline_s": 1,
            "give_up_s": 0, "batch_discount": 0, "batch_poll_s": 0,
        }  # fmt: skip
        found += [
            f"instructor.{name} is {value}: it must be {least:g} or more"
            for name, least in at_least.items()
            if (value := getattr(self, name)) is not None and not least <= value < math.inf
        ]
        if self.batch_discount > 1:
            found.append(f"instructor.batch_discount is {self.batch_discount:g}: it is a share of the price, from 0 to 1")
        found += [
            f"instructor.extra_body.{name} is not to be set there: Errata sends it itself"
            for name in _OWN_FIELDS
            if name in self.extra_body
        ]
        found += self.body_problems("instructor", self.extra_body)
        if self.mode not in ("now", "batch"):
            found.append(f"instructor.mode is {self.mode!r}: choose now or batch")
        if self.max_tokens_field not in ("max_tokens", "max_completion_tokens"):
            found.append(
                f"instructor.max_tokens_field is {self.max_tokens_field!r}: choose max_tokens or max_completion_tokens"
            )
        if (self.usd_per_million_in is None) != (self.usd_per_million_out is None):
            found.append("instructor.usd_per_million_in and usd_per_million_out: give both prices, or none")
        if self.tokenizer and not Path(self.tokenizer).expanduser().is_dir() and (why := no_hub_id(self.tokenizer)):
            found.append(f"instructor.tokenizer is {self.tokenizer!r}: no such folder, {why}")
        return found

    def probe(self) -> None:
        """Open and close a connection to the endpoint's host and port."""
        address = urlsplit(self.base_url)
        if not self.sends or (address.hostname not in LOOPBACK and address.scheme in getproxies()):
            return  # there is nothing to reach; or only the proxy can tell
        port = address.port or (443 if address.scheme == "https" else 80)
        try:
            socket.create_connection((address.hostname or "", port), timeout=10).close()
        except OSError as error:
            raise InstructorError(
                f"nothing answers at instructor.base_url={self.base_url} ({error}). Start the server, or mend the address."
            ) from error

    def call(self, messages: tuple[dict[str, str], ...], draw: int, schema: dict[str, Any] | None = None) -> Call:
        """The call, its parameters as they will be sent (a seed moves on with the draw)."""
        seed = None if self.seed is None else self.seed + draw
        asked = {"temperature": self.temperature, "max_tokens": self.max_tokens, "seed": seed, **self.extra_body}
        if schema is not None:
            asked["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "practice", "strict": True, "schema": schema},
            }
        return Call(self._endpoint, self.model, messages, {k: v for k, v in asked.items() if v is not None}, draw)

    def body(self, call: Call) -> dict[str, Any]:
        """What is sent for a call."""
        parameters = dict(call.parameters)
        if "max_tokens" in parameters:
            parameters[self.max_tokens_field] = parameters.pop("max_tokens")
        return {"model": call.model, "messages": list(call.messages), **parameters}

    def price(self, prompt_tokens: int, completion_tokens: int, cached_tokens: int = 0) -> float | None:
        """US dollars, where both prices are known."""
        if self.usd_per_million_in is None or self.usd_per_million_out is None:
            return None
        cached = self.usd_per_million_in if self.usd_per_million_cached is None else self.usd_per_million_cached
        parts = (prompt_tokens - cached_tokens) * self.usd_per_million_in, cached_tokens * cached
        usd = (sum(parts) + completion_tokens * self.usd_per_million_out) / 1e6
        return usd * (1 - self.batch_discount) if self.mode == "batch" else usd

    def prompt_tokens(self, messages: Sequence[Mapping[str, str]]) -> int:
        """Tokens of a prompt: counted by the tokenizer, or about a quarter of its characters."""
        texts = [message["content"] for message in messages]
        if self._tokenizer is None:
            return sum(map(len, texts)) // _CHARACTERS_PER_TOKEN
        return sum(len(ids) + 4 for ids in self._tokenizer(texts, add_special_tokens=False)["input_ids"])

    def expected_tokens(self, call: Call) -> int:
        """The prompt, and as much again."""
        return 2 * sum(len(message["content"]) for message in call.messages) // _CHARACTERS_PER_TOKEN

    def most_tokens(self, call: Call) -> tuple[int, int]:
        """A token is at least a byte; a reply ends at `max_tokens`."""
        prompt = sum(len(message["content"].encode()) + _PER_MESSAGE for message in call.messages) + _PER_MESSAGE
        schema = call.parameters.get("response_format")
        return prompt + (len(json.dumps(schema)) if schema else 0), self.max_tokens or 0

    def stored(self, call: Call, ledger: Ledger) -> Stored | None:
        """The reply to this very call."""
        return ledger.get(call)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Hold a client open."""
        async with self.connected(self.base_url, retries=0):
            yield

    async def reply(self, call: Call) -> Stored:
        """One attempt at a chat completion."""
        import aiohttp

        never_sent = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
        start = time.monotonic()
        try:
            status, headers, content = await self.post("chat/completions", self.body(call))
        except (aiohttp.ClientError, OSError) as error:
            name = "NoConnection" if isinstance(error, never_sent) else "ConnectionLost"
            said = " ".join(f"{name}: {type(error).__name__} {error}".split())
            raise PassingTrouble(self.hide(said), charged=name == "ConnectionLost") from None
        self._heed(headers)
        if status >= 300:
            refusal = self._refusal(status, headers, content)
            if isinstance(refusal, SchemaRefused) and "response_format" not in call.parameters:
                refusal = FailedCall(str(refusal))
            raise refusal
        try:
            return self.read(json.loads(content), time.monotonic() - start)
        except UNREADABLE as error:
            raise PassingTrouble(f"UnreadableAnswer: {type(error).__name__}: {self.say(error)}", charged=True) from None

    def read(self, completion: Any, seconds: float) -> Stored:
        """A chat completion (decoded JSON) as a reply with its price.

        A count of tokens that cannot be read is taken for none: the reply counts at its highest price.

        Raises:
            KeyError, TypeError, AttributeError, IndexError, ValueError: it is none.
        """
        choice = completion["choices"][0]
        text = choice["message"].get("content") or ""  # paid for all the same; an empty reply holds no problem
        if not isinstance(text, str):
            raise TypeError(f"the content is {type(text).__name__}, not text")
        text = storable(text)
        reason = str(choice.get("finish_reason") or "")
        try:
            usage = completion["usage"]
            asked, said = int(usage["prompt_tokens"]), int(usage["completion_tokens"])
            cached = int((usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0)
        except UNREADABLE:
            return Stored(text, reason, 0, 0, None, seconds)
        return Stored(text, reason, asked, said, self.price(asked, said, cached), seconds, cached)

    def _refusal(self, status: int, headers: Mapping[str, str], content: bytes) -> Exception:
        """What a status other than 200 means for this call, or for all of them."""
        text = " ".join(content.decode(errors="replace").split())
        with contextlib.suppress(ValueError, TypeError, KeyError):
            text = str(json.loads(content)["error"]["message"])
        said = self.hide(f"HTTP {status}: {text}")
        if status in (401, 403, 404):
            where = f"the key in {self.api_key_file}" if self.api_key_file else self.api_key_env or "the key"
            return InstructorError(
                f"{self.base_url} refuses every request for model {self.model}: {said}. "
                f"Check {where}, instructor.base_url and instructor.model."
            )
        if status == 429 and b"insufficient_quota" in content:
            return InstructorError(f"the account at {self.base_url} has no money left: {said}. Top it up, and go on.")
        if status in _BUSY:
            return PassingTrouble(said, busy=True, after=_retry_after(headers))
        if status >= 500 or status in (408, 409):
            return PassingTrouble(said, after=_retry_after(headers))
        if any(word in said for word in ("response_format", "json_schema", "guided")):
            return SchemaRefused(said)
        return FailedCall(said)

    def _heed(self, headers: Mapping[str, str]) -> None:
        """Where the endpoint says that nothing is left, pause until its limit is reset."""
        for what in ("requests", "tokens"):
            if headers.get(f"x-ratelimit-remaining-{what}") == "0":
                self.pause_s = max(self.pause_s, min(60.0, _seconds(headers.get(f"x-ratelimit-reset-{what}", ""))))

    @cached_property
    def _tokenizer(self) -> Any:
        if self.tokenizer is None:
            return None
        from transformers import AutoTokenizer

        try:
            return AutoTokenizer.from_pretrained(str(Path(self.tokenizer).expanduser()))
        except (OSError, ValueError) as error:
            raise InstructorError(f"instructor.tokenizer={self.tokenizer} cannot be loaded: {self.say(error)}") from error

    @property
    def _endpoint(self) -> str:
        return self.base_url.rstrip("/")


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that an endpoint asks to wait, at most two minutes."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            return min(120.0, max(0.0, float(headers[name]) * unit))
        except (KeyError, ValueError):
            continue
    return None


def _seconds(text: str) -> float:
    """A duration as OpenAI writes it: `6m0s`, `120ms`, `1s`; or a plain number of seconds."""
    parts = _DURATION.findall(text)
    if parts:
        return sum(float(number) * _SECONDS[unit] for number, unit in parts)
    try:
        return float(text)
    except ValueError:
        return 1.0
