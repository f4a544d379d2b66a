"""The command line: `errata COMMAND`. The only module that sees Hydra's composed config.

`improve`, `evaluate`, `train`, `revise` and `judge` take Hydra overrides; the others read what is stored. Of these only
`export` and `chat` load a model.
"""

import difflib
import errno
import importlib
import os
import re
import shlex
import sys
import traceback
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console
from rich.markup import escape

from errata.errors import ErrataError
from errata.version import __version__

_HELP = """\
[bold]errata[/bold]: make a small language model better by learning from its own errors.

  errata improve  \\[NAME=VALUE ...]    the loop: errors -> practice -> training -> test, again and again
  errata evaluate \\[NAME=VALUE ...]    a model on datasets, one record a question
  errata train    \\[NAME=VALUE ...]    a file of prompt/response pairs in, a model folder out
  errata revise   \\[NAME=VALUE ...]    instruction sets in, a better one out
  errata judge    \\[NAME=VALUE ...]    answers compared or rated: is it better?
  errata status   FOLDER              a sweep, a run or outputs: what is done, running or failed, and what it has cost
  errata report   RUN|SWEEP...        tables, figures, report.html; several pooled and compared; --against paper
  errata diff     RUN RUN             settings and results side by side
  errata reproduce RUN                run it again from its folder, and say what differs
  errata why      RUN ROW             where a training row came from: error, request, reply, verdicts
  errata export   RUN                 a folder for others: merged model, training set, their cards; or to the hub
  errata chat     MODEL               talk with a model, a run's student or an export in the terminal
  errata ledger   show|verify|...     every reply ever paid for: show, verify and repair, export, merge, prune

`errata COMMAND --help` shows a command's options, with examples. Begin with `errata improve dry_run=true`.
Tab completion in bash: eval "$(errata -sc install=bash)"
"""
_CONFIGURED = ("improve", "evaluate", "train", "revise", "judge")
_STORED = ("status", "report", "diff", "reproduce", "why", "export", "chat", "ledger")
"""Each has its module, `errata.COMMAND_command`, with plain arguments and no config."""
_COMMANDS = (*_CONFIGURED, *_STORED)


def main() -> None:
    """Run the command in `sys.argv`; a user's mistake ends in one message and exit code 2."""
    try:
        code = _dispatch(sys.argv[1:])
    except ErrataError as error:
        _print_error(str(error))
        code = 2
    except KeyboardInterrupt:
        _print_error("stopped. What was done is kept: the same command goes on from here.")
        code = 130
    except Exception as error:  # noqa: BLE001 - all are told
        code = _tell(error)
    sys.exit(code)


def _tell(error: Exception) -> int:
    """Print what nobody foresaw: a full disk in one line, a fault of ours without the keys that can be known.

    Returns:
        The exit code.
    """
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = f" ({error.filename})" if error.filename else ""
        _print_error(f"{error.strerror}{where}. Make room: what was done is kept, the same command goes on from here.")
        return 2
    from errata.secrets import Scrubber, configs_of

    sys.stderr.write(Scrubber(configs_of(error)).text("".join(traceback.format_exception(error))))
    return 1


def _dispatch(arguments: Sequence[str]) -> int:
    if "COMP_LINE" in os.environ or (arguments and arguments[0] in ("-sc", "--shell-completion")):
        return _complete(arguments)
    command = arguments[0] if arguments else "--help"
    if command in ("-h", "--help", "help"):
        Console(soft_wrap=True, highlight=False).print(_HELP, end="")
        return 0
    if command in ("-V", "--version"):
        Console().print(f"errata {__version__}", highlight=False)
        return 0
    if command in _CONFIGURED:
        return _run_configured(command, arguments[1:])
    if command in _STORED:
        code: int = importlib.import_module(f"errata.{command}_command").run(arguments[1:])
        return code
    near = difflib.get_close_matches(command, _COMMANDS, 1)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise ErrataError(f"there is no command {command!r}.{hint} There are: {', '.join(_COMMANDS)}")


def _run_configured(command: str, arguments: Sequence[str]) -> int:
    """Compose the config from the overrides and run the command on it."""
    import hydra
    from omegaconf import DictConfig, OmegaConf

    from errata import grid
    from errata.config import config_folder, register
    from errata.explain import own_listed, several_of_one

    if told := several_of_one(command, arguments):
        raise ErrataError(told)
    register()
    if any(word.startswith(("--config-dir", "-cd")) for word in arguments):
        sys.path.insert(0, str(Path.cwd()))  # modules of the user's own lie beside the folder of their options
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come up to us instead of being printed with a trace

    failures: list[ErrataError] = []
    here = os.getpid()

    def task(config: DictConfig) -> float | None:
        from errata.secrets import known_by

        with known_by(OmegaConf.to_container(config)):
            return work(config)

    def work(config: DictConfig) -> float | None:
        from errata.cell import run, run_cell
        from errata.setup import check
        from errata.terminal import log_to_terminal

        def do(setup: Any) -> None:
            from errata import command as commands  # heavy: not before everything is checked

            getattr(commands, command)(setup)

        log_to_terminal()
        place = grid.this_cell()
        if place is not None and not config.dry_run:
            return run_cell(place, lambda: check(command, config), do)
        try:
            run(check(command, config), do)
        except ErrataError as error:  # the other cells show their plans too
            if os.getpid() != here:  # submitit, joblib: the launcher carries it home
                raise ErrataError(str(error)) from None
            failures.append(error)
        return None

    sys.argv = [f"errata {command}", *_in_order(arguments)]
    grid.prepared.clear()
    completing = "COMP_LINE" in os.environ
    lists = completing or "--help" in arguments or "-h" in arguments
    try:
        with own_listed(command, completing) if lists else nullcontext():
            hydra.main(version_base="1.3", config_path=str(config_folder()), config_name=command)(task)()
    except grid.Refused as refused:
        if refused.__cause__ is not None:
            _raise_told(command, arguments, refused.__cause__)
        if grid.prepared:  # every cell was finished before: in another grid, or the report was not reached
            _report_sweep(grid.prepared[0])
        return 0
    except Exception as error:  # noqa: BLE001 - all are raised again
        if grid.prepared:
            grid.raise_failed(error)
        _raise_told(command, arguments, error)
    if failures:
        raise failures[0] if len(failures) == 1 else ErrataError("\n".join([f"{len(failures)} cells:", *map(str, failures)]))
    if grid.prepared:
        grid.raise_failed()
        _report_sweep(grid.prepared[0])
    return 0


def _report_sweep(folder: Path) -> None:
    """The table of all cells, which have each said nothing but their log lines."""
    from errata.report.beside import Beside
    from errata.report.chosen import choose
    from errata.report.several import report_several

    try:
        report_several(choose([folder]), Beside())
    except ErrataError as error:  # the cells are done, whatever their table lacks
        _print_error(f"the cells are finished, and have no common table: {error}")


def _raise_told(command: str, arguments: Sequence[str], error: BaseException) -> NoReturn:
    """Raise an error of composing as one message where it is the user's to mend, else as it is."""
    import yaml
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from errata.explain import explain

    if isinstance(error, HydraException | OmegaConfBaseException):
        raise ErrataError(explain(command, arguments, error)) from error
    if isinstance(error, ValueError) and "Config group override" in str(error):
        raise ErrataError(f"a group needs an option, not null (given: {' '.join(arguments)})") from error
    if isinstance(error, yaml.YAMLError):
        raise ErrataError(f"a config file is not YAML: {' '.join(str(error).split())}") from error
    raise error


_OPEN = re.compile(r"(?:\w+\.)*(?:sizes|counts|shares|headers|headers_env|extra_body)(?:\.[^=]+)?=")


def _in_order(arguments: Sequence[str]) -> list[str]:
    """The words as Hydra wants them: `-m` in front, wherever it was given."""
    return sorted(map(_opened, arguments), key=lambda word: word not in ("-m", "--multirun"))


def _opened(argument: str) -> str:
    """`sizes={mmlu: 9}` and `sizes.mmlu=9` as Hydra wants them for settings whose names are the user's: `++sizes...`."""
    return f"++{argument}" if _OPEN.match(argument) else argument


def _complete(arguments: Sequence[str]) -> int:
    """Tab completion: commands by name, then Hydra's own completion of the command's overrides."""
    line = os.environ.get("COMP_LINE", "")
    words = shlex.split(line)
    if not line or (len(words) > 1 and words[1] in _CONFIGURED and (len(words) > 2 or line.endswith(" "))):
        command = words[1] if line else _CONFIGURED[0]
        rest = line.partition(command)[2] if line else ""
        if line:
            os.environ["COMP_LINE"] = f"errata{rest}"
            os.environ["COMP_POINT"] = str(len(os.environ["COMP_LINE"]))
        return _run_configured(command, arguments)
    typed = words[1] if len(words) > 1 else ""
    sys.stdout.write(" ".join(name for name in _COMMANDS if name.startswith(typed)) + "\n")
    return 0


def _print_error(message: str) -> None:
    Console(stderr=True, soft_wrap=True, highlight=False).print(f"[bold red]error:[/bold red] {escape(message)}")


if __name__ == "__main__":
    main()
