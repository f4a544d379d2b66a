"""What does not go together in the settings of a judging."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from errata.judge.answers import REFERENCE, revisions_file
from errata.judge.base import Judge
from errata.judge.recorded import Recorded


def judging_problems(settings: Any, judge: Judge, testsets: Collection[str], in_turns: Collection[str] = ()) -> list[str]:
    """What does not go together in the settings `answers`, `against`, `max_new_tokens`; found before anything is read.

    `in_turns` are those of the test sets that ask in several turns.
    """
    if isinstance(judge, Recorded):
        named = {"answers": settings.answers, "against": settings.against}
        found = [f"{name} is set, but recorded verdicts bring their own items: {name}=null" for name in named if named[name]]
        return found + (["recorded verdicts bring their own test sets: testset=[]"] if testsets else [])
    found = []
    revised = settings.answers is not None and revisions_file(settings.answers).is_file()
    if revised and testsets:
        found.append(f"answers={settings.answers} is a revise run, which brings its own questions: testset=[]")
    if revised and settings.against is not None:
        found.append(f"answers={settings.answers} is a revise run, which is set against its originals: against=null")
    if _unfinished(settings.answers):
        return [*found, f"answers={settings.answers} is a revise run that is not finished: let it finish, then judge it"]
    if not revised and not testsets:
        found.append("testset is empty: name at least one, testset=[vicuna80]")
    if judge.compares and in_turns:
        found.append(
            f"testset {', '.join(in_turns)} asks in several turns, and this judge compares two answers: judge=mt_bench"
        )
    elif judge.compares and settings.against is None and not revised:
        found.append("against is not set, and this judge compares: against=FILE, or against=reference (the test set's own)")
    for name in ("answers", "against"):
        path = getattr(settings, name)
        if path not in (None, REFERENCE) and not Path(path).expanduser().exists():
            found.append(f"{name} is {path!r}: no such file or folder")
    if settings.max_new_tokens < 1:
        found.append(f"max_new_tokens is {settings.max_new_tokens}: it must be at least 1")
    return found


def _unfinished(answers: str | None) -> bool:
    """Whether it is the folder of a revise run that has no revisions yet."""
    if answers is None or revisions_file(answers).is_file():
        return False
    folder = Path(answers).expanduser()
    return (folder / "run.json").is_file() and (folder / "corpus" / "stage.json").is_file()
