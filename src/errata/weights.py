"""Where a model's weights are, and how they and their tokenizer are read: for asking and for training alike.

Of the rest it imports only `chat`, `errors` and `bottleneck`; torch, transformers and peft when they are needed.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from errata.chat import ChatTemplateError, check_template, end_token_id
from errata.errors import ConfigError

_TEMPLATES = Path(__file__).with_name("templates")
_BOS = "{{- bos_token -}}"
_ATTENTION_LAYERS = (
    ("q_proj", "v_proj"),  # LLaMA, Mistral, Vicuna, InternLM, Gemma, Qwen2 and 3, SmolLM2, GLM-4
    ("query_key_value",),  # ChatGLM, BLOOM, GPT-NeoX, Falcon
    ("W_pack",),  # Baichuan
    ("qkv_proj",),  # MOSS and CodeGen, Phi-3
    ("wqkv",),  # InternLM2
    ("c_attn",),  # GPT-2, the first Qwen
)
_ALL_ATTENTION = (("q_proj", "k_proj", "v_proj"), *_ATTENTION_LAYERS[1:])
_FEED_FORWARD = (  # the layers that widen, and the one that narrows again
    (("gate_proj", "up_proj"), "down_proj"),  # LLaMA, Mistral, Vicuna, InternLM, Baichuan, Gemma, Qwen2 and 3, SmolLM2
    (("dense_h_to_4h",), "dense_4h_to_h"),  # ChatGLM, BLOOM, GPT-NeoX, Falcon
    (("gate_up_proj",), "down_proj"),  # Phi-3, GLM-4
    (("up_proj",), "down_proj"),  # MPT
    (("w1", "w3"), "w2"),  # InternLM2
    (("fc_in",), "fc_out"),  # GPT-J, MOSS and CodeGen
    (("fc1",), "fc2"),  # OPT, Phi
    (("c_fc",), "mlp.c_proj"),  # GPT-2, GPT-Neo
)


@dataclass(frozen=True)
class Weights:
    """Where weights are and how they are to be read. Plain values: it travels as a dict (`asdict`) and back.

    Attributes:
        base: a folder, or a hub id.
        adapter: a PEFT adapter's folder on top of it.
        revision: branch, tag or commit of the hub id.
        remote_code: whether code out of the model's own repository may run.
        gguf: the weights' file in `base`, where that is GGUF.
        template: a named chat template (`vicuna`) or a jinja file; None: the tokenizer's own.
        system: the system prompt, in asking and in training alike; None: the template's own, if it has one.
        attention: transformers' name for how attention is computed (eager, sdpa, flash_attention_2); None: its choice.
    """

    base: str
    adapter: str | None = None
    revision: str | None = None
    remote_code: bool = False
    gguf: str | None = None
    template: str | None = None
    system: str | None = None
    attention: str | None = None

    def after_training(self, folder: Path | str) -> "Weights":
        """What training left in a folder: an adapter for this base, or a whole model, which brings its own template."""
        place = str(Path(folder).resolve())
        if (Path(place) / "adapter_config.json").exists():
            return replace(self, adapter=place)
        return replace(self, base=place, adapter=None, revision=None, gguf=None, template=None)


def load_tokenizer(weights: Weights) -> Any:
    """The tokenizer with the chat template that is asked for (saved, it keeps it) and a token to pad with.

    Raises:
        ConfigError: there is none, no chat template, or one that cannot show a question or the system prompt.
    """
    from transformers import AutoTokenizer

    with naming(weights):
        tokenizer: Any = AutoTokenizer.from_pretrained(weights.base, **_source(weights))
    try:
        if weights.template is not None:
            tokenizer.chat_template = _template(tokenizer, weights.template)
        if not tokenizer.chat_template:
            raise ChatTemplateError(no_template(weights.base))
        check_template(tokenizer, weights.system)
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token_id = end_token_id(tokenizer)
    except ChatTemplateError as error:
        raise ConfigError([str(error)]) from error
    return tokenizer


def read_config(weights: Weights) -> Any:
    """The model's transformers configuration."""
    from transformers import AutoConfig

    with naming(weights):
        return AutoConfig.from_pretrained(weights.base, **_source(weights))


def load_network(weights: Weights, dtype: Any, **options: Any) -> Any:
    """The base model, without its adapter, in float32 or what `dtype` says; a GGUF file is dequantised.

    Args:
        weights: where it is.
        dtype: torch's.
        options: for `from_pretrained`: quantization_config, device_map ...

    Raises:
        ConfigError: it cannot be loaded, or not as it is asked for.
    """
    from transformers import AutoModelForCausalLM, GgufConfig

    if weights.gguf is not None:
        if options.get("quantization_config") is not None:
            raise ConfigError([f"model {weights.base}: a GGUF file cannot be quantised again; leave that out"])
        options["quantization_config"] = GgufConfig(dequantize=True)
    if weights.attention is not None:
        options["attn_implementation"] = weights.attention
    with naming(weights):
        network: Any = AutoModelForCausalLM.from_pretrained(weights.base, dtype=dtype, **_source(weights), **options)
    used = getattr(network.config.get_text_config(), "_attn_implementation", None)
    if weights.attention is not None and used != weights.attention:
        raise ConfigError([f"model.attention is {weights.attention!r}: {weights.base} does not heed it (it uses {used})"])
    return network


def empty_network(weights: Weights) -> Any:
    """The base model without its weights, on torch's meta device.

    Raises:
        ConfigError: its config cannot be read, or makes no model.
    """
    import torch
    from transformers import AutoModelForCausalLM

    options = {"trust_remote_code": True} if weights.remote_code else {}
    with naming(weights), torch.device("meta"):
        return AutoModelForCausalLM.from_config(read_config(weights), **options)


def unmergeable(adapter: str) -> str:
    """What kind of adapter it is, of those that stay beside the weights; empty for the others."""
    config = adapter_config(adapter)
    if config.is_prompt_learning:
        return "prompts and prefixes"
    return "bottleneck adapters" if config.peft_type == "BOTTLENECK" else ""


def apply_adapter(network: Any, folder: str) -> Any:
    """The network with an adapter merged into it.

    Where that cannot be it has a `peft_config`: a PeftModel around the network (prompts, prefixes), or for bottlenecks the
    network itself with their layers in it.

    Raises:
        ConfigError: the adapter cannot be loaded, or is made for other layers.
    """
    from peft import PeftModel

    with naming(Weights(folder)):
        config = adapter_config(folder)
        adapted = PeftModel.from_pretrained(network, folder, config=config)
        if config.is_prompt_learning:
            return adapted
        if config.peft_type == "BOTTLENECK":
            return adapted.get_base_model()
        try:
            return adapted.merge_and_unload()
        except (AttributeError, NotImplementedError):  # a method that peft cannot merge
            return adapted


def adapter_config(folder: str) -> Any:
    """PEFT's configuration of an adapter; bottlenecks, which PEFT has not, are known to it from here on.

    Raises:
        ConfigError: it cannot be read.
    """
    from peft import PeftConfig

    from errata import bottleneck  # noqa: F401

    with naming(Weights(folder)):
        return PeftConfig.from_pretrained(folder)


def matching_layers(network: Any) -> dict[str, int]:
    """How many linear layers of each name there are; the output head is none of them."""
    found: dict[str, int] = {}
    for path in linear_layers(network):
        name = path.rpartition(".")[2]
        found[name] = found.get(name, 0) + 1
    return found


def lora_targets(network: Any, wanted: Sequence[str] = ("auto",)) -> list[str]:
    """The names of the layers that get an adapter.

    Args:
        network: the model.
        wanted: `auto` (the attention layers that Alpaca-CoT takes, by architecture), `all-linear`, or names.

    Raises:
        ConfigError: a name matches no linear layer; lists what there is.
    """
    if list(wanted) == ["all-linear"]:
        return sorted(matching_layers(network))
    return _targets(network, wanted, _ATTENTION_LAYERS, "LoRA")


def bottleneck_targets(network: Any, form: str, wanted: Sequence[str] = ("auto",)) -> list[str]:
    """The names of the layers that a bottleneck adapter stands at.

    Args:
        network: the model.
        form: houlsby, pfeiffer or parallel.
        wanted: `auto` (by architecture: feed-forward layers, for `parallel` those of attention), or names.

    Raises:
        ConfigError: a name matches no linear layer; lists what there is.
    """
    known = _ALL_ATTENTION if form == "parallel" else [(*wide, narrow) for wide, narrow in _FEED_FORWARD]
    found = _targets(network, wanted, known, "the bottleneck adapter")
    return found[-1:] if form == "pfeiffer" and list(wanted) == ["auto"] else found


def _targets(network: Any, wanted: Sequence[str], known: Sequence[tuple[str, ...]], whose: str) -> list[str]:
    """The names that are wanted, or of those known together the first that are all there."""
    paths = linear_layers(network)

    def lacking(names: Sequence[str]) -> list[str]:
        return [name for name in names if not any(path == name or path.endswith(f".{name}") for path in paths)]

    listed = ", ".join(f"{name} ({count})" for name, count in sorted(matching_layers(network).items()))
    if list(wanted) == ["auto"]:
        for names in known:
            if not lacking(names):
                return list(names)
        kind = network.config.model_type
        told = [f"{whose}'s targets for type {kind} are not known: name some; its linear layers are {listed}"]
    else:
        told = [f"{whose}'s target {name} matches no layer; there are: {listed}" for name in lacking(wanted)]
    if told:
        raise ConfigError([f"{problem} (training.method.targets)" for problem in told])
    return list(wanted)


def named_templates() -> list[str]:
    """The chat templates that Errata brings."""
    return sorted(path.stem for path in _TEMPLATES.glob("*.jinja"))


def template_text(template: str) -> str:
    """The text of a named template, or of a jinja file.

    Raises:
        ChatTemplateError: there is none.
    """
    path = Path(template).expanduser() if template not in named_templates() else _TEMPLATES / f"{template}.jinja"
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise ChatTemplateError(
            f"model.template is {template!r}: no such file, and none of the named ones ({', '.join(named_templates())})"
        ) from None


def no_template(base: str) -> str:
    """What to say of a tokenizer that has no chat template."""
    return (
        f"{base} has no chat template: set model.template to one of {', '.join(named_templates())}, or to a jinja file "
        "(a base model was trained on none: alpaca or plain will do)"
    )


def _template(tokenizer: Any, template: str) -> str:
    """The template's text, fit for the tokenizer.

    A named one says in its first line which tokens it cannot do without, and whether it begins with the token that begins a
    text only where the tokenizer puts that there by itself (BLOOM has one and does not).
    """
    text = template_text(template)
    if template not in named_templates():
        return text
    head, _, _ = text.partition("-#}")
    _, _, needed = head.partition("tokens:")
    for token in needed.split():
        if len(tokenizer(token, add_special_tokens=False)["input_ids"]) != 1:
            lacking = f"the token {token}, which {tokenizer.name_or_path} lacks"
            raise ChatTemplateError(f"model.template={template} needs {lacking}: set another template")
    begins = tokenizer("x")["input_ids"][0] == tokenizer.bos_token_id
    return text if begins or "begin: as the tokenizer" not in head else text.replace(_BOS, "")


def linear_layers(network: Any) -> list[str]:
    """Paths of the linear layers, without the output head."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    head = network.get_output_embeddings()
    return [
        path for path, layer in network.named_modules() if isinstance(layer, nn.Linear | Conv1D) and layer is not head
    ]  # fmt: skip


def _source(weights: Weights) -> dict[str, Any]:
    """What `from_pretrained` is told about where to read."""
    told = {"revision": weights.revision, "gguf_file": weights.gguf, "trust_remote_code": weights.remote_code or None}
    return {name: value for name, value in told.items() if value is not None}


@contextmanager
def naming(weights: Weights) -> Iterator[None]:
    """A library's refusal to load something, as one message that names the model."""
    from safetensors import SafetensorError

    refusals: tuple[type[Exception], ...] = (OSError, ValueError, RuntimeError, ImportError, KeyError, SafetensorError)
    if weights.remote_code:  # written for whatever transformers there was
        refusals += (AttributeError, TypeError)
    try:
        yield
    except refusals as error:
        name = weights.base if weights.gguf is None else f"{weights.base}/{weights.gguf}"
        said = " ".join(str(error).split())[:300]
        hint = ". Its repository's own code may want another transformers" if weights.remote_code else ""
        raise ConfigError([f"model {name} cannot be loaded: {said}{hint}"]) from error
