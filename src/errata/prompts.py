"""Prompts as text files: a system and a user text, filled by one renderer."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from errata.digests import digest
from errata.errors import ConfigError

_PLACEHOLDER = re.compile(r"\{\{|\}\}|\{(\w+)\}")


@dataclass(frozen=True)
class Prompts:
    """A system and a user text with `{placeholders}`; `{{` and `}}` stand for literal braces, as does `{}`."""

    system: str
    user: str

    def render(self, values: Mapping[str, object]) -> tuple[dict[str, str], ...]:
        """Chat messages with the values filled in."""
        texts = (("system", self.system), ("user", self.user))
        return tuple({"role": role, "content": _fill(text, values)} for role, text in texts if text)

    @property
    def fingerprint(self) -> str:
        """Hash of the texts."""
        return digest([self.system, self.user])


def read_prompts(folder: Path, names: Sequence[str], user: str = "user") -> Prompts:
    """A folder's `system.txt` (it may be missing) and `user.txt`, or another user text by its name.

    Raises:
        ConfigError: there is no user text, or a placeholder that is not one of `names`.
    """
    texts = {}
    for name in ("system", user):
        path = folder / f"{name}.txt"
        try:
            texts[name] = path.read_text(encoding="utf-8").strip() if path.is_file() else ""
        except UnicodeDecodeError as error:
            raise ConfigError(
                [f"{path} is no UTF-8 text ({error.reason} at byte {error.start}): save it as UTF-8"]
            ) from error
        check_placeholders(texts[name], names, path)
    if not texts[user]:
        raise ConfigError([f"there is no prompt here: write {folder / f'{user}.txt'}"])
    return Prompts(texts["system"], texts[user])


def check_placeholders(text: str, known: Collection[str], where: Path) -> None:
    """See whether every placeholder of a text is a known one.

    Raises:
        ConfigError: one is not; names it and the file.
    """
    unknown = placeholders(text) - set(known)
    if unknown:
        raise ConfigError(
            [
                f"{where}: unknown placeholder {', '.join('{' + name + '}' for name in sorted(unknown))}; there are "
                f"{', '.join('{' + name + '}' for name in known)}; write literal braces twice: {{{{ }}}}"
            ]
        )


def placeholders(text: str) -> set[str]:
    """The names of a text's placeholders."""
    return {match.group(1) for match in _PLACEHOLDER.finditer(text) if match.group(1) is not None}


def _fill(text: str, values: Mapping[str, object]) -> str:
    def one(match: re.Match[str]) -> str:
        name = match.group(1)
        return match.group(0)[0] if name is None else str(values[name])

    return _PLACEHOLDER.sub(one, text)
