"""Errors grouped by what they are about (k-means of their questions' vectors, FAISS); every group gets as much as another.

A kind of mistake that came up once is then practised as much as one that came up fifty times. Errors of form (a refusal, no
answer found) can be a group of their own: they say nothing about the subject.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from errata.allocation.base import Allocation, Embed, Share
from errata.cases import apportion
from errata.errors import DataError
from errata.records import Attempt


@dataclass
class ByCluster(Allocation):
    """As many problems for each cluster, shared out evenly within it.

    Attributes:
        clusters: how many.
        apart: kinds of error that are a group of their own, whatever they are about.
    """

    clusters: int = 8
    apart: list[str] = field(default_factory=list)

    embeds: ClassVar[bool] = True

    def problems(self) -> list[str]:
        """No clusters."""
        found = super().problems()
        if self.clusters < 1:
            found.append(f"allocation.clusters is {self.clusters}: it must be at least 1")
        return found

    def spend(self, errors: Sequence[Attempt], asked: Sequence[Attempt], each: int, embed: Embed, seed: int) -> list[Share]:
        """Equal parts for the groups."""
        groups = self.groups(errors, embed, seed)
        sizes = Counter(groups)
        totals = apportion(each * len(errors), [1.0] * len(sizes))
        within = {
            group: iter(apportion(total, [1.0] * size)) for (group, size), total in zip(sizes.items(), totals, strict=True)
        }
        return [Share(next(within[group]), group) for group in groups]

    def fitted(self, errors: Sequence[Attempt]) -> "ByCluster":
        """No more clusters than errors."""
        alike = sum(error.kind not in self.apart for error in errors)
        return replace(self, clusters=max(1, min(self.clusters, alike)))

    def groups(self, errors: Sequence[Attempt], embed: Embed, seed: int) -> list[str]:
        """The name of each error's group: `cluster 3`, or its kind where that stands apart.

        Raises:
            DataError: there are fewer errors than clusters.
        """
        alike = [error for error in errors if error.kind not in self.apart]
        if alike and len(alike) < self.clusters:
            raise DataError(
                f"allocation.clusters={self.clusters}, and there are {len(alike)} errors to cluster: use fewer clusters, "
                "or allocation=uniform"
            )
        places = iter(kmeans(embed([error.question.text for error in alike]), self.clusters, seed) if alike else [])
        return [error.kind or "" if error.kind in self.apart else f"cluster {next(places)}" for error in errors]


def kmeans(vectors: np.ndarray, clusters: int, seed: int) -> list[int]:
    """The cluster of each vector, 0 to clusters - 1, the same for the same seed."""
    import faiss

    means = faiss.Kmeans(
        vectors.shape[1], clusters, niter=25, nredo=3, seed=seed + 1, spherical=True, min_points_per_centroid=1
    )
    means.train(np.ascontiguousarray(vectors, np.float32))
    return [int(place) for place in means.index.search(np.ascontiguousarray(vectors, np.float32), 1)[1][:, 0]]
