"""What every OpenAI-compatible endpoint needs, whoever asks it: an address, a key that stays secret, a client."""

import json
import os
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from errata.identity import neutral

if TYPE_CHECKING:
    import openai

_SECRET = re.compile(
    r"(?i)(api|access|auth\w*|private)[_-]?(key|token)|passw(or)?d|secret|authorization|credential|bearer|(^|\.)(auth|key|token)(\.|$)"
)
_SECRET_VALUE = re.compile(r"(?i)(bearer\s|(sk|hf|gh[pousr]|xox[abp])[-_]\w{8})")
"""How keys begin that are known by it."""
_KEY = re.compile(r"(hf|gh[pousr])_\w{16}")
"""Keys that could be the name of a variable."""
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass
class Endpoint:
    """A model behind an endpoint.

    Attributes:
        model: its name there.
        base_url: the endpoint, up to and including `/v1`.
        api_key_env: the environment variable that holds the key (the key itself never stands in a config).
        api_key_file: a file that holds it, instead.
        headers: further headers of every request.
        headers_env: those whose values are secret: the names of the environment variables that hold them.
        timeout_s: seconds for one attempt.
        max_retries: further attempts after 429, 5xx, a timeout or a broken connection, with growing pauses, or as
            long as Retry-After says (a longer one than the client's bound of two minutes ends the call).
        concurrency: requests in flight.
    """

    model: str = "???"
    base_url: str = "https://api.openai.com/v1"
    api_key_env: str | None = neutral("OPENAI_API_KEY")
    api_key_file: str | None = neutral(None)
    headers: dict[str, str] = neutral(factory=dict)
    headers_env: dict[str, str] = neutral(factory=dict)
    timeout_s: float = neutral(120.0)
    max_retries: int = neutral(5)
    concurrency: int = neutral(16)

    def __post_init__(self) -> None:
        self._client: Any = None
        self._session: Any = None
        self._proxy: str | None = None

    def address_problems(self, group: str) -> list[str]:
        """No key, a malformed address, impossible numbers; `group` is the setting's first word."""
        found = []
        address = urlsplit(self.base_url)
        if address.scheme not in ("http", "https") or not address.hostname:
            found.append(f"{group}.base_url is {self.base_url!r}: it must start with http:// or https:// and name a host")
        elif address.username or address.password:
            found.append(f"{group}.base_url holds a user name or a password: keep secrets out of the configuration")
        elif address.query or address.fragment:
            found.append(
                f"{group}.base_url goes on after the path (? or #), where nothing can be added: end it there, and send a "
                f"key as {group}.api_key_env=NAME or {group}.headers_env.HEADER=NAME"
            )
        elif self.api_key_env and (not re.fullmatch(r"[A-Za-z_]\w*", self.api_key_env) or _KEY.match(self.api_key_env)):
            found.append(f"{group}.api_key_env must be the NAME of an environment variable, not a key")
        elif self.api_key_file and not Path(self.api_key_file).expanduser().is_file():
            found.append(f"{group}.api_key_file is {self.api_key_file!r}: no such file; it must hold the key alone")
        elif missing := self.key_problem(group):
            found.append(missing)
        found += [
            f"{group}.headers.{name} looks like a secret: name its environment variable, {group}.headers_env.{name}=NAME"
            for name in self.headers
            if re.search(r"auth|key|token|secret|cookie", name, re.IGNORECASE)
        ]
        found += [
            f"{group}.headers_env.{name}: the environment variable {variable} is not set"
            for name, variable in self.headers_env.items()
            if variable not in os.environ
        ]
        return found + [
            f"{group}.{name} is {value}: it must be {least} or more"
            for name, value, least in (
                ("concurrency", self.concurrency, 1),
                ("max_retries", self.max_retries, 0),
                ("timeout_s", self.timeout_s, 1),
            )
            if value < least
        ]

    def body_problems(self, group: str, body: Mapping[str, Any]) -> list[str]:
        """Fields of `extra_body` that look like secrets: it goes into the ledger and the run folder as it is."""
        return [
            f"{group}.extra_body.{name} looks like a secret, and is stored with the run: send it as a header, "
            f"{group}.headers_env.{name.rpartition('.')[2]}=VARIABLE"
            for name, value in _leaves(body)
            if _SECRET.search(name) or _SECRET_VALUE.match(str(value))
        ]

    def key_problem(self, group: str) -> str:
        """That there is no key, where one is needed, or one that cannot be sent; empty otherwise."""
        if self.key and not (self.key.isascii() and self.key.isprintable()):
            return f"the API key ({group}.api_key_env or {group}.api_key_file) holds a line break or a letter no key has"
        if self.key or urlsplit(self.base_url).hostname in LOOPBACK:
            return ""
        return (
            f"no API key: the environment variable {self.api_key_env} is not set. Export it, name another with "
            f"{group}.api_key_env=NAME, or a file that holds it with {group}.api_key_file=FILE"
        )

    @property
    def key(self) -> str | None:
        """The key, out of its file or the environment."""
        if self.api_key_file:
            path = Path(self.api_key_file).expanduser()
            return path.read_text().strip() if path.is_file() else None
        return os.environ.get(self.api_key_env, "").strip() or None if self.api_key_env else None

    @property
    def client(self) -> "openai.AsyncOpenAI":
        """The open client, while `connected`."""
        client: openai.AsyncOpenAI = self._client
        return client

    @asynccontextmanager
    async def connected(self, base_url: str, retries: int | None = None) -> AsyncIterator[None]:
        """Hold a client open that tries again `retries` times by itself (None: `max_retries`)."""
        import aiohttp
        import openai

        address = urlsplit(base_url)
        through_proxy = address.hostname not in LOOPBACK  # a proxy cannot reach a server on this machine
        if through_proxy and not proxy_bypass(address.hostname or ""):
            self._proxy = getproxies().get(address.scheme)
        client = openai.AsyncOpenAI(
            base_url=base_url,
            api_key=self.key or "none",
            timeout=self.timeout_s,
            max_retries=self.max_retries if retries is None else retries,
            default_headers=self.headers | {name: os.environ[variable] for name, variable in self.headers_env.items()},
            http_client=openai.DefaultAioHttpClient(trust_env=through_proxy),
        )
        sent = {**client.default_headers, **client.auth_headers}
        headers = {name: value for name, value in sent.items() if isinstance(value, str)}
        session = aiohttp.ClientSession(
            headers=headers,
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(sock_connect=min(30.0, 0.8 * self.timeout_s)),
        )
        async with client as self._client, session as self._session:
            yield

    async def post(self, path: str, body: Any) -> tuple[int, Mapping[str, str], bytes]:
        """Post JSON; status, headers and content of the answer. As the client does, in a third of its time a request.

        Raises:
            aiohttp.ClientError: no whole answer came.
        """
        url = f"{str(self.client.base_url).rstrip('/')}/{path}"
        async with self._session.post(url, data=json.dumps(body).encode(), proxy=self._proxy) as answer:
            return answer.status, answer.headers, await answer.read()

    def say(self, error: Exception) -> str:
        """The error in one line, the key taken out should the endpoint have repeated it."""
        status = getattr(error, "status_code", None)
        return self.hide(" ".join(f"{type(error).__name__}{f' {status}' if status else ''}: {error}".split()))

    def hide(self, text: str) -> str:
        """The beginning of a text, without the key."""
        for secret in (self.key, *(os.environ.get(variable) for variable in self.headers_env.values())):
            text = text.replace(secret, "***") if secret else text
        return text[:300]


def _leaves(part: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    """The values in nested fields, each under its dotted name."""
    pairs = part.items() if isinstance(part, Mapping) else enumerate(part) if isinstance(part, list | tuple) else ()
    for name, value in pairs:
        yield from _leaves(value, f"{above}{name}.")
    if above and not pairs:
        yield above[:-1], part
