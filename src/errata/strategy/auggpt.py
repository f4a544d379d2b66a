"""AugGPT, the paper's baseline: new questions like those that were wrong, the student's answer not shown."""

from dataclasses import dataclass

from errata.strategy.le import LE


@dataclass
class AugGPT(LE):
    """Similar questions, without the error (its prompts show the question alone)."""

    name: str = "auggpt"
