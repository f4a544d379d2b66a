"""How much of each instruction set a mixture takes, and which records it leaves out."""

import functools
import math
import random
from bisect import bisect_left
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from errata.errors import DataError
from errata.records import Pair

_NEAREST = 0.98  # datasketch has no index for a similarity nearer to 1
_ENOUGH = 2000  # characters by which a language is identified


@dataclass
class Mixture:
    """Which records are taken. What is said of a corpus is said by its name in the config.

    Attributes:
        counts: so many records of a corpus; of those not named, all.
        shares: what part of the mixture each corpus is, in all 1; with no `size`, the largest mixture of these shares.
        size: so many records in all; with no `shares`, drawn from all corpora together.
        languages: keep records in these languages (ISO 639 codes) only; none: all. A record whose corpus does not say its
            language is identified by py3langid.
        least_output_chars, most_output_chars: bounds of the output's length.
        most_prompt_chars: bound of the length of instruction and input.
        near: estimated Jaccard similarity of word triples from which two records count as near duplicates (null: only the
            same words are duplicates). It takes about 3 KB of memory and 0.2 ms a record.
    """

    counts: dict[str, int] = field(default_factory=dict)
    shares: dict[str, float] = field(default_factory=dict)
    size: int | None = None
    languages: list[str] = field(default_factory=list)
    least_output_chars: int = 1
    most_output_chars: int | None = None
    most_prompt_chars: int | None = None
    near: float | None = None

    def problems(self, names: Collection[str]) -> list[str]:
        """What does not fit together, or not with the chosen corpora (`names`)."""
        found = []
        chosen = ", ".join(names)
        for what, named in (("counts", self.counts), ("shares", self.shares)):
            unknown = [name for name in named if name not in names]
            found += [f"mixture.{what}.{name}: there is no such corpus in this run; there are {chosen}" for name in unknown]
        found += [f"mixture.counts.{name} is {count}: choose 1 or more" for name, count in self.counts.items() if count < 1]
        found += [
            f"mixture.shares.{name} is {share}: choose more than 0" for name, share in self.shares.items() if share <= 0
        ]
        total = math.fsum(self.shares.values())
        if self.shares and abs(total - 1) > 1e-6:
            said = " + ".join(f"{name} {share:g}" for name, share in self.shares.items())
            found.append(f"mixture.shares are {said} = {total:g}: they must come to 1")
        if self.shares and (missing := [name for name in names if name not in self.shares]):
            found.append(f"mixture.shares leaves out {', '.join(missing)}: name a share for it, or take it out of corpus")
        if self.counts and self.shares:
            found.append("mixture.counts and mixture.shares are both set: choose one of them")
        if self.counts and self.size is not None:
            found.append("mixture.counts and mixture.size are both set: the counts say how many there are in all")
        known = _identifier().labels if self.languages else ()
        found += [
            f"mixture.languages has {code!r}: choose ISO 639 codes of {', '.join(sorted(known))}"
            for code in self.languages
            if code not in known
        ]
        for name in ("size", "most_output_chars", "most_prompt_chars"):
            value = getattr(self, name)
            if value is not None and value < 1:
                found.append(f"mixture.{name} is {value}: choose 1 or more, or null")
        if self.most_output_chars is not None and self.most_output_chars < self.least_output_chars:
            found.append(
                f"mixture.most_output_chars is {self.most_output_chars}, less than "
                f"mixture.least_output_chars, {self.least_output_chars}: nothing would be left"
            )
        if self.near is not None and not 0 < self.near <= _NEAREST:
            found.append(f"mixture.near is {self.near}: choose a similarity above 0 and up to {_NEAREST}, or null")
        return found

    def language(self, pair: Pair) -> str:
        """The record's language; identified only where it is unknown and languages are chosen."""
        if pair.language or not self.languages:
            return pair.language
        return str(_identifier().classify(f"{pair.output}\n{pair.prompt}"[:_ENOUGH])[0])

    def objection(self, pair: Pair) -> str:
        """Why a record is left out by itself: `empty`, `language`, `short_output`, `long_output`, `long_prompt`; or ""."""
        if not pair.instruction.strip() or not pair.output.strip():
            return "empty"
        if self.languages and pair.language not in self.languages:
            return "language"
        if len(pair.output) < self.least_output_chars:
            return "short_output"
        if self.most_output_chars is not None and len(pair.output) > self.most_output_chars:
            return "long_output"
        if self.most_prompt_chars is not None and len(pair.prompt) > self.most_prompt_chars:
            return "long_prompt"
        return ""

    def draw(self, left: Mapping[str, Sequence[int]], seed: int) -> dict[str, Sequence[int]]:
        """Which of the records that are `left` are taken, by corpus: a seeded draw without repetition, in their order.

        Raises:
            DataError: more are wanted than there are.
        """
        total = sum(map(len, left.values()))
        if self.size is not None and not self.shares:
            if self.size > total:
                raise _too_few([f"{self.size} records are wanted (mixture.size), {total} are left in all"])
            drawn = sorted(random.Random(f"{seed}").sample(range(total), self.size))
            return _back(left, drawn)
        available = {name: len(records) for name, records in left.items()}
        if none := [name for name in self.shares if not available[name]]:
            raise _too_few([f"mixture.shares has {name}, of which no record is left" for name in none])
        wanted = self._by_shares(available) if self.shares else {**available, **self.counts}
        short = [
            f"{wanted[name]} records of {name} are wanted, {number} are left"
            for name, number in available.items()
            if wanted[name] > number
        ]
        if short:
            raise _too_few(short)
        return {name: _sample(left[name], wanted[name], f"{seed}/{name}") for name in left}

    def _by_shares(self, available: Mapping[str, int]) -> dict[str, int]:
        if self.size is not None:
            return _apportion(self.shares, self.size)
        largest = min(math.floor(available[name] / share + 1e-9) for name, share in self.shares.items())
        return _apportion(self.shares, largest)


def _too_few(short: Sequence[str]) -> DataError:
    return DataError(f"the mixture: {'; '.join(short)} after the checks. Ask for fewer, or let more through.")


def _sample(records: Sequence[int], count: int, seed: str) -> Sequence[int]:
    if count == len(records):
        return records
    return [records[at] for at in sorted(random.Random(seed).sample(range(len(records)), count))]


def _back(left: Mapping[str, Sequence[int]], drawn: Sequence[int]) -> dict[str, Sequence[int]]:
    """Places among all records, in order, as records of their corpora."""
    found: dict[str, Sequence[int]] = {}
    first = at = 0
    for name, records in left.items():
        end = bisect_left(drawn, first + len(records), at)
        found[name] = [records[place - first] for place in drawn[at:end]]
        first, at = first + len(records), end
    return found


def _apportion(shares: Mapping[str, float], size: int) -> dict[str, int]:
    """`size` in whole numbers by shares, the largest remainders rounded up."""
    exact = {name: size * share for name, share in shares.items()}
    whole = {name: math.floor(number + 1e-9) for name, number in exact.items()}
    rest = sorted(exact, key=lambda name: (whole[name] - exact[name], name))
    for name in rest[: max(0, size - sum(whole.values()))]:
        whole[name] += 1
    return whole


@functools.cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE)
