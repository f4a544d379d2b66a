"""The command line of `errata export`."""

import argparse
import os
import re
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from errata.errors import ConfigError
from errata.export import DTYPES, Export, export
from errata.hub import push
from errata.terminal import console, log_to_terminal

_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


def run(arguments: Sequence[str]) -> int:
    """`errata export RUN`."""
    parser = argparse.ArgumentParser(
        prog="errata export",
        description="Make a folder that others can use out of a run: model/ (an adapter is merged; safetensors, tokenizer, "
        "chat template, model card) and dataset/ (the rows it was trained on as chat messages, dataset card).",
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="run folder, outputs/NAME-HASH")
    parser.add_argument("--iteration", metavar="N", help="a number, last (the default), or best: by dev (policy.patience)")
    parser.add_argument("--to", type=Path, metavar="FOLDER", help="where it goes (RUN/export/iteration_N)")
    parser.add_argument("--adapter", action="store_true", help="the adapter by itself, not merged")
    parser.add_argument("--dtype", choices=DTYPES, help="of the merged weights (the base's own); merged in float32")
    parser.add_argument("--licence", "--license", metavar="NAME", help="for both cards, as the hub names it: apache-2.0")
    parser.add_argument("--base-model", metavar="ORG/NAME", help="the base's hub id, where the run had it from a folder")
    parser.add_argument("--force", action="store_true", help="replace a former export, and what a hub repository holds")
    parser.add_argument("--push", metavar="ORG/NAME", help="send both to the hub; the token is read from HF_TOKEN")
    parser.add_argument("--private", action="store_true", help="as private repositories")
    given = parser.parse_args(arguments)
    log_to_terminal()
    problems = _problems(given)
    if problems:
        raise ConfigError(problems)
    asked = {field.name: getattr(given, field.name) for field in fields(Export)}
    made = export(Export(**asked))
    say = console().print
    for line in made.said:
        say(line)
    say(f"{made.folder}: model/ ({made.form}, {made.dtype})" + (f", dataset/ ({made.rows} rows)" if made.rows else ""))
    if given.push:
        for place in push(made.folder, given.push, given.private, given.force):
            say(place)
    else:
        say(f"try it: errata chat {made.folder}")
    return 0


def _problems(given: argparse.Namespace) -> list[str]:
    found = []
    for name, value in (("--push", given.push), ("--base-model", given.base_model)):
        if value is not None and not _HUB_ID.fullmatch(value):
            found.append(f"{name} is {value!r}: give a hub id, ORG/NAME")
    if given.iteration is not None and given.iteration not in ("last", "best") and not given.iteration.isdigit():
        found.append(f"--iteration is {given.iteration!r}: give a number, last or best")
    if given.push is None and given.private:
        found.append("--private says how to push: give --push ORG/NAME too, or leave it out")
    if given.push is not None and not os.environ.get("HF_TOKEN"):
        found.append("--push needs a token that may write: set HF_TOKEN in the environment")
    if given.push is not None and os.environ.get("HF_HUB_OFFLINE", "0").upper() in ("1", "ON", "YES", "TRUE"):
        found.append("--push needs the hub, and HF_HUB_OFFLINE is set: unset it")
    return found
