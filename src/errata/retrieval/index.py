"""The FAISS index: exact by default, approximate when asked."""

from typing import Any

import numpy as np

_HNSW_LINKS, _HNSW_BUILD, _HNSW_SEARCH = 32, 200, 128
_IVF_PROBES = 32


def build(vectors: np.ndarray, kind: str = "flat") -> Any:
    """An index over normalised vectors, by inner product: `flat`, `hnsw` or `ivf` (4 sqrt(n) cells)."""
    import faiss

    number, size = vectors.shape
    made: Any
    if kind == "hnsw":
        made = faiss.IndexHNSWFlat(size, _HNSW_LINKS, faiss.METRIC_INNER_PRODUCT)
        made.hnsw.efConstruction, made.hnsw.efSearch = _HNSW_BUILD, _HNSW_SEARCH
    elif kind == "ivf":
        cells = max(1, min(int(4 * number**0.5), number // 39 or 1))
        made = faiss.IndexIVFFlat(faiss.IndexFlatIP(size), size, cells, faiss.METRIC_INNER_PRODUCT)
        made.nprobe = min(cells, _IVF_PROBES)
        made.train(vectors)
    else:
        made = faiss.IndexFlatIP(size)
    made.add(vectors)
    return made


def search(pool: np.ndarray, queries: np.ndarray, k: int, kind: str = "flat") -> tuple[np.ndarray, np.ndarray]:
    """Cosines and places in the pool of each query's k nearest, nearest first; both (queries, k), place -1 for none."""
    if not len(pool) or not len(queries) or k < 1:
        return np.zeros((len(queries), 0), np.float32), np.zeros((len(queries), 0), np.int64)
    cosines, places = build(np.ascontiguousarray(pool, np.float32), kind).search(
        np.ascontiguousarray(queries, np.float32), k
    )
    return cosines, places


def recall(pool: np.ndarray, queries: np.ndarray, k: int, kind: str) -> float:
    """Which share of the exact k nearest an index finds."""
    exact, found = search(pool, queries, k)[1], search(pool, queries, k, kind)[1]
    return float(np.mean([len(set(one) & set(other)) / k for one, other in zip(exact, found, strict=True)]))
