"""score: instruction pairs in, the mean losses out that IFD and reversed IFD are made of.

Reflection-Tuning, Li et al. 2024 (selective); IFD is Cherry LLM's. Differs from the source: the same tokens are scored with
and without their context, behind one start token where there is none; ids are joined, never searched for in a text; the
context is in the model's own chat template; a pair that cannot be scored has None and a reason, where the source has 0.
"""

import math
import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from errata.chat import ChatTemplateError, conversation_ids, end_token_id, prompt_ids, response_ids
from errata.errors import ConfigError
from errata.model.base import Model
from errata.model.hf import HF
from errata.model.likelihood import Scorer, Span
from errata.records import Likelihoods, Pair
from errata.run_folder import Stage
from errata.terminal import bar

TOO_LONG, EMPTY, NOT_FINITE, TEMPLATE = "too_long", "empty", "not_finite", "template"
"""Why there is no loss: longer than `max_length` or the context; nothing to score; NaN or infinite; turns it cannot show."""
GUESS = (
    "Somebody put a task to an assistant, and this is the assistant's whole answer. Work out from it what the task was, "
    "and write that task down just as it may have been put.\n\nThe answer:\n"
)
"""What stands before a response when the instruction is to be guessed from it (the condition of reversed IFD)."""
_PASSES = 12  # of which a portion consists: enough sequences that those of like length find each other
_MOST_NATS = 700.0  # exp of more is no float
Spans = tuple[Span, Span]


def score(stage: Stage, model: Model, pairs: Sequence[Pair], ifd: bool, rifd: bool, max_length: int) -> list[Likelihoods]:
    """The losses that the asked ratios need, in the pairs' order; kept portion by portion, so that a killed stage goes on.

    Args:
        stage: where they are kept.
        model: what scores; its weights must be at hand.
        pairs: what is scored; their ids differ.
        ifd: whether the response is scored, alone and behind its instruction.
        rifd: whether the instruction is scored, alone and behind a request to guess it from the response.
        max_length: the longest sequence in tokens, context included; nothing is cut.

    Raises:
        ConfigError: the model has no weights here.
    """
    if stage.finished:
        return stage.read("likelihoods", Likelihoods)
    if not isinstance(model, HF):
        raise ConfigError([f"{stage.name}: {type(model).__name__} gives no losses: choose a model with weights"])
    journal = stage.journal("likelihoods", Likelihoods)
    done = {one.id: one for one in journal.records}
    pending = [pair for pair in pairs if pair.id not in done]
    if pending:
        one = model.on_one_device()
        one.load()
        begin, fresh = time.monotonic(), 0
        with bar(stage.name, len(pairs), len(done)) as advance:
            for portion in likelihoods(one, Scorer(one.network), pairs, ifd, rifd, max_length, frozenset(done)):
                journal.append(portion)
                done.update((one.id, one) for one in portion)
                fresh += len(portion)
                advance(len(portion), f"{fresh / (time.monotonic() - begin):.1f} pairs/s")
        if one is not model:
            one.unload()
    found = [done[pair.id] for pair in pairs]
    stage.finish(_counts(found), likelihoods=found)
    return found


def likelihoods(
    model: HF,
    scorer: Scorer,
    pairs: Sequence[Pair],
    ifd: bool,
    rifd: bool,
    max_length: int,
    done: Collection[str] = (),
) -> Iterator[list[Likelihoods]]:
    """The pairs' losses, in their order, some pairs at a time, but for those whose ids are in `done`.

    What is scored together does not depend on what is done, so that a stage that was killed ends with the same numbers, to
    the last digit.
    """
    from errata.model.decoding import context_of

    longest = min(max_length, context_of(model.network) or max_length)
    targets = ["response"] * ifd + ["instruction"] * rifd
    portion: list[tuple[Pair, dict[str, Spans | str]]] = []
    tokens, most = 0, _PASSES * scorer.token_budget  # the budget may shrink on the way

    def left() -> list[Likelihoods]:
        if all(pair.id in done for pair, _ in portion):
            return []
        return [one for one in _scored(scorer, portion) if one.id not in done]

    for pair in pairs:
        wanted = {target: spans_of(model, pair, target, longest) for target in targets}
        portion.append((pair, wanted))
        tokens += sum(len(span.ids) for spans in wanted.values() if not isinstance(spans, str) for span in spans)
        if tokens >= most:
            if found := left():
                yield found
            portion, tokens = [], 0
    if found := left():
        yield found


def _scored(scorer: Scorer, portion: Sequence[tuple[Pair, dict[str, Spans | str]]]) -> list[Likelihoods]:
    spans = [
        span for _, wanted in portion for both in wanted.values() if not isinstance(both, str) for span in both
    ]  # fmt: skip
    losses = dict(scorer.losses(spans))
    found, place = [], 0
    for pair, wanted in portion:
        values: dict[str, Any] = {}
        reasons = []
        for target, both in wanted.items():
            if isinstance(both, str):
                reasons.append(both)
                continue
            alone, given = losses[place], losses[place + 1]
            place += 2
            if math.isfinite(alone) and math.isfinite(given) and given - alone < _MOST_NATS:
                values |= {target: alone, f"{target}_given": given}
            else:
                reasons.append(NOT_FINITE)
        found.append(Likelihoods(pair.id, **values, missing=", ".join(dict.fromkeys(reasons))))
    return found


def spans_of(model: HF, pair: Pair, target: str, longest: int) -> Spans | str:
    """The response or the instruction, alone and in its context; or why not. The end token is not scored."""
    tokenizer = model.tokenizer
    text, user = (pair.output, pair.prompt) if target == "response" else (pair.prompt, GUESS + pair.output)
    ids = response_ids(tokenizer, text)[:-1]
    if not ids or not text.strip() or not pair.output.strip():
        return EMPTY
    try:
        context = _context(tokenizer, pair, user, model.system)
    except ChatTemplateError:
        return TEMPLATE
    start = _start(tokenizer)
    alone, given = Span((start, *ids), 1), Span((*(context or [start]), *ids), len(context) or 1)
    return TOO_LONG if max(len(alone.ids), len(given.ids)) > longest else (alone, given)


def _context(tokenizer: Any, pair: Pair, user: str, system: str | None) -> list[int]:
    """Earlier turns, the user's and the opening of the answer, by the model's template."""
    if not pair.history:
        return prompt_ids(tokenizer, user, system)
    turns = [turn for asked, said in pair.history for turn in (("user", asked), ("assistant", said))]
    messages = [{"role": role, "content": text} for role, text in [*turns, ("user", user), ("assistant", "")]]
    ids, spans = conversation_ids(tokenizer, messages, system)
    return ids[: spans[-1][0]]


def _start(tokenizer: Any) -> int:
    """The token that a text alone begins with: that which begins a text, or else (GPT-2) ends one."""
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    return end_token_id(tokenizer)


def _counts(found: Sequence[Likelihoods]) -> dict[str, Any]:
    missing = Counter(one.missing for one in found if one.missing)
    counts: dict[str, Any] = {"pairs": len(found), "missing": sum(missing.values())}
    if missing:
        counts["reasons"] = dict(missing)
    for name, values in (("IFD", [one.ifd for one in found]), ("reversed IFD", [one.rifd for one in found])):
        known = [value for value in values if value is not None]
        if known:
            counts[f"mean {name}"] = round(math.fsum(known) / len(known), 4)
    return counts
