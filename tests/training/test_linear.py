"""oneDNN's products stand in for torch's: the same values, gradients, names; undone without a trace."""

import copy

import pytest
import torch
from tests.training import tiny_models as tiny
from torch import nn

from errata.training import linear

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch is built without oneDNN")


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(5, 24), (2, 3, 24), (1, 24)])
@pytest.mark.parametrize("wide", [8, 40])
def test_values_and_gradients(frozen, bias, shape, wide):
    torch.manual_seed(0)
    plain = nn.Linear(24, wide, bias).requires_grad_(not frozen)
    fast = copy.deepcopy(plain)
    assert linear.enable(fast) == 1
    x = torch.randn(shape)
    seen = []
    for layer in (plain, fast):
        given = x.clone().requires_grad_()
        out = layer(given)
        out.square().sum().backward()
        seen.append([out, given.grad, layer.weight.grad, *([layer.bias.grad] if bias else [])])
    for one, two in zip(*seen, strict=True):
        assert (one is None) == (two is None)
        if one is not None:
            torch.testing.assert_close(two, one, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
def test_names_and_classes_come_back(lora):
    model = tiny.make("qwen3", lora)
    before = {name: type(module) for name, module in model.named_modules()}
    state = {name: value.clone() for name, value in model.state_dict().items()}
    assert linear.enable(model) > 0
    model(input_ids=torch.tensor([[5, 6, 7]])).logits.sum().backward()
    assert model.state_dict().keys() == state.keys()
    linear.disable(model)
    assert {name: type(module) for name, module in model.named_modules()} == before
    assert not any(key in vars(module) for module in model.modules() for key in ("_packed", "keep_packed"))
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_a_frozen_weight_that_was_changed_is_laid_out_anew():
    layer = nn.Linear(6, 4).requires_grad_(False)
    linear.enable(layer)
    x = torch.randn(3, 6)
    layer(x)
    with torch.no_grad():
        layer.weight.mul_(2)
    torch.testing.assert_close(layer(x), nn.functional.linear(x, layer.weight, layer.bias))
    layer.load_state_dict({"weight": torch.randn(4, 6), "bias": torch.zeros(4)})
    torch.testing.assert_close(layer(x), nn.functional.linear(x, layer.weight, layer.bias))


def test_other_precisions_are_left_alone():
    assert linear.enable(nn.Linear(6, 4).to(torch.bfloat16)) == 0
    layer = nn.Linear(6, 4)
    linear.enable(layer)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.randn(3, 6)).dtype == torch.bfloat16


def test_large_frozen_weights_are_not_laid_out_twice(monkeypatch):
    monkeypatch.setattr(linear, "PACKED_BYTES", 8)
    layer = nn.Linear(6, 4).requires_grad_(False)
    linear.enable(layer)
    x = torch.randn(3, 6)
    torch.testing.assert_close(layer(x), nn.functional.linear(x, layer.weight, layer.bias))
    assert layer.packed() is None
