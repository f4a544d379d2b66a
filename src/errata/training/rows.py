"""Training rows as token ids: read in parallel, kept on disk by content, mapped into memory when they are trained on."""

import copy
import hashlib
import json
import os
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from errata.chat import ChatTemplateError, conversation_ids
from errata.errors import DataError
from errata.training.job import Job, file_digest
from errata.weights import Weights, load_tokenizer

_PART_BYTES = 4 << 20
_FORMAT = 1  # of the cached ids; raise it when they change
FINE, CUT, TOO_LONG, BAD = range(4)


def messages(row: Mapping[str, Any]) -> list[dict[str, str]]:
    """A row's conversation: {messages}, {prompt, response} or Alpaca's {instruction, input, output}; `system` is optional.

    Raises:
        ValueError: what the row lacks, in words.
    """
    if "messages" in row:
        found = row["messages"]
        if not isinstance(found, list) or not found or not all(isinstance(turn, Mapping) for turn in found):
            raise ValueError("messages must be a list of {role, content} objects, and not empty")
        turns = [{name: turn[name] for name in ("role", "content", "input") if name in turn} for turn in found]
    elif "prompt" in row or "response" in row:
        turns = _pair(row, "prompt", "response")
    elif "instruction" in row or "output" in row:
        turns = _pair(row, "instruction", "output")
        if row.get("input"):
            turns[0]["input"] = str(row["input"])
    else:
        raise ValueError(
            f"no prompt and response in it; it has {', '.join(map(str, row)) or 'nothing'}; expected {{prompt, response}}, "
            "{messages} or {instruction, input, output}"
        )
    if row.get("system") and turns[0]["role"] != "system":
        turns.insert(0, {"role": "system", "content": row["system"]})
    for turn in turns:
        if turn.get("role") not in ("system", "user", "assistant"):
            raise ValueError(f"a turn has the role {turn.get('role')!r}: choose system, user or assistant")
        if not isinstance(turn.get("content"), str) or not isinstance(turn.get("input", ""), str):
            raise ValueError(f"the {turn['role']} turn must be a text")
    answers = [turn["content"] for turn in turns if turn["role"] == "assistant"]
    if not answers or not answers[-1].strip() or turns[-1]["role"] != "assistant":
        raise ValueError("it has no response: the last turn must be the assistant's, and not empty")
    return turns


def _pair(row: Mapping[str, Any], asked: str, answered: str) -> list[dict[str, Any]]:
    missing = [name for name in (asked, answered) if row.get(name) is None]
    if missing:
        raise ValueError(f"the field {', '.join(map(repr, missing))} is missing; it has {', '.join(map(str, row))}")
    return [{"role": "user", "content": row[asked]}, {"role": "assistant", "content": row[answered]}]


@dataclass(frozen=True)
class Row:
    """One row: `ids` (length,) int64, and `trained` (length,) bool: which of them bear loss as the next token."""

    ids: np.ndarray
    trained: np.ndarray


class Rows(Sequence[Row]):
    """Rows in a memory-mapped file; only those in use are in memory.

    Attributes:
        lengths, trained: (rows,) int64, tokens of each row and how many of them bear loss.
        counts: `given` rows, and how many were `cut` or dropped as `too_long`.
    """

    def __init__(self, table: Any) -> None:
        status = _column(table, "status")
        self.counts = {
            "given": len(status),
            "cut": int((status == CUT).sum()),
            "too_long": int((status == TOO_LONG).sum()),
        }
        self._places = np.flatnonzero(status < TOO_LONG)
        self._table = table.select_columns(["ids"]).with_format("numpy")
        self.lengths = _column(table, "length")[self._places]
        self.trained = _column(table, "trained")[self._places]

    def divided(self, share: float, seed: int) -> tuple["Rows", "Rows"]:
        """Most of them, and a share drawn by the seed that is held out."""
        drawn = random.Random(f"{seed} dev").sample(range(len(self)), max(1, round(share * len(self))))
        held = np.zeros(len(self), dtype=bool)
        held[drawn] = True
        return self._only(~held), self._only(held)

    def _only(self, these: np.ndarray) -> "Rows":
        part = copy.copy(self)
        part._places, part.lengths, part.trained = self._places[these], self.lengths[these], self.trained[these]
        return part

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, place: Any) -> Any:
        """The row at a place, in the file's order."""
        signed = self._table[int(self._places[place])]["ids"].astype(np.int64)
        return Row(np.where(signed < 0, ~signed, signed), signed >= 0)


def read_rows(path: Path, job: Job, tokenizer: Any, cache: Path) -> Rows:
    """Tokenise a JSON Lines file by the model's template, or take what a former start has left in the cache.

    Ids are joined, never searched for in a text: responses and their end tokens are exactly what bears loss.

    Raises:
        DataError: lines that are no rows, with their numbers and what is wrong; or no row left.
    """
    from datasets import Dataset, Features, List, Value, disable_progress_bars

    with path.open("rb") as file:
        if not any(line.strip() for line in file):
            raise DataError(f"{path} is empty: there is no row to train on")
    if not sys.stderr.isatty():
        disable_progress_bars()
    decides = (file_digest(path), tokenizer_digest(tokenizer), job.weights.system, job.max_length, job.too_long)
    key = hashlib.sha256(json.dumps([_FORMAT, *decides]).encode()).hexdigest()[:32]
    size = path.stat().st_size
    parts = [(start, min(start + _PART_BYTES, size)) for start in range(0, size, _PART_BYTES)] or [(0, 0)]
    workers = min(len(parts), len(os.sched_getaffinity(0)))
    number = {"status": Value("int8"), "length": Value("int64"), "trained": Value("int64"), "start": Value("int64")}
    table = Dataset.from_generator(
        _tokenised,
        features=Features({"ids": List(Value("int32")), "problem": Value("string"), **number}),
        gen_kwargs={
            "parts": parts,
            "path": str(path),
            "weights": asdict(job.weights),
            "max_length": job.max_length,
            "too_long": job.too_long,
        },
        num_proc=workers if workers > 1 else None,
        cache_dir=str(cache),
        fingerprint=key,
    )
    bad = np.flatnonzero(_column(table, "status") == BAD)
    if len(bad):
        raise DataError(_complaint(path, table, bad))
    rows = Rows(table)
    if not len(rows):
        raise DataError(
            f"{path}: no row to train on: {rows.counts['given']} given, {rows.counts['too_long']} of them longer than "
            f"training.max_length={job.max_length} tokens"
        )
    return rows


def _complaint(path: Path, table: Any, bad: np.ndarray) -> str:
    lines = []
    for place in bad[:3]:
        found = table[int(place)]
        with path.open("rb") as file:
            line = 1 + file.read(found["start"]).count(b"\n")
        lines.append(f"line {line}: {found['problem']}")
    return f"{path}: {len(bad)} of {len(table)} rows cannot be trained on.\n" + "\n".join(lines)


def _tokenised(
    parts: list[tuple[int, int]], path: str, weights: dict[str, Any], max_length: int, too_long: str
) -> Iterator[dict[str, Any]]:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    tokenizer = _tokenizer(json.dumps(weights))
    with Path(path).open("rb") as file:
        for start, line in (found for part in parts for found in _lines(file, *part)):
            if not line.strip():
                continue
            row: dict[str, Any] = {"ids": [], "problem": "", "status": FINE, "length": 0, "trained": 0, "start": start}
            try:
                item = json.loads(line)
                if not isinstance(item, dict):
                    raise ValueError("a line must be one JSON object")
                ids, spans = conversation_ids(tokenizer, messages(item), weights["system"])
            except (ValueError, ChatTemplateError) as error:
                yield row | {"problem": str(error)[:500], "status": BAD}
                continue
            excess, first = len(ids) - max_length, spans[0][0]
            keep = int(ids[0] == tokenizer.bos_token_id)
            if excess > 0 and (too_long == "drop" or (too_long == "cut" and keep + excess >= first)):
                yield row | {"status": TOO_LONG}
                continue
            if excess > 0 and too_long == "error":
                yield row | {
                    "problem": f"{len(ids)} tokens, training.max_length is {max_length}: raise it, shorten the row, or "
                    "choose training.too_long=drop or cut",
                    "status": BAD,
                }
                continue
            signed = np.invert(np.asarray(ids, dtype=np.int32))
            for begin, end in spans:
                signed[begin:end] = ids[begin:end]
            if excess > 0:  # from the left of the prompt, behind the token that begins a text
                signed = np.concatenate([signed[:keep], signed[keep + excess :]])
                row["status"] = CUT
            yield row | {"ids": signed, "length": len(signed), "trained": int((signed >= 0).sum())}


def _lines(file: Any, start: int, stop: int) -> Iterator[tuple[int, bytes]]:
    """The lines that begin in [start, stop), each with its place in the file; split at newlines only."""
    file.seek(max(start - 1, 0))
    if start:
        file.readline()
    place = file.tell()
    while place < stop:
        line = file.readline()
        yield place, line
        place += len(line)


@lru_cache(maxsize=1)
def _tokenizer(weights: str) -> Any:
    return load_tokenizer(Weights(**json.loads(weights)))


def tokenizer_digest(tokenizer: Any) -> str:
    """Hash of all that decides the ids of a conversation."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    inner = backend.to_str() if backend is not None else repr((sorted(tokenizer.get_vocab().items()), tokenizer))
    named = json.dumps(tokenizer.special_tokens_map, sort_keys=True, default=str)
    return hashlib.sha256(f"{inner}\n{tokenizer.chat_template}\n{named}".encode()).hexdigest()


def _column(table: Any, name: str) -> np.ndarray:
    found: np.ndarray = table.data.column(name).to_numpy()
    return found
