"""No row shares its text with a test split of any dataset in the run. This gate cannot be left out.

The words of the tests are numbered, and each run of `ngram` of them is kept as a 64-bit hash, all in one sorted array. A row
is looked up by the hashes of its own runs, and what that finds is compared word by word before it counts. A word of no test
ends a run, so that a row without a long run of known words is done with once its words are numbered. Nothing is remembered
about rows.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from errata.gate.base import Check, Context, words
from errata.records import Example, Question

_Hashes = NDArray[np.uint64]
_UNKNOWN, _END = 0, 1  # the numbers of a word that no test has, and of a test's end
_BASE = 0x9E3779B97F4A7C15  # odd, so that its powers have inverses modulo 2^64


@dataclass
class Leak:
    """Rejects `leak`: the same question as a test item's, or `ngram` words in a row in common with one.

    Attributes:
        ngram: how many words in a row count as a leak (13, as is usual since GPT-3).
        short: a test question of fewer words than `ngram`, but at least so many, leaks where a row holds all of it in a row.
        similarity: cosine to a test question, by the encoder of `retrieval`, from which a row counts as a paraphrase of it
            (None: not looked at). One vector a row: some milliseconds each.
    """

    ngram: int = 13
    short: int = 8
    similarity: float | None = None

    @property
    def embeds(self) -> bool:
        """Whether it needs vectors."""
        return self.similarity is not None

    remembers: ClassVar[bool] = False

    def problems(self) -> list[str]:
        """Sizes that would let everything or nothing through."""
        found = []
        if not 5 <= self.ngram <= 50:
            found.append(f"gate.leak.ngram is {self.ngram}: choose 5 to 50 words")
        if self.short < 5:
            found.append(f"gate.leak.short is {self.short}: choose 5 words or more")
        if self.similarity is not None and not 0 < self.similarity <= 1:
            found.append(f"gate.leak.similarity is {self.similarity}: choose a cosine above 0 and up to 1, or null")
        return found

    def open(self, context: Context) -> Check:
        """The check; it holds every test question as numbers, and the hashes of its runs."""
        wall = _Wall(context.tests, self.ngram, self.short)
        alike = self._paraphrase(context)

        def check(row: Example) -> tuple[str, str] | None:
            shared = wall.shared(words(row.prompt), words(row.response)) or alike(row)
            return ("leak", shared) if shared else None

        return check

    def _paraphrase(self, context: Context) -> Callable[[Example], str | None]:
        """What test question a row means the same as, if that is looked at."""
        embed, least = context.embed, self.similarity
        if embed is None or least is None or not context.tests:
            return lambda row: None
        tests = embed([test.text for test in context.tests])

        def alike(row: Example) -> str | None:
            cosines = tests @ embed([row.prompt])[0]
            near = int(cosines.argmax())
            return f"cosine {cosines[near]:.3f} to {context.tests[near].id}" if cosines[near] >= least else None

        return alike


class _Wall:
    """The test questions, looked up by what a row has in common with them."""

    def __init__(self, tests: Sequence[Question], ngram: int, short: int) -> None:
        self._ngram, self._short = ngram, min(short, ngram)
        self._names = [test.id for test in tests]
        self._numbers: dict[str, int] = {}
        self._wholes: dict[int, list[int]] = {}
        known, start = self._numbers, 0
        texts, starts, long, brief = [], [], [], []
        for test in tests:
            numbers = np.array([known.setdefault(word, len(known) + 2) for word in words(test.text)], np.uint64)
            sums = _sums(numbers)
            self._wholes.setdefault(int(sums[-1]), []).append(start)
            if len(numbers) >= ngram:
                long.append((_hashes(sums, ngram), start))
            elif len(numbers) >= short:
                brief.append((_hashes(sums[: short + 1], short), start))
            texts.append(np.append(numbers, _END).astype(np.int32))
            starts.append(start)
            start += len(numbers) + 1
        self._text = np.concatenate([np.zeros(0, np.int32), *texts])
        self._starts = np.array(starts, np.int64)
        self._long, self._brief = _Runs(long), _Runs(brief)

    def shared(self, asked: Sequence[str], answered: Sequence[str]) -> str:
        """What a row of these words shares with a test question, in words; empty where that is nothing."""
        said = [*asked, *answered]
        numbers = np.fromiter(map(self._numbers.get, said, repeat(_UNKNOWN)), np.uint64, len(said))
        sums, end = _sums(numbers), len(asked)
        for place in reversed(self._wholes.get(int(sums[end]), ())):
            if self._same(place, end + 1, np.append(numbers[:end], np.uint64(_END))):
                return f"the same question as {self._name(place)}"
        longest = _longest_known(numbers)
        if longest >= self._ngram:
            for at, place in self._long.find(_hashes(sums, self._ngram)):
                if self._same(place, self._ngram, numbers[at : at + self._ngram]):
                    common = " ".join(said[at : at + self._ngram])
                    return f"{self._ngram} words in a row in common with {self._name(place)}: {common}"
        if longest >= self._short:
            for at, place in self._brief.find(_hashes(sums, self._short)):
                size = int((self._text[place : place + self._ngram] == _END).argmax())
                if self._same(place, size, numbers[at : at + size]):
                    return f"all {size} words of {self._name(place)} in a row: {' '.join(said[at : at + size])}"
        return ""

    def _same(self, place: int, size: int, numbers: _Hashes) -> bool:
        return np.array_equal(self._text[place : place + size], numbers)

    def _name(self, place: int) -> str:
        return self._names[int(self._starts.searchsorted(place, side="right")) - 1]


class _Runs:
    """Hashes of runs of words, sorted, and where in the tests' text each run begins."""

    def __init__(self, parts: Sequence[tuple[_Hashes, int]]) -> None:
        hashes = np.concatenate([np.zeros(0, np.uint64), *(part for part, _ in parts)])
        places = np.concatenate([np.zeros(0, np.int64), *(start + np.arange(len(part)) for part, start in parts)])
        order = hashes.argsort(kind="stable")
        self._hashes, self._places = hashes[order], places[order].astype(np.int32)
        bits = (8 * len(hashes)).bit_length() or 1  # one place in eight to sixteen is taken: it saves most of the searches
        self._shift = np.uint64(64 - bits)
        self._taken = np.zeros(1 << bits, np.bool_)
        self._taken[hashes >> self._shift] = True

    def find(self, hashes: _Hashes) -> Iterator[tuple[int, int]]:
        """Which of the hashes are here, in their order, and the places of each, the last one first."""
        maybe = self._taken[hashes >> self._shift].nonzero()[0]
        if not len(maybe):
            return
        first = self._hashes.searchsorted(hashes[maybe])
        here = (self._hashes.take(first, mode="clip") == hashes[maybe]).nonzero()[0]
        for at, low in zip(maybe[here], first[here], strict=True):
            for one in range(int(self._hashes.searchsorted(hashes[at], side="right")) - 1, int(low) - 1, -1):
                yield int(at), int(self._places[one])


@functools.lru_cache(maxsize=32)
def _powers_of(bits: int) -> tuple[_Hashes, _Hashes]:
    """The first 2^bits powers of the base, and of its inverse."""
    inverse = pow(_BASE, -1, 1 << 64)
    ones, others = np.full(1 << bits, _BASE, np.uint64), np.full(1 << bits, inverse, np.uint64)
    ones[0] = others[0] = 1
    return np.cumprod(ones, dtype=np.uint64), np.cumprod(others, dtype=np.uint64)


def _powers(count: int) -> tuple[_Hashes, _Hashes]:
    return _powers_of(max(10, count.bit_length()))


def _sums(numbers: _Hashes) -> _Hashes:
    """Sums of numbers times powers of the base (modulo 2^64) over the first 0, 1, 2, ... numbers."""
    sums = np.zeros(len(numbers) + 1, np.uint64)
    np.cumsum(numbers * _powers(len(numbers))[0][: len(numbers)], out=sums[1:])
    return sums


def _hashes(sums: _Hashes, size: int) -> _Hashes:
    """The hash of each run of `size` numbers, the same wherever the run stands."""
    count = max(0, len(sums) - size)
    return (sums[size:] - sums[:count]) * _powers(count)[1][:count]


def _longest_known(numbers: _Hashes) -> int:
    """The length of the longest run of known words."""
    longest, begin = 0, 0
    for at in [*(numbers == _UNKNOWN).nonzero()[0].tolist(), len(numbers)]:
        longest, begin = max(longest, at - begin), at + 1
    return longest
