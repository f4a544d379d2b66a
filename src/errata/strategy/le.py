"""LE, Learning from Error (LLMs-as-Instructors, "Learning from Error"): one request for each wrong answer.

The request shows the question and the student's wrong answer and asks for similar problems. What else is shown is decided
by the prompt files alone: `le` shows nothing more, as the paper's protocol (which never sends the gold answer);
`le_informed` also gives the right answer, its working and how the student failed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from errata.errors import ConfigError
from errata.records import Attempt, Case, Request
from errata.strategy.base import load_prompts, load_schema, reply_tokens


@dataclass
class LE:
    """Learning from Error.

    Attributes:
        name: the folder of its prompts.
        prompts_dir: a folder of the user's, laid out as ours: `NAME/DATASET/system.txt` and `user.txt`.
        structured: ask for the problems as JSON by a schema, where the endpoint knows such; else, and for the others, in
            the plain layout that the prompt describes. Both are read to the same problems.
    """

    name: str = "le"
    prompts_dir: str | None = None
    structured: bool = False

    contrasts: ClassVar[bool] = False

    def seeds(self, errors: Sequence[Attempt], successes: Sequence[Attempt], rng: Random) -> list[Attempt]:
        """Every error once."""
        return list(errors)

    def arranged(self, cases: Sequence[Case], rng: Random) -> list[Case]:
        """The cases as they are."""
        return list(cases)

    def problems(self, datasets: Mapping[str, str]) -> list[str]:
        """Prompt files that are missing or cannot be filled; a layout that has no schema, where one is wanted."""
        found: list[str] = []
        for dataset, layout in datasets.items():
            try:
                load_prompts(self.name, dataset, layout, self.prompts_dir)
                if self.structured:
                    load_schema(layout, diagnosis=False)
            except ConfigError as error:
                found += error.problems
        return found

    def request(self, case: Case, layout: str) -> Request:
        """One request for one error."""
        error = case.error
        prompts = load_prompts(self.name, error.question.dataset, layout, self.prompts_dir)
        messages = prompts.render(
            {
                "question": error.question.with_choices,
                "response": error.response or "(no answer)",
                "n": case.problems,
                "gold": error.question.gold,
                "solution": error.question.solution,
                "failure": (error.kind or "").replace("_", " "),
                "detail": error.detail or "(nothing is known)",
                "neighbours": "\n\n".join(
                    f"{number}. {near.question.with_choices}" for number, near in enumerate(case.neighbours, 1)
                ),
            }
        )
        schema = load_schema(layout, "Diagnosis:" in prompts.user) if self.structured else None
        return Request(
            case.id, error.question.dataset, error.id, messages, case.problems, case.draw, schema,
            reply_tokens(error.question, case.problems), self.name, prompts.fingerprint,
        )  # fmt: skip
