"""Errata makes a small language model better by learning from its own errors.

Start reading at `errata.improve`: the loop on one page.
"""

from errata.version import __version__

__all__ = ["__version__"]
