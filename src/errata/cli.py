"""The command line: `errata COMMAND`. The only module that sees Hydra's composed config.

`improve`, `evaluate`, `train`, `revise` and `judge` take Hydra overrides; the others read what is stored. Of these only
`export` and `chat` load a model.
"""

import argparse
import difflib
import os
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

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
  errata report   RUN...              tables and plots again; several are compared; --against the published numbers
  errata why      RUN ROW             where a training row came from: error, request, reply, verdicts
  errata export   RUN                 a folder for others: merged model, training set, their cards; or to the hub
  errata chat     MODEL               talk with a model, a run's student or an export in the terminal
  errata ledger   show|verify|...     every reply ever paid for: show, verify and repair, export, merge, prune

`errata COMMAND --help` shows a command's options, with examples. Begin with `errata improve dry_run=true`.
Tab completion in bash: eval "$(errata -sc install=bash)"
"""
_CONFIGURED = ("improve", "evaluate", "train", "revise", "judge")
_COMMANDS = (*_CONFIGURED, "report", "why", "export", "chat", "ledger")


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
    sys.exit(code)


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
    if command in ("report", "why"):
        return _read_stored(command, arguments[1:])
    if command == "ledger":
        from errata.ledger_command import run

        return run(arguments[1:])
    if command == "export":
        from errata.export_command import run

        return run(arguments[1:])
    if command == "chat":
        from errata.chat_command import run

        return run(arguments[1:])
    near = difflib.get_close_matches(command, _COMMANDS, 1)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise ErrataError(f"there is no command {command!r}.{hint} There are: {', '.join(_COMMANDS)}")


def _run_configured(command: str, arguments: Sequence[str]) -> int:
    """Compose the config from the overrides and run the command on it."""
    import hydra
    import yaml
    from hydra.errors import HydraException
    from omegaconf import DictConfig
    from omegaconf.errors import OmegaConfBaseException

    from errata.config import config_folder, register

    register()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come up to us instead of being printed with a trace

    failures: list[ErrataError] = []
    here = os.getpid()

    def task(config: DictConfig) -> None:
        from errata import command as commands
        from errata.setup import check
        from errata.terminal import log_to_terminal

        log_to_terminal()
        try:
            getattr(commands, command)(check(command, config))
        except ErrataError as error:  # a sweep goes on with its other cells
            if os.getpid() != here:  # submitit, joblib: the launcher carries it home
                raise ErrataError(str(error)) from None
            failures.append(error)

    sys.argv = [f"errata {command}", *map(_opened, arguments)]
    try:
        hydra.main(version_base="1.3", config_path=str(config_folder()), config_name=command)(task)()
    except (HydraException, OmegaConfBaseException) as error:
        raise ErrataError(_explain(command, error)) from error
    except ValueError as error:
        if "Config group override" not in str(error):
            raise
        raise ErrataError(f"a group needs an option, not null (given: {' '.join(arguments)})") from error
    except yaml.YAMLError as error:
        raise ErrataError(f"a config file is not YAML: {' '.join(str(error).split())}") from error
    if len(failures) > 1:
        raise ErrataError("\n".join([f"{len(failures)} cells of the sweep failed:", *map(str, failures)]))
    if failures:
        raise failures[0]
    return 0


_OPEN = re.compile(r"(?:\w+\.)*(?:sizes|counts|shares|headers|headers_env|extra_body)(?:\.[^=]+)?=")


def _opened(argument: str) -> str:
    """`sizes={mmlu: 9}` and `sizes.mmlu=9` as Hydra wants them for settings whose names are the user's: `++sizes...`."""
    return f"++{argument}" if _OPEN.match(argument) else argument


def _read_stored(command: str, arguments: Sequence[str]) -> int:
    """`report` and `why`: plain arguments, no config."""
    parser = argparse.ArgumentParser(prog=f"errata {command}")
    if command == "report":
        parser.description = (
            "Print a run's tables again and write results.json, report.md and accuracy.png anew. Several runs are also "
            "compared on the same questions (exact McNemar, paired bootstrap), and runs that differ in their seed pooled. "
            "--against sets each beside what a paper has printed."
        )
        parser.add_argument("runs", nargs="*", type=Path, metavar="RUN", help="run folder, outputs/NAME-HASH")
        parser.add_argument(
            "--against", action="append", default=[], metavar="TABLE/ROW",
            help="set the run beside a published row (again for more); `list` names them all",
        )  # fmt: skip
    else:
        parser.description = "Show where a training row came from."
        parser.add_argument("run", type=Path, metavar="RUN", help="run folder, outputs/NAME-HASH")
        parser.add_argument("row", metavar="ROW", help="row id, or its line number in the iteration's train.jsonl")
        parser.add_argument("--iteration", type=int, default=None, help="for a line number: the iteration (the last)")
    parsed = parser.parse_args(arguments)
    if command == "report":
        from errata.report.published import row
        from errata.report.write import compare, list_published, report

        published = [row(name) for name in parsed.against if name != "list"]
        if "list" in parsed.against:
            list_published()
        elif not parsed.runs:
            parser.error("the following arguments are required: RUN")
        for run in parsed.runs:
            report(run, published)
        if len(parsed.runs) > 1:
            compare(parsed.runs)
    else:
        from errata.report.lineage import why

        why(parsed.run, parsed.row, parsed.iteration)
    return 0


def _explain(command: str, error: Exception) -> str:
    """Hydra's message for a bad override, without the parts that do not help, and with the names that would do."""
    message = str(error).partition("Config search path")[0].strip()
    if "merging override" in message and error.__cause__:
        name = message.removeprefix("Error merging override ")
        return f"{name}: {_strange_key(command, name, str(error.__cause__).splitlines()[0])}"
    if option := re.search(r"Could not (?:find|load) '(\w+)/([^']+)'", message):
        from errata.config import config_folder

        group, given = option.groups()
        listed = sorted(path.stem for path in (config_folder() / group).glob("*.yaml"))
        near = difflib.get_close_matches(given, listed, 3)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        return f"there is no {group} {given!r}.{hint} There are: {', '.join(listed)}"
    unknown = re.search(r"Could not override '([^']+)'", message)
    if not unknown:
        given = f" (given: {' '.join(sys.argv[1:])})" if "at input" in message else ""
        return re.sub(r"\n\s*\n+", "\n", message) + given
    name = unknown.group(1)
    if "Could not override" in message and "No match in the defaults list" in message:
        return _meant_for_another(command) or message.splitlines()[0]
    places = _names_beside(command, name)
    if not places and "." in name:  # the group itself is misspelt
        name = name.partition(".")[0]
        places = _names_beside(command, name)
    parent, _, last = name.rpartition(".")
    cause = str(error.__cause__).splitlines()[0] if error.__cause__ else ""
    if last in places:  # the name is right, the value is not
        return f"{name}: {_strange_key(command, name, cause) if cause else message.splitlines()[-1]}"
    near = difflib.get_close_matches(last, places, 1)
    hint = f" Did you mean {near[0]}?" if near else ""
    where = f"{parent} has" if parent else "there are"
    return f"there is no option {name!r}.{hint} {where[0].upper()}{where[1:]}: {', '.join(places)}"


def _strange_key(command: str, name: str, cause: str) -> str:
    """What to say of a key that a setting does not have: it is misspelt, or an option of a group that was not chosen."""
    from errata.config import config_folder

    found = re.fullmatch(r"Key '([^']+)' is not in struct", cause)
    if not found:
        return cause
    group, key = name.partition(".")[0].partition("=")[0], found.group(1)
    if (config_folder() / group / f"{key}.yaml").is_file():
        return f"{key} is not chosen: {group}=[{key}]"
    places = _names_beside(command, f"{name.partition('=')[0]}.{key}")
    near = difflib.get_close_matches(key, places, 1)
    return f"there is no {key!r}." + (f" Did you mean {near[0]}?" if near else "") + f" There are: {', '.join(places)}"


def _meant_for_another(command: str) -> str | None:
    """What to say of an experiment that belongs to another command, as its header names it."""
    from errata.config import config_folder

    for word in sys.argv[1:]:
        name = word.removeprefix("experiments=")
        file = config_folder() / "experiments" / f"{name}.yaml"
        found = re.search(r"# Command: errata (\w+) ", file.read_text()) if name != word and file.is_file() else None
        if found and found.group(1) != command:
            return f"experiments={name} is for another command: errata {found.group(1)} experiments={name}"
    return None


def _names_beside(command: str, name: str) -> list[str]:
    """The options beside `name`: with the groups as they were chosen, or by default where that cannot be composed."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf import OmegaConf

    from errata.config import config_folder

    groups = [word for word in sys.argv[1:] if re.fullmatch(r"[\w/]+=[\w\[\],]+", word) and not word.startswith(name)]
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        for chosen in (groups, []):
            try:
                config = compose(command, overrides=chosen)
                parent = OmegaConf.select(config, name.rpartition(".")[0]) if "." in name else config
                return [str(key) for key in parent if key != "_target_"] if parent is not None else []
            except HydraException:
                continue
    return []


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
