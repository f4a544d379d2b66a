"""Facility location: the few points that are near to all. Lazy greedy (Minoux, 1978), in blocks, never with all pairs held.

A choice is worth the sum, over all points, of the similarity to the nearest chosen one. What a point would add can only
shrink while others are chosen, so an old figure is a bound: only points whose bound could still win are looked at again.
Two points that are near to each other alone add the same: float64, rounded, so that such ties are ties.
"""

import heapq

import numpy as np

_BLOCK = 256  # points whose similarities to all are held at once, in the beginning
_AGAIN = 32  # points that are looked at again at once
_DIGITS = 9
SIMILARITIES = ("cosine", "euclidean")


def choose(vectors: np.ndarray, count: int, similarity: str = "cosine") -> list[int]:
    """Places of `count` rows in the order in which greedy choice takes them; of equal ones the first.

    Args:
        vectors: (points, dimension) float32, each of length 1.
        count: how many are wanted (all, where there are fewer).
        similarity: `cosine`; or `euclidean`, 1 less half the distance.
    """
    count = min(count, len(vectors))
    vectors = vectors.astype(np.float64)
    nearest = np.full(len(vectors), -1.0 if similarity == "cosine" else 0.0)
    bounds = np.concatenate([
        np.zeros(0), *(_gains(vectors, range(start, min(start + _BLOCK, len(vectors))), nearest, similarity)
                       for start in range(0, len(vectors), _BLOCK))
    ])  # fmt: skip
    waiting = [(-float(gain), place) for place, gain in enumerate(bounds)]
    heapq.heapify(waiting)
    chosen: list[int] = []
    while len(chosen) < count:
        place = _best(vectors, waiting, nearest, similarity, first=not chosen)
        chosen.append(place)
        np.maximum(nearest, _similar(vectors, vectors[place : place + 1], similarity)[:, 0], out=nearest)
    return chosen


def _best(vectors: np.ndarray, waiting: list[tuple[float, int]], nearest: np.ndarray, similarity: str, first: bool) -> int:
    """Take the place that adds most off the heap of (-bound, place); the bounds that were looked at again are put back."""
    fresh: list[tuple[float, int]] = []  # a heap too
    while not first and waiting and (not fresh or waiting[0] < fresh[0]):
        places = [heapq.heappop(waiting)[1] for _ in range(min(_AGAIN, len(waiting)))]
        for place, gain in zip(places, _gains(vectors, places, nearest, similarity), strict=True):
            heapq.heappush(fresh, (-float(gain), place))
    _, place = heapq.heappop(waiting if first else fresh)
    for one in fresh:
        heapq.heappush(waiting, one)
    return place


def _gains(vectors: np.ndarray, places: "range | list[int]", nearest: np.ndarray, similarity: str) -> np.ndarray:
    """What each place would add: (places,)."""
    more = _similar(vectors, vectors[places], similarity) - nearest[:, None]
    gains: np.ndarray = np.maximum(more, 0, out=more).sum(0).round(_DIGITS)
    return gains


def _similar(vectors: np.ndarray, others: np.ndarray, similarity: str) -> np.ndarray:
    """Similarities (points, others)."""
    cosines: np.ndarray = vectors @ others.T
    if similarity == "cosine":
        return cosines
    np.subtract(2, 2 * cosines, out=cosines)
    return 1 - np.sqrt(np.maximum(cosines, 0, out=cosines), out=cosines) / 2
