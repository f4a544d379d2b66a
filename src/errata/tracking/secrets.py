"""No key leaves: what is sent is searched for secrets first."""

import os
import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "(hidden)"
_NAMES = re.compile(r"(?:KEY|TOKEN|SECRET|PASSWORD|CREDENTIALS?)$|^ERRATA_HEADER_")
_SHORTEST = 6
_LOGIN = re.compile(r"(?<=://)[^/@\s]+(?=@)")


class Scrubber:
    """Replaces the values of secret environment variables, headers and logins in URLs.

    Secret are the variables whose names end in KEY, TOKEN, SECRET, PASSWORD or CREDENTIALS, and those that the config names
    in a field `..._env`. Values of fewer than six characters are left alone: they stand in ordinary text.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        names = {name for name in os.environ if _NAMES.search(name.upper())} | set(_named(config))
        found = {value for name in names if len(value := os.environ.get(name, "")) >= _SHORTEST}
        self._secrets = sorted(found, key=len, reverse=True)

    def text(self, text: str) -> str:
        """The text without secrets."""
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        return _LOGIN.sub(HIDDEN, text)

    def plain(self, value: Any) -> Any:
        """Nested plain values without secrets; of headers only the names stay."""
        if isinstance(value, Mapping):
            return {
                str(key): dict.fromkeys(inner, HIDDEN)
                if key == "headers" and isinstance(inner, Mapping)
                else self.plain(inner)
                for key, inner in value.items()
            }
        if isinstance(value, list | tuple):
            return [self.plain(inner) for inner in value]
        return self.text(value) if isinstance(value, str) else value


def _named(config: Any) -> list[str]:
    """The variables that a config names in fields `..._env`."""
    if isinstance(config, list | tuple):
        return [name for inner in config for name in _named(inner)]
    if not isinstance(config, Mapping):
        return []
    found: list[str] = []
    for key, value in config.items():
        if str(key).endswith("_env"):
            found += [str(name) for name in (value.values() if isinstance(value, Mapping) else [value]) if name]
        else:
            found += _named(value)
    return found
