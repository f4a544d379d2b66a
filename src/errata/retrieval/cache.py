"""Embeddings on disk: a text is embedded once for each encoder, whatever run, iteration, strategy or k asks for it."""

import hashlib
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from errata.errors import DataError
from errata.lock import locked

if TYPE_CHECKING:
    from errata.retrieval.base import Encoder

_AT_ONCE = 500
_PORTION = 4096


class EmbeddingCache:
    """A SQLite file of vectors (float32), known by the encoder's fingerprint and the text. Processes may share it.

    Raises:
        DataError: the file cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.hits, self.misses = path, 0, 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=60, isolation_level=None)
            with locked(path.with_name(f"{path.name}.lock")):  # the switch to WAL does not wait for others by itself
                self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("CREATE TABLE IF NOT EXISTS vector (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID")
        except (OSError, sqlite3.Error) as error:
            raise DataError(f"cannot use the embedding cache {path}: {error}. Set retrieval.cache=FILE.") from error

    def vectors(self, encoder: "Encoder", texts: Sequence[str]) -> np.ndarray:
        """The texts' vectors; those that are not known are embedded and kept, a portion at a time."""
        keys = [hashlib.sha256(f"{encoder.fingerprint}\0{text}".encode()).digest() for text in texts]
        found = self._known(keys)
        if all(key in found for key in keys):
            self.hits += len(texts)
            return self._in_order(keys, found)
        with locked(self.path.with_name(f"{self.path.name}.lock")):  # another process may be embedding the same texts
            found |= self._known([key for key in keys if key not in found])
            self._embed(encoder, keys, texts, found)
        return self._in_order(keys, found)

    def _embed(
        self, encoder: "Encoder", keys: Sequence[bytes], texts: Sequence[str], found: dict[bytes, np.ndarray]
    ) -> None:
        """Embed and keep what is not found yet, a portion at a time."""
        first = {key: text for key, text in zip(keys, texts, strict=True) if key not in found}
        self.hits, self.misses = self.hits + len(texts) - len(first), self.misses + len(first)
        lacking = sorted(first, key=lambda key: len(first[key]))  # a portion holds texts of like length
        for start in range(0, len(lacking), _PORTION):
            part = lacking[start : start + _PORTION]
            rows = encoder.encode([first[key] for key in part]).astype(np.float32)
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany(
                "INSERT OR IGNORE INTO vector VALUES (?, ?)",
                [(key, row.tobytes()) for key, row in zip(part, rows, strict=True)],
            )
            self._db.execute("COMMIT")
            found.update(zip(part, rows, strict=True))

    @staticmethod
    def _in_order(keys: Sequence[bytes], found: dict[bytes, np.ndarray]) -> np.ndarray:
        return np.stack([found[key] for key in keys]) if keys else np.zeros((0, 1), np.float32)

    def _known(self, keys: Sequence[bytes]) -> dict[bytes, np.ndarray]:
        found = {}
        wanted = sorted(set(keys))
        for start in range(0, len(wanted), _AT_ONCE):
            part = wanted[start : start + _AT_ONCE]
            places = ", ".join("?" * len(part))
            for key, value in self._db.execute(f"SELECT key, value FROM vector WHERE key IN ({places})", part):
                found[key] = np.frombuffer(value, np.float32)
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._db.close()
