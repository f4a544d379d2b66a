"""No row shares its text with a test split of any dataset in the run. This gate cannot be left out."""

from dataclasses import dataclass

from errata.gate.base import Check, Context, words
from errata.records import Example


@dataclass
class Leak:
    """Rejects `leak`: the same question as a test item's, or `ngram` words in a row in common with one.

    Attributes:
        ngram: how many words in a row count as a leak (13, as is usual since GPT-3).
    """

    ngram: int = 13

    def problems(self) -> list[str]:
        """An n-gram size that would let everything or nothing through."""
        if 5 <= self.ngram <= 50:
            return []
        return [f"gate.leak.ngram is {self.ngram}: choose 5 to 50 words"]

    def open(self, context: Context) -> Check:
        """The check; it holds the n-grams of every test question."""
        exact = {tuple(words(question.text)): question.id for question in context.tests}
        grams = {gram: question.id for question in context.tests for gram in self._grams(question.text)}

        def check(row: Example) -> tuple[str, str] | None:
            if name := exact.get(tuple(words(row.prompt))):
                return "leak", f"the same question as {name}"
            for gram in self._grams(row.prompt + "\n" + row.response):
                if name := grams.get(gram):
                    return "leak", f"{self.ngram} words in a row in common with {name}: {' '.join(gram)}"
            return None

        return check

    def _grams(self, text: str) -> list[tuple[str, ...]]:
        found = words(text)
        return [tuple(found[i : i + self.ngram]) for i in range(len(found) - self.ngram + 1)]
