"""Where weights are and how they are read: templates, GGUF files, attention, LoRA's targets, what training leaves."""

import json
import shutil
from dataclasses import asdict

import pytest
import torch
import yaml
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from errata.chat import prompt_ids
from errata.errors import ConfigError
from errata.model.hf import HF
from errata.records import Prompt
from errata.weights import (
    Weights,
    load_network,
    load_tokenizer,
    lora_targets,
    matching_layers,
    named_templates,
    template_text,
)


@pytest.fixture
def bare(tiny_model, tmp_path):
    """The tiny model without its chat template."""
    folder = shutil.copytree(tiny_model, tmp_path / "bare")
    (folder / "chat_template.jinja").unlink()
    return folder


@pytest.fixture(scope="module")
def gguf(tiny_model, tmp_path_factory):
    """The tiny model as a GGUF file in float32."""
    from gguf import GGUFWriter

    config, model = AutoConfig.from_pretrained(tiny_model), AutoModelForCausalLM.from_pretrained(tiny_model)
    backend = json.loads((tiny_model / "tokenizer.json").read_text())
    special = {token["content"] for token in backend["added_tokens"]}
    tokens = sorted(backend["model"]["vocab"], key=backend["model"]["vocab"].get)
    file = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    writer = GGUFWriter(str(file), "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in special else 1 for token in tokens])
    writer.add_token_merges([" ".join(pair) for pair in backend["model"]["merges"]])
    writer.add_eos_token_id(1)
    writer.add_pad_token_id(0)
    writer.add_chat_template((tiny_model / "chat_template.jinja").read_text())
    for name, value in model.state_dict().items():
        array = value.float()
        if ".q_proj." in name or ".k_proj." in name:  # GGUF has the two halves of a rotation side by side
            heads = config.num_attention_heads if ".q_proj." in name else config.num_key_value_heads
            array = array.view(heads, 2, -1, config.hidden_size).transpose(1, 2).reshape(array.shape)
        writer.add_tensor(renamed(name), array.contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def renamed(name):
    whole = {"model.embed_tokens.weight": "token_embd", "model.norm.weight": "output_norm", "lm_head.weight": "output"}
    if name in whole:
        return f"{whole[name]}.weight"
    parts = {
        "q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v", "o_proj": "attn_output", "gate_proj": "ffn_gate",
        "up_proj": "ffn_up", "down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    }  # fmt: skip
    _, _, layer, *_, part, kind = name.split(".")
    return f"blk.{layer}.{parts[part]}.{kind}"


def test_weights_travel_in_yaml():
    weights = Weights("a/b", "c", "main", True, None, "vicuna", "Be brief.", "sdpa")
    assert Weights(**yaml.safe_load(yaml.safe_dump(asdict(weights)))) == weights


def test_a_whole_model_brings_its_template_and_an_adapter_needs_its_base(tmp_path):
    weights = Weights("a/b", None, "main", False, None, "vicuna", "Be brief.", "sdpa")
    whole = str(tmp_path.resolve())
    assert weights.after_training(tmp_path) == Weights(whole, system="Be brief.", attention="sdpa")
    (tmp_path / "adapter_config.json").write_text("{}")
    assert weights.after_training(tmp_path) == Weights(
        "a/b", whole, "main", template="vicuna", system="Be brief.", attention="sdpa"
    )


def test_a_template_is_kept_by_a_saved_tokenizer(bare, tmp_path):
    tokenizer = load_tokenizer(Weights(str(bare), template="vicuna"))
    tokenizer.save_pretrained(tmp_path / "saved")
    again = load_tokenizer(Weights(str(tmp_path / "saved")))
    assert prompt_ids(again, "How many?") == prompt_ids(tokenizer, "How many?")
    assert again.decode(prompt_ids(again, "How many?", "Hm.")) == "Hm. USER: How many? ASSISTANT:"
    assert AutoTokenizer.from_pretrained(tmp_path / "saved").chat_template == template_text("vicuna")


def test_a_template_may_be_a_file(bare, tmp_path):
    (tmp_path / "own.jinja").write_text("{{ messages[-1].content }}!")
    tokenizer = load_tokenizer(Weights(str(bare), template=str(tmp_path / "own.jinja")))
    assert tokenizer.decode(prompt_ids(tokenizer, "How many?")) == "How many?!"


@pytest.mark.parametrize("name", ["alpaca", "plain"])
def test_a_text_begins_as_the_tokenizer_has_it(bare, name):
    tokenizer = AutoTokenizer.from_pretrained(bare)
    tokenizer.add_special_tokens({"bos_token": "<s>"})
    tokenizer.save_pretrained(bare)
    assert "<s>" not in tokenizer.decode(tokenizer("x").input_ids)
    begun = load_tokenizer(Weights(str(bare), template=name))
    assert "<s>" not in begun.decode(prompt_ids(begun, "x"))
    tokenizer.add_bos_token = True
    tokenizer.save_pretrained(bare)
    begun = load_tokenizer(Weights(str(bare), template=name))
    assert begun.decode(prompt_ids(begun, "x")).startswith("<s>")


PROBLEMS = [
    ({"path": "BARE"}, "has no chat template: set model.template to one of alpaca, chatglm"),
    ({"template": "vicunia"}, "'vicunia': no such file, and none of the named ones (alpaca, chatglm"),
    ({"template": "chatml"}, "chatml needs the token <|im_start|>, which TINY lacks"),
    ({"template": "DEAF", "system": "Be brief."}, "leaves the system prompt out: leave model.system out, or set another"),
    ({"template": "BROKEN"}, "cannot be rendered"),
    ({"revision": "main"}, "'main': TINY is a local folder"),
    ({"gguf": "no.gguf"}, "'no.gguf': no such file in TINY; the GGUF files there: none"),
    ({"path": "GGUF", "gguf": "x.gguf"}, "model.path is a GGUF file already"),
    ({"path": "GGUF", "remote_code": True}, "a GGUF file brings no code"),
    ({"attention": "flash_attention_2"}, "it needs a GPU, and model.device is cpu"),
    ({"attention": "flash_attention_2", "device": "cuda:0"}, "'flash_attention_2': "),
    ({"attention": "fast"}, "'fast': "),
    ({"path": "OWN_CODE"}, "a model of type own needs its own code; if you trust it, set model.remote_code=true"),
]


@pytest.mark.parametrize(("settings", "said"), PROBLEMS)
def test_what_a_model_cannot_honour_is_one_problem_before_it_is_loaded(
    tiny_model, bare, gguf, tmp_path, settings, said, monkeypatch
):
    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", None)
    (tmp_path / "deaf.jinja").write_text("{{ messages[-1].content }}")
    (tmp_path / "broken.jinja").write_text("{% for message in messages %}")
    own = shutil.copytree(tiny_model, tmp_path / "own")
    (own / "config.json").write_text('{"model_type": "own", "auto_map": {"AutoConfig": "own.Config"}}')
    places = {
        "BARE": bare, "GGUF": gguf, "DEAF": tmp_path / "deaf.jinja", "BROKEN": tmp_path / "broken.jinja", "OWN_CODE": own,
    }  # fmt: skip
    given = {name: str(places.get(value, value)) if isinstance(value, str) else value for name, value in settings.items()}
    (problem,) = HF(**{"path": str(tiny_model), "device": "cpu"} | given).problems()
    assert said.replace("TINY", str(tiny_model)) in problem


@pytest.mark.parametrize(
    "settings",
    [{"template": "vicuna", "system": "Hm."}, {"attention": "eager"}, {"attention": "sdpa"}, {"remote_code": True}],
)
def test_what_a_model_can_honour_is_no_problem(tiny_model, settings):
    assert HF(str(tiny_model), device="cpu", **settings).problems() == []


def test_smollm2_takes_no_other_weights():
    from errata.model.smollm2_135m import SmolLM2

    (problem,) = SmolLM2(revision="main").problems()
    assert "'main': the package holds one set of weights; for others take model=hf" in problem


def test_attention_is_as_it_is_asked_for(tiny_model):
    for name in ("eager", "sdpa"):
        network = load_network(Weights(str(tiny_model), attention=name), torch.float32)
        assert network.config._attn_implementation == name
    with pytest.raises(ConfigError, match="cannot be loaded"):
        load_network(Weights(str(tiny_model), attention="fast"), torch.float32)


def asked(student, count=12):
    prompts = [Prompt(str(place), text) for place, text in enumerate(("How many?", "What is left?"))]
    return dict(student.load().answers(prompts, count))


def test_a_system_prompt_and_a_template_are_in_what_is_asked_and_what_is_counted(tiny_model):
    student = HF(str(tiny_model), device="cpu", template="vicuna", system="Hm.")
    assert student.tokenizer.decode(student._prompt_ids(Prompt("", "x"))) == "Hm. USER: x ASSISTANT:"
    own = HF(str(tiny_model), device="cpu")
    assert asked(student) != asked(own)
    assert student.count_tokens("x", "y") > own.count_tokens("x", "y")
    kinds = [
        {}, {"template": "vicuna"}, {"template": "plain"}, {"system": "Hm."}, {"system": "Hm.", "template": "plain"}
    ]  # fmt: skip
    assert len({HF(str(tiny_model), **kind).fingerprint for kind in kinds}) == len(kinds)
    again = own.with_weights(student.weights)
    assert (again.weights, again.fingerprint) == (student.weights, student.fingerprint)


def test_a_gguf_file_answers_as_the_folder_that_it_was_made_of(tiny_model, gguf, tmp_path):
    student = HF(str(gguf), device="cpu")
    assert student.problems() == []
    assert student.weights == Weights(str(gguf.parent), gguf=gguf.name)
    assert asked(student) == asked(HF(str(tiny_model), device="cpu"))
    same = HF(str(gguf.parent), gguf=gguf.name, device="cpu")
    assert same.fingerprint == student.fingerprint == HF("x/y").with_weights(student.weights).fingerprint
    network, tokenizer = load_network(student.weights, torch.float32), load_tokenizer(student.weights)
    network.save_pretrained(tmp_path / "saved")
    tokenizer.save_pretrained(tmp_path / "saved")
    after = student.weights.after_training(tmp_path / "saved")
    assert after == Weights(str(tmp_path / "saved"))
    assert asked(student.with_weights(after)) == asked(student)
    with pytest.raises(ConfigError, match="cannot be quantised again"):
        load_network(student.weights, torch.float32, quantization_config={"load_in_4bit": True})


def test_lora_targets(tiny_model):
    network = load_network(Weights(str(tiny_model)), torch.float32)
    assert matching_layers(network) == dict.fromkeys(
        ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"], 2
    )
    assert lora_targets(network) == ["q_proj", "v_proj"]
    assert lora_targets(network, ["all-linear"]) == sorted(matching_layers(network))
    assert lora_targets(network, ["o_proj", "mlp.up_proj"]) == ["o_proj", "mlp.up_proj"]
    with pytest.raises(ConfigError, match=r"target W_pack matches no layer; there are: down_proj \(2\), gate_proj \(2\)"):
        lora_targets(network, ["q_proj", "W_pack"])
    with pytest.raises(ConfigError, match=r"target auto matches no layer"):
        lora_targets(network, ["auto", "q_proj"])


@pytest.mark.parametrize(("layers", "targets"), [("W_pack", ["W_pack"]), ("qkv_proj", ["qkv_proj"]), ("odd", None)])
def test_lora_targets_follow_the_names_of_the_attention_layers(tiny_model, layers, targets):
    network = load_network(Weights(str(tiny_model)), torch.float32)
    for block in network.model.layers:
        attention = block.self_attn
        setattr(attention, layers, attention.q_proj)
        del attention.q_proj, attention.k_proj, attention.v_proj
    if targets:
        assert lora_targets(network) == targets
    else:
        with pytest.raises(ConfigError, match=r"type llama are not known: name some; its linear layers are down_proj \(2\)"):
            lora_targets(network)


def test_every_named_template_says_what_it_is():
    for name in named_templates():
        assert template_text(name).startswith("{#- ")
