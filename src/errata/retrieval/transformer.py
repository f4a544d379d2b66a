"""Any transformers encoder, mean-pooled: a folder, or a hub id."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from errata.digests import fingerprint_folder
from errata.errors import ConfigError
from errata.identity import neutral
from errata.places import no_hub_id
from errata.retrieval.base import Encoder, Retrieval


@dataclass
class Transformer(Retrieval):
    """Neighbours by a transformers model's mean-pooled last hidden states.

    Attributes:
        path: a folder, or a hub id (the paper's: bert-base-uncased).
        max_length: longest text in tokens; what is longer is cut, as in the source.
        batch_tokens: tokens, padding included, that are encoded at once.
        device: `auto` takes a GPU where there is one.
    """

    path: str = "???"
    max_length: int = 512
    batch_tokens: int = neutral(4096)
    device: str = neutral("auto")

    def problems(self) -> list[str]:
        """No such folder, settings out of range."""
        found = super().problems()
        if self.max_length < 1:
            found.append(f"retrieval.max_length is {self.max_length}: it must be at least 1")
        if self.batch_tokens < 1:
            found.append(f"retrieval.batch_tokens is {self.batch_tokens}: it must be at least 1")
        place = Path(self.path).expanduser()
        if place.is_dir():
            if not (place / "config.json").is_file():
                found.append(f"retrieval.path is {self.path!r}: the folder has no config.json, so it holds no model")
        elif why := no_hub_id(self.path, bare=True):
            found.append(f"retrieval.path is {self.path!r}: no such folder, {why}")
        return found

    @cached_property
    def encoder(self) -> Encoder:
        """Loads the weights when it is first asked for a vector."""
        return MeanPooled(self.path, self.max_length, self.batch_tokens, self.device)


class MeanPooled:
    """Texts to the mean of their last hidden states over all tokens ([CLS] and [SEP] too), normalised; float32 on CPU."""

    def __init__(self, path: str, max_length: int = 512, batch_tokens: int = 4096, device: str = "auto") -> None:
        self.path, self.max_length, self.batch_tokens, self.device = path, max_length, batch_tokens, device

    @cached_property
    def fingerprint(self) -> str:
        """Hash of a folder's files, or the hub id; and where texts are cut."""
        folder = Path(self.path).expanduser()
        return f"{fingerprint_folder(folder) if folder.is_dir() else self.path} mean {self.max_length}"

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors of (texts, hidden size), in the texts' order; batches hold texts of like length."""
        import torch

        model, tokenizer = self._loaded
        ids = tokenizer(list(texts), truncation=True, max_length=self.max_length)["input_ids"]
        order = sorted(range(len(ids)), key=lambda place: -len(ids[place]))
        rows = np.zeros((len(ids), model.config.hidden_size), np.float32)
        start = 0
        with torch.inference_mode():
            while start < len(order):
                size = max(1, self.batch_tokens // max(1, len(ids[order[start]])))
                places = order[start : start + size]
                batch = tokenizer.pad({"input_ids": [ids[place] for place in places]}, return_tensors="pt").to(model.device)
                hidden = model(**batch).last_hidden_state.float()
                mask = batch["attention_mask"].unsqueeze(-1).float()
                mean = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1)
                rows[places] = torch.nn.functional.normalize(mean, dim=1).cpu().numpy()
                start += size
        return rows

    @cached_property
    def _loaded(self) -> Any:
        import torch
        from transformers import AutoModel, AutoTokenizer

        from errata.packed import pack

        cuda = torch.cuda.is_available()
        device = ("cuda" if cuda else "cpu") if self.device == "auto" else self.device
        dtype = torch.bfloat16 if device.startswith("cuda") and torch.cuda.is_bf16_supported() else torch.float32
        path = str(Path(self.path).expanduser()) if Path(self.path).expanduser().is_dir() else self.path
        try:
            tokenizer = AutoTokenizer.from_pretrained(path)
            model: Any = AutoModel.from_pretrained(path, dtype=dtype)
        except (OSError, ValueError) as error:
            raise ConfigError(
                [f"retrieval.path={self.path} cannot be loaded: {' '.join(str(error).split())[:300]}"]
            ) from error
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        model = model.to(device).eval()
        pack(model)
        return model, tokenizer
