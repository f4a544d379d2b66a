"""The fused loss is the plain one: its sum, and its gradients."""

import pytest
import torch
from tests.training import tiny_models as tiny
from torch.nn import functional as F

from errata.training import attention, linear, loss


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("name", tiny.CONFIGS)
def test_packed_and_padded_give_what_rows_give_alone(name, lora, monkeypatch):
    monkeypatch.setattr(loss, "TOKENS", 4)
    model, given = tiny.make(name, lora), tiny.rows()
    alone = sum(tiny.by_hand(model, given))
    alone.backward()
    expected = tiny.gradients(model)
    attention.enable(model)
    for fast in (False, True):
        if fast:
            linear.enable(model)
        for batch in (tiny.packed(given), tiny.padded(given)):
            for fused in (True, False):
                total = loss.response_loss(model, *batch, fused=fused)
                torch.testing.assert_close(total, alone, rtol=1e-5, atol=1e-4)
                total.backward()
                tiny.assert_same_gradients(expected, tiny.gradients(model))


@pytest.mark.parametrize("name", tiny.CONFIGS)
def test_each_row_bears_its_own_loss(name):
    model, given = tiny.make(name), tiny.rows()
    attention.enable(model)
    expected = tiny.by_hand(model, given)
    inputs, positions, targets = tiny.packed(given)
    end = 0
    for (_, trained), row in zip(given, expected, strict=True):
        part = slice(end, end := end + trained)
        found = loss.response_loss(model, inputs, positions[part], targets[part])
        torch.testing.assert_close(found, row, rtol=1e-5, atol=1e-5)


def test_a_head_that_caps_its_logits_is_not_fused():
    ids = torch.tensor([[5, 6, 7]])
    assert not loss._head_is_linear(tiny.make("gemma2"), ids)
    for name in ("llama", "qwen3", "mistral", "gemma3"):
        assert loss._head_is_linear(tiny.make(name), ids), name


def test_a_head_under_an_adapter_is_not_fused():
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(tiny.make("qwen3"), LoraConfig(r=2, target_modules=["lm_head"], init_lora_weights=False))
    given = tiny.rows()
    assert not loss._head_is_linear(attention.base(model), torch.tensor([[5, 6]]))
    attention.enable(model)
    total = loss.response_loss(model, *tiny.packed(given))
    torch.testing.assert_close(total, sum(tiny.by_hand(model, given)), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("kind", ["PromptTuningConfig", "PromptEncoderConfig", "PrefixTuningConfig"])
def test_virtual_tokens_in_front_shift_nothing(kind):
    import peft

    model = peft.get_peft_model(tiny.make("llama"), getattr(peft, kind)(task_type="CAUSAL_LM", num_virtual_tokens=3))
    given = tiny.rows()
    expected = 0.0
    for ids, trained in given:
        logits = model(input_ids=torch.tensor([ids])).logits[0, -len(ids) :][len(ids) - trained - 1 : -1]
        expected += F.cross_entropy(logits, torch.tensor(ids[-trained:]), reduction="sum")
    total = loss.response_loss(model, *tiny.padded(given))
    torch.testing.assert_close(total, expected, rtol=1e-5, atol=1e-4)
    total.backward()
    assert any(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradient_by_hand(dtype, monkeypatch):
    monkeypatch.setattr(loss, "TOKENS", 3)
    monkeypatch.setattr(loss, "HELD_BYTES", 1)
    torch.manual_seed(0)
    hidden, head, targets = torch.randn(8, 6, dtype=dtype), torch.nn.Linear(6, 11).to(dtype), torch.arange(8)
    hidden.requires_grad_()
    plain = F.cross_entropy(head(hidden).float(), targets, reduction="sum") / 3
    plain.backward()
    expected = [hidden.grad, head.weight.grad, head.bias.grad]
    hidden.grad = head.weight.grad = head.bias.grad = None
    fused = loss.LinearCrossEntropy.apply(hidden, head.weight, head.bias, targets, head) / 3
    fused.backward()
    near = {"rtol": 1e-5, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 0.05, "atol": 0.05}
    torch.testing.assert_close(fused, plain, **near)
    for found, wanted in zip([hidden.grad, head.weight.grad, head.bias.grad], expected, strict=True):
        torch.testing.assert_close(found, wanted, **near)


def test_packed_rows_without_their_boundaries_are_refused():
    model = tiny.make("llama")
    inputs, positions, targets = tiny.packed(tiny.rows())
    del inputs["cu_seq_lens_q"]
    with pytest.raises(ValueError, match="cu_seq_lens_q"):
        loss.response_loss(model, inputs, positions, targets)
