"""One record in any of the usual forms, as the fields of a pair: instruction and input, output, earlier turns."""

import re
from typing import Any

from errata.errors import DataError
from errata.jsonl import storable
from errata.record_files import Record

_ROLES = {
    **dict.fromkeys(("human", "user", "prompter"), "user"),
    **dict.fromkeys(("gpt", "assistant", "chatgpt", "bing", "bard", "model"), "assistant"),
    "system": "system",
}
_TURN = re.compile(r"^[ \t]*(Human|Assistant)[ \t]*[:：][ \t]*", re.MULTILINE)


def alpaca(record: Record, place: str) -> dict[str, Any]:
    """{instruction, input, output}; turns in the instruction become the history."""
    parts: dict[str, Any] = {
        "instruction": text_of(found(record, "instruction", place), "instruction", place),
        "input": text_of(record.get("input"), "input", place),
        "output": text_of(found(record, "output", place), "output", place),
    }
    turns = turns_in(parts["instruction"])
    if turns:
        parts["history"], parts["instruction"] = turns
    return parts


def turns_in(text: str) -> tuple[tuple[tuple[str, str], ...], str] | None:
    """The finished (user, assistant) turns in a text of `Human:` and `Assistant:` lines, and the open last turn.

    Returns:
        None where the text is no such conversation: a role is missing, they do not alternate, or words stand before them.
    """
    if "Human" not in text or "Assistant" not in text:
        return None
    head, *rest = _TURN.split(text)
    roles, words = rest[::2], [part.strip() for part in rest[1::2]]
    if roles and roles[-1] == "Assistant" and not words[-1]:  # the answer's place
        roles, words = roles[:-1], words[:-1]
        if roles == ["Human"] and not head.strip():
            return (), words[0]
    if head.strip() or len(roles) % 2 == 0 or roles != ["Human", "Assistant"] * (len(roles) // 2) + ["Human"]:
        return None
    return (tuple(zip(words[:-1:2], words[1::2], strict=True)), words[-1]) if len(roles) > 1 else None


def conversation(turns: Any, role_key: str, text_key: str, place: str) -> dict[str, Any]:
    """The last answered turn and those before it; turns of one role in a row are one."""
    if not isinstance(turns, list | tuple):
        raise DataError(f"{place}: the conversation is no list of turns")
    said: list[tuple[str, str]] = []
    system = ""
    for turn in turns:
        if not isinstance(turn, dict) or role_key not in turn or text_key not in turn:
            raise DataError(f"{place}: a turn must be an object with {role_key} and {text_key}")
        role, text = _ROLES.get(str(turn[role_key]).lower()), text_of(turn[text_key], text_key, place)
        if role is None:
            raise DataError(f"{place}: the role {turn[role_key]!r} is unknown; known are {', '.join(_ROLES)}")
        if role == "system":
            system = f"{system}\n\n{text}".strip()
        elif said and said[-1][0] == role:
            said[-1] = (role, f"{said[-1][1]}\n\n{text}")
        elif said or role == "user":  # an answer before any question is dropped
            said.append((role, text))
    pairs = [(said[at][1], said[at + 1][1]) for at in range(0, len(said) - 1, 2)]
    if system and pairs:
        pairs[0] = (f"{system}\n\n{pairs[0][0]}", pairs[0][1])
    *history, (instruction, output) = pairs or [("", "")]
    return {"instruction": instruction, "input": "", "output": output, "history": tuple(history)}


def history(value: Any, place: str) -> tuple[tuple[str, str], ...]:
    """A history field: a list of [user, assistant]."""
    if not value:
        return ()
    if not isinstance(value, list | tuple) or any(not isinstance(turn, list | tuple) or len(turn) != 2 for turn in value):
        raise DataError(f"{place}: the history must be a list of [user, assistant] turns")
    return tuple((text_of(user, "history", place), text_of(assistant, "history", place)) for user, assistant in value)


def questions(asked: Any, references: Any, place: str) -> list[dict[str, Any]]:
    """The turns of a question as the fields of a pair each: its reference as the output, what was asked before as history.

    A history's answers are empty: they are still to be given (`records.goes_on`).

    Args:
        asked: the user's turns.
        references: an answer to each, or to the first of them; nothing where there are none.
        place: where the record stands.
    """
    if not isinstance(asked, list | tuple) or not asked:
        raise DataError(f"{place}: the turns must be a list of what is asked, one text a turn; found {type(asked).__name__}")
    texts = [text_of(turn, "turns", place) for turn in asked]
    for number, text in enumerate(texts, 1):
        if not text.strip():
            raise DataError(f"{place}: turn {number} of {len(texts)} is empty")
    if references is not None and not isinstance(references, list | tuple):
        raise DataError(f"{place}: the references must be a list, one text a turn; found {type(references).__name__}")
    outputs = [text_of(reference, "reference", place) for reference in references or ()]
    if len(outputs) > len(texts):
        raise DataError(f"{place}: {len(outputs)} references for {len(texts)} turns; give one a turn at most")
    outputs += [""] * (len(texts) - len(outputs))
    return [
        {"instruction": text, "input": "", "output": output, "history": tuple((before, "") for before in texts[:number])}
        for number, (text, output) in enumerate(zip(texts, outputs, strict=True))
    ]


def found(record: Record, path: str, place: str) -> Any:
    """The value of a field, by its name or by a dotted path into objects and lists."""
    if path in record:
        return record[path]
    value: Any = record
    for step in path.split("."):
        if isinstance(value, dict) and step in value:
            value = value[step]
        elif isinstance(value, list | tuple) and step.isdigit() and int(step) < len(value):
            value = value[int(step)]
        else:
            raise DataError(f"{place}: no field {path!r}; the record has {names_of(record)}")
    return value


def text_of(value: Any, name: str, place: str) -> str:
    """A field as text: numbers in digits, nothing (null, NaN) as "", half a surrogate as "?"."""
    if isinstance(value, str):
        return storable(value)
    if value is None or value != value:
        return ""
    if isinstance(value, bool | int | float):
        return str(value)
    raise DataError(
        f"{place}: field {name!r} is no text but a {type(value).__name__}; a dotted path leads into it ({name}.0)"
    )


def names_of(record: Record) -> str:
    """The fields that a record has, as a message says them."""
    return ", ".join(map(str, record)) or "no field at all"
