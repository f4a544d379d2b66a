"""What both forms of Reflection-Tuning ask of the instructor, and what they make of its replies.

Reflection-Tuning (Li et al., 2023, arXiv 2310.11716; tianyi-lab/Reflection_Tuning, `reflection_code`): the instructor first
criticises an instruction, or an answer, by given criteria, and then writes a better one.

Differs from the source: the instruction is shown with its input; a reply is used whole or not at all, so that no new
instruction is ever joined to an old answer; each reply is known by its pair's id, not by its place.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from errata.errors import ConfigError
from errata.prompts import Prompts, placeholders, read_prompts
from errata.records import Pair, Reply, Request
from errata.reviser.filters import Filters
from errata.reviser.sections import ANSWER, CRITIQUE, HALF, INPUT, INSTRUCTION, asks_for, read

RESPONSE = "response"
STAGES = {INSTRUCTION: (INSTRUCTION, ANSWER), RESPONSE: (ANSWER,)}
"""The stages in their order, and the parts that a reply to each must have."""
NO_REPLY, TRUNCATED, UNCHANGED = "no_reply", "truncated", "unchanged"
_CUT = ("length", "content_filter")
_OURS = Path(__file__).parent
_PLACEHOLDERS = ("pair", "history", "instruction", "input", "answer", "instruction_criteria", "response_criteria")
_CRITIQUE_TOKENS = 250


@dataclass(frozen=True)
class Outcome:
    """What a reply gives: the pair it makes, whole, or the reason why it makes none.

    Attributes:
        detail: the evidence for the reason.
        critique: what was found wanting, also where nothing better came of it.
        rejected: the reply that was not used.
    """

    pair: Pair | None
    reason: str = ""
    detail: str = ""
    critique: str = ""
    rejected: str = ""


@dataclass
class Reflecting:
    """The settings that both forms have.

    Attributes:
        criteria: a JSON file of the user's, laid out as ours (`criteria/reflection.json`): lists `instruction` and
            `response` of {name, description}.
        prompts_dir: a folder of the user's, laid out as ours: `instruction/user.txt`, `response/user.txt` and, where
            wanted, a `system.txt` beside each.
        filters: what a new pair must pass. How much longer it is than the old one is no objection here by itself
            (`most_ratio` is null): more detail is what is asked for, and a new instruction has an answer of its own.
    """

    criteria: str | None = None
    prompts_dir: str | None = None
    filters: Filters = field(default_factory=lambda: Filters(most_ratio=None))

    def stage_problems(self, stages: Sequence[str]) -> list[str]:
        """Criteria or prompts of these stages that are missing or cannot be used."""
        found = list(self.filters.problems())
        loads: list[Callable[[], object]] = [self._criteria, *(partial(self._prompts, stage) for stage in stages)]
        for load in loads:
            try:
                load()
            except ConfigError as error:
                found += error.problems
        return found

    def requests(self, stage: str, pairs: Sequence[Pair]) -> list[Request]:
        """What is asked about each pair; the ids are `PAIRID/STAGE`."""
        prompts, criteria = self._prompts(stage), self._criteria()
        return [
            Request(
                f"{pair.id}/{stage}", pair.source, pair.id, prompts.render({**_shown(pair), **criteria}), 1,
                expected_tokens=_reply_tokens(stage, pair), strategy="reflection", prompt=prompts.fingerprint,
            )
            for pair in pairs
        ]  # fmt: skip

    def outcomes(self, stage: str, pairs: Sequence[Pair], replies: Sequence[Reply]) -> list[Outcome]:
        """What each reply makes of its pair."""
        asked = self._prompts(stage).user
        return [self._outcome(stage, pair, reply, asked) for pair, reply in zip(pairs, replies, strict=True)]

    def _outcome(self, stage: str, pair: Pair, reply: Reply, asked: str) -> Outcome:
        """The pair that a reply makes of a pair, of the same id."""
        text = (reply.text or "").strip()
        if not text:
            return Outcome(None, NO_REPLY, reply.failure or "the reply is empty")
        if reply.finish_reason in _CUT:
            return Outcome(None, TRUNCATED, f"{reply.finish_reason}: it ends with {text[-60:]!r}", rejected=text)
        parts = read(text, STAGES[stage])
        if isinstance(parts, tuple):
            return Outcome(None, *parts, rejected=text)
        new = replace(pair, output=parts[ANSWER])
        if stage == INSTRUCTION:
            new = replace(new, instruction=parts[INSTRUCTION], input=parts.get(INPUT, ""))
        objection = _same(pair, new) or self.filters.check(pair, new, asked)
        if objection:
            return Outcome(None, *objection, critique=parts[CRITIQUE], rejected=text)
        return Outcome(new, critique=parts[CRITIQUE])

    def _criteria(self) -> dict[str, str]:
        """The lists as the prompts show them, by placeholder."""
        path = Path(self.criteria).expanduser() if self.criteria else _OURS / "criteria" / "reflection.json"
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            lists = {name: [(one["name"], one["description"]) for one in content[name]] for name in STAGES}
        except OSError as error:
            raise ConfigError([f"reviser.criteria: {path} cannot be read: {error.strerror}"]) from error
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                [
                    f"reviser.criteria: {path} is no list of criteria ({type(error).__name__}: {error}): write "
                    '{"instruction": [{"name": ..., "description": ...}, ...], "response": [...]}'
                ]
            ) from error
        return {f"{name}_criteria": "\n".join(f"- {one}: {what}" for one, what in lists[name]) for name in lists}

    def _prompts(self, stage: str) -> Prompts:
        root = Path(self.prompts_dir).expanduser() if self.prompts_dir else _OURS / "prompts" / "reflection"
        prompts = read_prompts(root / stage, _PLACEHOLDERS)
        where, whole = root / stage / "user.txt", prompts.system + prompts.user
        lacks = [
            f"{where} asks for no {part} in a form that can be read: have it written as <new_{part}> ... </new_{part}>"
            for part in STAGES[stage]
            if not asks_for(whole, part)
        ]
        if "pair" not in placeholders(whole) and not {"instruction", "answer"} <= placeholders(whole):
            lacks.append(f"{where} does not show what is to be revised: write {{pair}}, or {{instruction}} and {{answer}}")
        if lacks:
            raise ConfigError(lacks)
        return prompts


def _shown(pair: Pair) -> dict[str, str]:
    """What a prompt can show of a pair; `pair` is all of it that is not empty, each part between tags."""
    turns = [f"{role}: {text}" for turn in pair.history for role, text in zip(("User", "Assistant"), turn, strict=True)]
    parts = {
        "conversation": "\n\n".join(turns),
        "instruction": pair.instruction,
        "input": pair.input,
        "answer": pair.output,
    }
    whole = "\n".join(f"<{name}>\n{text}\n</{name}>" for name, text in parts.items() if text)
    named = {"history" if name == "conversation" else name: text or "(none)" for name, text in parts.items()}
    return {"pair": whole, **named}


def _same(pair: Pair, new: Pair) -> tuple[str, str] | None:
    """The objection to a pair that is what it was, or that has lost its input."""
    same = {name: getattr(pair, name).split() == getattr(new, name).split() for name in ("instruction", "input", "output")}
    if all(same.values()):
        return UNCHANGED, "the reply repeats the pair"
    if same["instruction"] and pair.input and not new.input:
        return HALF, "the instruction as it was, without its input"
    return None


def _reply_tokens(stage: str, pair: Pair) -> int:
    """About how many tokens a reply takes: the critique, the new instruction, and an answer twice as long as the old one.

    Four characters a token; experts made the answers of CoachLM's 2,301 pairs 1.8 times as long.
    """
    instruction = 2 * len(pair.prompt) if stage == INSTRUCTION else 0
    return _CRITIQUE_TOKENS + (instruction + 2 * len(pair.output)) // 4
