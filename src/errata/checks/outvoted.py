"""Values of an option that was asked for and that the config sets otherwise: an experiment's own values win over options."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml


def outvoted(folder: Path, words: Sequence[str], composed: Mapping[str, Any]) -> list[str]:
    """One line for each option on the command line of which not every value holds.

    Args:
        folder: the config folder; options that stand elsewhere are not looked into.
        words: the overrides, as they were given.
        composed: the config, as plain values.
    """
    given = dict(word.lstrip("+").partition("=")[::2] for word in words)
    found = []
    for group, option in given.items():
        file = folder / group / f"{option}.yaml"
        if "experiments" not in given or group not in composed or not file.is_file():
            continue
        text = file.read_text(encoding="utf-8")
        if text.startswith("# @package"):  # its values stand elsewhere: experiments and sweeps are such
            continue
        values = yaml.safe_load(text) or {}
        own = {name: value for name, value in _leaves(group, values) if value != "???" and "${" not in str(value)}
        other = {name: holds for name, value in own.items() if name not in given and (holds := _at(composed, name)) != value}
        if other:
            shown = ", ".join(f"{name}={value}" for name, value in other.items())
            found.append(
                f"{group}={option}: experiments={given['experiments']} sets {shown} itself, and that holds. To have the "
                f"option's own, give the command {' '.join(f'{name}=...' for name in other)}"
            )
    return found


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            if key != "defaults":
                yield from _leaves(f"{name}.{key}", inner)
    else:
        yield name, value


def _at(composed: Any, name: str) -> Any:
    """The value of a dotted name; None where there is none."""
    for key in name.split("."):
        composed = composed.get(key) if isinstance(composed, Mapping) else None
    return composed
