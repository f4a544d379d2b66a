"""Greedy generation of many prompts at once, on any decoder that transformers has.

Plain `generate` copies the growing cache at every step and lets finished rows ride along until the last of a batch is done.
Here the cache is one buffer that is written in place, a finished row leaves at once, and waiting prompts take the room:

    columns:  0 ......... left ............................ end
    row 0                      [ prompt |  generated tokens ]
    row 1                 [ prompt      |  generated tokens ]       every row ends in the same column
    row 2                              [ prompt | generated ]       (joined later)

The last rows move into the places of those that leave, so live rows stay together, and only columns from `left`, the first
that a live row uses, are attended to. Prompts that begin alike (few-shot examples) run through their common beginning once.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

_PREFILL_TOKENS = 1024  # at once: more does not fit the processor's own caches
_SHARED_TOKENS = 64  # a common beginning of fewer tokens is not worth its bookkeeping
_REFILL = 4  # new prompts join when a quarter of the rows is free
_TIE = 1e-3  # float32 logits of one row differ by less than a tenth of this from batch to batch
_ATTENTIONS = (None, "eager", "sdpa", "flash_attention_2")
Ids = Sequence[int]


@dataclass(frozen=True)
class Finished:
    """A generated row: the place of its prompt, its tokens without a stop token, and whether it was ended by a stop."""

    place: int
    tokens: list[int]
    stopped: bool


@dataclass
class _Window:
    """Which part of the buffers a forward pass sees: some rows, and the columns from `left` to `end` and what it adds."""

    rows_in_all: int
    columns: int
    rows: slice = field(default_factory=lambda: slice(0, 0))
    left: int = 0
    end: int = 0


class _Layer(CacheLayerMixin):
    """One layer's keys and values, (rows, heads, columns, width), written in place."""

    is_sliding = False
    keys: Any
    values: Any

    def __init__(self, window: _Window) -> None:
        super().__init__()
        self.window = window

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.keys, self.values = (
            states.new_zeros(self.window.rows_in_all, states.shape[1], self.window.columns, states.shape[3])
            for states in (key_states, value_states)
        )
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        window, stop = self.window, self.window.end + key_states.shape[2]
        self.keys[window.rows, :, window.end : stop] = key_states
        self.values[window.rows, :, window.end : stop] = value_states
        return self.keys[window.rows, :, window.left : stop], self.values[window.rows, :, window.left : stop]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.get_seq_length() + query_length, 0

    def get_seq_length(self) -> int:
        return self.window.end - self.window.left

    def get_max_length(self) -> int:
        return -1


@dataclass
class _Row:
    """A live row: the prompt's place, the column that it starts in, and what was generated."""

    place: int
    start: int
    tokens: list[int] = field(default_factory=list)


def supported(model: Any) -> bool:
    """Whether every layer of the model keeps plain keys and values (no recurrent state, no chunks).

    Models with code of their own, and those with an adapter around them, are not looked into.
    """
    if not type(model).__module__.startswith("transformers."):
        return False
    config = model.config.get_text_config()
    if getattr(config, "_attn_implementation", None) not in _ATTENTIONS:
        return False
    kinds = set(getattr(config, "layer_types", None) or ())
    return kinds <= {"full_attention", "sliding_attention"} and not getattr(model, "_is_stateful", False)


def context_of(model: Any) -> int | None:
    """How many tokens prompt and answer may have together (None: no limit known); an adapter's own tokens take room."""
    context: int | None = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    adapter = getattr(model, "active_peft_config", None)
    return context if context is None else context - (getattr(adapter, "num_virtual_tokens", None) or 0)


def bytes_per_token(model: Any) -> int:
    """Bytes that the keys and values of one token take."""
    config = model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(2 * config.num_hidden_layers * heads * width * model.dtype.itemsize)


@torch.inference_mode()
def decode(
    model: Any,
    prompts: Sequence[Ids],
    max_new_tokens: int,
    stop_ids: Collection[int],
    token_budget: int,
    ends: Callable[[list[int]], bool] | None = None,
) -> Iterator[Finished]:
    """Generate greedily, and yield each row as it is finished, in any order.

    Args:
        model: a causal language model in evaluation mode, for which `supported` holds.
        prompts: token ids, at least one a prompt.
        max_new_tokens: where a row is cut; also at the model's `max_position_embeddings`.
        stop_ids: tokens that end a row.
        token_budget: how many tokens the cache may hold (one row fits always).
        ends: says of a row's tokens whether they end it (stop strings).
    """
    if prompts:
        yield from _Decoding(model, prompts, max_new_tokens, token_budget).run(stop_ids, ends)


@torch.inference_mode()
def generate_plainly(
    model: Any,
    prompts: Sequence[Ids],
    max_new_tokens: int,
    stop_ids: Collection[int],
    token_budget: int,
    ends: Callable[[list[int]], bool] | None = None,
) -> Iterator[Finished]:
    """`decode` for models that it does not support (recurrent layers, an adapter of prompts): one prompt at a time."""
    context = context_of(model)
    for place, prompt in enumerate(prompts):
        room = max_new_tokens if context is None else min(max_new_tokens, context - len(prompt))
        ids = torch.tensor([list(prompt)], device=model.device)
        output = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=room,
            eos_token_id=sorted(stop_ids), pad_token_id=next(iter(stop_ids), 0),
        )  # fmt: skip
        tokens: list[int] = []
        stopped = False
        for token in output[0, len(prompt) :].tolist():
            stopped = token in stop_ids
            tokens += [] if stopped else [token]
            stopped = stopped or (ends is not None and ends(tokens))
            if stopped:
                break
        yield Finished(place, tokens, stopped)


class _Decoding:
    """The state of one `decode`."""

    def __init__(self, model: Any, prompts: Sequence[Ids], max_new_tokens: int, token_budget: int) -> None:
        self.model, self.prompts, self.max_new_tokens = model, prompts, max_new_tokens
        self.context = context_of(model)
        columns = max(map(len, prompts)) + max_new_tokens
        if token_budget // columns < len(prompts):
            columns += max_new_tokens  # the last to join a row that is nearly done need as much again
        self.window = _Window(max(1, min(len(prompts), token_budget // columns)), columns)
        self.layers = [_Layer(self.window) for _ in range(model.config.get_text_config().num_hidden_layers)]
        self.cache = Cache(layers=list(self.layers))
        self.live: list[_Row] = []
        self.end = 0
        self.waiting = _in_families(prompts)
        self.beginning: tuple[Ids, list[tuple[Tensor, Tensor]]] = ((), [])

    def run(self, stop_ids: Collection[int], ends: Callable[[list[int]], bool] | None) -> Iterator[Finished]:
        """Let prompts in, take steps and let finished rows out until none is left."""
        last = torch.empty(0, dtype=torch.long)  # the newest token of every live row
        while self.waiting or self.live:
            free = self.window.rows_in_all - len(self.live)
            if self.waiting and (not self.live or free >= max(1, self.window.rows_in_all // _REFILL)):
                first_new = len(self.live)
                last = torch.cat([last, *self._let_in(free)])
            else:
                first_new = 0
                last = self._step(last)
            done = []
            for number, token in enumerate(last.tolist()[first_new:], first_new):
                row = self.live[number]
                stopped = token in stop_ids
                if not stopped:
                    row.tokens.append(token)
                    stopped = ends is not None and ends(row.tokens)
                if stopped or len(row.tokens) >= self._limit(row):
                    done.append(number)
                    yield Finished(row.place, row.tokens, stopped)
            last = self._let_out(done, last)

    def _limit(self, row: _Row) -> int:
        """How many tokens the row may have: the context's end cuts too."""
        left = self.max_new_tokens if self.context is None else self.context - len(self.prompts[row.place])
        return min(self.max_new_tokens, left)

    def _let_in(self, free: int) -> Iterator[Tensor]:
        """Run waiting prompts into free rows; yields their first new tokens."""
        joining, self.waiting = self.waiting[:free], self.waiting[free:]
        self._make_room(max(len(self.prompts[place]) for _, place in joining))
        for group, shared in self._groups(joining):
            yield self._prefill(group, shared)

    def _groups(self, joining: Sequence[tuple[Ids, int]]) -> Iterator[tuple[list[int], Ids]]:
        """Prompts of one family and of like length, as many as run through at once, with the family's beginning."""
        group: list[int] = []
        beginning: Ids = ()
        for shared, place in joining:
            width = len(self.prompts[group[0]]) - len(beginning) if group else 0
            if group and (shared is not beginning or width * (len(group) + 1) > _PREFILL_TOKENS):
                yield group, beginning
                group = []
            beginning = shared
            group.append(place)
        yield group, beginning

    def _prefill(self, group: list[int], shared: Ids) -> Tensor:
        """Run prompts into the rows behind the live ones, ending at the current column.

        Behind a shared beginning every prompt runs its last `width` tokens, the longest remainder; without one, shorter
        prompts are filled up in front.
        """
        prompts = [self.prompts[place] for place in group]
        width = max(map(len, prompts)) - len(shared)
        first, end = len(self.live), self.end
        self.live += [_Row(place, end - len(prompt)) for place, prompt in zip(group, prompts, strict=True)]
        if shared:
            self._copy_beginning(shared, self.live[first:], first, end - width)
            ids = torch.tensor([list(prompt[-width:]) for prompt in prompts])
        else:
            ids = torch.tensor([[*[0] * (width - len(prompt)), *prompt] for prompt in prompts])
        return self._forward(ids, slice(first, len(self.live)), end - width)

    def _copy_beginning(self, shared: Ids, rows: Sequence[_Row], first: int, stop: int) -> None:
        """Put the beginning's keys and values in front of column `stop`, as much as each row's prompt has there."""
        if self.beginning[0] is not shared:
            window = _Window(1, len(shared), slice(0, 1))
            layers = [_Layer(window) for _ in self.layers]
            _run(self.model, torch.tensor([list(shared)]), None, None, Cache(layers=list(layers)))
            self.beginning = (shared, [(layer.keys, layer.values) for layer in layers])
        for layer, (keys, values) in zip(self.layers, self.beginning[1], strict=True):
            if keys is None:  # a layer that reads another one's
                continue
            if not layer.is_initialized:
                layer.lazy_initialization(keys, values)
            for number, row in enumerate(rows, first):
                layer.keys[number, :, row.start : stop] = keys[0, :, : stop - row.start]
                layer.values[number, :, row.start : stop] = values[0, :, : stop - row.start]

    def _step(self, last: Tensor) -> Tensor:
        """One more token for every live row."""
        tokens = self._forward(last[:, None], slice(0, len(self.live)), self.end)
        self.end += 1
        return tokens

    def _forward(self, ids: Tensor, rows: slice, column: int) -> Tensor:
        """Run tokens into `rows` from `column` on; returns the most likely next token of each row, (rows,) int64."""
        starts = torch.tensor([row.start for row in self.live[rows]])
        self.window.rows, self.window.end = rows, column
        self.window.left = int(starts.min())
        columns = torch.arange(self.window.left, column + ids.shape[1])
        mask = (columns[None] >= starts[:, None]).long()
        positions = (columns[None, -ids.shape[1] :] - starts[:, None]).clamp(min=0)
        return self._choose(_run(self.model, ids, mask, positions, self.cache), self.live[rows])

    def _choose(self, logits: Tensor, rows: Sequence[_Row]) -> Tensor:
        """The most likely tokens. Where two nearly tie, the row is run alone, so that its company changes no answer.

        A matrix product rounds otherwise when it has other rows. In half precision ties are too many for this.
        """
        if self.model.dtype != torch.float32:
            return logits.argmax(-1).cpu()
        best, words = logits.topk(2)
        tokens = words[:, 0].cpu()
        for number in (best[:, 0] - best[:, 1] < _TIE).nonzero()[:, 0].tolist():
            text = [*self.prompts[rows[number].place], *rows[number].tokens]
            tokens[number] = _run(self.model, torch.tensor([text]), None, None, None)[0].argmax()
        return tokens

    def _make_room(self, longest: int) -> None:
        """Move the live rows, so that a prompt of `longest` tokens fits in front of `end` and its answer behind it."""
        if not self.live:
            self.end = longest
            return
        if longest <= self.end and self.end + self.max_new_tokens <= self.window.columns:
            return
        left = min(row.start for row in self.live)
        end = max(longest, self.end - left)
        for buffer in self._buffers():
            buffer[: len(self.live), :, left + end - self.end : end] = buffer[: len(self.live), :, left : self.end].clone()
        for row in self.live:
            row.start += end - self.end
        self.end = end

    def _let_out(self, done: list[int], last: Tensor) -> Tensor:
        """Drop finished rows: rows from the back move into their places."""
        if not done:
            return last
        kept, gone = len(self.live) - len(done), set(done)
        holes = [number for number in done if number < kept]
        movers = [number for number in range(kept, len(self.live)) if number not in gone]
        if holes:
            left = min(self.live[number].start for number in movers)
            for buffer in self._buffers():
                buffer[holes, :, left : self.end] = buffer[movers, :, left : self.end]
            for hole, mover in zip(holes, movers, strict=True):
                self.live[hole], last[hole] = self.live[mover], last[mover]
        del self.live[kept:]
        return last[:kept]

    def _buffers(self) -> Iterator[Tensor]:
        for layer in self.layers:
            if layer.keys is not None and layer.values is not None:
                yield layer.keys
                yield layer.values


def _run(model: Any, ids: Tensor, mask: Tensor | None, positions: Tensor | None, cache: Cache | None) -> Tensor:
    """The logits behind each row's last token, (rows, words)."""
    device = model.device
    output = model(
        input_ids=ids.to(device),
        attention_mask=None if mask is None else mask.to(device),
        position_ids=None if positions is None else positions.to(device),
        past_key_values=cache,
        use_cache=cache is not None,
        logits_to_keep=1,
    )
    logits: Tensor = output.logits[:, -1]
    return logits


def _in_families(prompts: Sequence[Ids]) -> list[tuple[Ids, int]]:
    """(Common beginning, place) of every prompt: families with a long common beginning stand together, longest first."""
    families: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for place, prompt in enumerate(prompts):
        families[tuple(prompt[:_SHARED_TOKENS])].append(place)
    ordered: list[tuple[Ids, int]] = []
    alone: list[tuple[Ids, int]] = []
    for places in families.values():
        shared = _common([prompts[place] for place in places]) if len(places) > 1 else ()
        if len(shared) >= _SHARED_TOKENS:
            ordered += [(shared, place) for place in sorted(places, key=lambda place: -len(prompts[place]))]
        else:
            alone += [((), place) for place in places]
    return ordered + sorted(alone, key=lambda item: -len(prompts[item[1]]))


def _common(prompts: Sequence[Ids]) -> Ids:
    """The longest common beginning that leaves every prompt a token."""
    first, last = min(prompts, key=list), max(prompts, key=list)
    length = min(map(len, prompts)) - 1
    differing = (number for number in range(length) if first[number] != last[number])
    return list(first[: next(differing, length)])
