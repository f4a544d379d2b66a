"""Mean losses of parts of token sequences under a causal language model: many sequences a pass, logits only where scored.

Sequences of like length run together, filled up behind their ends: what is scored never sees what stands behind it, so no
mask is built. Equal sequences run once, and one that another begins with is scored in that one's pass.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from errata.errors import ModelError

_TOKENS = {"cpu": 2048, "cuda": 1 << 14}  # of a pass
_LOGITS_BYTES = {"cpu": 32 << 20, "cuda": 1 << 30}  # worked on at a time: a processor's cache, a part of a GPU's memory
_ALIKE = 0.8  # a sequence shorter than so much of the longest waits for the next pass, where this one is not small
_PLAIN, _NARROW, _WHOLE = "plain", "narrow", "whole"
log = logging.getLogger("errata")


@dataclass(frozen=True)
class Span:
    """Token ids, and the place (1 or later) from which they are scored to their end."""

    ids: tuple[int, ...]
    start: int

    def __post_init__(self) -> None:
        if not 1 <= self.start < len(self.ids):
            raise ValueError(f"{len(self.ids)} tokens cannot be scored from place {self.start}: the first one has no loss")


class Scorer:
    """A network that gives losses.

    Args:
        network: a transformers causal language model, maybe inside PEFT's wrapper.
        token_budget: tokens of a pass, padding included (None: by the device). A single sequence may be longer.
    """

    def __init__(self, network: Any, token_budget: int | None = None) -> None:
        self.token_budget = token_budget or _TOKENS.get(network.device.type, _TOKENS["cpu"])
        self.tokens = self.padded = 0
        """Tokens that ran so far, and padding among them."""
        self._network = network
        inner = network.get_base_model() if hasattr(network, "get_base_model") else network
        self._head = inner.get_output_embeddings()
        self._way = self._look(inner)

    def losses(self, spans: Sequence[Span]) -> Iterator[tuple[int, float]]:
        """(Place in `spans`, nats a token) of each, as they are done; not finite where the network's logits are not.

        Raises:
            ModelError: a GPU has not the memory for one sequence.
        """
        pending = _passes(spans)
        while pending:
            count = self._fitting([len(ids) for ids, _ in pending])
            batch = [(ids, places, min(spans[place].start for place in places)) for ids, places in pending[:count]]
            try:
                rows = self._batch([(ids, start) for ids, _, start in batch])
            except torch.OutOfMemoryError:
                rows = None
            if rows is None:  # out here nothing holds the failed pass's memory
                self._shrink(len(batch), len(batch[0][0]))
                continue
            del pending[: len(batch)]
            for (_, places, start), row in zip(batch, rows, strict=True):
                for place in places:
                    span = spans[place]
                    yield place, float(row[span.start - start : len(span.ids) - start].mean())

    def _fitting(self, lengths: Sequence[int]) -> int:
        """How many of the sequences (longest first) run at once: as many as fit, but for too much padding."""
        width = lengths[0]
        most = max(1, self.token_budget // width)
        few = max(1, most // 4)
        return next((count for count in range(few, min(most, len(lengths))) if lengths[count] < _ALIKE * width), most)

    def _shrink(self, rows: int, width: int) -> None:
        if rows == 1:
            raise ModelError(
                f"not enough memory on {self._network.device} to score {width} tokens: set a smaller max_length, or a "
                "model of fewer parameters"
            )
        self.token_budget = rows * width // 2
        log.warning("out of memory on %s: going on with %d tokens a pass", self._network.device, self.token_budget)
        torch.cuda.empty_cache()

    @torch.inference_mode()
    def _batch(self, rows: Sequence[tuple[Sequence[int], int]]) -> list[Tensor]:
        """Of each (ids, start) the losses of the tokens from `start` on, float64, on the CPU."""
        width = max(len(ids) for ids, _ in rows)
        ids = torch.tensor([[*ids, *[0] * (width - len(ids))] for ids, _ in rows])
        before = [
            torch.arange(number * width + start - 1, number * width + len(ids) - 1)
            for number, (ids, start) in enumerate(rows)
        ]
        places = torch.cat(before)
        device = self._network.device
        found = self._token_losses(ids.to(device), places.to(device), ids.flatten()[places + 1].to(device))
        self.tokens += ids.numel()
        self.padded += ids.numel() - sum(len(ids) for ids, _ in rows)
        return list(found.double().cpu().split([len(part) for part in before]))

    def _token_losses(self, ids: Tensor, places: Tensor, targets: Tensor) -> Tensor:
        """The losses (n,) of `targets` (n,) behind the flat `places` (n,) of `ids` (batch, length)."""
        hidden, logits = self._run(ids, places)
        if hidden is None or self._way == _NARROW:
            return F.cross_entropy(logits.float(), targets, reduction="none")
        room = _LOGITS_BYTES.get(ids.device.type, _LOGITS_BYTES["cpu"])
        step = max(16, room // (4 * logits.shape[-1]))
        parts = zip(hidden.split(step), targets.split(step), strict=True)
        return torch.cat([F.cross_entropy(self._head(part).float(), wanted, reduction="none") for part, wanted in parts])

    def _run(self, ids: Tensor, places: Tensor) -> tuple[Tensor | None, Tensor]:
        """The head's input (n, size) at the places, and the network's logits there (n, words).

        Where the head is all there is (`plain`), the logits are those of the first place only, the rest is the caller's.
        """
        seen: list[Tensor] = []
        rows, width = ids.shape

        def narrow(_: Any, given: tuple[Any, ...]) -> tuple[Any, ...] | None:
            if not given or given[0].dim() != 3 or given[0].shape[0] != rows or given[0].shape[1] < width:
                return None
            seen.append(given[0][:, -width:].flatten(0, 1)[places])  # in front an adapter's own tokens may stand
            return (seen[0][None, : 1 if self._way == _PLAIN else None], *given[1:])

        hook = None if self._way == _WHOLE else self._head.register_forward_pre_hook(narrow)
        try:
            logits = self._network(input_ids=ids, use_cache=False).logits
        finally:
            if hook is not None:
                hook.remove()
        return (seen[0], logits[0]) if seen else (None, logits[:, -width:].flatten(0, 1)[places])

    @torch.inference_mode()
    def _look(self, inner: Any) -> str:
        """Whether the head's product is the logits (`plain`), becomes them elementwise (`narrow`), or neither (`whole`).

        Seen on two rows of three tokens. What is elementwise (a soft cap, a scale) does not mind that places are left out.
        """
        words = inner.get_input_embeddings().weight
        ids = ((torch.arange(6, device=words.device) * 7 + 3) % len(words)).view(2, 3)
        places = torch.tensor([0, 2, 4], device=words.device)
        self._way = _WHOLE
        _, whole = self._run(ids, places)
        if self._head is None:
            return _WHOLE
        self._way = _NARROW
        try:
            hidden, logits = self._run(ids, places)
        except (RuntimeError, IndexError, ValueError):
            return _WHOLE
        allowed = 1e-3 if whole.dtype == torch.float32 else 0.1
        if hidden is None or logits.shape != whole.shape or float((logits - whole).std()) > allowed * float(whole.std()):
            return _WHOLE
        return _PLAIN if torch.equal(self._head(hidden[None])[0], logits) else _NARROW


def _passes(spans: Sequence[Span]) -> list[tuple[tuple[int, ...], list[int]]]:
    """The sequences that have to run, longest first, each with the places of the spans that are scored in its pass."""
    places: dict[tuple[int, ...], list[int]] = {}
    for place, span in enumerate(spans):
        places.setdefault(span.ids, []).append(place)
    passes: list[tuple[tuple[int, ...], list[int]]] = []
    for ids in sorted(places, reverse=True):  # what a sequence begins with comes right behind it
        if passes and passes[-1][0][: len(ids)] == ids:
            passes[-1][1].extend(places[ids])
        else:
            passes.append((ids, places[ids]))
    return sorted(passes, key=lambda one: -len(one[0]))
