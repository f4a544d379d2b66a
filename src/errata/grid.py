"""A sweep before its first cell: every cell composed and checked, the folder named by them, the grid written down."""

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from errata.cell import Place, one_line
from errata.digests import digest
from errata.errors import ConfigError, RunFolderError, SweepError
from errata.finished import unfinished
from errata.jsonl import write_atomically
from errata.run_folder import without_headers
from errata.sweep import FAILED, RUNNING, STOPPED, WAITING, Planned, SweepRecord, described, read_sweep, sweep_record
from errata.sweep_headers import hide_headers, words_of
from errata.terminal import log_to_terminal, said_once
from errata.version import __version__

if TYPE_CHECKING:
    from errata.setup import Setup

log = logging.getLogger("errata")
_GOES_ON = ("n_trials", "n_jobs", "max_batch_size", "storage", "study_name")
_NEUTRAL = ("tracking", "dry_run", "output_dir", "name", "ledger", "budget")
prepared: list[Path] = []
"""The folder of the sweep that this process has begun, for the command line to tell its outcome."""


class Refused(BaseException):
    """The sweep does not begin: its cause says why; without one, nothing is left to do.

    No Exception, because Hydra turns those of a callback into warnings.
    """


class Prepared(Callback):
    """Hydra's callback: the same command finds the sweep's folder again; a mistake in cell 9 is told before cell 1."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Prepare the sweep, and have its folder known to every cell, whichever process runs it.

        Raises:
            Refused: a cell cannot be composed or checked, the grid is empty, or all cells are finished.
        """
        try:
            left = _prepare(config)
        except Exception as error:
            raise Refused from error
        if not left:
            raise Refused


def this_cell() -> Place | None:
    """The cell that Hydra has started in this process; None where it is a single run."""
    hydra = HydraConfig.get()
    if OmegaConf.is_missing(hydra.job, "num"):
        return None
    return Place(Path(hydra.sweep.dir), hydra.job.num, [str(word) for word in hydra.overrides.task])


def raise_failed(cause: Exception | None = None) -> None:
    """Say how the sweep that this process has run ended, where not every cell is finished.

    Args:
        cause: why the launcher gave up, where it did.

    Raises:
        SweepError: naming the cells that failed, and those whose process ended without a word.
    """
    (folder,) = prepared
    sweep = read_sweep(folder)
    bad = [cell for cell in sweep.cells if cell.state in (FAILED, STOPPED)]
    if cause is None:  # every cell had its turn: one without a word could not even write that down
        bad += [cell for cell in sweep.cells if cell.state == WAITING and not cell.error]
    for cell in sweep.cells:
        if cell.state == RUNNING:
            log.info("cell %s is still under way in another process", described(cell.number, cell.overrides))
    if not bad and cause is None:
        return
    lines = [f"{len(bad)} of {len(sweep.cells)} cells did not come to their end:" if bad else "the sweep stopped:"]
    by_reason: dict[str, list[str]] = {}
    for cell in bad:
        why = cell.error or "its process ended without a word (killed? out of memory? disk full?)"
        by_reason.setdefault(why, []).append(described(cell.number, cell.overrides))
    lines += [f"  cell{'s' * (len(cells) > 1)} {', '.join(cells)}: {why}" for why, cells in by_reason.items()]
    if cause is not None:
        lines.append(f"The launcher gave up: {one_line(cause)}")
    lines.append(f"The same command tries them again and passes over the finished ones. See: errata status {folder}")
    raise SweepError("\n".join(lines)) from cause


def _prepare(config: DictConfig) -> bool:
    """Name the sweep and write its grid, or show its plan; whether there is anything left to run."""
    log_to_terminal()
    hide_headers(config)
    sweeper, command = config.hydra.sweeper, str(config.hydra.job.config_name)
    words = [f"{name}={value}" for name, value in (sweeper.get("params") or {}).items()]
    given = words_of(config)
    words += given
    known = sweeper._target_.endswith("BasicSweeper")
    if known:
        grid = _grid(words, given)
        with said_once():
            runs = _checked(config, command, grid)
        identity: Any = [digest(setup.plain) + setup.settings.name for setup in runs]
        varying = _varying(grid)
        cells = [
            Planned(number, {name: cell[name] for name in varying if name in cell}, setup.folder.name)
            for number, (cell, setup) in enumerate(zip(map(_named, grid), runs, strict=True))
        ]
    else:
        sampler = {str(name): str(sweeper[name]) for name in sweeper if name not in _GOES_ON}
        identity = [sampler, sorted(word for word in words if not word.lstrip("+~").startswith(_NEUTRAL))]
        cells = []
    choices = config.hydra.runtime.choices
    parts = [choices.get("experiments") or str(config.name), choices.get("sweeps")]
    name = "_".join(part for part in parts if part)
    folder = Path(config.output_dir).expanduser() / "sweeps" / f"{name}-{digest([command, identity])[:8]}"
    with read_write(config), open_dict(config):
        config.hydra.sweep.dir = str(folder)
        quoted = QuotedString(str(folder), Quote.single).with_quotes()
        config.hydra.overrides.hydra.append(f"hydra.sweep.dir={quoted}")
    if config.dry_run:
        if known:
            _show_grid_plan(config, command, name, cells, runs)
        else:
            _show_sampler_plan(config, command, words, given)
        return False
    _write(folder, SweepRecord(__version__, command, without_headers(given), known, cells))
    prepared[:] = [folder]
    if not known:
        return True
    done = [cell for cell in cells if unfinished(folder.parent.parent / cell.run) is None]
    log.info("%s: %d cells, %d of them finished; see how it goes: errata status %s", name, len(cells), len(done), folder)
    if len(done) == len(cells) and config.get("decisions") is None:
        for cell in done:
            log.info("cell %s is finished", described(cell.number, cell.overrides))
        return False
    return True


def _show_grid_plan(config: DictConfig, command: str, name: str, cells: Sequence[Planned], runs: "Sequence[Setup]") -> None:
    from errata import command as commands
    from errata.sweep_plan import show_sweep_plan

    show_sweep_plan(name, cells, runs, getattr(commands, command), each=bool(config.hydra.verbose))


def _show_sampler_plan(config: DictConfig, command: str, words: Sequence[str], given: Sequence[str]) -> None:
    """Show the plan of one cell, with the settings as they are where the sampler does not choose."""
    from errata import command as commands
    from errata.sweep_plan import show_sampler_plan

    parsed = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader()).parse_overrides(list(words))
    fixed = [str(one.input_line) for one in parsed if not one.is_sweep_override() and one.input_line in given]
    chosen = [one.key_or_group for one in parsed if one.input_line not in fixed]
    (setup,) = _checked(config, command, [fixed])
    show_sampler_plan(setup, getattr(commands, command), chosen, config.hydra.sweeper.get("n_trials"))


def _grid(words: Sequence[str], given: Sequence[str]) -> list[list[str]]:
    """The overrides of every cell, as Hydra's own sweeper takes them; `given` are those of the command line.

    Raises:
        ConfigError: there is no cell, or a name is given twice: the sweeper would drop the first without a word.
    """
    times = Counter(word.partition("=")[0] for word in given)
    if twice := [name for name, number in times.items() if number > 1]:
        raise ConfigError([f"{name} is given {times[name]} times: give it once, with all its values" for name in twice])
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    overrides = parser.parse_overrides(list(words))
    (cells,) = BasicSweeper.split_arguments(overrides, None)
    if not cells:
        empty = [o.input_line for o in overrides if o.is_sweep_override() and not list(o.sweep_string_iterator())]
        raise ConfigError([f"the grid is empty: {word} names no value" for word in empty])
    return cells


def _checked(config: DictConfig, command: str, grid: Sequence[list[str]]) -> "list[Setup]":
    """Every cell, composed and checked.

    Raises:
        ConfigError: with each problem once, and the cells that have it.
    """
    from errata.setup import check

    loader, setups = GlobalHydra.instance().config_loader(), []
    problems: dict[str, list[int]] = {}
    for number, words in enumerate(grid):
        cell = loader.load_sweep_config(config, list(words))
        with read_write(cell), open_dict(cell):
            del cell["hydra"]
        try:
            setups.append(check(command, cell, [name.lstrip("+~") for name in _named(words)]))
        except ConfigError as error:
            for problem in error.problems:
                problems.setdefault(problem, []).append(number)
    if problems and len(grid) == 1:
        raise ConfigError(list(problems))
    varying = _varying(grid)
    if "output_dir" in varying:
        problems["output_dir has several values: a sweep has one, in which its cells share ledger and answers"] = [0]
    told = []
    for problem, numbers in problems.items():
        first = described(numbers[0], {k: v for k, v in _named(grid[numbers[0]]).items() if k in varying})
        more = f" and {len(numbers) - 1} more" if len(numbers) > 1 else ""
        told.append(f"{problem} [cell {first}{more}]")
    if told:
        raise ConfigError(told)
    return setups


def _named(words: Sequence[str]) -> dict[str, str]:
    return {name: value for name, _, value in (word.partition("=") for word in words)}


def _varying(grid: Sequence[Sequence[str]]) -> list[str]:
    """The names whose values differ between cells, in the order of the grid."""
    cells = [_named(words) for words in grid]
    names = dict.fromkeys(name for cell in cells for name in cell)
    return [name for name in names if len({cell.get(name) for cell in cells}) > 1]


def _runs(record: SweepRecord) -> list[tuple[int, str]]:
    return [(cell.number, cell.run) for cell in record.cells]


def _write(folder: Path, record: SweepRecord) -> None:
    """Write sweep.json; one that is there must hold the same runs, however its command spelt them (`a,b` or `'a',b`).

    Raises:
        RunFolderError: the folder cannot be written, or holds another grid, or is another version's.
    """
    try:
        if (folder / "sweep.json").exists() and _runs(sweep_record(folder)) != _runs(record):
            raise RunFolderError(
                f"{folder} holds the record of another grid than this command's. Remove it: the runs stay as they are."
            )
        (folder / "cells").mkdir(parents=True, exist_ok=True)
        write_atomically(folder / "sweep.json", msgspec.json.format(msgspec.json.encode(record), indent=1))
    except OSError as error:
        raise RunFolderError(f"cannot write to {folder}: {error.strerror}. Choose output_dir=FOLDER.") from error
