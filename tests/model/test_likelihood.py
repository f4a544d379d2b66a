"""Losses of a batch are those of one sequence at a time, by transformers' own code, in models of several makes."""

import random

import pytest
import torch
from tests.training import tiny_models as tiny
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, BloomConfig, CohereConfig, GPT2Config, MambaConfig

from errata.errors import ModelError
from errata.model import likelihood
from errata.model.likelihood import Scorer, Span

OTHERS = {
    "gpt2": GPT2Config(vocab_size=97, n_embd=32, n_layer=2, n_head=4, n_positions=64, bos_token_id=1, eos_token_id=1),
    "bloom": BloomConfig(vocab_size=97, hidden_size=32, n_layer=2, n_head=4),
    "cohere": CohereConfig(**tiny.SIZES, logit_scale=0.5),
    "mamba": MambaConfig(vocab_size=97, hidden_size=32, num_hidden_layers=2, state_size=4),
}
WAYS = {"gemma2": "narrow", "cohere": "narrow"}


def network(name, sdpa=True):
    if name in tiny.CONFIGS:
        model = tiny.make(name)
        if sdpa and name != "gemma2":
            model.set_attn_implementation("sdpa")
        return model.eval()
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(OTHERS[name])
    for parameter in model.parameters():
        parameter.data = parameter.data * (2 if name == "mamba" else 4) if parameter.dim() > 1 else parameter.data
    return model.eval()


def drawn(lengths=(9, 30, 2, 5, 12, 30, 17, 3, 41), seed=0):
    draw = random.Random(seed)
    return [Span(tuple(draw.randrange(2, 97) for _ in range(n)), draw.randrange(1, n)) for n in lengths]


@torch.no_grad()
def by_hand(model, span):
    labels = torch.tensor([span.ids])
    labels[0, : span.start] = -100
    return float(model(input_ids=torch.tensor([span.ids]), labels=labels).loss)


def of(scorer, spans):
    found = list(scorer.losses(spans))
    assert sorted(place for place, _ in found) == list(range(len(spans)))
    return [loss for _, loss in sorted(found)]


@pytest.mark.parametrize("budget", [1, 64, 10_000])
@pytest.mark.parametrize("name", [*tiny.CONFIGS, *OTHERS])
def test_a_batch_has_the_losses_of_one_at_a_time(name, budget):
    model, spans = network(name), drawn()
    scorer = Scorer(model, budget)
    assert scorer._way == WAYS.get(name, "plain")
    expected = [by_hand(model, span) for span in spans]
    assert of(scorer, spans) == pytest.approx(expected, abs=1e-5)
    assert max(expected) - min(expected) > 0.1, "losses that differ"
    assert of(scorer, spans) == pytest.approx([of(scorer, [span])[0] for span in spans], abs=1e-5)


def test_a_packed_head_and_small_pieces_of_logits(monkeypatch):
    from errata.packed import pack

    model, spans = network("llama"), drawn()
    expected = [by_hand(model, span) for span in spans]
    pack(model)
    monkeypatch.setattr(likelihood, "_LOGITS_BYTES", {"cpu": 1})
    assert of(Scorer(model), spans) == pytest.approx(expected, abs=1e-5)


def test_a_head_that_is_not_found_or_not_used_costs_speed_only(monkeypatch):
    model, spans = network("llama"), drawn()
    expected = [by_hand(model, span) for span in spans]
    monkeypatch.setattr(model, "get_output_embeddings", lambda: torch.nn.Linear(32, 97))
    unused = Scorer(model)
    monkeypatch.setattr(model, "get_output_embeddings", lambda: None)
    for scorer in (unused, Scorer(model)):
        assert scorer._way == "whole"
        assert of(scorer, spans) == pytest.approx(expected, abs=1e-5)


def test_an_adapters_own_tokens_bear_no_loss():
    from peft import PromptTuningConfig, get_peft_model

    model = get_peft_model(network("llama"), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)).eval()
    spans, expected = drawn(), []
    for span in spans:
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([span.ids])).logits[0, 3:]
        scored = torch.tensor(span.ids[span.start :])
        expected.append(float(F.cross_entropy(logits[span.start - 1 : -1], scored)))
    assert of(Scorer(model), spans) == pytest.approx(expected, abs=1e-5)


def test_equal_sequences_and_beginnings_share_a_pass():
    ids = drawn((30,))[0].ids
    spans = [Span(ids, 20), Span(ids[:12], 1), Span(ids, 5), Span(ids[:25], 24), Span((*ids[:12], 96), 4), Span(ids[1:], 3)]
    passes = likelihood._passes(spans)
    assert [(len(one), sorted(places)) for one, places in passes] == [(30, [0, 1, 2, 3]), (29, [5]), (13, [4])] or [
        (len(one), sorted(places)) for one, places in passes
    ] == [(30, [0, 2, 3]), (29, [5]), (13, [1, 4])]
    model = network("llama")
    assert of(Scorer(model), spans) == pytest.approx([by_hand(model, span) for span in spans], abs=1e-5)


@pytest.mark.parametrize(
    ("lengths", "budget", "count"),
    [([10, 10, 10], 20, 2), ([10, 10], 100, 10), ([10], 5, 1), ([100, 99, 98, 50, 50], 1000, 3), ([100, 10, 10], 400, 1)],
)
def test_passes_are_full_but_not_of_padding(lengths, budget, count):
    scorer = Scorer(network("llama"), budget)
    assert scorer._fitting(lengths) == count


def test_out_of_memory_is_met_with_smaller_passes(monkeypatch):
    model, spans = network("llama"), drawn()
    expected = [by_hand(model, span) for span in spans]
    scorer, run = Scorer(model, 200), Scorer._token_losses

    def narrow(self, ids, places, targets):
        if ids.numel() > 45:
            raise torch.OutOfMemoryError("no more")
        return run(self, ids, places, targets)

    monkeypatch.setattr(Scorer, "_token_losses", narrow)
    assert of(scorer, spans) == pytest.approx(expected, abs=1e-5)
    assert scorer.token_budget <= 90
    with pytest.raises(ModelError, match="not enough memory on cpu to score 46 tokens"):
        of(scorer, drawn((46,)))


def test_what_is_not_finite_is_not_hidden():
    model = network("mistral")
    model.model.embed_tokens.weight.data[90] = float("nan")
    good, bad = Span((5, 6, 7, 8), 1), Span((5, 90, 7, 8), 2)
    losses = of(Scorer(model), [good, bad])
    assert losses[0] == losses[0]
    assert losses[1] != losses[1]


@pytest.mark.parametrize(("ids", "start"), [((5, 6), 0), ((5, 6), 2), ((5,), 1), ((), 1)])
def test_a_span_without_a_scored_token_is_refused(ids, start):
    with pytest.raises(ValueError, match="cannot be scored"):
        Span(ids, start)
