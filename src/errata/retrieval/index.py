"""The FAISS index: exact by default, approximate when asked."""

import hashlib
import os
from pathlib import Path
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


def opened(vectors: np.ndarray, kind: str, folder: Path) -> Any:
    """The index over these vectors out of `folder`, memory-mapped; built and written there when it is first asked for."""
    import faiss

    name = hashlib.sha256(vectors.tobytes() + kind.encode()).hexdigest()[:24]
    file = folder / f"{name}.faiss"
    if not file.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        mine = folder / f"{name}.{os.getpid()}"  # another run may be writing the same
        faiss.write_index(build(vectors, kind), str(mine))
        mine.replace(file)
    return faiss.read_index(str(file), faiss.IO_FLAG_MMAP)


def search(
    pool: np.ndarray, queries: np.ndarray, k: int, kind: str = "flat", folder: Path | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and places in the pool of each query's k nearest, nearest first; both (queries, k), place -1 for none.

    An approximate index, which takes long to build, is kept in `folder`; a flat one is the vectors themselves.
    """
    if not len(pool) or not len(queries) or k < 1:
        return np.zeros((len(queries), 0), np.float32), np.zeros((len(queries), 0), np.int64)
    pool = np.ascontiguousarray(pool, np.float32)
    index = build(pool, kind) if folder is None or kind == "flat" else opened(pool, kind, folder)
    cosines, places = index.search(np.ascontiguousarray(queries, np.float32), k)
    return cosines, places


def recall(pool: np.ndarray, queries: np.ndarray, k: int, kind: str, folder: Path | None = None) -> float:
    """Which share of the exact k nearest an index finds."""
    exact, found = search(pool, queries, k)[1], search(pool, queries, k, kind, folder)[1]
    return float(np.mean([len(set(one) & set(other)) / k for one, other in zip(exact, found, strict=True)]))
