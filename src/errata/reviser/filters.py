"""What a revision must not do: small named checks, each of which keeps the original pair whole instead.

CoachLM recommends rules behind the coach (no non-English characters, no repeated strings, no over-long answers) and ships
none. Differs from the source: a text that offends is not mutilated; the pair is kept as it was, with the reason. The limits
are set on its 2,301 expert revisions, of which 12 (0.5 %) do not pass; `tests/reviser/test_filters.py` counts them.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from errata.records import Pair
from errata.reviser.markers import marker_in

UNCHANGED = "unchanged"
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|\w+")
_LABEL = re.compile(
    r"^(?:[^\S\n]|[*_#\[])*+((?:(?:revised|improved|new|better|original)\s+)?(?:instruction|response)|"
    r"(?:revised|improved|new|better|original)\s+(?:input|output))[\s*_\]]*:",
    re.IGNORECASE | re.MULTILINE,
)
_INPUT_LABEL = re.compile(r"[\s*_#\[]*input[\s*_\]]*:", re.IGNORECASE)
_TOGETHER = {"HIRAGANA": "CJK", "KATAKANA": "CJK", "KATAKANA-HIRAGANA": "CJK", "BOPOMOFO": "CJK", "IDEOGRAPHIC": "CJK"}
_FREE = {"", "GREEK", "MODIFIER"}  # mathematics, and marks that belong to no script
_SHORT = 20  # words: what is shorter repeats itself by chance
_LEAK = 25  # characters: shorter sentences are anybody's


@dataclass
class Filters:
    """The checks and their limits; a limit of null turns its check off.

    Attributes:
        most_foreign: `script`: the highest share of letters in scripts that the original pair does not use. Greek is free.
        most_repeated: `repetition`: the highest share of word 4-grams that have stood there before.
        most_same_lines: `repetition`: how often one line may come.
        most_ratio, most_chars: `over_length`: a response is too long that is both over that many times the original's
            length and over that many characters.
        labels: `labels`: no field label, marker, or sentence of the request may stand in the pair.
    """

    most_foreign: float | None = 0.0
    most_repeated: float | None = 0.3
    most_same_lines: int | None = 4
    most_ratio: float | None = 10.0
    most_chars: int = 1500
    labels: bool = True

    def problems(self, where: str = "reviser.filters") -> list[str]:
        """Limits that cannot be."""
        found = [
            f"{where}.{name} is {value}: choose a share from 0 up to 1, or null"
            for name, value in (("most_foreign", self.most_foreign), ("most_repeated", self.most_repeated))
            if value is not None and not 0 <= value <= 1
        ]
        if self.most_same_lines is not None and self.most_same_lines < 1:
            found.append(f"{where}.most_same_lines is {self.most_same_lines}: it must be at least 1, or null")
        if self.most_ratio is not None and not self.most_ratio >= 1:
            found.append(f"{where}.most_ratio is {self.most_ratio}: it must be at least 1, or null")
        if self.most_chars < 0:
            found.append(f"{where}.most_chars is {self.most_chars}: it must be 0 or more")
        return found

    def check(self, original: Pair, revised: Pair, request: str = "") -> tuple[str, str] | None:
        """The first reason to keep the original, and the evidence; None where there is none.

        `unchanged` is one of them: nothing is wrong with the pair, it is only no revision. `request` is what the reviser was
        asked, none of whose sentences may come back in the pair.
        """
        if _texts(original) == _texts(revised):
            return UNCHANGED, ""
        for name, find in _CHECKS.items():
            evidence = find(original, revised, self)
            if evidence is not None:
                return name, evidence
        leaked = leaked_sentence(original, revised, request) if self.labels else None
        return None if leaked is None else ("labels", leaked)


def empty(original: Pair, revised: Pair, limits: Filters) -> str | None:
    """The instruction or the response is empty."""
    for name, text in (("instruction", revised.instruction), ("response", revised.output)):
        if not text.strip():
            return f"the {name} is empty"
    return None


def script(original: Pair, revised: Pair, limits: Filters) -> str | None:
    """Letters in a script that the original does not use, Chinese in an English pair say."""
    if limits.most_foreign is None:
        return None
    known = _scripts(" ".join(_texts(original))).keys()
    there = _scripts(" ".join(_texts(revised)))
    foreign = {name: count for name, count in there.items() if name not in known and name not in _FREE}
    share = sum(foreign.values()) / max(sum(there.values()), 1)
    if share <= limits.most_foreign:
        return None
    return f"{', '.join(f'{count} {name}' for name, count in sorted(foreign.items()))} letters ({share:.1%})"


def repetition(original: Pair, revised: Pair, limits: Filters) -> str | None:
    """The response says the same again and again, and more so than the original did."""
    if limits.most_repeated is not None:
        share = _repeated(revised.output)
        if share > limits.most_repeated and share > _repeated(original.output):
            return f"{share:.0%} of the 4-grams have stood there before"
    if limits.most_same_lines is not None:
        line, times = _commonest_line(revised.output)
        if times > limits.most_same_lines and times > _commonest_line(original.output)[1]:
            return f"{times} times {line[:80]!r}"
    return None


def over_length(original: Pair, revised: Pair, limits: Filters) -> str | None:
    """The response has grown beyond measure."""
    before, after = len(original.output), len(revised.output)
    if limits.most_ratio is None or after <= limits.most_chars or after <= limits.most_ratio * before:
        return None
    return f"{after} characters, {before} before"


def labels(original: Pair, revised: Pair, limits: Filters) -> str | None:
    """A field's label or marker stands in the pair, and did not before."""
    if not limits.labels:
        return None
    before = "\n".join(_texts(original))
    known = {found.lower() for found in _LABEL.findall(before)}
    for text in _texts(revised):
        marker = marker_in(text)
        if marker is not None and marker_in(before) is None:
            return repr(marker)
        new = [found for found in _LABEL.findall(text) if found.lower() not in known]
        if new:
            return repr(new[0])
    if any(_INPUT_LABEL.match(text) for text in _texts(revised)) and not any(map(_INPUT_LABEL.match, _texts(original))):
        return "a field begins with 'Input:'"
    return None


def leaked_sentence(original: Pair, revised: Pair, request: str) -> str | None:
    """A sentence of the request that has come back in the pair."""
    before, after = (" ".join(" ".join(_texts(pair)).lower().split()) for pair in (original, revised))
    for sentence in re.split(r"(?<=[.:;])\s+", " ".join(request.split())):
        if len(sentence) >= _LEAK and sentence.lower() in after and sentence.lower() not in before:
            return f"of the request: {sentence!r}"
    return None


_CHECKS: dict[str, Callable[[Pair, Pair, Filters], str | None]] = {
    check.__name__: check for check in (empty, script, repetition, over_length, labels)
}


def _texts(pair: Pair) -> tuple[str, str, str]:
    return pair.instruction.strip(), pair.input.strip(), pair.output.strip()


def _scripts(text: str) -> Counter[str]:
    """How many letters there are of each script; what only looks otherwise (full width, mathematical bold) is normalised."""
    if text.isascii():
        return Counter(LATIN=sum(map(str.isalpha, text)))
    return Counter(_script(letter) for letter in unicodedata.normalize("NFKC", text) if letter.isalpha())


@lru_cache(maxsize=1 << 14)
def _script(letter: str) -> str:
    name = unicodedata.name(letter, "").partition(" ")[0]
    return _TOGETHER.get(name, name)


def _repeated(text: str) -> float:
    words = _WORD.findall(text.lower())
    if len(words) < _SHORT:
        return 0.0
    grams = list(zip(words, words[1:], words[2:], words[3:], strict=False))
    return 1 - len(set(grams)) / len(grams)


def _commonest_line(text: str) -> tuple[str, int]:
    lines = Counter(line.strip() for line in text.split("\n") if line.strip())
    return lines.most_common(1)[0] if lines else ("", 0)
