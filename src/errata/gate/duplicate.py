"""No row repeats a train question or a row kept before, exactly or nearly (MinHash over word triples, datasketch).

Differs from the source, which compares exact question strings within one merge only.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from errata.gate.base import Check, Context, words
from errata.records import Example

if TYPE_CHECKING:
    from datasketch import MinHash

_PERMUTATIONS = 128
MOST = 0.98
"""With 128 permutations datasketch has no index for a similarity nearer to 1; the same words are found anyway."""


@dataclass
class Duplicate:
    """Rejects `duplicate` (the same words) and `near_duplicate`.

    Attributes:
        similarity: estimated Jaccard similarity of the word triples from which two questions count as near duplicates.
    """

    similarity: float = 0.8

    remembers: ClassVar[bool] = True

    def problems(self) -> list[str]:
        """A similarity out of range."""
        if 0 < self.similarity <= MOST:
            return []
        return [f"gate.duplicate.similarity is {self.similarity}: choose a value above 0 and up to {MOST}"]

    def open(self, context: Context) -> Check:
        """The check; it remembers every question it has let through."""
        from datasketch import MinHashLSH

        exact: dict[str, str] = {}
        near = MinHashLSH(threshold=self.similarity, num_perm=_PERMUTATIONS)

        def remember(name: str, key: str, sketch: "MinHash") -> None:
            if key not in exact:
                exact[key] = name
                near.insert(name, sketch)

        asked = [(question.id, context.dataset.show(question)) for question in context.train]
        for name, text in asked + [(row.id, row.prompt) for row in context.earlier]:
            remember(name, " ".join(words(text)), _sketch(text))

        def check(row: Example) -> tuple[str, str] | None:
            key = " ".join(words(row.prompt))
            if key in exact:
                return "duplicate", f"the same question as {exact[key]}"
            sketch = _sketch(row.prompt)
            if similar := near.query(sketch):
                return "near_duplicate", f"nearly the same question as {min(map(str, similar))}"
            remember(row.id, key, sketch)
            return None

        return check


def _sketch(text: str) -> "MinHash":
    from datasketch import MinHash

    found = words(text)
    sketch = MinHash(num_perm=_PERMUTATIONS, seed=1)
    sketch.update_batch([" ".join(found[i : i + 3]).encode() for i in range(max(1, len(found) - 2))])
    return sketch
