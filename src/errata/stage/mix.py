"""mix: each dataset's rows in, one shuffled training set out."""

import random
from collections.abc import Mapping, Sequence

from errata.records import Example
from errata.run_folder import Stage


def mix(stage: Stage, rows: Mapping[str, Sequence[Example]], sample_size: int, seed: int) -> list[Example]:
    """Draw up to `sample_size` rows of each dataset without replacement, and shuffle them all.

    Differs from the source: seeded, and fewer rows than `sample_size` are a smaller set, not an assertion.
    """
    if stage.finished:
        return stage.read("train", Example)
    rng = random.Random(f"{seed} {stage.name}")
    chosen = [row for name in sorted(rows) for row in rng.sample(list(rows[name]), min(sample_size, len(rows[name])))]
    rng.shuffle(chosen)
    counts = {"rows": len(chosen), "by dataset": {name: min(sample_size, len(rows[name])) for name in sorted(rows)}}
    stage.finish(counts, train=chosen)
    return chosen
