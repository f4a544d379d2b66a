"""What to say of overrides that cannot be composed, and which experiments and sweeps are a command's own."""

import difflib
import io
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout

from errata.config import config_folder

_PLUGINS = {"optuna": "optuna", "joblib": "joblib", "submitit_local": "slurm", "submitit_slurm": "slurm"}
"""The extra that brings a plugin of Hydra's."""
_NAMED = ("experiments", "sweeps")
"""The groups whose options belong to commands: those that the options' heads name."""


def explain(command: str, arguments: Sequence[str], error: Exception) -> str:
    """The message for the user who gave these words."""
    message = str(error).partition("Config search path")[0].strip()
    if ambiguous := re.match(r"Ambiguous value for argument '([^']+)'", message):
        one_list = "" if ambiguous[1].partition("=")[0] in _single(command) else "; NAME=[A,B] is one list"
        return f"{ambiguous[1]} has several values: errata {command} -m ... sweeps over them{one_list}"
    if unread := re.match(r"LexerNoViableAltException: (.*)|Error parsing override '([^'=]*)'$", message, re.MULTILINE):
        return _unread(unread[1] or unread[2] or "")
    if option := re.search(r"Could not (?:find|load) '(\w+)/([^']+)'", message):
        return _no_option(command, option[1], option[2], re.findall(r"^\t(\S+)$", message, re.MULTILINE))
    if another := _meant_for_another(command, arguments):
        return another
    if "merging override" in message and error.__cause__:
        name = message.removeprefix("Error merging override ")
        return f"{name}: {_strange_key(command, arguments, name, str(error.__cause__).splitlines()[0])}"
    unknown = re.search(r"Could not override '([^']+)'", message)
    if not unknown:
        given = f" (given: {' '.join(arguments)})" if "at input" in message else ""
        return re.sub(r"\n\s*\n+", "\n", message) + given
    name = unknown.group(1)
    if "No match in the defaults list" in message:
        return message.splitlines()[0]
    places = _names_beside(command, arguments, name)
    if not places and "." in name:  # the group itself is misspelt
        name = name.partition(".")[0]
        places = _names_beside(command, arguments, name)
    parent, _, last = name.rpartition(".")
    cause = str(error.__cause__).splitlines()[0] if error.__cause__ else ""
    if last in places:  # the name is right, the value is not
        return f"{name}: {_strange_key(command, arguments, name, cause) if cause else message.splitlines()[-1]}"
    where = f"{parent[0].upper()}{parent[1:]} has" if parent else "There are"
    return f"there is no option {name!r}.{_did_you_mean(last, places)} {where}: {', '.join(places)}"


def several_of_one(command: str, arguments: Sequence[str]) -> str:
    """What to say of a list for a group that takes one option: Hydra would use the last. Empty where there is none."""
    for word in arguments:
        group, _, value = word.partition("=")
        listed = re.fullmatch(r"\[(.*,.*)\]", value)
        if listed and group in _single(command):
            options = listed[1].replace(" ", "")
            return f"{word}: {group} is one option; errata {command} -m {group}={options} sweeps over them"
    return ""


def _single(command: str) -> list[str]:
    """The groups of a command that take one option, as its defaults say."""
    import yaml

    defaults = yaml.safe_load((config_folder() / f"{command}.yaml").read_text())["defaults"]
    return [
        group for entry in defaults if isinstance(entry, dict) for group, given in entry.items() if isinstance(given, str)
    ]


def _unread(word: str) -> str:
    """What to say of a word that is no override: it has no value, or one that needs quotes of its own."""
    name, given, value = word.partition("=")
    if not given:
        return f"{word!r} gives no value: settings are NAME=VALUE, as in dry_run=true"
    plain = value.translate({ord(quote): None for quote in "\"'"})
    return f"{word} cannot be read: put the value in quotes of its own, '{name}=\"{plain}\"'"


def _no_option(command: str, group: str, given: str, listed: Sequence[str]) -> str:
    """What to say of an option that a group does not have; of experiments and sweeps those of this command are listed."""
    if group == "hydra":  # a launcher or a sweeper
        extra = _PLUGINS.get(given.rpartition("/")[2])
        return f"hydra has no {given}" + (f": it comes with an extra, pip install 'errata[{extra}]'" if extra else "")
    listed = listed or sorted(path.stem for path in (config_folder() / group).glob("*.yaml"))
    if group not in _NAMED:
        return f"there is no {group} {given!r}.{_did_you_mean(given, listed, 3)} There are: {', '.join(listed)}"
    own = [name for name in listed if _is_own(command, group, name)]
    hint = _did_you_mean(given, own, 3)
    if not hint and (near := difflib.get_close_matches(given, listed, 1)):
        hint = f" Did you mean errata {_commands_of(group, near[0])[0]} {group}={near[0]}?"
    return (
        f"there is no {group.removesuffix('s')} {given!r}.{hint} Those of errata {command} are: {', '.join(own) or 'none'}"
    )


@contextmanager
def own_listed(command: str, completing: bool) -> Iterator[None]:
    """Show what Hydra prints meanwhile (help, or words that complete one) without other commands' experiments and sweeps."""
    printed = io.StringIO()
    try:
        with redirect_stdout(printed):
            yield
    finally:
        alone = _own_words if completing else _own_lines
        sys.stdout.write(alone(command, printed.getvalue()))


def _own_lines(command: str, text: str) -> str:
    """`experiments: a, b` with those of the command."""

    def own(found: re.Match[str]) -> str:
        return f"{found[1]}: {', '.join(name for name in found[2].split(', ') if _is_own(command, found[1], name))}"

    return re.sub(rf"(?m)^({'|'.join(_NAMED)}): (\w+(?:, \w+)*)$", own, text)


def _own_words(command: str, text: str) -> str:
    """`experiments=a experiments=b` with those of the command."""

    def own(found: re.Match[str]) -> str:
        return found[0] if _is_own(command, found[1], found[2]) else ""

    return re.sub(rf"(?<!\S)({'|'.join(_NAMED)})=(\w+)(?:\s|$)", own, text)


def _is_own(command: str, group: str, name: str) -> bool:
    owners = _commands_of(group, name)
    return not owners or command in owners


def _did_you_mean(given: str, names: Sequence[str], most: int = 1) -> str:
    near = difflib.get_close_matches(given, names, most)
    return f" Did you mean {' or '.join(near)}?" if near else ""


def _commands_of(group: str, name: str) -> list[str]:
    """The commands that an experiment or a sweep is for, as the head of its file names them; none where it names none."""
    file = config_folder() / group / f"{name}.yaml"
    head = "\n".join(line for line in file.read_text().splitlines() if line.startswith("#")) if file.is_file() else ""
    return list(dict.fromkeys(re.findall(rf"errata (\w+) (?:\S+ )*?{group}={name}\b", head)))


def _meant_for_another(command: str, arguments: Sequence[str]) -> str | None:
    """What to say of an experiment or a sweep that belongs to another command."""
    for word in arguments:
        group, _, names = word.partition("=")
        for name in re.findall(r"\w+", names) if group in _NAMED else ():
            owners = _commands_of(group, name)
            if owners and command not in owners:
                return f"{group}={name} is for another command: errata {owners[0]} {group}={name}"
    return None


def _strange_key(command: str, arguments: Sequence[str], name: str, cause: str) -> str:
    """What to say of a key that a setting does not have: it is misspelt, or an option of a group that was not chosen."""
    found = re.fullmatch(r"Key '([^']+)' is not in struct", cause)
    if not found:
        return cause
    group, key = name.partition(".")[0].partition("=")[0], found.group(1)
    if (config_folder() / group / f"{key}.yaml").is_file():
        return f"{key} is not chosen: {group}=[{key}]"
    places = _names_beside(command, arguments, f"{name.partition('=')[0]}.{key}")
    return f"there is no {key!r}.{_did_you_mean(key, places)} There are: {', '.join(places)}"


def _names_beside(command: str, arguments: Sequence[str], name: str) -> Sequence[str]:
    """The options beside `name`: with the groups as they were chosen, or by default where that cannot be composed."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf import OmegaConf

    groups = [word for word in arguments if re.fullmatch(r"[\w/]+=[\w\[\],]+", word) and not word.startswith(name)]
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
