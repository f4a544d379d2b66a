"""What the student can choose by, between a pair and a new version of it.

ifd         ppl(y|x) / ppl(y), how hard the instruction is to follow: the higher one is better
rifd        ppl(x|y') / ppl(x), how badly the response leads back to the instruction: the lower one
perplexity  ppl(y|x), of the response behind its instruction: the lower one
coherence   cosine of the encoder's vectors of instruction (with its input) and response: the higher one
random      a fair coin, by the run's seed and the pair's id
always      the new one, wherever there is one

IFD and r-IFD are the method's (arXiv 2402.10110); its ablation sets the others beside them. The source leaves open: of what
perplexity and coherence are taken, by which encoder, and which way perplexity points. What stands here is our choice: a
likelier response is taken for the better fitting one.
"""

import math
import random
from collections.abc import Sequence

import numpy as np

from errata.records import Likelihoods, Pair
from errata.reviser.base import Desk

IFD, RIFD, PERPLEXITY, COHERENCE, RANDOM, ALWAYS = "ifd", "rifd", "perplexity", "coherence", "random", "always"
LABELS = {IFD: "IFD", RIFD: "r-IFD", PERPLEXITY: "perplexity", COHERENCE: "coherence"}
"""The measures, as details name them."""
SCORED = (IFD, RIFD, PERPLEXITY)
"""Those that the run's model has to score pairs for."""
CHOICES = (*LABELS, RANDOM, ALWAYS)
_HIGHER = (IFD, COHERENCE)
_NO_NUMBER, _EMPTY = "no number", "empty"
_MOST_NATS = 700.0  # exp of more is no float
Measured = tuple[float | None, str]
"""A measure, or None and why it is missing."""


def measured(by: str, name: str, pairs: Sequence[Pair], desk: Desk) -> list[Measured]:
    """The measure of each pair; what is scored is the stage `name` of the run. Nobody is bothered for no pairs."""
    if not pairs:
        return []
    if by == COHERENCE:
        return _coherence(pairs, desk)
    found = desk.score(name, pairs, ifd=by != RIFD, rifd=by == RIFD)
    return [_known(_value(by, losses), losses.missing) for losses in found]


def better(by: str, new: float, old: float) -> bool:
    """Whether the new version wins by this measure; at a tie it does not."""
    return new > old if by in _HIGHER else new < old


def drawn(by: str, seed: int, pair_id: str, stage: str) -> bool:
    """Whether the new version is taken where nothing is measured: one pair's coin does not depend on the others."""
    return by == ALWAYS or random.Random(f"{seed}/{stage}/{pair_id}").random() < 0.5


def _value(by: str, losses: Likelihoods) -> float | None:
    if by != PERPLEXITY:
        return losses.ifd if by == IFD else losses.rifd
    given = losses.response_given
    return None if given is None or given > _MOST_NATS else math.exp(given)


def _known(value: float | None, missing: str = "") -> Measured:
    return (value, "") if value is not None and math.isfinite(value) else (None, missing or _NO_NUMBER)


def _coherence(pairs: Sequence[Pair], desk: Desk) -> list[Measured]:
    whole = [pair for pair in pairs if pair.prompt.strip() and pair.output.strip()]
    if not whole:
        return [(None, _EMPTY)] * len(pairs)
    vectors = desk.embed([pair.prompt for pair in whole] + [pair.output for pair in whole])
    cosines = np.einsum("ij,ij->i", vectors[: len(whole)], vectors[len(whole) :])
    found = {pair.id: float(cosine) for pair, cosine in zip(whole, cosines, strict=True)}
    return [_known(found.get(pair.id), "" if pair.id in found else _EMPTY) for pair in pairs]
