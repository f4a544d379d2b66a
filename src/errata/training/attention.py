"""Attention for rows that stand one behind the other in one sequence: each row sees itself alone, and no mask is built.

A batch is then (1, total) without padding, with positions that begin anew for each row; the model's own code is untouched,
since transformers takes the attention function by name. Where the rows begin travels as `cu_seq_lens_q`, the argument that
transformers has for FlashAttention.
"""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

NAME = "errata_rows"
UNKNOWN = ("position_bias", "s_aux", "cache", "chunk_size")
"""What a model may hand to its attention function and this one does not know; None is as good as not given."""
LAYERS = {"full_attention", "sliding_attention"}


def enable(model: nn.Module) -> None:
    """Let a model (plain or PEFT's) that `supports` has passed attend row by row.

    Batches with an attention mask go on working: they take the masked path.
    """
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, _mask)
    base(model).set_attn_implementation(NAME)


def base(model: nn.Module) -> Any:
    """The transformers model inside PEFT's wrapper, or the model itself."""
    wrapper: Any = model
    return wrapper.get_base_model() if hasattr(model, "get_base_model") else model


def boundaries(lengths: Sequence[int]) -> dict[str, Any]:
    """What a model is given beside `input_ids` (1, total): position_ids (1, total) int64, where rows begin, the longest."""
    starts = torch.tensor([0, *lengths]).cumsum(0).to(torch.int32)
    positions = torch.cat([torch.arange(length) for length in lengths])[None]
    longest = max(lengths)
    return {
        "position_ids": positions,
        "cu_seq_lens_q": starts,
        "cu_seq_lens_k": starts,
        "max_length_q": longest,
        "max_length_k": longest,
    }


def supports(model: nn.Module, probe: bool = True) -> str | None:
    """Why the model cannot train packed; None where it can.

    Args:
        model: a transformers causal language model, maybe wrapped by PEFT.
        probe: whether to see, on two short rows, that the model gives packed what it gives apart. It needs whole weights:
            False where they are sharded (ZeRO-3, FSDP).
    """
    inner = base(model)
    config = inner.config.get_text_config()
    kind = type(inner).__name__
    if any(getattr(adapter, "is_prompt_learning", False) for adapter in getattr(model, "peft_config", {}).values()):
        return "prompt learning puts virtual tokens in front of each row"
    if not getattr(inner, "_supports_attention_backend", False):
        return f"{kind} does not take its attention function by name"
    if "position_ids" not in inspect.signature(inner.forward).parameters:
        return f"{kind} takes no position_ids"
    if getattr(config, "alibi", False):
        return f"{kind} places tokens by alibi"
    if not getattr(config, "is_causal", True) or getattr(config, "use_bidirectional_attention", False):
        return f"{kind} does not attend causally"
    other = set(getattr(config, "layer_types", None) or ()) - LAYERS
    if other:
        return f"{kind} has layers of another kind: {', '.join(sorted(other))}"
    return _differs(model, inner) if probe else None


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    is_causal: bool | None = None,
    cu_seq_lens_q: Tensor | None = None,
    max_length_q: int | None = None,
    **rest: Any,
) -> tuple[Tensor, None]:
    """The attention function; query (batch, heads, length, size), key and value maybe with fewer heads.

    Without boundaries each batch row is a row. Returns (batch, length, heads, size).

    Raises:
        NotImplementedError: the model asks for a kind of attention that this is not.
    """
    unknown = [name for name in UNKNOWN if rest.get(name) is not None]
    if unknown or is_causal is False or not getattr(module, "is_causal", True):
        raise NotImplementedError(f"packed rows know no {', '.join(unknown) or 'attention that is not causal'}")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if attention_mask is not None:
        return _by_mask(query, key, value, attention_mask, dropout, scale, softcap).transpose(1, 2), None
    if cu_seq_lens_q is None:
        return _causal(query, key, value, dropout, scale, sliding_window, softcap).transpose(1, 2), None
    half = query.dtype in (torch.float16, torch.bfloat16)
    if query.is_cuda and half and not dropout and softcap is None and query.shape[-1] == value.shape[-1]:
        return _varlen(query, key, value, cu_seq_lens_q, max_length_q, scale, sliding_window), None
    lengths = cu_seq_lens_q.diff().tolist()
    rows = zip(query.split(lengths, 2), key.split(lengths, 2), value.split(lengths, 2), strict=True)
    parts = [_causal(*row, dropout, scale, sliding_window, softcap).transpose(1, 2) for row in rows]
    return torch.cat(parts, 1), None


def _causal(
    query: Tensor, key: Tensor, value: Tensor, dropout: float, scale: float, window: int | None, softcap: float | None
) -> Tensor:
    length = query.shape[2]
    if softcap is None and (window is None or window >= length):
        grouped = query.shape[1] != key.shape[1]
        return F.scaled_dot_product_attention(
            query, key, value, dropout_p=dropout, is_causal=True, scale=scale, enable_gqa=grouped
        )
    place = torch.arange(length, device=query.device)
    behind = place[:, None] - place
    mask = (behind >= 0) & (behind < (window or length))
    return _by_mask(query, key, value, mask, dropout, scale, softcap)


def _by_mask(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor, dropout: float, scale: float, softcap: float | None
) -> Tensor:
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    if softcap is None:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout, scale=scale)
    scores = softcap * torch.tanh(query @ key.transpose(2, 3) * (scale / softcap))
    scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min) if mask.dtype == torch.bool else scores + mask
    return F.dropout(scores.softmax(-1, torch.float32).to(value.dtype), dropout) @ value


def _varlen(
    query: Tensor, key: Tensor, value: Tensor, starts: Tensor, longest: int | None, scale: float, window: int | None
) -> Tensor:
    """On a GPU in half precision: torch's own kernel for rows of many lengths."""
    from torch.nn.attention.varlen import varlen_attn

    most = longest or int(starts.diff().max())
    starts = starts.to(query.device, torch.int32)
    query, key, value = (tensor[0].transpose(0, 1).contiguous() for tensor in (query, key, value))
    grouped, left = query.shape[1] != key.shape[1], window - 1 if window else -1
    out: Any = varlen_attn(
        query, key, value, starts, starts, most, most, scale=scale, window_size=(left, 0), enable_gqa=grouped
    )
    rows: Tensor = out[None]
    return rows


def _mask(*args: Any, attention_mask: Tensor | None = None, **kwargs: Any) -> Tensor | None:
    """No mask for packed rows; transformers' own where a batch is padded."""
    if attention_mask is None:
        return None
    kwargs |= {"attention_mask": attention_mask, "allow_is_causal_skip": False}
    return sdpa_mask(*args, **kwargs)


def _differs(model: nn.Module, inner: Any) -> str | None:
    """Whether two rows, the second one short, give packed the logits that they give apart."""
    vocabulary, device = inner.get_input_embeddings().num_embeddings, inner.get_input_embeddings().weight.device
    lengths = (7, 4)
    ids = (torch.arange(sum(lengths), device=device) * 7 + 3)[None] % vocabulary
    given = {name: what.to(device) if isinstance(what, Tensor) else what for name, what in boundaries(lengths).items()}
    before, training = inner.config._attn_implementation, model.training
    model.eval()
    try:
        with torch.no_grad():
            apart = torch.cat([model(input_ids=row, use_cache=False).logits for row in ids.split(lengths, 1)], 1).float()
            enable(model)
            packed = model(input_ids=ids, use_cache=False, **given).logits.float()
    except (NotImplementedError, TypeError) as error:
        return f"{type(inner).__name__}: {error}"
    finally:
        inner.set_attn_implementation(before)
        model.train(training)
    allowed = 1e-3 if inner.dtype == torch.float32 else 0.1
    gap = float((packed - apart).std() / apart.std())
    if gap < allowed:
        return None
    return f"{type(inner).__name__} gives other logits packed than apart (by {gap:.1g} of their spread)"
