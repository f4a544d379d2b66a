"""Verdicts out of files, judged by the same rules without asking anybody.

Two kinds of file are read. A log of comparisons, as Cherry_LLM's evaluation leaves them: an entry holds `review` and
`scores` of the first order, `review_reverse` and `scores_reverse` of the second, and the answers (`Answer1`, `Answer2`).
Its repository publishes five test sets by two judges; GPT-4's give 507 wins, 225 ties and 298 losses over 1,030 items. Or
the `judgements.jsonl` of a run of ours.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from errata.digests import digest
from errata.errors import DataError
from errata.judge.base import Item
from errata.judge.comparison import UNPARSED, Scores, outcome, summarise
from errata.judge.rating import BEFORE
from errata.judge.rating import summarise as summarise_ratings
from errata.judge.reading import scores
from errata.records import Judgement, Reply, Request

_ENDINGS = (".json", ".jsonl")


@dataclass
class Recorded:
    """Recorded verdicts. The test sets are the files: one is called as its file is.

    Attributes:
        path: a file (JSON list, object with a list under `data`, or JSON Lines), a folder of such, a pattern
            (`logs/*_gpt4.json`), a run folder of `errata judge`, or a list of these.
        reverse_is_swapped: in the reverse order the scores stand as the answers were shown, second answer first
            (Cherry_LLM's logs do: the reviews say so); false where the log has already turned them round.
        unanimous, length_controlled: as of `pairwise`.
    """

    path: Any = "???"
    reverse_is_swapped: bool = True
    unanimous: bool = False
    length_controlled: bool = False

    asks: ClassVar[bool] = False
    compares: ClassVar[bool] = True

    def problems(self) -> list[str]:
        """Paths where there are no such files."""
        given = [str(path) for path in ([self.path] if isinstance(self.path, str) else self.path)]
        if not given:
            return ["judge.path is empty: name a file, a folder or a pattern"]
        missing = [path for path in given if not _files(path)]
        found = [f"judge.path is {path!r}: no .json or .jsonl file there" for path in missing]
        graded = [file for path in given for _, file in _files(path) if _judge_of(file) in ("Belle", "MMCU", "MTBench")]
        found += [
            f"judge.path: {file} holds grades, no comparisons; its figures are its run's (errata report)" for file in graded
        ]
        names = [name for path in given for name, _ in _files(path)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            found.append(f"judge.path names several files called {twice[0]}: test sets are told apart by file name")
        return found

    @property
    def fingerprint(self) -> str:
        """Hash of the files."""
        return digest([[name, digest(file.read_bytes())] for name, file in self._all()])

    def requests(self, item: Item) -> list[Request]:
        """None."""
        return []

    def judgement(self, item: Item, replies: Sequence[Reply]) -> Judgement:
        """It brings its own items: use `recorded`."""
        raise TypeError("recorded verdicts are taken whole from their files")

    def recorded(self) -> list[Judgement]:
        """Every entry's judgement, in the files' order.

        Raises:
            DataError: a file cannot be read, or an entry is neither a log's nor a judgement (names both); there are none, or
                an item is judged twice.
        """
        found = [judgement for name, file in self._all() for judgement in self._read(name, file)]
        if not found:
            raise DataError(f"judge.path is {self.path!r}: there are no verdicts in it")
        twice = [key for key, number in Counter((one.testset, one.id) for one in found).items() if number > 1]
        if twice:
            raise DataError(
                f"judge.path is {self.path!r}: {twice[0][1]} of the test set {twice[0][0]} is judged in it more than once, "
                f"and {len(twice) - 1} others. Name the files whose verdicts belong together, one run at a time"
            )
        return found

    def summary(self, judgements: Sequence[Judgement]) -> dict[str, object]:
        """The figures of comparisons; of ratings, where the files hold such."""
        if any(judgement.score is not None for judgement in judgements) and not any(j.orders for j in judgements):
            top = 5.0 if all((j.score or 0) <= 5 and (j.parts.get(BEFORE) or 0) <= 5 for j in judgements) else 100.0
            edges = (0.0, 3.5, 4.0, 4.5, 5.0) if top == 5 else (0.0, 40.0, 80.0, 90.0, 95.0, 100.0)
            return summarise_ratings(judgements, edges, edges[-2])
        return summarise(judgements, self.length_controlled)

    def _all(self) -> list[tuple[str, Path]]:
        given = [self.path] if isinstance(self.path, str) else self.path
        return [found for path in given for found in _files(str(path))]

    def _read(self, name: str, file: Path) -> Iterator[Judgement]:
        entries = _entries(file)
        own = [str(entry.get("id", entry.get("question_id", ""))) if isinstance(entry, dict) else "" for entry in entries]
        named = all(own) and len(set(own)) == len(own)
        for number, entry in enumerate(entries):
            where = f"{file}, entry {number}"
            if not isinstance(entry, dict):
                raise DataError(f"{where}: expected an object, found {type(entry).__name__}")
            if "testset" in entry and "orders" in entry:
                try:
                    stored = msgspec.convert(entry, Judgement)
                except msgspec.ValidationError as error:
                    raise DataError(f"{where}: no judgement of ours ({error})") from error
                yield self._again(stored)
            elif any(key in entry for key in ("review", "scores")) and any(
                key in entry for key in ("review_reverse", "scores_reverse")
            ):
                yield self._logged(name, own[number] if named else str(number), entry)
            else:
                raise DataError(
                    f"{where}: expected review or scores of both orders (review_reverse, scores_reverse), or a judgement; "
                    f"it has {', '.join(map(str, entry))}. Of a folder with other files too, name a pattern: "
                    "FOLDER/*_gpt4.json"
                )

    def _again(self, stored: Judgement) -> Judgement:
        if not stored.orders:
            return stored
        found, contradicts = outcome(stored.orders, self.unanimous)
        return replace(stored, outcome=found, contradicts=contradicts)

    def _logged(self, name: str, own: str, entry: dict[str, Any]) -> Judgement:
        forward, shown = (_pair(entry, f"scores{end}", f"review{end}") for end in ("", "_reverse"))
        reverse = (shown[1], shown[0]) if shown is not None and self.reverse_is_swapped else shown
        found, contradicts = outcome((forward, reverse), self.unanimous)
        lengths = len(str(entry.get("Answer1", ""))), len(str(entry.get("Answer2", "")))
        skill = str(entry.get("category") or entry.get("skill") or "")
        return Judgement(
            f"{name}/{own}", name, skill, found, (forward, reverse), contradicts,
            reason="" if found else UNPARSED, lengths=lengths,
        )  # fmt: skip


def _pair(entry: dict[str, Any], scored: str, reviewed: str) -> Scores | None:
    """The scores as recorded (a list, or one as text; negative ones mark a failure), or else as the review has them."""
    value = entry.get(scored)
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            value = None
    if isinstance(value, list) and len(value) == 2 and all(isinstance(part, int | float) and part >= 0 for part in value):
        return float(value[0]), float(value[1])
    return scores(str(entry.get(reviewed) or ""))


def _judge_of(file: Path) -> str:
    """What judged a run of ours; "" for other files."""
    manifest = file.parent.parent / "run.json"
    if file.name != "judgements.jsonl" or not manifest.is_file():
        return ""
    kind: str = json.loads(manifest.read_bytes())["config"].get("judge", {}).get("kind", "")
    return kind.rpartition(".")[2]


def _files(path: str) -> list[tuple[str, Path]]:
    """The files that a path names, each with the name of its test set."""
    place = Path(path).expanduser()
    run = place / "judge" / "judgements.jsonl"
    if run.is_file():
        return [(place.name, run)]
    if place.is_file():
        return [(place.stem, place)]
    if place.is_dir():
        return [(file.stem, file) for file in sorted(place.iterdir()) if file.suffix in _ENDINGS]
    if "*" in place.name or "?" in place.name:
        return [(file.stem, file) for file in sorted(place.parent.glob(place.name)) if file.suffix in _ENDINGS]
    return []


def _entries(file: Path) -> list[Any]:
    content = file.read_bytes()
    try:
        if file.suffix == ".jsonl":
            return [msgspec.json.decode(line) for line in content.split(b"\n") if line.strip()]
        whole = msgspec.json.decode(content)
    except msgspec.DecodeError as error:
        raise DataError(f"{file}: not JSON ({error})") from error
    entries = whole.get("data") if isinstance(whole, dict) else whole
    if not isinstance(entries, list):
        raise DataError(f"{file}: expected a list of entries, or an object that holds one under `data`")
    return entries
