"""Answers out of files, each to its item of the test set.

A file is a JSON array (or an object with one under `data`), or JSON Lines. A record holds an answer (to a question of
several turns a list of answers, or FastChat's `choices`, of which the first counts) and, where it can, the
item's id or its instruction: by ids, else by instructions, else by position the answers find their items, one way for the
whole file. By position only where the records carry neither and there are as many as items: an answer at the wrong item
would be judged without anybody noticing.
"""

import codecs
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from errata.errors import DataError
from errata.records import Pair, goes_on, turn_id

ANSWERS = ("generate", "P", "response", "answer", "output", "text")
"""Where an answer is looked for, in this order: a record with a `response` may hold the reference as its `output`."""
REFERENCE = "reference"
"""In the place of a file: the test set's own answers."""
_FASTCHAT_FAILED = "$ERROR$"
_IDS = ("id", "question_id", "key")
_INSTRUCTIONS = ("instruction", "Instruction", "question", "prompt", "Q")


@dataclass(frozen=True)
class Found:
    """An answer in a file; `text` is None where the model gave none (`failure` says why).

    `turn` is its place in a list of answers to one question, from 1; 0 where it stands alone.
    """

    text: str | None
    id: str = ""
    instruction: str = ""
    input: str = ""
    failure: str = ""
    turn: int = 0


def revisions_file(path: str) -> Path:
    """Where a revise run keeps its revisions."""
    return Path(path).expanduser() / "revise" / "revisions.jsonl"


def answer_file(path: Path, testset: str) -> Path:
    """The file with the answers to a test set.

    Args:
        path: a file; a folder that holds `TESTSET.json` or `TESTSET.jsonl`; or a run folder of `errata judge` whose model
            answered the test set.
        testset: its name.

    Raises:
        DataError: there is none.
    """
    places = [path / "respond" / testset / "responses.jsonl", path / f"{testset}.json", path / f"{testset}.jsonl"]
    found = next((place for place in ([path] if path.is_file() else places) if place.is_file()), None)
    if found is None:
        what = f"a folder without {testset}.json, {testset}.jsonl or respond/{testset}" if path.is_dir() else "not there"
        raise DataError(f"no answers to {testset}: {path} is {what}; name a file of answers, or such a folder")
    return found


def read_answers(file: Path) -> list[Found]:
    """The file's answers, in its order.

    Raises:
        DataError: it cannot be read, or a record holds no answer; names the file and the record.
    """
    found = []
    for number, record in enumerate(_records(file)):
        own = next((str(record[key]) for key in _IDS if isinstance(record.get(key), str | int)), "")
        by_turn = _by_turn(record)
        for turn, said in enumerate(by_turn or (), 1):
            why = "FastChat's endpoint failed" if said.strip() == _FASTCHAT_FAILED else ""
            found.append(Found(None if why else said, own and turn_id(own, turn), failure=why, turn=turn))
        if by_turn:
            continue
        name = next((name for name in ANSWERS if isinstance(record.get(name), str)), None)
        if name is None:
            raise DataError(
                f"{file}, record {number}: no answer; it must stand under {', '.join(ANSWERS)} (one text; of a question of "
                f"several turns a list), or as FastChat's choices; the record has {', '.join(map(str, record))}"
            )
        instruction = next((record[key] for key in _INSTRUCTIONS if key != name and isinstance(record.get(key), str)), "")
        failure = str(record.get("failure") or "")
        given = record.get("input")
        text = None if failure else record[name]
        found.append(Found(text, own, instruction, given if isinstance(given, str) else "", failure))
    return found


def _by_turn(record: dict[str, Any]) -> list[str] | None:
    """The answers to a question of several turns; None where the record holds no such list."""
    choices = record.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    given = [first.get("turns")] if isinstance(first, dict) else [record.get(name) for name in ANSWERS]
    lists = (one for one in given if isinstance(one, list) and one and all(isinstance(text, str) for text in one))
    return next(lists, None)


def match(testset: str, questions: Sequence[Pair], answers: Sequence[Found], file: Path) -> list[Found]:
    """Each question's answer, in the questions' order; answers to other questions are passed over.

    Raises:
        DataError: a question has no answer; names the test set, the file, their counts and the first such item.
    """
    counts = f"{testset} has {len(questions)} items, {file} has {len(answers)} answers"
    if not any(answer.id or answer.instruction for answer in answers):
        if len(answers) == len(questions):
            _check_turns(questions, answers, file)
            return list(answers)
        raise DataError(
            f"{counts}, which carry neither ids nor instructions: they can be matched by position only where there are as "
            "many as items. Add an id or the instruction to each record"
        )
    by_id = {answer.id: answer for answer in reversed(answers) if answer.id}
    if len(by_id) < sum(answer.id != "" for answer in answers):
        twice = Counter(answer.id for answer in answers if answer.id).most_common(1)[0][0]
        raise DataError(f"{file}: the id {twice!r} has several answers; ids must differ")
    found = [by_id.get(pair.id) or by_id.get(pair.id.removeprefix(f"{testset}/")) for pair in questions]
    if all(answer is None for answer in found) or not _agree(questions, found):
        found = _by_text(questions, answers)
    missing = [pair for pair, answer in zip(questions, found, strict=True) if answer is None]
    if missing:
        first = missing[0]
        raise DataError(
            f"{counts}, but {len(missing)} of the items have none there. The first is {first.id}: "
            f"{first.instruction[:80]!r}. Answers are matched by id, or else by the exact instruction"
        )
    return [answer for answer in found if answer is not None]


def _check_turns(questions: Sequence[Pair], answers: Sequence[Found], file: Path) -> None:
    """Lists that are matched by position must begin where questions begin.

    Raises:
        DataError: one has more or fewer answers than its question has turns; names the item where that shows.
    """
    before: Pair | None = None
    for pair, answer in zip(questions, answers, strict=True):
        goes = before is not None and goes_on(pair.history, before.history, before.prompt)
        if answer.turn and goes != (answer.turn > 1):
            raise DataError(
                f"{file}: at {pair.id} its lists of answers do not fit the questions: give each question an answer a turn, "
                "or add the questions' ids"
            )
        before = pair


def _agree(questions: Sequence[Pair], found: Sequence[Found | None]) -> bool:
    """Whether the matches by id are such by their instructions too: the ids may be another set's numbering."""
    return all(
        answer is None or not answer.instruction or _text(answer.instruction) in _texts(pair)
        for pair, answer in zip(questions, found, strict=True)
    )


def _by_text(questions: Sequence[Pair], answers: Sequence[Found]) -> list[Found | None]:
    """By the instruction with its input; those with the same words are served in their order."""
    waiting: dict[str, list[Found]] = defaultdict(list)
    for answer in reversed(answers):
        if answer.instruction:
            waiting[_text(f"{answer.instruction} {answer.input}")].append(answer)
    alone = {_text(answer.instruction) for answer in answers if answer.instruction and not answer.input}
    twins = Counter(_text(pair.instruction) for pair in questions)
    found: list[Found | None] = []
    for pair in questions:
        names = [_text(pair.prompt)]
        if twins[_text(pair.instruction)] == 1 and _text(pair.instruction) in alone:
            names.append(_text(pair.instruction))
        name = next((name for name in names if waiting.get(name)), None)
        found.append(None if name is None else waiting[name].pop())
    return found


def _texts(pair: Pair) -> set[str]:
    return {_text(pair.instruction), _text(pair.prompt)}


def _text(text: str) -> str:
    return " ".join(text.split())


def _records(file: Path) -> list[dict[str, Any]]:
    try:
        content = file.read_bytes().removeprefix(codecs.BOM_UTF8)
        if content.lstrip()[:1] == b"[":
            records = msgspec.json.decode(content)
        else:
            lines = [line for line in content.split(b"\n") if line.strip()]
            try:
                records = [msgspec.json.decode(line) for line in lines]
            except msgspec.DecodeError:
                whole = msgspec.json.decode(content)
                records = whole.get("data") if isinstance(whole, dict) else None
    except (OSError, msgspec.DecodeError) as error:
        raise DataError(f"{file}: cannot be read as answers, a JSON array or one object a line ({error})") from error
    if isinstance(records, list) and len(records) == 1 and isinstance(records[0], dict) and "data" in records[0]:
        records = records[0]["data"]
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise DataError(f"{file}: expected a JSON array of objects, or one object a line")
    return records
