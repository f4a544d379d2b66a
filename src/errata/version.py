"""The version that run folders and fingerprints carry."""

__version__ = "0.1.0"
