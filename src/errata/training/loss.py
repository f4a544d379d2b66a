"""The loss on the response tokens, without ever holding all their logits.

The last product of a language model is as wide as its vocabulary. Here it is done for some tokens at a time, and their
gradient at once: the idea is Liger's (linkedin/Liger-Kernel, `fused_linear_cross_entropy`); the code is our own.
"""

from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from errata.training.attention import base
from errata.training.linear import FastLinear, product, weight_gradient

TOKENS = 128
"""Tokens whose logits are worked on at a time: small enough to stay in a processor's cache."""
HELD_BYTES = 256 << 20
"""Where the head is trained, so many bytes of their gradient are gathered for one product."""

_plain: "WeakKeyDictionary[nn.Module, bool]" = WeakKeyDictionary()


def response_loss(
    model: nn.Module, inputs: dict[str, Any], positions: Tensor, targets: Tensor, fused: bool = True
) -> Tensor:
    """Sum of the losses of some tokens, float32, ().

    Args:
        model: a transformers causal language model, maybe wrapped by PEFT (adapters or prompt learning).
        inputs: what the model is called with: input_ids (batch, length) int64, and attention_mask, or the boundaries of
            packed rows.
        positions: (n,) int64, places in the flattened (batch * length) whose next token is scored.
        targets: (n,) int64, these next tokens.
        fused: whether the head's product and the loss may be one. False where weights are sharded (ZeRO-3, FSDP).

    Raises:
        ValueError: positions begin anew within a row of the batch, and nothing says where the rows do.
    """
    ids = inputs["input_ids"]
    places: Any = inputs.get("position_ids")
    bare = places is not None and "cu_seq_lens_q" not in inputs and inputs.get("attention_mask") is None
    if bare and bool((places.diff() < 1).any()):
        raise ValueError("packed rows need `cu_seq_lens_q`: take the inputs from errata.training.attention.boundaries")
    inner = base(model)
    if _virtual_tokens(model):
        logits = model(**inputs, use_cache=False).logits[:, -ids.shape[1] :]
        return F.cross_entropy(logits.flatten(0, 1)[positions].float(), targets, reduction="sum")
    if fused and _head_is_linear(inner, ids):
        hidden = inner.base_model(**inputs, use_cache=False)[0].flatten(0, 1)[positions]
        head = inner.get_output_embeddings()
        total: Tensor = LinearCrossEntropy.apply(hidden, head.weight, head.bias, targets, head)
        return total
    if ids.shape[0] == 1:
        logits = model(**inputs, use_cache=False, logits_to_keep=positions).logits[0]
    else:
        logits = model(**inputs, use_cache=False).logits.flatten(0, 1)[positions]
    return F.cross_entropy(logits.float(), targets, reduction="sum")


class LinearCrossEntropy(torch.autograd.Function):
    """Sum of cross entropies of hidden (n, size) times weight (vocabulary, size); its gradient is made on the way there."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, head: nn.Module) -> Tensor:
        """targets: (n,) int64; head: the layer that the weight is of. Softmax in float32."""
        wants_hidden, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        own = hidden.dtype == torch.float32 and hidden.device.type == "cpu" and torch.backends.mkldnn.is_available()
        packed = head.packed() if own and isinstance(head, FastLinear) else None
        forth, back = packed or (weight, weight.t())
        times = product if own else F.linear
        to_hidden = torch.empty_like(hidden) if wants_hidden else None
        to_weight = torch.zeros_like(weight) if wants_weight else None
        to_bias = torch.zeros_like(bias) if bias is not None and wants_bias else None
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        step = TOKENS if hidden.device.type == "cpu" else 1024
        held = max(step, HELD_BYTES // (weight.shape[0] * weight.element_size()) // step * step) if wants_weight else step
        for start in range(0, len(hidden), held):
            gradients = []
            for at in range(start, min(start + held, len(hidden)), step):
                part, wanted = hidden[at : at + step], targets[at : at + step, None]
                scores = times(part, forth, bias).float().log_softmax(-1)
                total -= scores.gather(1, wanted).sum()
                if not (wants_hidden or wants_weight or wants_bias):
                    continue
                gradient = scores.exp_()
                gradient.scatter_add_(1, wanted, -torch.ones_like(wanted, dtype=gradient.dtype))
                gradient = gradient.to(hidden.dtype)
                if to_hidden is not None:
                    to_hidden[at : at + step] = times(gradient, back)
                if to_bias is not None:
                    to_bias += gradient.sum(0)
                gradients.append(gradient)
            if to_weight is not None:
                whole, given = torch.cat(gradients), hidden[start : start + held]
                to_weight += weight_gradient(whole, given) if own else whole.t() @ given
        ctx.save_for_backward(to_hidden, to_weight, to_bias)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """What was made on the way there, times the gradient of the sum."""
        return *(None if made is None else made * gradients[0].to(made.dtype) for made in ctx.saved_tensors), None, None


def _virtual_tokens(model: nn.Module) -> bool:
    return any(getattr(adapter, "is_prompt_learning", False) for adapter in getattr(model, "peft_config", {}).values())


def _head_is_linear(inner: Any, ids: Tensor) -> bool:
    """Whether the logits are nothing but the head's product with the last hidden state; seen once, on two tokens."""
    if inner not in _plain:
        _plain[inner] = _look(inner, ids)
    return _plain[inner]


def _look(inner: Any, ids: Tensor) -> bool:
    head, body = inner.get_output_embeddings(), getattr(inner, "base_model", inner)
    if type(head) not in (nn.Linear, FastLinear) or body is inner:
        return False
    seen: dict[str, Tensor] = {}
    hooks = [
        body.register_forward_hook(lambda module, given, out: seen.update(hidden=out[0])),
        head.register_forward_hook(lambda module, given, out: seen.update(given=given[0], logits=out)),
    ]
    try:
        with torch.no_grad(), torch.random.fork_rng():  # its dropout must not cost the run random numbers
            logits = inner(input_ids=ids[:1, :2], use_cache=False).logits
    finally:
        for hook in hooks:
            hook.remove()
    same = "hidden" in seen and "logits" in seen and seen["given"].data_ptr() == seen["hidden"].data_ptr()
    return same and logits.data_ptr() == seen["logits"].data_ptr() and logits._version == 0
