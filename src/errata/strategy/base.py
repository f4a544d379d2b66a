"""The strategy protocol, and the strategies' prompt files."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any, Protocol, runtime_checkable

from errata.dataset.base import Dataset
from errata.errors import ConfigError
from errata.prompts import Prompts, check_placeholders
from errata.records import Attempt, Case, Example, Question, Request

PLACEHOLDERS = ("question", "response", "n", "gold", "solution", "failure", "detail", "neighbours")
_OURS = Path(__file__).parent / "prompts"


@runtime_checkable
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

    def request(self, case: Case, layout: str) -> Request:
        """The request for a case, asking for `case.problems` problems."""
        ...


@runtime_checkable
class Supply(Protocol):
    """A strategy that asks nobody: its rows are there already."""

    name: str
    repeats: bool
    """Whether its rows come again until the training set is full."""

    def problems(self, datasets: Mapping[str, str]) -> list[str]:
        """What is wrong with the settings."""
        ...

    def rows(
        self, errors: Sequence[Attempt], questions: Sequence[Question], dataset: Dataset, iteration: int
    ) -> list[Example]:
        """Training rows, from the errors or from the questions that they were found among."""
        ...


def originals(questions: Sequence[Question], dataset: Dataset, iteration: int) -> list[Example]:
    """The benchmark's own questions with their worked answers, as training rows; those without one are left out."""
    return [
        Example(f"{iteration}/{q.id}", dataset.name, dataset.show(q), q.solution, q.gold, q.id, "", iteration)
        for q in questions
        if q.solution
    ]


def load_prompts(strategy: str, dataset: str, layout: str, prompts_dir: str | None) -> Prompts:
    """Read `STRATEGY/DATASET/{system,user}.txt`, or `STRATEGY/LAYOUT/...` where the dataset has no prompts of its own.

    A user's folder may also hold the system texts alone, as `DATASET.txt` each (the source's `data/prompt` folder does):
    our user text goes with them.

    Args:
        strategy: folder name of the strategy.
        dataset: name of the dataset.
        layout: how its problems are written out; `{layout}` in a prompt stands for our description of it.
        prompts_dir: the user's folder; ours when None.

    Raises:
        ConfigError: no such files, a placeholder that does not exist, or a layout that nobody describes.
    """
    root = Path(prompts_dir).expanduser() if prompts_dir else _OURS
    places = [root / strategy / name for name in (dataset, layout)]
    folder = next((place for place in places if (place / "user.txt").is_file()), None)
    system = None if folder is None else folder / "system.txt"
    if folder is None and (root / f"{dataset}.txt").is_file():
        system, folder = root / f"{dataset}.txt", _OURS / strategy / layout
    if folder is None or not (folder / "user.txt").is_file():
        raise ConfigError([f"no prompt for strategy {strategy} and dataset {dataset}: write {places[0] / 'user.txt'}"])
    read = (path.read_text().strip() if path and path.is_file() else "" for path in (system, folder / "user.txt"))
    prompts = Prompts(*(text.replace("{layout}", _layout(root, layout)) if "{layout}" in text else text for text in read))
    for path, text in ((system, prompts.system), (folder / "user.txt", prompts.user)):
        check_placeholders(text, PLACEHOLDERS, path or folder)
    return prompts


def _layout(root: Path, layout: str) -> str:
    """What every problem must be and how it is written out: the text that `{layout}` stands for, the user's or ours."""
    places = [folder / "layouts" / f"{layout}.txt" for folder in (root, _OURS)]
    place = next(filter(Path.is_file, places), None)
    if place is None:
        known = ", ".join(sorted(path.stem for path in (_OURS / "layouts").glob("*.txt")))
        raise ConfigError(
            [f"a prompt holds {{layout}}, and layout {layout!r} is described nowhere: write {places[0]} (there are {known})"]
        )
    return place.read_text().strip()


def load_schema(layout: str, diagnosis: bool) -> dict[str, Any]:
    """The JSON schema of a reply in a layout, beginning with a diagnosis where the prompt asks for one.

    Raises:
        ConfigError: the layout has none.
    """
    file = Path(__file__).parent / "schemas" / f"{layout}.json"
    if not file.is_file():
        known = ", ".join(sorted(path.stem for path in file.parent.glob("*.json")))
        raise ConfigError([f"strategy.structured: layout {layout!r} has no JSON schema ({known} have one); set it to false"])
    schema: dict[str, Any] = json.loads(file.read_text())
    if diagnosis:
        asked = {"type": "string", "description": "what the student did not know or do, in one or two sentences"}
        schema["properties"] = {"diagnosis": asked, **schema["properties"]}
        schema["required"] = ["diagnosis", *schema["required"]]
    return schema


def reply_tokens(question: Question, problems: int) -> int:
    """About how many tokens so many problems like a question take, worked out: four characters each, and their labels."""
    return problems * (len(question.with_choices) + len(question.solution) + 60) // 4
