"""An iteration's training set: its practice, what former iterations left, and what is replayed."""

from collections.abc import Mapping

from errata.errors import DataError
from errata.identity import result_changing
from errata.records import Example
from errata.run import digest_of
from errata.screening import Screening
from errata.stage.mix import Blend, mix
from errata.strategy.base import originals


def training_set(
    screening: Screening,
    rows: Mapping[str, list[Example]],
    iteration: int,
    practised: list[Example],
    mixed: list[Example],
) -> list[Example]:
    """The rows that the iteration trains on.

    Args:
        screening: of the run; replayed rows of the benchmarks stand behind the same wall.
        rows: the iteration's practice by dataset.
        practised: all practice of former iterations.
        mixed: what former training sets held.
    """
    run = screening.run
    settings, size = run.setup.settings, run.setup.size
    policy, again = settings.policy, getattr(run.setup.strategy, "repeats", False)
    blends = {
        name: Blend(
            part,
            size(name),
            settings.equalise.train_tokens,
            [row for row in mixed if row.dataset == name] if policy.data == "all" else [],
            _replayed(screening, name, iteration, practised) if policy.replay else [],
            policy.replay,
            again,
            run.setup.model.count_tokens,
        )
        for name, part in rows.items()
        if part or any(row.dataset == name for row in mixed)
    }
    with run.stage(
        f"iteration_{iteration}/mix",
        blends={name: [digest_of(b.rows), digest_of(b.always), digest_of(b.replayed)] for name, b in blends.items()},
        sizes={name: blend.size for name, blend in blends.items()},
        equalise=result_changing(settings.equalise),
        policy=result_changing(policy),
        again=again,
        seed=settings.seed,
    ) as stage:
        return mix(stage, blends, settings.seed)


def _replayed(screening: Screening, name: str, iteration: int, practised: list[Example]) -> list[Example]:
    """What there is to replay: former practice, or the benchmark's own rows."""
    setup = screening.run.setup
    if setup.settings.policy.replay_from == "earlier":
        return [row for row in practised if row.dataset == name]
    found = originals(screening.splits[name]["train"], setup.datasets[name], iteration)
    if not found:
        raise DataError(f"policy.replay_from=original: the records of {name} hold no worked answers to replay")
    return screening.original(found, name)
