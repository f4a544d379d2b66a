"""No row's question is nearly a train question or one kept before, by ROUGE-L.

LLM2LLM (Lee et al., 2024) filters its generated questions so, Self-Instruct and Lion (at 0.7) theirs.
"""

from collections import defaultdict
from dataclasses import dataclass
from typing import ClassVar

from rapidfuzz import process
from rapidfuzz.distance import Indel

from errata.gate.base import Check, Context, words
from errata.records import Example


@dataclass
class Rouge:
    """Rejects `similar`: the ROUGE-L F-measure (in words) with a train question or a row kept before is above `most`.

    Attributes:
        most: the highest F-measure that is let through.
    """

    most: float = 0.95

    remembers: ClassVar[bool] = True

    def problems(self) -> list[str]:
        """A limit out of range."""
        if 0 < self.most < 1:
            return []
        return [f"gate.rouge.most is {self.most}: choose a value above 0 and below 1"]

    def open(self, context: Context) -> Check:
        """The check; it remembers every question it has let through, each word as one letter."""
        head = _head(context)
        letters: dict[str, str] = {}
        known: dict[int, list[str]] = defaultdict(list)  # by length: most lengths are too far from a row's to be compared
        names: dict[int, list[str]] = defaultdict(list)

        def remember(name: str, text: str) -> None:
            known[len(text)].append(text)
            names[len(text)].append(name)

        def spelled(text: str) -> str:
            return "".join(letters.setdefault(word, _letter(len(letters))) for word in words(text.removeprefix(head)))

        def nearest(text: str) -> tuple[float, str]:
            best, name, length = self.most, "", len(text)
            for other in sorted(known, key=lambda other: (abs(other - length), other)):
                if not length or 2 * min(other, length) / (other + length) <= best:
                    continue
                found = process.extractOne(text, known[other], scorer=Indel.normalized_similarity, score_cutoff=best)
                if found and found[1] > best + 1e-9:
                    best, name = found[1], names[other][found[2]]
            return best, name

        for name, text in [(q.id, context.dataset.show(q)) for q in context.train] + [
            (e.id, e.prompt) for e in context.earlier
        ]:
            remember(name, spelled(text))

        def check(row: Example) -> tuple[str, str] | None:
            text = spelled(row.prompt)
            score, name = nearest(text)
            if name:
                return "similar", f"ROUGE-L {score:.3f} with {name}, at most {self.most} allowed"
            remember(row.id, text)
            return None

        return check


def _head(context: Context) -> str:
    """The instruction that stands before every question, which says nothing about how alike two of them are."""
    if not context.train:
        return ""
    first = context.train[0]
    head, found, _ = context.dataset.show(first).partition(first.text)
    return head if found else ""


def _letter(number: int) -> str:
    """A letter of its own for each word, past the surrogates."""
    return chr(number + 32 if number + 32 < 0xD800 else number + 32 + 0x800)
