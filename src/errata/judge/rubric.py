"""How good an instruction pair is by a rubric of named dimensions, its instruction and its response apart.

The dimensions and their ranges are those of CoachLM's technical report (its table of quality criteria): three for the
instruction, seven for the response. They are data, `rubrics/coachlm.json`; a file of the user's may hold others. How they
become one score a side is in `dimensions.py`.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from errata.digests import digest
from errata.errors import ConfigError
from errata.judge.base import Item, shown
from errata.judge.comparison import NO_REPLY, UNPARSED
from errata.judge.dimensions import INSTRUCTION, LEVELS, RESPONSE, Dimension, overall, read_dimensions
from errata.judge.rates import macro
from errata.judge.rating import BEFORE, rated, summarise
from errata.judge.reading import whole_lines
from errata.prompts import Prompts, read_prompts
from errata.records import Judgement, Pair, Reply, Request

_HERE = Path(__file__).parent
_NAMES = ("instruction", "response", "dimensions", "form")


@dataclass
class Rubric:
    """Rates the instruction and the response of a pair, dimension by dimension, and the pair it came from beside it.

    The item's score is its response's overall score; the parts hold the instruction's, and every dimension.

    Attributes:
        rubric: a JSON file of dimensions; CoachLM's when null.
        high: from where on a score counts as high (CoachLM's experts revise until 95).
        prompts_dir: a folder of the user's with `system.txt`, `instruction.txt` and `response.txt` (placeholders:
            instruction, response, dimensions, form); ours when null.
        expected_tokens: a guess at a reply's length, for the price in the plan.
    """

    rubric: str | None = None
    high: float = 95.0
    prompts_dir: str | None = None
    expected_tokens: int = 200

    asks: ClassVar[bool] = True
    compares: ClassVar[bool] = False

    def problems(self) -> list[str]:
        """A rubric or prompt files that cannot be used."""
        found = [] if 0 <= self.high <= 100 else [f"judge.high is {self.high}: it must lie between 0 and 100"]
        try:
            dimensions = self.dimensions()
            for side in (INSTRUCTION, RESPONSE):
                self._prompts(side)
                if not any(dimension.side == side for dimension in dimensions):
                    found.append(f"judge.rubric: {self._file} has no dimension whose side is {side!r}")
        except ConfigError as error:
            found += error.problems
        return found

    @property
    def fingerprint(self) -> str:
        """Hash of the dimensions: their levels decide, and stand in no request."""
        return digest([vars(dimension) for dimension in self.dimensions()])

    def dimensions(self) -> list[Dimension]:
        """The rubric's dimensions.

        Raises:
            ConfigError: the file cannot be read as a list of them.
        """
        try:
            found = msgspec.json.decode(self._file.read_bytes(), type=list[Dimension])
        except (OSError, msgspec.MsgspecError) as error:
            raise ConfigError([f"judge.rubric: {self._file} is no JSON list of dimensions ({error})"]) from error
        wrong = [d.name for d in found if d.level not in LEVELS or not 0 <= d.low < d.high <= 100]
        if wrong:
            raise ConfigError(
                [f"judge.rubric: {self._file}, {wrong[0]}: level is {', '.join(LEVELS)}, and 0 <= low < high <= 100"]
            )
        return found

    def requests(self, item: Item) -> list[Request]:
        """A request for each side of the pair; two more for the pair it came from."""
        return [
            self._request(item, f"{item.question.id}/{role}/{side}", side, question, answer)
            for role, question, answer in rated(item)
            for side in (INSTRUCTION, RESPONSE)
        ]

    def judgement(self, item: Item, replies: Sequence[Reply]) -> Judgement:
        """Overall scores and dimensions; a dimension that the reply lacks is missing, and with it what it decides."""
        parts: dict[str, float | None] = {}
        for place, (role, _, _) in enumerate(rated(item)):
            prefix = f"{BEFORE}." if role == BEFORE else ""
            for side, reply in zip((INSTRUCTION, RESPONSE), replies[2 * place : 2 * place + 2], strict=True):
                dimensions = [dimension for dimension in self.dimensions() if dimension.side == side]
                found = read_dimensions(whole_lines(reply), dimensions)
                parts |= {f"{prefix}{side}.{name}": score for name, score in found.items()}
                parts[f"{prefix}{side}"] = overall(dimensions, found)
        score = parts[RESPONSE]
        if len(replies) > 2:
            parts[BEFORE] = parts[f"{BEFORE}.{RESPONSE}"]
        failed = replies[1].text is None
        pair = item.question
        return Judgement(
            pair.id, pair.source, pair.skill, score=score, parts=parts,
            reason="" if score is not None else NO_REPLY if failed else UNPARSED,
            lengths=(len(item.answer), len(item.against or "")), request_ids=tuple(reply.request_id for reply in replies),
        )  # fmt: skip

    def summary(self, judgements: Sequence[Judgement]) -> dict[str, object]:
        """Histogram and means of the responses' overall scores, and the mean of every part, by test set."""
        by_set: dict[str, list[Judgement]] = defaultdict(list)
        for judgement in judgements:
            by_set[judgement.testset].append(judgement)
        edges = sorted({0.0, 40.0, 80.0, 90.0, self.high, 100.0})
        return summarise(judgements, edges, self.high) | {
            "kind": "rubric",
            "parts": {name: _means(part) for name, part in by_set.items()},
        }

    @property
    def _file(self) -> Path:
        return Path(self.rubric).expanduser() if self.rubric else _HERE / "rubrics" / "coachlm.json"

    def _request(self, item: Item, name: str, side: str, question: Pair, answer: str) -> Request:
        dimensions = [dimension for dimension in self.dimensions() if dimension.side == side]
        values = {
            "instruction": shown(question),
            "response": answer or "(no response)",
            "dimensions": "\n".join(
                f"- {d.name} ({d.least:g} to {d.high:g}; {d.high:g}: nothing to object to): {d.checks}" for d in dimensions
            ),
            "form": "\n".join(f"{d.name}: <number>" for d in dimensions),
        }
        prompts = self._prompts(side)
        return Request(
            name, item.question.source, item.question.id, prompts.render(values), 0,
            expected_tokens=self.expected_tokens, strategy="rubric", prompt=prompts.fingerprint,
        )  # fmt: skip

    def _prompts(self, side: str) -> Prompts:
        folder = Path(self.prompts_dir).expanduser() if self.prompts_dir else _HERE / "prompts" / "rubric"
        return read_prompts(folder, _NAMES, side)


def _means(judgements: Sequence[Judgement]) -> dict[str, Any]:
    """Each part's mean over the items in which it could be read, with their number."""
    names = dict.fromkeys(name for judgement in judgements for name in judgement.parts)
    known = {name: [j.parts[name] for j in judgements if j.parts.get(name) is not None] for name in names}
    return {name: {"n": len(values), "mean": macro(values)} for name, values in known.items()}
