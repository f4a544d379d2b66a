"""What is asked of an instructor, and what it may cost."""

import logging
import math
from typing import Any

from errata.checks.draft import Draft, ledger_file
from errata.endpoint import Endpoint
from errata.gate.consensus import Consensus
from errata.instructor.base import Instructor

log = logging.getLogger("errata")


def instructors(draft: Draft) -> list[str]:
    """Settings and keys of whoever is asked; a plan, which sends nothing, can be made without a key."""
    topics = [*draft.datasets, *(type(part).__name__.lower() for part in draft.asking)]
    problems: list[str] = []
    for asked in _asked(draft):
        found = list(asked.problems(topics))
        if draft.settings is not None and draft.settings.dry_run and isinstance(asked, Endpoint):
            later = asked.key_problem("instructor")
            if later in found:
                found.remove(later)
                log.warning("the run itself will end with: %s", later)
        problems += found
    return problems


def recording(draft: Draft) -> list[str]:
    """Replies that are only read, and no ledger to read them from."""
    if draft.settings is None or draft.instructor is None or draft.instructor.sends:
        return []
    file = ledger_file(draft.settings)
    return [] if file.is_file() else [f"there is no ledger at {file}: record one first, or set ledger=FILE"]


def budgets(draft: Draft) -> list[str]:
    """Limits that mean nothing, or that cannot be kept."""
    if draft.settings is None:
        return []
    found = [problem for asked in _asked(draft) for problem in _budget(draft.settings.budget, asked)]
    return list(dict.fromkeys(found))


def _asked(draft: Draft) -> list[Instructor]:
    """The run's instructor and those of the gates; none where nobody is asked."""
    if draft.instructor is None:
        return []
    solvers = (gate.instructor for gate in draft.gates.values() if isinstance(gate, Consensus))
    return [draft.instructor, *(solver for solver in solvers if solver is not None)]


def _budget(budget: Any, instructor: Instructor) -> list[str]:
    found = [
        f"budget.{name} is {value}: it must be 0 or more"
        for name, value in (("usd", budget.usd), ("tokens", budget.tokens))
        if value is not None and not 0 <= value < math.inf
    ]
    limited = budget.usd is not None or budget.tokens is not None
    if budget.usd is not None and instructor.price(1, 1) is None:
        found.append(
            "budget.usd cannot be kept without prices: set instructor.usd_per_million_in and "
            "instructor.usd_per_million_out, or limit budget.tokens"
        )
    if limited and instructor.sends and getattr(instructor, "max_tokens", None) is None:
        found.append("a budget cannot be kept where a reply has no longest length: set instructor.max_tokens")
    return found
