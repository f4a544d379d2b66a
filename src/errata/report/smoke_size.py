"""Runs of smoke size in a report: what they measured means nothing, and each place that shows it says so."""

from collections.abc import Sequence

PREFIX = "smoke_"
"""With which the names of their folders begin (`errata.smoke`)."""


def is_smoke(name: str) -> bool:
    """Whether a run of that name, NAME-HASH with or without parents, is of smoke size."""
    return name.rpartition("/")[2].startswith(PREFIX)


def smoke_line(names: Sequence[str]) -> str:
    """What is to be said of runs of these names; empty where none is of smoke size."""
    small = [name for name in names if is_smoke(name)]
    if not small:
        return ""
    which = "all of it" if len(small) == len(names) else ", ".join(small)
    return f"smoke size: {which}; small stand-ins for student, data and instructor, whose numbers and prices mean nothing"
