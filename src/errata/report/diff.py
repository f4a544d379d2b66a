"""Two runs side by side: their settings, and what they were made with. `errata.report.diff_results` has what they found."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from rich.table import Table
from rich.text import Text

from errata.errors import RunFolderError
from errata.report.results import manifest
from errata.report.tables import TextTable
from errata.run_folder import CONFIG
from errata.terminal import console

_COMMANDS = {"judge": "judge", "corpus": "revise"}
"""The commands whose runs have a folder of that name; those of the others are alike."""
_UNTOLD = ("experiments", "sweeps", "output_dir", "gate")


def kind(run: Path) -> str:
    """The command that made a run, as far as its results are of a kind of their own: judge, revise or loop."""
    return next((command for folder, command in _COMMANDS.items() if (run / folder).is_dir()), "loop")


def stored_settings(run: Path) -> dict[str, Any] | None:
    """Every setting of a run; None where it was made before these were kept.

    Raises:
        RunFolderError: config.yaml cannot be read.
    """
    file = run / CONFIG
    if not file.is_file():
        return None
    try:
        found = yaml.safe_load(file.read_bytes())
    except yaml.YAMLError as error:
        raise RunFolderError(f"{file} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(found, dict):
        raise RunFolderError(f"{file} holds no settings; starting the run's command once more writes it anew")
    return found


def names_of(first: Path, second: Path) -> tuple[str, str]:
    """What to call the two: their folders' names, or their paths where they have one name."""
    return (first.name, second.name) if first.name != second.name else (str(first), str(second))


def settings_tables(first: Path, second: Path, everything: bool = False) -> list[TextTable]:
    """The settings that differ (or all), by dotted name: first those that can change a result, then the others."""
    before, after = (dict(flat(manifest(run)["config"])) for run in (first, second))
    heads = ("setting", *names_of(first, second))
    tables = [TextTable("settings that can change a result", heads, _rows(before, after, everything))]
    whole = [stored_settings(run) for run in (first, second)]
    if whole[0] is not None and whole[1] is not None:
        known = before.keys() | after.keys()
        rest = [{name: value for name, value in flat(part) if name not in known and _told(name)} for part in whole if part]
        tables.append(TextTable("settings that can change none", heads, _rows(rest[0], rest[1], everything)))
    return [table for table in tables if table.rows]


def environment_table(
    first: Path, second: Path, everything: bool = False, names: tuple[str, str] | None = None
) -> list[TextTable]:
    """Versions, commit, hardware, threads and local files that differ (or all)."""
    made = [manifest(run).get("provenance") for run in (first, second)]
    if made[0] is None or made[1] is None:
        return []
    left_out = ("starts", "earlier", "starts_left_out", "earlier_left_out")
    before, after = ({n: v for n, v in flat(part) if n.partition(".")[0] not in left_out} for part in made)
    rows = _rows(before, after, everything)
    return [TextTable("what they were made with", ("", *(names or names_of(first, second))), rows)] if rows else []


def environment_lines(first: Path, second: Path) -> list[str]:
    """What the table of environments cannot say: that there is nothing to compare, or more than one of a run."""
    made = {run: manifest(run).get("provenance") for run in (first, second)}
    lines = [
        f"{run} does not say what it was made with: it is older than that record" for run, part in made.items() if not part
    ]
    return lines + [
        f"{run} was started in {len(part['earlier']) + part.get('earlier_left_out', 0) + 1} environments (run.json tells), "
        "of which the last is compared"
        for run, part in made.items()
        if part and part.get("earlier")
    ]


def flat(part: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and plain values; the members of a list of components go by their kinds."""
    if isinstance(part, Mapping) and part:
        for name, value in part.items():
            yield from flat(value, f"{prefix}.{name}" if prefix else str(name))
    elif isinstance(part, list) and part and all(isinstance(one, Mapping) and "kind" in one for one in part):
        for one in part:
            yield from flat(one, f"{prefix}.{str(one['kind']).rpartition('.')[2].lower()}")
    else:
        yield prefix, part


def _rows(before: Mapping[str, Any], after: Mapping[str, Any], everything: bool) -> Sequence[tuple[str, ...]]:
    names = [*before, *(name for name in after if name not in before)]
    return [
        (name, _shown(before, name), _shown(after, name))
        for name in sorted(names)
        if everything or name not in before or name not in after or before[name] != after[name]
    ]


def _shown(part: Mapping[str, Any], name: str) -> str:
    if name not in part:
        return "(not there)"
    value = part[name]
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)


def _told(name: str) -> bool:
    return name.partition(".")[0] not in _UNTOLD and not name.endswith("_target_")


def show(tables: Sequence[TextTable], lines: Sequence[str] = ()) -> None:
    """Tables and sentences on stdout, word for word: what stands in brackets in a setting is no mark-up."""
    out = console()
    for table in tables:
        shown = Table(title=Text(table.title), title_justify="left")
        for head in table.heads:
            shown.add_column(Text(head), overflow="fold")
        for row in table.rows:
            shown.add_row(*map(Text, row))
        out.print(shown)
    for line in lines:
        out.print(line, markup=False, soft_wrap=True)
