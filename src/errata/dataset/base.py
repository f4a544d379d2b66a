"""The dataset protocol, and reading question files with errors that name the line."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from errata.errors import DataError
from errata.records import Parsed, Question, Verdict


class Dataset(Protocol):
    """A benchmark with a train split to learn from and a test split that nothing may leak from."""

    name: str
    layout: str
    """How a problem is written out and read back; prompts are looked up by it (`prompts/STRATEGY/LAYOUT`)."""
    max_new_tokens: int

    def problems(self) -> list[str]:
        """What is wrong with the settings, found without reading any data."""
        ...

    def load(self, split: str) -> list[Question]:
        """The questions of a split (`train`, `dev` or `test`), always in the same order.

        Raises:
            DataError: the split cannot be read; names the file and line.
        """
        ...

    def wall(self) -> list[Question]:
        """Every question of the test split, whatever the run's limits: nothing of these may be trained on."""
        ...

    def show(self, question: Question) -> str:
        """The user turn that puts the question to the student."""
        ...

    def grade(self, question: Question, response: str) -> Verdict:
        """Whether the response is right, and if not, why."""
        ...

    def parse(self, reply: str) -> Sequence[Parsed]:
        """The problems in an instructor's reply, well-formed or not, in order; empty where it holds none."""
        ...

    def check(self, solution: str, answer: str) -> tuple[str, str] | None:
        """The (reason, evidence) why a worked solution cannot be trusted, or None."""
        ...


def read_json_lines(path: Path, required: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    r"""Yield (line number, object) from a JSON Lines file, split on "\n" only.

    Raises:
        DataError: the file is missing, a line is not a JSON object, or one lacks a required field.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file. Set the dataset's path to a folder or file that exists.")
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            item = json.loads(line)
        except ValueError as error:
            raise DataError(f"{path}, line {number}: expected one JSON object, got {_snippet(line)} ({error})") from error
        if not isinstance(item, dict):
            raise DataError(f"{path}, line {number}: expected one JSON object, got {_snippet(line)}")
        missing = [name for name in required if item.get(name) is None]
        if missing:
            raise DataError(
                f"{path}, line {number}: the field {', '.join(map(repr, missing))} is missing; it has {', '.join(item)}"
            )
        yield number, item


def _snippet(line: bytes) -> str:
    text = line.decode(errors="replace")
    return repr(text if len(text) <= 60 else text[:57] + "...")
