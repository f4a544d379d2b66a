"""Bottleneck adapters as a method of PEFT, which has none of its own: a narrow network behind, before or beside a layer.

Importing this module is what lets PEFT train, save and load them; `PeftModel.from_pretrained` reads such a folder then.

The form is that of LLM-Adapters (arXiv 2304.01933) and of the fork of PEFT that Alpaca-CoT (2310.07328) brings: down to
the bottleneck, an activation, up again, without biases, added to what it stands at; all weights from N(0, 0.02).

Differs from the source: on which side of a layer the Houlsby form stands is not a table by model but follows from its shape.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from peft import PeftConfig
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_PREFIX_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from torch import Tensor, nn
from transformers.activations import ACT2FN
from transformers.pytorch_utils import Conv1D


class Kind(StrEnum):
    """The name in `adapter_config.json`; PEFT's own enumeration of kinds is closed, its tables take any text."""

    BOTTLENECK = "BOTTLENECK"


@dataclass
class BottleneckConfig(PeftConfig):
    """What `adapter_config.json` holds.

    Attributes:
        target_modules: names of linear layers.
        form: `pfeiffer`: behind each layer; `houlsby`: behind it, or before it where the layer widens (so that it stands on
            the narrow side); `parallel`: beside it, from its input to its output.
        bottleneck: width of the adapter.
        activation: its name in transformers.
        scaling: factor of what is added.
    """

    target_modules: Any = None
    form: str = "houlsby"
    bottleneck: int = 32
    activation: str = "tanh"
    scaling: float = 1.0

    def __post_init__(self) -> None:
        """The kind; sets where JSON had lists."""
        super().__post_init__()
        self.peft_type = Kind.BOTTLENECK
        if isinstance(self.target_modules, list):
            self.target_modules = set(self.target_modules)


class BottleneckLayer(nn.Module, BaseTunerLayer):
    """A linear layer with an adapter at it."""

    adapter_layer_names = ("bottleneck_down", "bottleneck_up")
    other_param_names = ("places", "activations", "scaling")

    def __init__(self, base_layer: nn.Module, adapter_name: str, config: BottleneckConfig) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.bottleneck_down, self.bottleneck_up = nn.ModuleDict(), nn.ModuleDict()
        self.places: dict[str, str] = {}
        self.activations: dict[str, Any] = {}
        self.scaling: dict[str, float] = {}
        self._disable_adapters = False
        self.merged_adapters = []
        self._active_adapter = adapter_name
        self.add(adapter_name, config)

    def add(self, name: str, config: BottleneckConfig) -> None:
        """A new adapter of that name."""
        into, out_of = _widths(self.get_base_layer())
        narrow_side = "before" if out_of > into else "behind"
        place = {"houlsby": narrow_side, "pfeiffer": "behind", "parallel": "beside"}[config.form]
        first, last = {"before": (into, into), "behind": (out_of, out_of), "beside": (into, out_of)}[place]
        down, up = nn.Linear(first, config.bottleneck, bias=False), nn.Linear(config.bottleneck, last, bias=False)
        for part in (down, up):
            nn.init.normal_(part.weight, std=0.02)
        self.bottleneck_down[name], self.bottleneck_up[name] = down, up
        self.places[name], self.activations[name], self.scaling[name] = place, ACT2FN[config.activation], config.scaling
        self._move_adapter_to_device_of_base_layer(name)
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """x: (..., in) -> (..., out)."""
        names = [] if self.disable_adapters else [name for name in self.active_adapters if name in self.places]
        given = x
        for name in names:
            if self.places[name] == "before":
                x = x + self._through(name, x)
        out: Tensor = self.base_layer(x, *args, **kwargs)
        for name in names:
            if self.places[name] != "before":
                out = out + self._through(name, out if self.places[name] == "behind" else given)
        return out

    def _through(self, name: str, x: Tensor) -> Tensor:
        down: Any = self.bottleneck_down[name]
        up: Any = self.bottleneck_up[name]
        narrow = self.activations[name](down(x.to(down.weight.dtype)))
        added: Tensor = up(narrow) * self.scaling[name]
        return added.to(x.dtype)


class BottleneckModel(BaseTuner):
    """Puts an adapter at each layer that the config names."""

    prefix = "bottleneck_"
    tuner_layer_cls = BottleneckLayer
    target_module_mapping: dict[str, list[str]] = {}

    def _create_and_replace(
        self,
        peft_config: Any,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        parameter_name: str | None = None,
    ) -> None:
        if isinstance(target, BottleneckLayer):
            target.add(adapter_name, peft_config)
            return
        layer = BottleneckLayer(target, adapter_name, peft_config)
        if adapter_name not in self.active_adapters:
            layer.requires_grad_(False)
        self._replace_module(parent, target_name, layer, target)


def _widths(layer: nn.Module) -> tuple[int, int]:
    """Numbers that go in and come out.

    Raises:
        ValueError: it is no linear layer.
    """
    if isinstance(layer, Conv1D):
        return int(layer.weight.shape[0]), int(layer.weight.shape[1])
    if not isinstance(layer, nn.Linear):
        raise ValueError(f"a bottleneck adapter stands at linear layers; this is a {type(layer).__name__}")
    return layer.in_features, layer.out_features


PEFT_TYPE_TO_CONFIG_MAPPING[Kind.BOTTLENECK] = BottleneckConfig  # type: ignore[index]
PEFT_TYPE_TO_TUNER_MAPPING[Kind.BOTTLENECK] = BottleneckModel  # type: ignore[index]
PEFT_TYPE_TO_PREFIX_MAPPING[Kind.BOTTLENECK] = BottleneckModel.prefix  # type: ignore[index]
