"""Linear layers that train on oneDNN's products: about twice as fast on AMD processors as torch's own for float32.

The same products, summed in another order. Weights that are not trained (those under an adapter) are laid out once, as
oneDNN wants them, for the way there and for the way back. Parameters and their names stay as they are: only the class of
a layer changes, and `disable` changes it back. For float32 on a CPU; under autocast a layer does what it always did.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

PACKED_BYTES = 4 << 30
"""Frozen weights beyond this many bytes are not laid out anew, which would take twice their memory once more."""


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Gives x (..., in) times weight (out, in) transposed, plus bias: (..., out). The weight may be packed or strided."""
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return out


def weight_gradient(gradient: Tensor, x: Tensor) -> Tensor:
    """The gradient (n, out), transposed, times x (n, in): (out, in). The smaller side goes first: oneDNN likes it better."""
    if gradient.shape[1] <= x.shape[1]:
        return product(gradient.t(), x.t())
    return product(x.t(), gradient.t()).t()


class Linear(torch.autograd.Function):
    """x W^T + b and its gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, packed: tuple[Tensor, Tensor] | None) -> Tensor:
        """`packed` holds the weight and its transpose as oneDNN wants them."""
        ctx.save_for_backward(x if weight.requires_grad else None, weight)
        ctx.packed = packed
        return product(x, packed[0] if packed else weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of x, weight and bias, where they are wanted."""
        x, weight = ctx.saved_tensors
        gradient = gradients[0]
        to_x = to_weight = to_bias = None
        if ctx.needs_input_grad[0]:
            to_x = product(gradient, ctx.packed[1] if ctx.packed else weight.t())
        if ctx.needs_input_grad[1]:
            to_weight = weight_gradient(gradient.flatten(0, -2), x.flatten(0, -2))
        if ctx.needs_input_grad[2]:
            to_bias = gradient.flatten(0, -2).sum(0)
        return to_x, to_weight, to_bias, None


class FastLinear(nn.Linear):
    """A linear layer whose products are oneDNN's."""

    keep_packed = True

    def forward(self, x: Tensor) -> Tensor:
        """x: (..., in) -> (..., out)."""
        if x.dtype != torch.float32 or x.device.type != "cpu" or x.dim() < 2 or torch.is_autocast_enabled("cpu"):
            return F.linear(x, self.weight, self.bias)
        # one row a token: oneDNN's result is a view otherwise, which some layers above could not add to in place
        out: Tensor = Linear.apply(x.flatten(0, -2), self.weight, self.bias, self.packed())
        return out.unflatten(0, x.shape[:-1])

    def packed(self) -> tuple[Tensor, Tensor] | None:
        """The weight and its transpose, laid out; anew when the weight was changed. None where it is trained."""
        weight = self.weight
        if weight.requires_grad or not self.keep_packed:
            self.__dict__.pop("_packed", None)
            return None
        stamp = (weight.data_ptr(), weight._version)
        held: tuple[tuple[int, int], tuple[Tensor, Tensor]] | None = self.__dict__.get("_packed")
        if held is None or held[0] != stamp:
            lay = torch.ops.mkldnn._reorder_linear_weight
            held = self.__dict__["_packed"] = (stamp, (lay(weight.data), lay(weight.data.t().contiguous())))
        return held[1]


def enable(model: nn.Module) -> int:
    """Change every plain linear layer of float32 on a CPU; returns how many. None where torch is built without oneDNN."""
    if not torch.backends.mkldnn.is_available():
        return 0
    layers: list[Any] = [layer for layer in model.modules() if type(layer) is nn.Linear and _fits(layer.weight)]
    frozen = sum(layer.weight.nbytes for layer in layers if not layer.weight.requires_grad)
    for layer in layers:
        layer.__class__ = FastLinear
        layer.__dict__["keep_packed"] = frozen <= PACKED_BYTES
    return len(layers)


def disable(model: nn.Module) -> None:
    """Change them back, and let go of what was laid out."""
    layers: list[Any] = [layer for layer in model.modules() if type(layer) is FastLinear]
    for layer in layers:
        layer.__dict__.pop("_packed", None)
        layer.__dict__.pop("keep_packed", None)
        layer.__class__ = nn.Linear


def _fits(weight: Tensor) -> bool:
    return weight.dtype == torch.float32 and weight.device.type == "cpu" and weight.numel() > 0
