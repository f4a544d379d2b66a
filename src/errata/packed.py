"""Linear layers for inference on a CPU: their weights laid out once, as oneDNN's own kernels want them.

The same product as `torch.nn.Linear`, summed in another order. Two to four times as fast as the default on processors that
the default's library does not know well (measured in `benchmarks/`).
"""

import torch
from torch import Tensor, nn


class PackedLinear(nn.Module):
    """A linear layer that holds its weight packed; float32, CPU, inference only."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight = linear.weight  # some models read its dtype
        self.bias = linear.bias
        self.packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.data)

    def forward(self, x: Tensor) -> Tensor:
        """x: (..., in) float32 -> (..., out)."""
        return torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, "none", [], "")


def pack(model: nn.Module) -> None:
    """Replace every linear layer of a float32 model on a CPU, where torch is built with oneDNN."""
    if not torch.backends.mkldnn.is_available():
        return
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.Linear and child.weight.dtype == torch.float32 and child.weight.device.type == "cpu":
                setattr(module, name, PackedLinear(child))
