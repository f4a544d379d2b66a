"""The strategy protocol, and prompts as text files."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Protocol

from errata.errors import ConfigError
from errata.records import Attempt, Case, Question, Request

PLACEHOLDERS = ("question", "response", "n", "gold", "solution", "failure", "detail", "neighbours")
_PLACEHOLDER = re.compile(r"\{\{|\}\}|\{(\w*)\}")


class Strategy(Protocol):
    """What is asked of the instructor for one case."""

    name: str
    contrasts: bool
    """Whether its requests show the nearest successes."""

    def seeds(self, errors: Sequence[Attempt], successes: Sequence[Attempt], rng: Random) -> list[Attempt]:
        """The attempts that requests are made for: the errors, or what a control puts in their place."""
        ...

    def arranged(self, cases: Sequence[Case], rng: Random) -> list[Case]:
        """The cases as they are asked about, after the neighbours were found."""
        ...

    def problems(self, datasets: Mapping[str, str]) -> list[str]:
        """What is wrong with the settings or the prompt files, given the run's datasets (name to layout)."""
        ...

    def problems_per_error(self, sample_size: int, errors: int) -> int:
        """How many problems one request asks for."""
        ...

    def request(self, case: Case, layout: str, count: int) -> Request:
        """The request for a case, asking for `count` problems."""
        ...


@dataclass(frozen=True)
class Prompts:
    """A system and a user text with `{placeholders}`; `{{` and `}}` stand for literal braces."""

    system: str
    user: str

    def render(self, values: Mapping[str, object]) -> tuple[dict[str, str], ...]:
        """Chat messages with the values filled in."""
        texts = (("system", self.system), ("user", self.user))
        return tuple({"role": role, "content": _fill(text, values)} for role, text in texts if text)


def load_prompts(strategy: str, dataset: str, layout: str, prompts_dir: str | None) -> Prompts:
    """Read `STRATEGY/DATASET/{system,user}.txt`, or `STRATEGY/LAYOUT/...` where the dataset has no prompts of its own.

    Args:
        strategy: folder name of the strategy.
        dataset: name of the dataset.
        layout: how its problems are written out; `{layout}` in a prompt stands for our description of it.
        prompts_dir: the user's folder; ours when None.

    Raises:
        ConfigError: no such files, or a placeholder that does not exist.
    """
    root = Path(prompts_dir).expanduser() if prompts_dir else Path(__file__).parent / "prompts"
    places = [root / strategy / name for name in (dataset, layout)]
    folder = next((place for place in places if (place / "user.txt").is_file()), None)
    if folder is None:
        raise ConfigError([f"no prompt for strategy {strategy} and dataset {dataset}: write {places[0] / 'user.txt'}"])
    read = (path.read_text().strip() if path.is_file() else "" for path in (folder / "system.txt", folder / "user.txt"))
    prompts = Prompts(*(text.replace("{layout}", _layout(root, layout)) if "{layout}" in text else text for text in read))
    unknown = {name for name in _names(prompts.system + prompts.user) if name not in PLACEHOLDERS}
    if unknown:
        raise ConfigError(
            [
                f"{folder}: unknown placeholder {', '.join('{' + name + '}' for name in sorted(unknown))}; there are "
                f"{', '.join('{' + name + '}' for name in PLACEHOLDERS)}; write literal braces twice: {{{{ }}}}"
            ]
        )
    return prompts


def _layout(root: Path, layout: str) -> str:
    """What every problem must be and how it is written out: the text that `{layout}` stands for, the user's or ours."""
    places = [folder / "layouts" / f"{layout}.txt" for folder in (root, Path(__file__).parent / "prompts")]
    return next(place for place in places if place.is_file()).read_text().strip()


def load_schema(layout: str) -> dict[str, Any]:
    """The JSON schema of a reply in a layout."""
    schema: dict[str, Any] = json.loads((Path(__file__).parent / "schemas" / f"{layout}.json").read_text())
    return schema


def reply_tokens(question: Question, problems: int) -> int:
    """About how many tokens so many problems like a question take, worked out: four characters each, and their labels."""
    return problems * (len(question.with_choices) + len(question.solution) + 60) // 4


def _names(text: str) -> Sequence[str]:
    return [match.group(1) for match in _PLACEHOLDER.finditer(text) if match.group(1) is not None]


def _fill(text: str, values: Mapping[str, object]) -> str:
    def one(match: re.Match[str]) -> str:
        name = match.group(1)
        return match.group(0)[0] if name is None else str(values[name])

    return _PLACEHOLDER.sub(one, text)
