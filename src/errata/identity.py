"""What a run is known by: every setting that can change a result, and none that cannot."""

from collections.abc import Mapping
from dataclasses import MISSING, field, fields, is_dataclass
from typing import Any


def neutral(default: Any = MISSING, factory: Any = MISSING) -> Any:
    """A dataclass field that cannot change a result: changing its value continues the same run folder.

    Args:
        default: its default value.
        factory: what makes one, for a list or a dict.
    """
    return field(default=default, default_factory=factory, metadata={"neutral": True})


def result_changing(part: Any) -> Any:
    """A dataclass (or a dict or list of them) as plain values, without the neutral fields."""
    if is_dataclass(part) and not isinstance(part, type):
        kept = {f.name: result_changing(getattr(part, f.name)) for f in fields(part) if not f.metadata.get("neutral")}
        return {"kind": f"{type(part).__module__}.{type(part).__qualname__}", **kept}
    if isinstance(part, Mapping):
        return {str(key): result_changing(value) for key, value in part.items()}
    return [result_changing(value) for value in part] if isinstance(part, list | tuple) else part
