"""Each setting and each part by itself."""

import re
from pathlib import Path

from errata.checks.draft import Draft

_AT_LEAST: dict[str, int] = {"iterations": 1, "sample_size": 1, "seed": 0, "max_length": 8}
_HOLDS = dict.fromkeys(("data", "dev"), "; it must hold one {prompt, response} object a line")


def rows_file(given: str) -> Path:
    """A file of rows: the one that is given, or the final set of a run of `errata revise`."""
    path = Path(given).expanduser()
    return path / "final" / "train.messages.jsonl" if (path / "final").is_dir() else path


def training_method(draft: Draft) -> list[str]:
    """The method's own settings."""
    return [] if draft.settings is None or draft.method is None else list(draft.method.problems())


def ranges(draft: Draft) -> list[str]:
    """Numbers out of range, names that cannot be, files that are not there."""
    settings = draft.settings
    if settings is None:
        return []
    found = [
        f"{name} is {getattr(settings, name)}: it must be at least {least}"
        for name, least in _AT_LEAST.items()
        if getattr(settings, name, least) < least
    ]
    if not re.fullmatch(r"[\w.-]+", settings.name):
        found.append(f"name is {settings.name!r}: use letters, digits, dots, dashes and underscores only")
    if getattr(settings, "split", "test") not in ("train", "dev", "test"):
        found.append(f"split is {settings.split!r}: choose train, dev or test")
    for name in ("data", "dev", "revisions", "decisions"):
        file = getattr(settings, name, None)
        if file is not None and not rows_file(file).is_file():
            found.append(f"{name} is {file!r}: no such file{_HOLDS.get(name, '')}")
    if getattr(settings, "preview", None) is not None and settings.preview < 0:
        found.append(f"preview is {settings.preview}: it must be 0 or more rows")
    training = getattr(settings, "training", None)
    measured = training is not None and (training.dev_share or getattr(settings, "dev", None))
    if training is not None and not measured and (training.keep == "best" or training.patience is not None):
        found.append("training.keep=best and training.patience go by a dev loss: set training.dev_share, or dev=FILE")
    parts = ("training", "tracking", "errors", "equalise", "policy")
    for part in (getattr(settings, name, None) for name in parts):
        found += part.problems() if part is not None else []
    return found


def each_part(draft: Draft) -> list[str]:
    """What each part says of itself."""
    single = (draft.model, draft.retrieval, draft.allocation, draft.reviser, draft.judge)
    components = (*single, *draft.datasets.values(), *draft.gates.values())
    return [problem for part in components if part is not None for problem in part.problems()]


def each_corpus(draft: Draft) -> list[str]:
    """What each instruction set, to learn from or to be measured on, says of itself."""
    groups = (("corpus", draft.corpora), ("testset", draft.testsets))
    return [
        problem
        for group, members in groups
        for name, one in members.items()
        if one is not None
        for problem in one.problems(f"{group}.{name}")
    ]
