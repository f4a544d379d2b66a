"""Ways to fine-tune: all weights, or a few new ones beside them (PEFT). One class a way; `conf/training` names them.

Counts of trained parameters on BLOOM-7B's shape are those of Alpaca-CoT's Table 4 (tests/training/test_methods.py).
"""

from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from errata.errors import ConfigError

_MANY = 10**9
"""Updates, where it is not known yet how many there are: more than any schedule of ranks needs."""
FORMS = ("houlsby", "pfeiffer", "parallel")
ACTIVATIONS = ("tanh", "relu", "gelu", "silu", "sigmoid")


class Method(Protocol):
    """A way to fine-tune; cheap to make, and a dataclass of plain values."""

    @property
    def whole(self) -> bool:
        """Whether all weights are trained, so that a whole model is left instead of an adapter."""
        ...

    @property
    def goes_on(self) -> bool:
        """Whether an adapter that it has left can be trained on by it."""
        ...

    def problems(self) -> list[str]:
        """Values that cannot be."""
        ...

    def unfit(self, weights: Any) -> list[str]:
        """What does not go with the model, seen without its weights: layers that it lacks, an adapter of another shape."""
        ...

    def loading(self) -> dict[str, Any]:
        """How the base model has to be loaded: further arguments for `load_network`."""
        ...

    def wrapped(self, model: Any, weights: Any, steps: int) -> Any:
        """The model with what is trained, everything else frozen; `steps` updates are ahead."""
        ...


class Adapter:
    """What the PEFT methods share: a new adapter from `config`, or the given one, trained on (where it `goes_on`)."""

    whole = False
    goes_on = False
    shape: tuple[str, ...] = ()
    """What of PEFT's configuration an adapter keeps when it is trained on, beside its kind and its layers."""

    def problems(self) -> list[str]:
        """Counts below one."""
        return [
            f"training.method.{name} is {value}: it must be at least 1"
            for name, value in vars(self).items()
            if isinstance(value, int) and not isinstance(value, bool) and name != "tinit" and value < 1
        ]

    def unfit(self, weights: Any) -> list[str]:
        """Targets that are not there; an adapter of another kind, shape or place.

        Looked for only where something can be amiss: it takes the libraries' imports.
        """
        from errata.weights import empty_network

        plain = weights.adapter is None and getattr(self, "targets", ["all-linear"]) == ["all-linear"]
        if plain or weights.remote_code:
            return []
        try:
            model = empty_network(weights)
        except ConfigError:  # told where it is loaded
            return []
        try:
            if weights.adapter is not None:
                return self._unlike(model, weights.adapter, _MANY)
            self.config(model, _MANY)
        except ConfigError as error:
            return list(error.problems)
        return []

    def loading(self) -> dict[str, Any]:
        """As any model is loaded."""
        return {}

    def config(self, model: Any, steps: int) -> Any:
        """PEFT's configuration."""
        raise NotImplementedError

    def wrapped(self, model: Any, weights: Any, steps: int) -> Any:
        """The model with an adapter.

        Raises:
            ConfigError: the targets match no layer, or the given adapter is of another kind or shape.
        """
        from peft import PeftModel, get_peft_model

        from errata.weights import adapter_config, naming

        ours = self.config(model, steps)
        if weights.adapter is None:
            try:
                return get_peft_model(model, ours)
            except ValueError as error:
                raise ConfigError([f"training.method: {' '.join(str(error).split())[:300]}"]) from error
        if told := self._unlike(model, weights.adapter, steps):
            raise ConfigError(told)
        with naming(replace(weights, base=weights.adapter, gguf=None)):
            theirs = adapter_config(weights.adapter)
            if hasattr(ours, "lora_dropout"):
                theirs.lora_dropout = ours.lora_dropout
            return PeftModel.from_pretrained(model, weights.adapter, is_trainable=True, config=theirs)

    def _unlike(self, model: Any, adapter: str, steps: int) -> list[str]:
        """The first in which a given adapter differs from what the method makes."""
        from errata.weights import adapter_config

        if not self.goes_on:
            return [f"{type(self).__name__} cannot go on with an adapter: start each iteration anew (policy=restart)"]
        ours, theirs = self.config(model, steps), adapter_config(adapter)
        for name in ("peft_type", *self.shape, "targets"):
            asked, there = (
                _where(model, config) if name == "targets" else getattr(config, name, None) for config in (ours, theirs)
            )
            if asked != there:
                return [
                    f"the adapter {adapter} has {name}={_name(there)}, training.method asks for {_name(asked)}: an adapter "
                    "keeps its shape. Set the method to it, start anew (policy=restart), or merge it first (errata export)"
                ]
        return []


@dataclass
class Full:
    """All weights are trained; an adapter is merged into them first."""

    whole = True
    goes_on = True

    def problems(self) -> list[str]:
        """None."""
        return []

    def unfit(self, weights: Any) -> list[str]:
        """An adapter that cannot be merged."""
        from errata.weights import unmergeable

        try:
            stays = weights.adapter is not None and unmergeable(weights.adapter)
        except ConfigError as error:
            return list(error.problems)
        return [_stays(weights.adapter)] if stays else []

    def loading(self) -> dict[str, Any]:
        """As any model is loaded."""
        return {}

    def wrapped(self, model: Any, weights: Any, steps: int) -> Any:
        """The model itself, an adapter merged into it first."""
        if weights.adapter is not None:
            from errata.weights import apply_adapter

            model = apply_adapter(model, weights.adapter)
            if hasattr(model, "peft_config"):
                raise ConfigError([_stays(weights.adapter)])
        model.requires_grad_(True)
        return model


@dataclass
class Lora(Adapter):
    """LoRA (arXiv 2106.09685); with `dora` DoRA (2402.09353), with `bits` QLoRA (2305.14314).

    Attributes:
        r, alpha, dropout: rank, scale (over r) and dropout of the update.
        targets: names of linear layers; `all-linear`: all but the head; `auto`: those that the architecture is known for.
        dora: learn the weight's magnitude and direction apart.
        bits: hold the frozen weights in 4 (NF4, doubly quantised) or 8 bits, by bitsandbytes.
    """

    r: int = 16
    alpha: int = 32
    dropout: float = 0.0
    targets: list[str] = field(default_factory=lambda: ["all-linear"])
    dora: bool = False
    bits: int | None = None
    goes_on = True
    shape = ("r", "lora_alpha", "use_dora")

    def problems(self) -> list[str]:
        """Values out of range, and a library that is not there."""
        found = super().problems() + _share("dropout", self.dropout)
        if not self.targets:
            found.append("training.method.targets is empty: name layers, all-linear or auto")
        if self.bits is not None:
            if self.bits not in (4, 8):
                found.append(f"training.method.bits is {self.bits}: choose 4, 8 or null")
            try:
                import bitsandbytes  # noqa: F401
            except ImportError:
                found.append("training.method.bits needs the library bitsandbytes: pip install 'errata[qlora]'")
        return found

    def loading(self) -> dict[str, Any]:
        """Quantised, where `bits` says so."""
        if self.bits is None:
            return {}
        import torch
        from transformers import BitsAndBytesConfig

        fast = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
        if self.bits == 8:
            return {"quantization_config": BitsAndBytesConfig(load_in_8bit=True)}
        return {
            "quantization_config": BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_quant_type="nf4",
                bnb_4bit_use_double_quant=True,
                bnb_4bit_compute_dtype=torch.bfloat16 if fast else torch.float32,
            )
        }

    def config(self, model: Any, steps: int) -> Any:
        """PEFT's LoraConfig."""
        from peft import LoraConfig

        return LoraConfig(
            r=self.r,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=_targets(self.targets, model),
            use_dora=self.dora,
            task_type="CAUSAL_LM",
        )

    def wrapped(self, model: Any, weights: Any, steps: int) -> Any:
        """The model with LoRA; a quantised one is made ready for training first."""
        if self.bits is not None:
            from peft import prepare_model_for_kbit_training

            model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
        return super().wrapped(model, weights, steps)


@dataclass
class AdaLora(Adapter):
    """AdaLoRA (arXiv 2303.10512): ranks are pruned from `init_r` to `target_r` on average, where they matter least.

    A pruned adapter cannot be gone on with.

    Differs from Alpaca-CoT, whose training never calls the allocation (its adapters keep the initial rank throughout).

    Attributes:
        init_r, target_r: rank of each layer at the start, and the mean rank at the end.
        alpha, dropout: scale (over the rank) and dropout of the update.
        targets: as of LoRA.
        tinit, tfinal, delta_t: updates before pruning begins; updates at the end with fixed ranks; updates between two
            prunings. `tinit + tfinal` must leave updates for pruning; the default shares are a tenth and three tenths.
        beta1, beta2: smoothing of the importance and of its uncertainty.
        orthogonal: weight of the penalty that keeps the two factors orthogonal.
    """

    init_r: int = 12
    target_r: int = 8
    alpha: int = 32
    dropout: float = 0.0
    targets: list[str] = field(default_factory=lambda: ["all-linear"])
    tinit: int | None = None
    tfinal: int | None = None
    delta_t: int = 10
    beta1: float = 0.85
    beta2: float = 0.85
    orthogonal: float = 0.5

    def problems(self) -> list[str]:
        """Values out of range."""
        found = super().problems() + _share("dropout", self.dropout) + _share("beta1", self.beta1)
        found += _share("beta2", self.beta2)
        if self.target_r > self.init_r:
            found.append(f"training.method.target_r is {self.target_r}: it cannot be above init_r ({self.init_r})")
        return found

    def config(self, model: Any, steps: int) -> Any:
        """PEFT's AdaLoraConfig, its schedule fitted to the number of updates."""
        from peft import AdaLoraConfig

        tinit = steps // 10 if self.tinit is None else self.tinit
        tfinal = 3 * steps // 10 if self.tfinal is None else self.tfinal
        if tinit + tfinal >= steps:
            raise ConfigError(
                [
                    f"training.method: tinit {tinit} + tfinal {tfinal} leave none of the {steps} updates for pruning: lower "
                    "them, or train longer"
                ]
            )
        return AdaLoraConfig(
            init_r=self.init_r,
            target_r=self.target_r,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=_targets(self.targets, model),
            tinit=tinit,
            tfinal=tfinal,
            deltaT=self.delta_t,
            beta1=self.beta1,
            beta2=self.beta2,
            orth_reg_weight=self.orthogonal,
            total_step=max(steps, 1),
            task_type="CAUSAL_LM",
        )


@dataclass
class Prompt(Adapter):
    """Prompt tuning (arXiv 2104.08691): learnt embeddings before the prompt.

    Attributes:
        virtual_tokens: how many.
    """

    virtual_tokens: int = 20

    def config(self, model: Any, steps: int) -> Any:
        """PEFT's PromptTuningConfig."""
        from peft import PromptTuningConfig

        return PromptTuningConfig(num_virtual_tokens=self.virtual_tokens, task_type="CAUSAL_LM")


@dataclass
class PTuning(Adapter):
    """P-tuning (arXiv 2103.10385): virtual tokens that come out of a small network.

    Attributes:
        virtual_tokens: how many.
        hidden: units of the network.
    """

    virtual_tokens: int = 20
    hidden: int = 128

    def config(self, model: Any, steps: int) -> Any:
        """PEFT's PromptEncoderConfig."""
        from peft import PromptEncoderConfig

        return PromptEncoderConfig(
            num_virtual_tokens=self.virtual_tokens, encoder_hidden_size=self.hidden, task_type="CAUSAL_LM"
        )


@dataclass
class Prefix(Adapter):
    """Prefix tuning (arXiv 2101.00190): learnt keys and values in each layer.

    Attributes:
        virtual_tokens: how many in each layer.
        projection: they come through a projection.
        hidden: its units.
    """

    virtual_tokens: int = 20
    hidden: int = 128
    projection: bool = True

    def config(self, model: Any, steps: int) -> Any:
        """PEFT's PrefixTuningConfig."""
        from peft import PrefixTuningConfig

        return PrefixTuningConfig(
            num_virtual_tokens=self.virtual_tokens,
            encoder_hidden_size=self.hidden,
            prefix_projection=self.projection,
            task_type="CAUSAL_LM",
        )


@dataclass
class Bottleneck(Adapter):
    """Bottleneck adapters (arXiv 1902.00751, 2005.00247, 2110.04366), in the forms of Alpaca-CoT's fork of PEFT.

    Differs from Alpaca-CoT, whose training does not reach them: its fork has them.

    Attributes:
        form: `houlsby`: before the feed-forward layers that widen, and behind the one that narrows; `pfeiffer`: behind that
            one only; `parallel`: beside the attention's query, key and value.
        bottleneck: width of the adapter.
        activation: between down and up: tanh, relu, gelu, silu or sigmoid.
        scaling: factor of what an adapter adds.
        targets: names of linear layers; `auto`: those that the architecture is known for. With `houlsby` an adapter stands
            before a layer that widens and behind any other.
    """

    form: str = "houlsby"
    bottleneck: int = 32
    activation: str = "tanh"
    scaling: float = 1.0
    targets: list[str] = field(default_factory=lambda: ["auto"])
    goes_on = True
    shape = ("form", "bottleneck", "activation", "scaling")

    def problems(self) -> list[str]:
        """Values out of range, and names that stand for nothing."""
        found = super().problems()
        for name, known in (("form", FORMS), ("activation", ACTIVATIONS)):
            if getattr(self, name) not in known:
                found.append(f"training.method.{name} is {getattr(self, name)!r}: choose {', '.join(known)}")
        if not self.scaling > 0:
            found.append(f"training.method.scaling is {self.scaling}: choose a factor above 0")
        if not self.targets:
            found.append("training.method.targets is empty: name layers, or auto")
        return found

    def config(self, model: Any, steps: int) -> Any:
        """Its configuration, as PEFT wants one."""
        from errata.bottleneck import BottleneckConfig
        from errata.weights import bottleneck_targets

        return BottleneckConfig(
            form=self.form,
            bottleneck=self.bottleneck,
            activation=self.activation,
            scaling=self.scaling,
            target_modules=bottleneck_targets(model, self.form, self.targets),
            task_type="CAUSAL_LM",
        )


METHODS: dict[str, type] = {kind.__name__: kind for kind in (Full, Lora, AdaLora, Prompt, PTuning, Prefix, Bottleneck)}


def trained_parameters(model: Any) -> int:
    """How many numbers are trained."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def _targets(targets: list[str], model: Any) -> Any:
    from errata.weights import lora_targets

    return "all-linear" if targets == ["all-linear"] else lora_targets(model, targets)


def _stays(adapter: str) -> str:
    return f"the adapter {adapter} cannot be merged: go on with its own method"


def _where(model: Any, config: Any) -> str:
    """The last names of the layers that PEFT's configuration names, and how many there are of each."""
    from peft.tuners.tuners_utils import check_target_module_exists

    from errata.weights import linear_layers

    paths = linear_layers(model)
    if config.target_modules != "all-linear":
        paths = [path for path, _ in model.named_modules() if check_target_module_exists(config, path)]
    names = [path.rpartition(".")[2] for path in paths]
    return ", ".join(f"{name} ({names.count(name)})" for name in sorted(set(names)))


def _share(name: str, value: float) -> list[str]:
    return [] if 0 <= value < 1 else [f"training.method.{name} is {value}: choose a share from 0 to 1"]


def _name(value: Any) -> str:
    return str(getattr(value, "value", value))
