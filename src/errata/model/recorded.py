"""Answers out of a file, of any model and any program: graded here without a model.

A line of the file is `{"id": ..., "response": ...}` or `{"question": ..., "response": ...}`. A question finds its answer by
its own id (`gsm8k/test/17`), by the id that its benchmark's file gives it (`HumanEval/0`), or by its exact text; lines with
the same text serve the questions with that text in their order. A run folder serves as well: its stored attempts.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from errata.digests import digest
from errata.errors import ConfigError
from errata.model.base import NO_RESPONSE, Answer, AnswersOnly
from errata.records import Attempt, Prompt

_IDS = ("id", "task_id")
_TEXTS = ("question", "prompt", "input")


@dataclass
class Recorded(AnswersOnly):
    """Recorded answers.

    Attributes:
        path: a JSON Lines file (or a JSON array), or a stage of a run folder that holds `attempts.jsonl`.
        response_field: which field holds the response.
    """

    path: str = "???"
    response_field: str = "response"

    @property
    def fingerprint(self) -> str:
        """Hash of the file."""
        return digest(self._file.read_bytes()) + digest(self.response_field)

    def problems(self) -> list[str]:
        """No such file, or a line that holds no answer."""
        if not self._file.is_file():
            return [
                f"model.path is {self.path!r}: no such file; it must hold one {{id or question, response}} object a line"
            ]
        try:
            _ = self._answers  # read for its errors
        except ConfigError as error:
            return list(error.problems)
        return []

    def answers(
        self, prompts: Sequence[Prompt], max_new_tokens: int, stop: Sequence[str] = ()
    ) -> Iterator[tuple[int, Answer]]:
        """The recorded responses, uncut; NO_RESPONSE where the file holds none."""
        by_id, by_text = self._answers
        for place, prompt in enumerate(prompts):
            found = by_id.get(prompt.id) or (by_id.get(prompt.key) if prompt.key else None)
            if found is None and (same := by_text.get(prompt.question)):
                found = same[min(prompt.twin, len(same) - 1)]
            yield place, found or Answer("", False, failure=NO_RESPONSE)

    @property
    def _file(self) -> Path:
        path = Path(self.path).expanduser()
        return path / "attempts.jsonl" if path.is_dir() else path

    @cached_property
    def _answers(self) -> tuple[dict[str, Answer], dict[str, list[Answer]]]:
        by_id: dict[str, Answer] = {}
        by_text: dict[str, list[Answer]] = defaultdict(list)
        for place, record in self._records():
            if "attempt" in record:
                attempt: Attempt = record["attempt"]
                by_id[attempt.id] = Answer(attempt.response, attempt.finished, tokens=attempt.tokens)
                continue
            response = record.get(self.response_field)
            names = [str(record[name]) for name in _IDS if record.get(name) is not None]
            texts = [str(record[name]) for name in _TEXTS if record.get(name) is not None]
            if not isinstance(response, str) or not (names or texts):
                has = ", ".join(map(str, record))
                raise ConfigError([f"{place}: expected {{id or question, {self.response_field}}} texts; it has {has}"])
            answer = Answer(response, record.get("finished") is not False)
            repeated = [name for name in names if name in by_id]
            if repeated and by_id[repeated[0]] != answer:
                raise ConfigError([f"{place}: the id {repeated[0]!r} has a response already; ids must differ"])
            by_id |= dict.fromkeys(names, answer)
            for text in texts:
                by_text[text].append(answer)
        return by_id, by_text

    def _records(self) -> Iterator[tuple[str, dict[str, Any]]]:
        content = self._file.read_bytes()
        if Path(self.path).expanduser().is_dir():
            for line in filter(None, content.split(b"\n")):
                yield "", {"attempt": msgspec.json.decode(line, type=Attempt)}
            return
        try:
            whole = msgspec.json.decode(content) if content.lstrip().startswith(b"[") else None
            lines = enumerate(whole) if whole is not None else enumerate(content.split(b"\n"), 1)
            for number, line in lines:
                if line:
                    record = line if whole is not None else msgspec.json.decode(line)
                    if not isinstance(record, dict):
                        raise msgspec.DecodeError("not an object")
                    yield f"{self._file}, line {number}", record
        except msgspec.DecodeError as error:
            raise ConfigError([f"{self._file}: expected one JSON object a line ({error})"]) from error
