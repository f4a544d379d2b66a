"""Which published row a run is: by the experiment that it is a run of (its header's `# Row:`), and by its settings."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from errata.report.published import Row, Table, row, tables
from errata.report.smoke_size import PREFIX, is_smoke
from errata.report.strategy_name import strategy_name

_ROW = re.compile(r"^# Row: *(\S.*?) *$", re.MULTILINE)


def rows_of_run(name: str, command: list[str], config: Mapping[str, Any], experiments: Path) -> list[Row]:
    """The published rows that a run is to be set beside; none where neither its experiment nor its settings name one.

    Args:
        name: of the run folder, NAME-HASH.
        command: the words that started it.
        config: its settings.
        experiments: the folder of experiments.

    Raises:
        DataError: an experiment's header names a row that there is not.
    """
    file = _experiment(name.rpartition("/")[2].rpartition("-")[0], command, experiments)
    named = [row(found) for found in _ROW.findall(file.read_text(encoding="utf-8"))] if file is not None else []
    held = [each for each in named if is_smoke(name) or fits(each.table, each.own_name, config)]
    return held or [
        Row(table, own_name) for table in tables().values() for own_name in table.settings if fits(table, own_name, config)
    ]


def start_row(table: Table, config: Mapping[str, Any]) -> Row | None:
    """The row of the student before any training, where the table has it."""
    untrained = {**config, "strategy": None}
    return next((Row(table, own_name) for own_name in table.settings if fits(table, own_name, untrained)), None)


def fits(table: Table, own_name: str, config: Mapping[str, Any]) -> bool:
    """Whether a run's student and strategy are the row's; true where the table does not say what they are."""
    wanted = table.settings.get(own_name)
    if wanted is None:
        return True
    model = str((config.get("model") or {}).get("path") or "").rstrip("/").rpartition("/")[2]
    strategy = strategy_name(config) or None
    return bool(model.lower() == str(wanted["model"]).lower() and strategy == wanted["strategy"])


def _experiment(name: str, command: list[str], experiments: Path) -> Path | None:
    """The file of the experiment: of the run's name, else the one that its command names, else that its name begins with."""
    words = [word.removeprefix("experiments=") for word in command if word.startswith("experiments=")]
    for known in [name.removeprefix(PREFIX), *words]:
        if re.fullmatch(r"\w+", known) and (experiments / f"{known}.yaml").is_file():
            return experiments / f"{known}.yaml"
    begun = [file for file in experiments.glob("*.yaml") if name.startswith(f"{file.stem}_")]
    return max(begun, key=lambda file: len(file.stem), default=None)
