"""Retrieval of the k nearest successes (LLMs-as-Instructors, "Learning from Error by Contrast")."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from errata.identity import neutral
from errata.records import Attempt
from errata.retrieval.cache import EmbeddingCache
from errata.retrieval.index import recall, search

Vectors = np.ndarray
"""(number of texts, dimension), float32, each row of length 1: the inner product of two is their cosine."""


class Encoder(Protocol):
    """Texts to vectors."""

    @property
    def fingerprint(self) -> str:
        """Names the weights and all settings that can change a vector."""
        ...

    def encode(self, texts: Sequence[str]) -> Vectors:
        """The texts' vectors, in their order."""
        ...


@dataclass
class Retrieval:
    """Base of the options: how many neighbours, which may be taken, and by what index they are found.

    Attributes:
        k: neighbours of each error.
        index: `flat` (exact), `hnsw` or `ivf` (approximate).
        same_skill: only neighbours of the error's own subject or kind.
        least_similarity: cosine below which a success is no neighbour (-1: none is too far).
        most_uses: how often one success may be shown in all (None: without limit, as in the source).
        diversity: maximal marginal relevance (Carbonell and Goldstein 1998), 0 is nearness alone, 1 diversity alone.
        cache: the file of all embeddings (None: embeddings.sqlite in `output_dir`).
    """

    k: int = 2
    index: str = "flat"
    same_skill: bool = False
    least_similarity: float = -1.0
    most_uses: int | None = None
    diversity: float = 0.0
    cache: str | None = neutral(None)

    def problems(self) -> list[str]:
        """Settings out of range."""
        found = []
        if self.k < 1:
            found.append(f"retrieval.k is {self.k}: it must be at least 1")
        if self.index not in ("flat", "hnsw", "ivf"):
            found.append(f"retrieval.index is {self.index!r}: choose flat, hnsw or ivf")
        if not -1 <= self.least_similarity <= 1:
            found.append(f"retrieval.least_similarity is {self.least_similarity}: a cosine lies from -1 to 1")
        if self.most_uses is not None and self.most_uses < 1:
            found.append(f"retrieval.most_uses is {self.most_uses}: it must be at least 1, or null")
        if not 0 <= self.diversity <= 1:
            found.append(f"retrieval.diversity is {self.diversity}: choose a share from 0 to 1")
        return found

    @property
    def encoder(self) -> Encoder:
        """What turns questions into vectors."""
        raise NotImplementedError

    def neighbours(
        self, errors: Sequence[Attempt], successes: Sequence[Attempt], cache: Path
    ) -> tuple[list[list[tuple[Attempt, float]]], dict[str, Any]]:
        """For each error its nearest successes with their cosines, nearest first, and what was done.

        There may be fewer than k where the rules leave no more. A success is never the error's own question.
        """
        with self._stored(cache) as stored:
            known = stored.hits
            questions = stored.vectors(self.encoder, [error.question.text for error in errors])
            pool = stored.vectors(self.encoder, [success.question.text for success in successes])
            new = stored.misses
        depth = self._depth(len(successes))
        folder = cache.parent / "indexes"
        cosines, places = search(pool, questions, depth, self.index, folder)
        uses: Counter[int] = Counter()
        found = [
            self._choose(error, successes, pool, near, similar, uses)
            for error, near, similar in zip(errors, places, cosines, strict=True)
        ]
        exact = {}
        if self.index != "flat":
            exact["recall of the exact k"] = round(
                recall(pool, questions[:1000], min(self.k, len(pool)), self.index, folder), 4
            )
        short = sum(len(neighbours) < self.k for neighbours in found)
        counts: dict[str, Any] = {
            "errors": len(errors),
            "pool": len(successes),
            "embedded": new,
            "from the cache": stored.hits - known,
        }
        counts |= exact
        return found, counts | ({"with fewer neighbours than k": short} if short else {})

    def vectors(self, texts: Sequence[str], cache: Path) -> Vectors:
        """The texts' vectors."""
        with self._stored(cache) as stored:
            return stored.vectors(self.encoder, texts)

    def _stored(self, cache: Path) -> EmbeddingCache:
        return EmbeddingCache(Path(self.cache).expanduser() if self.cache else cache)

    def _depth(self, pool: int) -> int:
        """How many candidates to look at before the rules choose."""
        plain = not (self.same_skill or self.most_uses or self.diversity)
        return min(pool, self.k + 1 if plain else max(50, 20 * self.k) if not self.same_skill else pool)

    def _choose(
        self,
        error: Attempt,
        successes: Sequence[Attempt],
        pool: Vectors,
        near: Sequence[int],
        similar: Sequence[float],
        uses: Counter[int],
    ) -> list[tuple[Attempt, float]]:
        asked = " ".join(error.question.text.split())
        candidates = [
            (int(place), float(cosine))
            for place, cosine in zip(near, similar, strict=True)
            if place >= 0
            and cosine >= self.least_similarity
            and successes[place].question.id != error.question.id
            and " ".join(successes[place].question.text.split()) != asked
            and not (self.same_skill and successes[place].question.skill != error.question.skill)
            and not (self.most_uses is not None and uses[place] >= self.most_uses)
        ]
        chosen: list[tuple[int, float]] = []
        while candidates and len(chosen) < self.k:
            best = max(candidates, key=lambda one: self._worth(one, chosen, pool)) if self.diversity else candidates[0]
            chosen.append(best)
            candidates.remove(best)
        uses.update(place for place, _ in chosen)
        return [(successes[place], cosine) for place, cosine in chosen]

    def _worth(self, one: tuple[int, float], chosen: Sequence[tuple[int, float]], pool: Vectors) -> float:
        repeated = max((float(pool[one[0]] @ pool[place]) for place, _ in chosen), default=-math.inf)
        return (1 - self.diversity) * one[1] - (self.diversity * repeated if chosen else 0.0)
