"""Rows that are packed see themselves alone, in models of several makes."""

import pytest
import torch
from tests.training import tiny_models as tiny
from transformers import AutoModelForCausalLM, BloomConfig, GPT2Config, MambaConfig

from errata.training import attention


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("name", tiny.CONFIGS)
def test_packed_is_apart(name, lora):
    model, given = tiny.make(name, lora), tiny.rows()
    apart = [model(input_ids=torch.tensor([ids]), use_cache=False).logits[0] for ids, _ in given]
    sum(logits.square().sum() for logits in apart).backward()
    expected = tiny.gradients(model)
    assert attention.supports(model) is None
    assert attention.base(model).config._attn_implementation == "eager", "asking changes nothing"
    attention.enable(model)
    inputs, _, _ = tiny.packed(given)
    logits = model(**inputs, use_cache=False).logits[0]
    torch.testing.assert_close(logits, torch.cat(apart), rtol=1e-4, atol=1e-4)
    logits.square().sum().backward()
    tiny.assert_same_gradients(expected, tiny.gradients(model))


@pytest.mark.parametrize("name", ["mistral", "gemma2"])
def test_padded_batches_go_on_working(name):
    model, given = tiny.make(name), tiny.rows()
    inputs, _, _ = tiny.padded(given)
    kept = inputs["attention_mask"].bool()
    expected = model(**inputs, use_cache=False).logits[kept]
    attention.enable(model)
    torch.testing.assert_close(model(**inputs, use_cache=False).logits[kept], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (BloomConfig(vocab_size=97, hidden_size=32, n_layer=1, n_head=4), "does not take its attention function by name"),
        (MambaConfig(vocab_size=97, hidden_size=32, num_hidden_layers=1, state_size=4), "attention function by name"),
    ],
    ids=["bloom", "mamba"],
)
def test_refused_with_a_reason(config, reason):
    assert reason in attention.supports(AutoModelForCausalLM.from_config(config))


def test_positions_that_are_learnt_pack_too():
    config = GPT2Config(vocab_size=97, n_embd=32, n_layer=1, n_head=4, n_positions=64, bos_token_id=1, eos_token_id=1)
    assert attention.supports(AutoModelForCausalLM.from_config(config)) is None


def test_prompt_learning_is_refused():
    from peft import PromptTuningConfig, get_peft_model

    model = get_peft_model(tiny.make("llama"), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3))
    assert "virtual tokens" in attention.supports(model)


def test_a_model_that_forgets_where_rows_begin_is_found_out(monkeypatch):
    model = tiny.make("llama")
    inner = model.model.forward
    monkeypatch.setattr(model.model, "forward", lambda cu_seq_lens_q=None, **given: inner(**given))
    assert "other logits packed than apart" in attention.supports(model)


def test_what_is_not_known_is_refused():
    tensor = torch.zeros(1, 2, 3, 4)
    with pytest.raises(NotImplementedError, match="s_aux"):
        attention.attend(torch.nn.Module(), tensor, tensor, tensor, None, s_aux=tensor)
