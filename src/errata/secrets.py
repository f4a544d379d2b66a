"""No key leaves: what is sent, or written down of a failure, is searched for secrets first."""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

HIDDEN = "(hidden)"
_NAMES = re.compile(r"(?:KEYS?|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?)(?:_?\d+)?$|^ERRATA_HEADER_")
_CONFIGS = "errata_configs"
_SHORTEST = 6
_SHORTEST_HEADER = 12  # a title, a version are no secrets
_VARIABLE = re.compile(r"\$\{oc\.env:\s*(\w+)")
_LARGEST = 16384  # bytes of a file that holds a key
_FIELDS = re.compile(r"(?i)^(?:(?:\w+_)?api_?key|(?:access|auth|hf)_token|secret|password|authorization)$")
_LOGIN = re.compile(r"(?<=://)[^/?#\s\"'<>]+(?=@)")
_QUERY = re.compile(
    r"(?i)(?<=[?&])((?:[\w-]*api[_-]?key|key|(?:\w+[_-])?token|secret|sig(?:nature)?|password|X-Amz-\w+)=)[^&\s\"'<>#)]+"
)
_SHAPES = re.compile(
    r"\b(?:(?:hf|gh[pousr])_[A-Za-z0-9]{16,}|(?:wandb_v\d+|github_pat)_\w{16,}"
    r"|(?:sk|glpat|xox[abp])-(?=[\w-]{0,64}\d)[\w-]{16,}"
    r"|(?i:(?<=bearer )|(?<=basic ))(?=[\w.~+/-]*\d)(?=[\w.~+/-]*[A-Za-z])[\w.~+/-]{16,}=*)"
)
"""Keys that are known by how they look, whoever holds them."""


class Scrubber:
    """Replaces keys: those that the environment or a key's file holds, and whatever looks like one.

    Secret are the values of variables whose names end in KEY, TOKEN, SECRET, PASSWORD, PASSPHRASE or CREDENTIALS (and a
    number), of those that the config names in a field `..._env`, and of its `headers`; what its files `..._key_file` hold;
    logins and keys in URLs, and what begins as keys do. Values of fewer than six characters (headers: twelve) are left
    alone: ordinary text holds them.
    """

    def __init__(self, config: Any) -> None:
        variables = {name for name in os.environ if _NAMES.search(name.upper())} | set(_named(config, "_env"))
        variables |= {name for value in _named(config, "headers") for name in _VARIABLE.findall(value)}
        values = [os.environ.get(name, "") for name in variables]
        values += [value for value in _named(config, "headers") if len(value) >= _SHORTEST_HEADER]
        values += [line for name in _named(config, "key_file") for line in _content(name).splitlines()]
        found = {value.strip() for value in values if len(value.strip()) >= _SHORTEST}
        self._secrets = sorted(found | {quote(value, safe="") for value in found}, key=len, reverse=True)

    def text(self, text: str) -> str:
        """The text without secrets."""
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        return _SHAPES.sub(HIDDEN, _QUERY.sub(rf"\1{HIDDEN}", _LOGIN.sub(HIDDEN, text)))

    def plain(self, value: Any) -> Any:
        """Nested plain values without secrets; of headers only the names stay."""
        if isinstance(value, Mapping):
            return {self.text(str(key)): self._field(str(key), inner) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self.plain(inner) for inner in value]
        return self.text(value) if isinstance(value, str) else value

    def _field(self, name: str, value: Any) -> Any:
        if name == "headers" and isinstance(value, Mapping):
            return dict.fromkeys(value, HIDDEN)
        return HIDDEN if value and isinstance(value, str) and _FIELDS.match(name) else self.plain(value)


@contextmanager
def known_by(config: Any) -> Iterator[None]:
    """An error that leaves here takes the config along, by which the keys in its message are known: see `configs_of`."""
    try:
        yield
    except Exception as error:
        error.__dict__[_CONFIGS] = [*configs_of(error), config]
        raise


def configs_of(error: BaseException) -> list[Any]:
    """The configs under which an error arose, as far as that is known."""
    found: list[Any] = error.__dict__.get(_CONFIGS, [])
    return found


def _named(config: Any, ending: str) -> Iterator[str]:
    """What a config says in fields whose names end so: headers, names of variables, or of files."""
    if isinstance(config, list | tuple):
        for inner in config:
            yield from _named(inner, ending)
    elif isinstance(config, Mapping):
        for key, value in config.items():
            if str(key).endswith(ending):
                yield from (str(name) for name in (value.values() if isinstance(value, Mapping) else [value]) if name)
            else:
                yield from _named(value, ending)


def _content(name: str) -> str:
    """What the file holds; nothing where it cannot be read, or is too large to hold a key."""
    try:
        path = Path(name).expanduser()
        return path.read_text(errors="replace") if path.stat().st_size <= _LARGEST else ""
    except (OSError, RuntimeError, ValueError):
        return ""
