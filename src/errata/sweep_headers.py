"""The values of headers leave what Hydra writes down of a sweep (multirun.yaml) and pickles for a cell (submitit)."""

import os
from collections.abc import Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict, read_write

from errata.errors import ConfigError
from errata.run_folder import without_headers

_VARIABLE = "ERRATA_HEADER_"


def hide_headers(config: DictConfig) -> None:
    """Put them into environment variables, which the processes of the cells inherit, and their names into the overrides.

    Raises:
        ConfigError: a header has several values: each would name a cell, in files that anybody reads.
    """
    words = words_of(config)
    grid = [f"{name}={value}" for name, value in (config.hydra.sweeper.get("params") or {}).items()]
    if swept := [word.partition("=")[0] for word in _headed(grid)]:
        raise ConfigError([_no_sweep(name) for name in swept])
    shown = [other for word in words for other in (_renamed(word) if _headed([word]) else [word])]
    with read_write(config), open_dict(config):
        config.hydra.overrides.task = shown
        if shown != words:
            config.hydra.job.override_dirname = ""
        for name in list(config):
            if name != "hydra":
                _empty(config._get_node(name))


def words_of(config: DictConfig) -> list[str]:
    """The overrides of the command line as they stand there, no variable's value put in."""
    told = OmegaConf.to_container(config.hydra.overrides.task, resolve=False)
    return [str(word) for word in told] if isinstance(told, list) else []


def _headed(words: Sequence[str]) -> list[str]:
    return [word for word, without in zip(words, without_headers(words), strict=True) if word != without]


def _renamed(word: str) -> list[str]:
    """An override of headers as one a header, its value the variable's."""
    (override,) = OverridesParser.create().parse_overrides([word])
    if override.is_sweep_override():
        raise ConfigError([_no_sweep(override.key_or_group)])
    value = override.value()
    if "headers" not in override.key_or_group.split("."):
        if isinstance(value, dict):
            raise ConfigError(
                [f"{override.key_or_group} is given with headers in it: give those by themselves, ...headers.NAME=VALUE"]
            )
        return [word]
    found = value if isinstance(value, dict) else {"": value}
    words = []
    for name, secret in found.items():
        if not isinstance(secret, str) or not secret.startswith("${"):
            variable = f"{_VARIABLE}{sum(known.startswith(_VARIABLE) for known in os.environ)}"
            os.environ[variable] = str(secret)
            secret = f"${{oc.env:{variable}}}"
        words.append(f"++{override.key_or_group}{f'.{name}' if name else ''}={secret}")
    return words


def _no_sweep(name: str) -> str:
    return (
        f"{name} has several values or stands in the grid: give a header one, beside the grid, or name the environment "
        f"variable that holds it, {name.replace('headers', 'headers_env', 1)}=NAME"
    )


def _empty(node: object) -> None:
    """Leave no value under any `headers`: the cells are composed anew, from the files and the overrides."""
    if isinstance(node, DictConfig) and not node._is_none() and not node._is_missing() and not node._is_interpolation():
        for name in list(node):
            inner = node._get_node(name)
            if name == "headers" and isinstance(inner, DictConfig) and not inner._is_none():
                node[name] = {}
            else:
                _empty(inner)
    elif isinstance(node, ListConfig) and not node._is_none() and not node._is_missing() and not node._is_interpolation():
        for place in range(len(node)):
            _empty(node._get_node(place))
