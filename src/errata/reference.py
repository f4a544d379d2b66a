"""docs/configuration.md, written from the schema: `python -m errata.reference`.

What a setting means stands once, in the `Attributes:` of its dataclass; what an option is, in its file's opening comment.
"""

import importlib
import inspect
import re
import sys
import types
import typing
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import yaml

from errata.config import SCHEMAS, config_folder

_INTRODUCTION = """\
# Configuration

Every setting of every command, written from the code by `python -m errata.reference`. How they are put together is told in
[concepts.md](concepts.md).

`NAME=VALUE` on the command line sets one, `GROUP=OPTION` chooses an option of a group, and `errata COMMAND --cfg job`
prints what a command would run with. `required` means that there is no default. A **neutral** setting cannot change a
result: changing it continues the same run folder. `dataset`, `tests`, `wall`, `gate`, `corpus` and `testset` take several
options, `dataset=[gsm8k,mmlu]`, and a setting then stands under its option's name: `dataset.gsm8k.limit=10`.
"""
_ELSEWHERE = {"experiments": "[experiments.md](experiments.md)", "sweeps": "[experiments.md](experiments.md)"}
_NESTED = ("dataset", "gate", "corpus", "testset")
_SAME_GROUP = {"tests": "dataset", "wall": "dataset"}


@dataclass(frozen=True)
class Setting:
    """One setting: its name in the config, type, default, meaning ("": nothing says it), and whether it is neutral."""

    name: str
    type: str
    default: str
    meaning: str
    neutral: bool
    owner: str


def meanings(kind: type) -> dict[str, str]:
    """What the `Attributes:` of a class and its bases say of each field; the class's own words before its bases'."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        text = inspect.cleandoc(base.__doc__ or "")
        part = re.search(r"^Attributes:\n((?:[ ]+.*\n?|\n)*)", text, re.MULTILINE)
        for entry in re.finditer(r"^    (\w[\w, ]*): (.*(?:\n     +.*)*)", part.group(1) if part else "", re.MULTILINE):
            names = [name.strip() for name in entry.group(1).split(",")]
            said = re.sub(r"\bNone\b", "null", " ".join(entry.group(2).split()).rstrip("."))
            found |= {name: said if name == names[0] else f"see `{names[0]}`" for name in names}
    return found


def settings(kind: type, prefix: str = "", given: Mapping[str, Any] | None = None) -> Iterator[Setting]:
    """The settings of a dataclass, those of dataclasses in it under their dotted names.

    Args:
        kind: the dataclass.
        prefix: what stands before each name.
        given: values that the config files give, instead of the dataclass's own defaults.
    """
    said, hints = meanings(kind), typing.get_type_hints(kind)
    for field in fields(kind):
        hint, name = hints[field.name], f"{prefix}{field.name}"
        value = (given or {}).get(field.name, _own_default(field))
        if is_dataclass(hint) and isinstance(hint, type):
            yield from settings(hint, f"{name}.", value if isinstance(value, Mapping) else None)
            continue
        neutral = bool(field.metadata.get("neutral"))
        yield Setting(name, _named(hint), _written(value), said.get(field.name, ""), neutral, kind.__qualname__)


def reference() -> str:
    """The whole page."""
    parts = [_INTRODUCTION]
    groups: list[str] = []
    shared: dict[str, type] = {}
    for command, schema in SCHEMAS.items():
        primary = yaml.safe_load((config_folder() / f"{command}.yaml").read_text())
        chosen = _chosen(primary["defaults"])
        groups += [name for name in chosen if name not in groups]
        hints = typing.get_type_hints(schema)
        shared |= {
            name: hint for name, hint in hints.items() if isinstance(hint, type) and is_dataclass(hint) and name in chosen
        }
        parts.append(f"## errata {command}\n")
        rows = [
            one
            for one in settings(schema, given=primary)
            if one.name.partition(".")[0] not in chosen and one.name.partition(".")[0] not in _ELSEWHERE
        ]
        parts.append(_table(rows))
        parts.append("Groups, each with the option that is chosen unless you say otherwise: " + _listed(chosen) + ".\n")
    for group in groups:
        if group not in _SAME_GROUP and group not in _ELSEWHERE:
            parts += _group(group, shared.get(group))
    return "\n".join(parts).rstrip() + "\n"


def unexplained() -> list[str]:
    """The settings of which no docstring says what they mean: `Class.field`."""
    found: dict[str, None] = {}
    kinds: list[type] = list(SCHEMAS.values())
    groups = sorted(path.name for path in config_folder().iterdir() if path.is_dir() and path.name not in _ELSEWHERE)
    for group in groups:
        for _, values in _options(group):
            kinds += [_class(name) for name in _targets(values)]
    for kind in kinds:
        for one in settings(kind):
            if not one.meaning and one.name not in (*groups, *_ELSEWHERE, *_SAME_GROUP):
                found[f"{one.owner}.{one.name.rpartition('.')[2]}"] = None
    return sorted(found)


def _group(group: str, schema: type | None) -> list[str]:
    """The section of a group: its options with what they set, then the settings of each class among them."""
    parts = [f"## {group}\n"]
    users: dict[type, list[str]] = defaultdict(list)
    rows = []
    for option, values in _options(group):
        kind = schema if schema is not None else _class(values["_target_"]) if "_target_" in values else None
        set_here = ""
        if kind is not None:
            users[kind].append(option)
            below = {one.name: one.default for one in settings(kind)}
            above = {name: _written(value) for name, value in _flat(values, kind).items() if value != {}}
            first = _first_defaults(kind)
            differing = {
                name: value for name, value in (below | above).items() if value not in ("", "required", first.get(name))
            }
            set_here = ", ".join(f"`{name}={value}`" for name, value in differing.items())
        rows.append(f"| `{option}` | {_cell(_header(config_folder() / group / f'{option}.yaml'))} | {_cell(set_here)} |")
    parts.append("| option | what it is | sets, other than the defaults below |\n|---|---|---|\n" + "\n".join(rows) + "\n")
    place = f"{group}.NAME." if group in _NESTED else f"{group}."
    parts += _sections(users, place, len(rows))
    if schema is not None and "method" in typing.get_type_hints(schema):
        methods: dict[type, list[str]] = defaultdict(list)
        for option, values in _options(group):
            methods[_class(values["method"]["_target_"])].append(option)
        parts += _sections(methods, f"{group}.method.", 0)
    return parts


def _sections(users: Mapping[type, list[str]], place: str, everyone: int) -> list[str]:
    """The settings of these classes, each table headed by the options that have them; what classes share stands once."""
    tables: dict[tuple[str, ...], dict[str, Setting]] = defaultdict(dict)
    having: dict[type, list[str]] = defaultdict(list)
    for kind, options in users.items():
        for base in _lineage(kind):
            having[base] += options
    for base, options in having.items():
        tables[tuple(sorted(options))] |= {one.name: one for one in _own(base, place)}
    parts = []
    for names, rows in sorted(tables.items(), key=lambda one: (-len(one[0]), one[0])):
        if rows:
            heading = "Settings of all:\n" if len(names) == everyone else f"Settings of {_listed(names)}:\n"
            parts += [*([heading] if everyone != 1 else []), _table(list(rows.values()))]
    return parts


def _lineage(kind: type) -> list[type]:
    """A dataclass and the dataclasses that it is made from, the first ones first."""
    return [base for base in reversed(kind.__mro__) if is_dataclass(base)]


def _own(base: type, place: str = "") -> list[Setting]:
    """The settings that a dataclass adds to those of its bases, or gives another meaning."""
    new, before = inspect.get_annotations(base), [meanings(parent) for parent in _lineage(base)[:-1]]
    inherited = {field.name for parent in _lineage(base)[:-1] for field in fields(parent)}
    said = meanings(base)
    return [
        one
        for one in settings(base, place)
        if (name := one.name.removeprefix(place).partition(".")[0]) in new
        and (name not in inherited or all(said.get(name) != words.get(name) for words in before))
    ]


def _first_defaults(kind: type) -> dict[str, str]:
    """The default that each setting has in the class whose table it stands in."""
    found: dict[str, str] = {}
    for base in _lineage(kind):
        found |= {one.name: one.default for one in _own(base)}
    return found


def _options(group: str) -> list[tuple[str, dict[str, Any]]]:
    """A group's options with their values, those that they inherit among them."""
    files = sorted((config_folder() / group).glob("*.yaml"))
    return [(file.stem, _values(file, group in _NESTED)) for file in files]


def _values(file: Path, nested: bool) -> dict[str, Any]:
    written = yaml.safe_load(file.read_text()) or {}
    values: dict[str, Any] = {}
    for base in written.pop("defaults", []):
        if isinstance(base, str) and base != "_self_":
            values = _merged(values, _values(file.with_name(f"{base}.yaml"), nested))
    if nested and isinstance(written.get(file.stem), dict):
        written = written[file.stem]
    return _merged(values, written)


def _merged(below: dict[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """The values of both, those of `above` where both have one, as Hydra puts files together."""
    inner = {key: _merged(below[key], one) for key, one in above.items() if isinstance(one, dict) and key in below}
    return below | dict(above) | inner


def _targets(values: Any) -> list[str]:
    """Every class that the values name."""
    if not isinstance(values, Mapping):
        return []
    own = [values["_target_"]] if "_target_" in values else []
    return [*own, *(name for value in values.values() for name in _targets(value))]


def _flat(values: Mapping[str, Any], kind: type, prefix: str = "") -> dict[str, Any]:
    """The values by their dotted names, as `settings` names them."""
    hints = typing.get_type_hints(kind)
    found: dict[str, Any] = {}
    for name, value in values.items():
        if is_dataclass(hints.get(name)) and isinstance(value, Mapping):
            found |= _flat(value, hints[name], f"{prefix}{name}.")
        elif name == "method":
            found |= {f"method.{key}": one for key, one in value.items() if key != "_target_"}
        elif name != "_target_":
            named = isinstance(value, Mapping)
            found[f"{prefix}{name}"] = {key: one for key, one in value.items() if one is not None} if named else value
    return found


def _class(path: str) -> type:
    module, _, name = path.rpartition(".")
    found: type = getattr(importlib.import_module(module), name)
    return found


def _chosen(defaults: list[Any]) -> dict[str, str]:
    """The groups of a primary config with the options that they have by default."""
    found = {}
    for entry in defaults:
        if isinstance(entry, Mapping):
            for key, option in entry.items():
                if not key.startswith("override"):
                    name = key.rpartition("@")[2]
                    found[name] = f"[{','.join(option)}]" if isinstance(option, list) else str(option)
    return {name: option for name, option in found.items() if name not in _ELSEWHERE}


def _listed(names: Any) -> str:
    """`a`, `b`; of a mapping from groups to options: links to the groups' sections."""
    if isinstance(names, Mapping):
        return ", ".join(f"[{name}](#{_SAME_GROUP.get(name, name)})`={option}`" for name, option in names.items())
    return ", ".join(f"`{name}`" for name in names)


def _header(file: Path) -> str:
    """What a file's opening comment says, without its examples (the lines that are indented)."""
    said = []
    for line in file.read_text().splitlines():
        if not line.startswith("#") or re.match(r"#\s{2,}", line):
            break
        said.append(line.lstrip("# "))
    return " ".join(said).rstrip(":")


def _table(rows: list[Setting]) -> str:
    heads = "| setting | type | default | neutral | meaning |\n|---|---|---|---|---|"
    lines = [
        " | ".join(("", f"`{one.name}`", one.type, _cell(one.default), "yes" if one.neutral else "", _cell(one.meaning), ""))
        for one in rows
    ]
    return "\n".join([heads, *(line.strip() for line in lines)]) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", "\\n")


def _own_default(field: "Field[Any]") -> Any:
    if field.default is not MISSING:
        return field.default
    return field.default_factory() if field.default_factory is not MISSING else "???"


def _written(value: Any) -> str:
    """A value as it is written on the command line."""
    if value == "???":
        return "required"
    if value is None:
        return "null"
    if is_dataclass(value):
        return "null"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_written(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_written, value)) + "]"
    return str(value)


def _named(hint: Any) -> str:
    """A type in words."""
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        return " or ".join(_named(one) for one in typing.get_args(hint))
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if origin is list:
        return f"list of {_named(inside[0])}"
    if origin is dict:
        return f"mapping to {_named(inside[1])}"
    words = {type(None): "null", str: "text", int: "integer", float: "number", bool: "true or false", Any: "any"}
    return words.get(hint, getattr(hint, "__name__", str(hint)))


def main() -> None:
    """Write the page into the checkout's docs."""
    page = config_folder().parent / "docs" / "configuration.md"
    if not page.parent.is_dir():
        sys.exit(f"there is no folder {page.parent}: the page belongs to a checkout of Errata, not to an installed package")
    if missing := unexplained():
        sys.exit(f"these settings have no line in the Attributes of their docstrings: {', '.join(missing)}")
    page.write_text(reference(), encoding="utf-8")


if __name__ == "__main__":
    main()
