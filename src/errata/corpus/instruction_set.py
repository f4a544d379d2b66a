"""An instruction set, or a test set of instructions, in any of the usual forms, streamed from files or from the hub."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from errata.corpus.forms import alpaca, conversation, found, history, names_of, questions, text_of
from errata.corpus.reading import files_of, hash_of, read_hub
from errata.errors import DataError
from errata.identity import neutral
from errata.places import no_hub_id
from errata.record_files import ENDINGS, Record, read
from errata.records import Pair, turn_id

FORMATS = ("auto", "alpaca", "sharegpt", "messages", "fields", "turns")
NAMES = ("id", "instruction", "input", "output", "history", "skill", "language")
MANY = "mul"
"""ISO 639's code for a set of many languages."""

_SIGNS = {"conversations": "sharegpt", "messages": "messages", "instruction": "alpaca"}
log = logging.getLogger("errata")


@dataclass
class InstructionSet:
    """Records of one form, as pairs.

    `alpaca` is {instruction, input, output}; where the instruction itself holds `Human:` and `Assistant:` turns
    (Alpaca-CoT's multi-turn records), they become the history. `sharegpt` is {conversations: [{from, value}]}, `messages` is
    {messages: [{role, content}]}: one pair a conversation, its last answered turn, with the turns before as history and the
    system's words before the first turn. `fields` takes what `fields` names. `turns` (test sets as MT-Bench): the field
    that `fields.instruction` names is a list of what is asked in turn, `fields.output` of the references; a pair a turn.

    Differs from the source (Alpaca-CoT, uniform_finetune.py), which takes any text that holds the two role words for a
    conversation: here both must begin lines, and the turns must alternate.

    Attributes:
        path: a file, or a folder of files: .json, .jsonl, .csv, .tsv (each also .gz), .parquet.
        hub: an id on the hub, read where no path is given.
        hub_files, hub_split: which of its files (a pattern), and which split.
        revision: its branch, tag or commit.
        format: `alpaca`, `sharegpt`, `messages`, `fields`, `turns`, or `auto`, which looks at each record.
        fields: our names to the file's fields (null: it has none); `a.0.b` goes down into objects and lists.
        rows: how many records are published.
        languages: ISO 639 codes, separated by commas; `mul`: many.
        licence: what it says of itself.
        kind: what is in it.
        tasks: MT (many tasks) or TS (one), as in Alpaca-CoT's table.
        made_by: HG (people), SI (self-instruct), MIX, COL (a collection), as there.
        limit: read so many records only.
    """

    path: str | None = None
    hub: str | None = None
    hub_files: str | None = None
    hub_split: str = "train"
    revision: str | None = None
    format: str = "auto"
    fields: dict[str, str | None] = field(default_factory=lambda: dict.fromkeys(NAMES))
    rows: int | None = neutral(None)
    languages: str = ""
    licence: str = ""
    kind: str = neutral("")
    tasks: str = neutral("")
    made_by: str = neutral("")
    limit: int | None = None

    def problems(self, name: str) -> list[str]:
        """Settings out of range, no files, or a first record of another form."""
        found = []
        if self.format not in FORMATS:
            found.append(f"{name}.format is {self.format!r}: choose {', '.join(FORMATS)}")
        if unknown := [key for key in self.fields if key not in NAMES]:
            found.append(f"{name}.fields names {', '.join(unknown)}: it may name {', '.join(NAMES)}")
        if self.format == "turns" and name.startswith("corpus."):
            found.append(f"{name}.format is turns, the form of test sets: such records hold no answers to learn from")
        if self.format in ("fields", "turns") and "instruction" not in self._named:
            found.append(f"{name}.fields does not say which field the instruction is: set {name}.fields.instruction=FIELD")
        if self.limit is not None and self.limit < 1:
            found.append(f"{name}.limit is {self.limit}: choose 1 or more, or null for all")
        if self.path is None and self.hub is None:
            found.append(f"{name} is not at hand: set {name}.path=FILE_OR_FOLDER, or {name}.hub=ID")
        elif self.path is None and no_hub_id(str(self.hub), bare=True):
            found.append(f"{name}.hub is {self.hub!r}: that is no hub id (org/name); files of yours go to {name}.path")
        elif self.path is not None and not files_of(self.path):
            found.append(f"{name}.path is {self.path!r}: no such file, nor a folder with {', '.join(ENDINGS)} files")
        if not found and self.path is not None:
            try:
                next(self.pairs(name), None)
            except DataError as error:
                found.append(f"{name}: {error}")
        return found

    @cached_property
    def fingerprint(self) -> str:
        """A hash over the files' bytes; for the hub its id, revision, files and split."""
        if self.path is not None:
            return hash_of(files_of(self.path))
        return f"{self.hub}@{self.revision or 'main'}:{self.hub_files or ''}:{self.hub_split}"

    @property
    def location(self) -> str:
        """The path, or the set on the hub."""
        if self.path is not None:
            return self.path
        return f"hub: {self.hub}{f', {self.hub_files}' if self.hub_files else ''}" if self.hub else "not at hand"

    def pairs(self, name: str) -> Iterator[Pair]:
        """The records one by one; an id is `name/17` (counted from 0) or, where `fields` names the id, `name/ID`.

        A turn of a question of several is a pair of its own, `name/17/turn_2`, behind the one before it.

        Raises:
            DataError: a file cannot be read, a record is of another form, or an id comes twice; names the record.
        """
        spoken = self.languages if self.languages != MANY and "," not in self.languages else ""
        named = self._named
        number, referred, seen = 0, False, set[str]()
        for place, record in self._records(name):
            if number == self.limit:
                return
            own = self._parts(record, named, place)
            key = own.pop("id", None) or str(number)
            if "id" in named:
                if key in seen:
                    raise DataError(f"{place}: the id {key!r} has come before. Set its fields.id=null to count instead.")
                seen.add(key)
            language = _code(own.pop("language", "")) or spoken
            known = {"source": name, "licence": self.licence, "language": language, **own}
            for turn, asked in enumerate(known.pop("turns", ()), 1):
                referred |= asked["output"] != ""
                yield Pair(turn_id(f"{name}/{key}", turn), **known, **asked)
            if self.format != "turns":
                yield Pair(f"{name}/{key}", **known)
            number += 1
        if self.format == "turns" and "output" in named and not referred:
            log.warning("%s: no record of %s has a reference under %r", name, self.location, named["output"])
        if self.rows is not None and self.limit is None and number != self.rows:
            log.warning("%s: %s holds %d records, %d are published", name, self.location, number, self.rows)

    @property
    def _named(self) -> dict[str, str]:
        return {ours: theirs for ours, theirs in self.fields.items() if theirs}

    def _records(self, name: str) -> Iterator[tuple[str, Record]]:
        if self.path is not None:
            for file in files_of(self.path):
                yield from read(file)
        elif self.hub is not None:
            yield from read_hub(self.hub, self.hub_files, self.hub_split, self.revision)
        else:
            raise DataError(f"{name} is not at hand: give its path, or an id on the hub")

    def _parts(self, record: Record, named: Mapping[str, str], place: str) -> dict[str, Any]:
        """Our fields of one record."""
        form = self.format
        if form == "auto":
            signs = {key: sign for key, sign in _SIGNS.items() if key in record}
            form = "fields" if "instruction" in named else next(iter(signs.values()), "")
        if form == "sharegpt":
            parts = conversation(found(record, "conversations", place), "from", "value", place)
        elif form == "messages":
            parts = conversation(found(record, "messages", place), "role", "content", place)
        elif form == "alpaca":
            parts = alpaca(record, place)
        elif form == "fields":
            parts = {"instruction": "", "input": "", "output": ""}
        elif form == "turns":
            references = record.get(named.get("output", ""))
            parts = {"turns": questions(found(record, named["instruction"], place), references, place)}
            named = {ours: named[ours] for ours in ("id", "skill", "language") if ours in named}
        else:
            raise DataError(
                f"{place}: neither instruction, nor conversations, nor messages, but {names_of(record)}. "
                "Say which fields they are: fields.instruction=FIELD fields.output=FIELD."
            )
        for ours, theirs in named.items():
            value = found(record, theirs, place)
            parts[ours] = history(value, place) if ours == "history" else text_of(value, theirs, place)
        return parts


def _code(language: str) -> str:
    return language.lower().replace("_", "-").partition("-")[0]
