"""What a run's strategy is called: by its name, or, where it is not one of ours, by its class."""

from collections.abc import Mapping
from typing import Any

_OURS = "errata.strategy."


def strategy_name(config: Mapping[str, Any]) -> str:
    """The strategy of a run's settings; empty where there is none.

    The `name` of ours tells them apart (`le` and `le_informed` are one class). A user's own strategy may carry the name of
    ours whose prompts it takes, and is none of them for that.
    """
    strategy = config.get("strategy") or {}
    kind = str(strategy.get("kind") or "")
    return str(strategy.get("name") or "") if not kind or kind.startswith(_OURS) else kind.rpartition(".")[2]
