"""Parts that do not go with each other."""

from errata.checks.draft import Draft, there
from errata.dataset.base import Examiner, no_weights
from errata.reviser.coach import Coach


def examiners(draft: Draft) -> list[str]:
    """Benchmarks that score by probabilities, and a model that has none to give."""
    if draft.model is not None and draft.model.trains:
        return []
    return [no_weights(name) for name, dataset in draft.datasets.items() if isinstance(dataset, Examiner)]


def reviser_and_model(draft: Draft) -> list[str]:
    """A coach on top of another model than its own, or scores from a model without weights."""
    reviser, model = draft.reviser, draft.model
    if reviser is None or model is None:
        return []
    found = reviser.base_problems(model) if isinstance(reviser, Coach) and reviser.model is None else []
    if reviser.scores and not model.trains:
        found.append(
            "reviser scores pairs by the model's own probabilities: choose one whose weights are at hand (model=hf)"
        )
    return found


def strategy_and_datasets(draft: Draft) -> list[str]:
    """A strategy that knows no prompt for a layout, or cannot work otherwise."""
    known = there(draft.datasets).items()
    layouts = {name: dataset.layout for name, dataset in known if not isinstance(dataset, Examiner)}
    return draft.strategy.problems(layouts) if draft.strategy is not None else []
