"""The corpus protocol."""

from collections.abc import Iterator
from typing import Protocol

from errata.records import Pair


class Corpus(Protocol):
    """A named instruction set, or a test set of instructions. Cheap to make; nothing is read before `pairs`."""

    rows: int | None
    """How many records are published (None: unknown); what a file really holds is counted when it is read."""
    languages: str
    """ISO 639 codes, separated by commas."""
    licence: str

    def problems(self, name: str) -> list[str]:
        """What is wrong with the settings or the files (none there, no such field), found without reading them through.

        `name` is the place in the config, `corpus.alpaca`.
        """
        ...

    @property
    def fingerprint(self) -> str:
        """Names the content: a hash over the files' bytes, or the hub's id and revision."""
        ...

    @property
    def location(self) -> str:
        """Where the records come from, in words: the path, or the hub's address."""
        ...

    def pairs(self, name: str) -> Iterator[Pair]:
        """The records one by one, in the order of the files, never all in memory; ids begin with `name`.

        Raises:
            DataError: a file cannot be read; names the file and the line or record.
        """
        ...
