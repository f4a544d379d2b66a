"""From graded attempts to cases: which errors are asked about, how often, under which names."""

import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from random import Random

from errata.digests import digest
from errata.records import TOO_LONG, Attempt, Case, Request


def divide(attempts: Sequence[Attempt], leave_out: Collection[str] = ()) -> tuple[list[Attempt], list[Attempt]]:
    """Errors, less those of the kinds that are left out, and successes.

    A question that could not be asked (its prompt too long) is neither.
    """
    asked = [attempt for attempt in attempts if attempt.kind != TOO_LONG]
    return [a for a in asked if not a.correct and a.kind not in leave_out], [a for a in asked if a.correct]


def named(seeds: Sequence[Attempt], iteration: int) -> list[Case]:
    """A case for each seed; one that comes again is another draw, with a number behind its name."""
    seen: Counter[str] = Counter()
    cases = []
    for seed in seeds:
        draw = seen[seed.id]
        seen[seed.id] += 1
        cases.append(Case(f"{iteration}/{seed.id}{f'~{draw + 1}' if draw else ''}", seed, draw=draw))
    return cases


def exactly(seeds: Sequence[Attempt], wanted: int | None, rng: Random) -> list[Attempt]:
    """So many of them: drawn without replacement in their order, or all of them again and again; as they are for None."""
    if wanted is None or not seeds:
        return list(seeds)
    times, rest = divmod(wanted, len(seeds))
    drawn = sorted(rng.sample(range(len(seeds)), rest))
    return [*list(seeds) * times, *(seeds[place] for place in drawn)]


def anew(requests: Sequence[Request], sent: Counter[str]) -> list[Request]:
    """The requests as draws that nobody has had of the same messages; `sent` counts those, and these after them."""
    words = [digest(list(request.messages)) for request in requests]
    found = [replace(request, draw=request.draw + sent[word]) for request, word in zip(requests, words, strict=True)]
    sent.update(words)
    return found


def apportion(total: int, weights: Sequence[float]) -> list[int]:
    """Whole numbers that add up to `total`, in proportion to the weights (largest remainders; the earlier one of equals)."""
    scale = total / sum(weights)
    exact = [weight * scale for weight in weights]
    parts = [math.floor(value) for value in exact]
    late = sorted(range(len(parts)), key=lambda place: (parts[place] - exact[place], place))
    for place in late[: total - sum(parts)]:
        parts[place] += 1
    return parts
