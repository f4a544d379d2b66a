"""From graded attempts to cases: which errors are asked about, how often, under which names."""

import math
from collections import Counter
from collections.abc import Sequence
from random import Random

from errata.records import TOO_LONG, Attempt, Case


def divide(attempts: Sequence[Attempt]) -> tuple[list[Attempt], list[Attempt]]:
    """Errors and successes; a question that could not be asked (its prompt too long) is neither."""
    asked = [attempt for attempt in attempts if attempt.kind != TOO_LONG]
    return [a for a in asked if not a.correct], [a for a in asked if a.correct]


def named(seeds: Sequence[Attempt], iteration: int) -> list[Case]:
    """A case for each seed; one that comes again is another draw, with a number behind its name."""
    seen: Counter[str] = Counter()
    cases = []
    for seed in seeds:
        draw = seen[seed.id]
        seen[seed.id] += 1
        cases.append(Case(f"{iteration}/{seed.id}{f'~{draw + 1}' if draw else ''}", seed, draw=draw))
    return cases


def exactly(seeds: Sequence[Attempt], wanted: int, rng: Random) -> list[Attempt]:
    """So many of them: drawn without replacement in their order, or all of them again and again."""
    times, rest = divmod(wanted, len(seeds))
    drawn = sorted(rng.sample(range(len(seeds)), rest))
    return [*list(seeds) * times, *(seeds[place] for place in drawn)]


def apportion(total: int, weights: Sequence[float]) -> list[int]:
    """Whole numbers that add up to `total`, in proportion to the weights (largest remainders; the earlier one of equals)."""
    scale = total / sum(weights)
    exact = [weight * scale for weight in weights]
    parts = [math.floor(value) for value in exact]
    late = sorted(range(len(parts)), key=lambda place: (parts[place] - exact[place], place))
    for place in late[: total - sum(parts)]:
        parts[place] += 1
    return parts
