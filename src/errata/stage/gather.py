"""gather: instruction sets in, one mixture of their records out. Records stream by; only where they are is remembered."""

import random
import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from hashlib import blake2b
from typing import Any

import msgspec

from errata.corpus.base import Corpus
from errata.corpus.mixture import Mixture
from errata.digests import digest_of_file
from errata.errors import DataError
from errata.jsonl import streamed
from errata.records import Pair, Rejection
from errata.run_folder import Stage
from errata.terminal import bar

Objection = Callable[[Pair], tuple[str, str] | None]
"""Given a record, the (reason, evidence) it must not be in the mixture for, or None."""

_STEP = 1000  # records between two moves of the bar
_PERMUTATIONS = 128
_MARKS = bytes.maketrans(b".,;:?'\"", b" " * 7)  # two records that differ in these are the same; not so + - !
_UNSPACED = "\u0e00-\u0eff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"  # Thai, Japanese and Chinese: a letter is a word
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")


def gather(
    stage: Stage, corpora: Mapping[str, Corpus], mixture: Mixture, seed: int, objection: Objection | None = None
) -> None:
    """Write the mixture to pairs.jsonl, shuffled, and to dropped.jsonl what was left out, and why.

    A record is left out where it is empty, in another language or of a length that the mixture does not want, a duplicate of
    one before it (the same words in instruction, input and output: the same prompt with another output is none), nearly one,
    or where `objection` (the wall to the tests) says so. What then is left is drawn from by counts or shares. Memory holds a
    place and a hash a record. A killed stage is done anew, with the same result.

    Raises:
        DataError: a corpus cannot be read, or more records are wanted than there are.
    """
    if stage.finished:
        return
    read: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    starts = array("Q")
    left: dict[str, range] = {}
    seen = _Seen(mixture.near)

    def why_not(pair: Pair) -> tuple[str, str] | None:
        if reason := mixture.objection(pair):
            return reason, ""
        return (objection(pair) if objection is not None else None) or seen.before(pair)

    kept = stage.folder / "kept.partial"
    with kept.open("wb") as fitting, streamed(stage.folder / "dropped.jsonl") as rejected:
        for name, pair in _all(stage.name, corpora, read):
            if (language := mixture.language(pair)) != pair.language:
                pair = replace(pair, language=language)
            first = left.setdefault(name, range(len(starts), len(starts))).start
            if (why := why_not(pair)) is not None:
                dropped[f"{name} {why[0]}"] += 1
                rejection = Rejection(pair.id, name, *why, pair.prompt[:_STEP], "", 0)
                rejected.write(msgspec.json.encode(rejection) + b"\n")
                continue
            starts.append(fitting.tell())
            fitting.write(msgspec.json.encode(pair) + b"\n")
            left[name] = range(first, len(starts))
    if not starts:
        reasons = ", ".join(f"{reason} ({number})" for reason, number in dropped.most_common(3)) or "the files are empty"
        raise DataError(f"{stage.name}: none of {read.total()} records is left: {reasons}")
    drawn = mixture.draw({name: left.get(name, range(0)) for name in corpora}, seed)
    chosen = array("Q", (at for records in drawn.values() for at in records))
    random.Random(seed).shuffle(chosen)
    with kept.open("rb") as source, streamed(stage.folder / "pairs.jsonl") as out:
        for at in chosen:
            source.seek(starts[at])
            out.write(source.readline())
    kept.unlink()
    taken = {name: len(records) for name, records in drawn.items()}
    counts = {
        "read": read.total(), "read by corpus": {name: read[name] for name in corpora},
        "dropped": dropped.total(), "dropped by reason": dict(sorted(dropped.items())),
        "kept": len(chosen), "kept by corpus": taken,
    }  # fmt: skip
    stage.finish(counts, {name: digest_of_file(stage.folder / f"{name}.jsonl") for name in ("pairs", "dropped")})


def make_up(
    corpora: Mapping[str, Corpus], counts: Mapping[str, Any] | None
) -> tuple[str, tuple[str, ...], list[tuple[str, ...]]]:
    """Title, heads and rows of the table that says what a mixture is made of; without counts, what is published."""
    heads: tuple[str, ...] = ("corpus", "languages", "licence", "published", "where")
    if counts is not None:
        heads = (*heads[:-1], "read", "dropped", "taken", "share")
    rows: list[tuple[str, ...]] = []
    for name, corpus in corpora.items():
        published = "unknown" if corpus.rows is None else f"{corpus.rows:,}"
        cells = (name, corpus.languages or "unknown", corpus.licence or "unknown", published)
        if counts is None:
            rows.append((*cells, corpus.location))
            continue
        reasons = {
            key.partition(" ")[2]: number
            for key, number in counts["dropped by reason"].items()
            if key.partition(" ")[0] == name
        }
        why = f"{sum(reasons.values()):,}" + (f" ({', '.join(f'{r} {n:,}' for r, n in reasons.items())})" if reasons else "")
        taken = counts["kept by corpus"][name]
        share = f"{100 * taken / counts['kept']:.1f} %"
        rows.append((*cells, f"{counts['read by corpus'][name]:,}", why, f"{taken:,}", share))
    title = "the corpora" if counts is None else f"the mixture: {counts['kept']:,} records"
    return title, heads, rows


class _Seen:
    """The records so far, as hashes of their words; with `near`, as sketches of their word triples too."""

    def __init__(self, near: float | None) -> None:
        self._exact: set[int] = set()
        self._near: Any = None
        if near is not None:
            from datasketch import MinHashLSH

            self._near = MinHashLSH(threshold=near, num_perm=_PERMUTATIONS)

    def before(self, pair: Pair) -> tuple[str, str] | None:
        """Whether the record, or nearly it, has come before; if not, it has now."""
        turns = [text for turn in pair.history for text in turn]
        text = "\n".join([*turns, pair.instruction, pair.input, pair.output]).lower()
        key = blake2b(b" ".join(text.encode().translate(_MARKS).split()), digest_size=8)
        number = int.from_bytes(key.digest())
        if number in self._exact:
            return "duplicate", ""
        self._exact.add(number)
        if self._near is None:
            return None
        from datasketch import MinHash

        words = _WORD.findall(text)
        sketch = MinHash(num_perm=_PERMUTATIONS, seed=1)
        sketch.update_batch([" ".join(words[i : i + 3]).encode() for i in range(max(1, len(words) - 2))])
        if similar := self._near.query(sketch):
            return "near_duplicate", f"nearly the same as {min(map(str, similar))}"
        self._near.insert(pair.id, sketch)
        return None


def _all(title: str, corpora: Mapping[str, Corpus], read: Counter[str]) -> Iterator[tuple[str, Pair]]:
    """Every record of every corpus, counted and shown on the bar."""
    with bar(title, sum(corpus.rows or 0 for corpus in corpora.values())) as advance:
        for name, corpus in corpora.items():
            for pair in corpus.pairs(name):
                read[name] += 1
                if read[name] % _STEP == 0:
                    advance(_STEP, f"{read.total():,} records, now {name}")
                yield name, pair
