"""Bottleneck adapters: where they stand, how many weights they have, and what becomes of them behind the training."""

import json
import re
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from huggingface_hub import ModelCard
from tests.test_loop import errata
from tests.training.jobs import assert_close, column, pairs, refused, run, run_here, weights, write_job, write_rows
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, BloomConfig
from transformers.pytorch_utils import Conv1D

from errata.bottleneck import BottleneckConfig, BottleneckLayer
from errata.errors import ConfigError
from errata.model.decoding import supported
from errata.model.hf import HF
from errata.records import Prompt
from errata.training.methods import Bottleneck, Full, Lora, trained_parameters
from errata.training.preview import numbers
from errata.training.run import outlook
from errata.weights import Weights, apply_adapter, bottleneck_targets, load_network

HOULSBY = {"kind": "Bottleneck", "form": "houlsby", "bottleneck": 4}
FEED_FORWARD = ["gate_proj", "up_proj", "down_proj"]


@pytest.mark.parametrize(
    ("form", "width", "millions"),
    [
        ("pfeiffer", 32, 7.5),
        ("houlsby", 32, 15.0),
        ("parallel", 32, 15.0),
        ("pfeiffer", 256, 60.0),
        ("houlsby", 256, 120.0),
        ("parallel", 256, 120.0),
    ],
)
def test_counts_on_bloom_7b_are_those_of_the_published_table(form, width, millions):
    """Alpaca-CoT, Table 4, in units of 2^20; exactly."""
    config = BloomConfig(hidden_size=4096, n_layer=30, n_head=32, vocab_size=250880)
    with torch.device("meta"):
        network = AutoModelForCausalLM.from_config(config)
        model = Bottleneck(form=form, bottleneck=width).wrapped(network, Weights("bloom"), 100)
    assert trained_parameters(model) == millions * 2**20


FORMULAS = {
    "before": lambda layer, through, x: layer(x + through(x)),
    "behind": lambda layer, through, x: layer(x) + through(layer(x)),
    "beside": lambda layer, through, x: layer(x) + through(x),
}


@pytest.mark.parametrize(
    ("form", "into", "out_of", "formula"),
    [
        ("houlsby", 6, 10, "before"),
        ("houlsby", 10, 6, "behind"),
        ("houlsby", 6, 6, "behind"),
        ("pfeiffer", 6, 10, "behind"),
        ("pfeiffer", 10, 6, "behind"),
        ("parallel", 6, 10, "beside"),
        ("parallel", 10, 6, "beside"),
    ],
)
@pytest.mark.parametrize("make", [nn.Linear, lambda into, out_of: Conv1D(out_of, into)], ids=["Linear", "Conv1D"])
def test_a_layer_gives_what_its_formula_says(make, form, into, out_of, formula):
    base = make(into, out_of)
    layer = BottleneckLayer(base, "default", BottleneckConfig(form=form, bottleneck=32, scaling=0.5))
    down, up = (part["default"].weight.detach() for part in (layer.bottleneck_down, layer.bottleneck_up))
    assert 0.015 < torch.cat([down.flatten(), up.flatten()]).std() < 0.025
    down.mul_(50)
    x = torch.randn(2, 5, into)
    wanted = FORMULAS[formula](base, lambda x: 0.5 * torch.tanh(x @ down.T) @ up.T, x)
    assert torch.allclose(layer(x), wanted, atol=1e-6)
    assert not torch.allclose(layer(x), base(x), atol=1e-3)
    layer.enable_adapters(False)
    assert torch.equal(layer(x), base(x))


def test_half_precision_stays_what_it_is():
    layer = BottleneckLayer(nn.Linear(6, 10).bfloat16(), "default", BottleneckConfig(bottleneck=3))
    layer.bottleneck_down.float(), layer.bottleneck_up.float()
    assert layer(torch.randn(2, 6).bfloat16()).dtype == torch.bfloat16


SMALL = {"vocab_size": 64, "pad_token_id": 0}
LLAMA = SMALL | {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
GPT = SMALL | {"n_embd": 16, "n_layer": 2, "n_head": 4, "rotary_dim": 4}
NEO = SMALL | {"hidden_size": 16, "num_layers": 2, "num_heads": 2, "attention_types": [[["global"], 2]]}
FUSED = ["query_key_value"]
QKV = ["q_proj", "k_proj", "v_proj"]


@pytest.mark.parametrize(
    ("kind", "settings", "feed_forward", "attention"),
    [
        ("llama", LLAMA | {"num_key_value_heads": 1}, FEED_FORWARD, QKV),
        ("qwen3", LLAMA | {"num_key_value_heads": 1, "head_dim": 8}, FEED_FORWARD, QKV),
        ("phi3", LLAMA, ["gate_up_proj", "down_proj"], ["qkv_proj"]),
        ("bloom", SMALL | {"hidden_size": 16, "n_layer": 2, "n_head": 2}, ["dense_h_to_4h", "dense_4h_to_h"], FUSED),
        ("gpt_neox", LLAMA, ["dense_h_to_4h", "dense_4h_to_h"], FUSED),
        ("codegen", GPT, ["fc_in", "fc_out"], ["qkv_proj"]),
        ("gptj", GPT, ["fc_in", "fc_out"], QKV),
        ("gpt_neo", NEO, ["c_fc", "mlp.c_proj"], QKV),
        ("gpt2", GPT, ["c_fc", "mlp.c_proj"], ["c_attn"]),
        ("opt", LLAMA | {"ffn_dim": 32, "word_embed_proj_dim": 16}, ["fc1", "fc2"], QKV),
    ],
)
def test_targets_by_architecture(kind, settings, feed_forward, attention):
    network = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **settings)).eval()
    assert bottleneck_targets(network, "houlsby") == feed_forward
    assert bottleneck_targets(network, "pfeiffer") == feed_forward[-1:]
    assert bottleneck_targets(network, "parallel") == attention
    before = network(torch.arange(5)[None]).logits
    model = Bottleneck(bottleneck=2).wrapped(network, Weights(kind), 1)
    layers = [layer for layer in model.modules() if isinstance(layer, BottleneckLayer)]
    assert len(layers) == 2 * len(feed_forward)
    assert {layer.bottleneck_down["default"].in_features for layer in layers} == {16}  # on the narrow side, all of them
    assert not torch.equal(model(torch.arange(5)[None]).logits, before)
    with model.disable_adapter():
        assert torch.equal(model(torch.arange(5)[None]).logits, before)


def test_an_unknown_architecture_asks_for_names(tiny_model):
    network = load_network(Weights(str(tiny_model)), torch.float32)
    for block in network.model.layers:
        block.mlp.odd = block.mlp.down_proj
        del block.mlp.down_proj
    with pytest.raises(
        ConfigError, match=r"type llama are not known: name some; .* odd \(2\).* \(training.method.targets\)"
    ):
        Bottleneck().wrapped(network, Weights("llama"), 1)
    with pytest.raises(ConfigError, match=r"the bottleneck adapter's target dense matches no layer; there are: gate_proj"):
        Bottleneck(targets=["odd", "dense"]).wrapped(network, Weights("llama"), 1)
    with pytest.raises(ConfigError, match="type llama are not known"):
        Bottleneck(form="pfeiffer").wrapped(network, Weights("llama"), 1)  # gate_proj and up_proj alone tell nothing
    for block in network.model.layers:  # as the first Qwen, whose w2 widens
        block.mlp.w1, block.mlp.w2 = block.mlp.gate_proj, block.mlp.up_proj
        del block.mlp.gate_proj, block.mlp.up_proj
    with pytest.raises(ConfigError, match="type llama are not known"):
        Bottleneck(form="pfeiffer").wrapped(network, Weights("llama"), 1)
    model = Bottleneck(form="pfeiffer", targets=["odd", "o_proj"]).wrapped(network, Weights("llama"), 1)
    assert sum(isinstance(layer, BottleneckLayer) for layer in model.modules()) == 4


@pytest.mark.parametrize(
    ("method", "said"),
    [
        (Bottleneck(bottleneck=0), "training.method.bottleneck is 0: it must be at least 1"),
        (Bottleneck(form="adapterp"), "training.method.form is 'adapterp': choose houlsby, pfeiffer, parallel"),
        (Bottleneck(activation="tan"), "training.method.activation is 'tan': choose tanh, relu"),
        (Bottleneck(scaling=0.0), "training.method.scaling is 0.0: choose a factor above 0"),
        (Bottleneck(targets=[]), "targets is empty: name layers, or auto"),
    ],
)
def test_values_that_cannot_be(method, said):
    assert [said in problem for problem in method.problems()] == [True]


@pytest.fixture(scope="module")
def adapter(tiny_model, tmp_path_factory):
    """A Houlsby adapter of width 4, trained; returns its folder and the job's."""
    folder = tmp_path_factory.mktemp("adapter") / "job"
    summary = run_here(write_job(folder, tiny_model, rows=16, method=HOULSBY, epochs=4, learning_rate=0.1, dev_share=0.25))
    assert summary["packing"] and summary["last_loss"] < summary["first_loss"]
    return str(folder / "model")


def test_a_process_that_has_not_trained_it_reads_the_same(tiny_model, adapter):
    ids = [5, 9, 31, 200, 77]
    program = f"""
import json, torch
from errata.weights import Weights, apply_adapter, load_network
model = apply_adapter(load_network(Weights({str(tiny_model)!r}), torch.float32), {adapter!r})
print(json.dumps(model(torch.tensor([{ids}])).logits[0, -1, :8].tolist()))
"""
    seen = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    network = load_network(Weights(str(tiny_model)), torch.float32)
    plain = network(torch.tensor([ids])).logits[0, -1, :8]
    model = Bottleneck(bottleneck=4).wrapped(network, Weights(str(tiny_model), adapter), 1)
    ours = model(torch.tensor([ids])).logits[0, -1, :8]
    assert torch.allclose(torch.tensor(json.loads(seen)), ours, atol=1e-5)
    assert not torch.allclose(plain, ours, atol=1e-2)


def test_it_goes_on_with_its_weights(tiny_model, adapter, tmp_path):
    network = load_network(Weights(str(tiny_model)), torch.float32)
    model = Bottleneck(bottleneck=4).wrapped(network, Weights(str(tiny_model), adapter), 9)
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    saved = weights_of(adapter)
    assert len(trained) == len(saved) == 2 * 3 * 2
    assert all(torch.equal(saved[name.replace(".default", "")], value) for name, value in trained.items())
    further = write_job(tmp_path / "job", tiny_model, rows=16, method=HOULSBY, adapter=adapter)
    run_here(further)
    assert any(not torch.equal(value, saved[name]) for name, value in weights(further).items())


def weights_of(folder):
    from safetensors.torch import load_file

    return load_file(f"{folder}/adapter_model.safetensors")


@pytest.mark.parametrize(
    ("method", "said"),
    [
        (Bottleneck(), "has bottleneck=4, training.method asks for 32"),
        (Bottleneck(bottleneck=4, form="pfeiffer"), "has form=houlsby, training.method asks for pfeiffer"),
        (Bottleneck(bottleneck=4, activation="relu"), "has activation=tanh, training.method asks for relu"),
        (Bottleneck(bottleneck=4, scaling=2.0), "has scaling=1.0, training.method asks for 2.0"),
        (
            Bottleneck(bottleneck=4, targets=["down_proj"]),
            "has targets=down_proj (2), gate_proj (2), up_proj (2), training.method asks for down_proj (2)",
        ),
        (Lora(), "has peft_type=BOTTLENECK, training.method asks for LORA"),
        (Full(), "cannot be merged: go on with its own method"),
    ],
)
def test_an_adapter_keeps_its_shape(tiny_model, adapter, method, said):
    assert said in refused(method, Weights(str(tiny_model), adapter))


def test_it_is_answered_with_by_the_engine_as_by_plain_generation(tiny_model, adapter):
    model = HF(str(tiny_model), adapter, device="cpu").load()
    assert supported(model.network)
    texts = [question["prompt"] for question in pairs(3)]
    (ours, base) = (
        {
            place: answer.text
            for place, answer in one.load().answers([Prompt(str(n), text) for n, text in enumerate(texts)], 12)
        }
        for one in (model, HF(str(tiny_model), device="cpu"))
    )
    assert ours != base
    plain = apply_adapter(load_network(Weights(str(tiny_model)), torch.float32), adapter)
    for place, text in enumerate(texts):
        ids = torch.tensor([model._prompt_ids(Prompt("1", text))])
        found = plain.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=12, eos_token_id=1)
        assert model.tokenizer.decode(found[0, ids.shape[1] :], skip_special_tokens=True).strip() == ours[place].strip()


def test_the_preview_counts_them(tiny_model, tmp_path):
    look = outlook(write_job(tmp_path / "job", tiny_model, method=HOULSBY))
    assert numbers(look)["trained parameters"].startswith(f"{2 * 3 * 2 * 4 * 48:,} of ")
    assert numbers(replace(look, job=replace(look.job, gradient_checkpointing=True)))


def test_checkpointed_activations_and_padded_rows_make_the_same_updates(tiny_model, tmp_path):
    one, other = (
        write_job(tmp_path / name, tiny_model, rows=24, method=HOULSBY, epochs=1, **changes)
        for name, changes in (("one", {}), ("other", {"gradient_checkpointing": True, "packing": False}))
    )
    run_here(one), run_here(other)
    assert column(one, "loss") == pytest.approx(column(other, "loss"), rel=1e-4)
    assert_close(weights(one), weights(other), atol=5e-5)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "zero2", "zero3", "fsdp"])
def test_two_ranks_make_the_updates_of_one(tiny_model, tmp_path, strategy):
    settings = {"rows": 24, "method": HOULSBY, "epochs": 1, "learning_rate": 1e-3}
    alone, both = (
        write_job(tmp_path / name, tiny_model, **settings, **changes)
        for name, changes in (("alone", {}), ("both", {"strategy": strategy, "devices": 2}))
    )
    run_here(alone)
    assert run(both)["ranks"] == 2
    assert column(both, "loss") == pytest.approx(column(alone, "loss"), rel=1e-4)
    assert_close(weights(both), weights(alone), atol=5e-5)


@pytest.mark.parametrize(
    "option", ["houlsby", *(pytest.param(one, marks=pytest.mark.slow) for one in ("pfeiffer", "parallel_adapter"))]
)
def test_from_the_command_line_to_an_export(tiny_model, tmp_path, monkeypatch, capsys, option):
    """Trained, evaluated, and exported with a card whose code reads it."""
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "rows.jsonl", pairs(16))
    model = ["model=hf", f"model.path={tiny_model}", "model.device=cpu", "tracking=off"]
    sizes = ["training.threads=1", "training.method.bottleneck=4", "training.batch_size=4"]
    assert errata("train", f"training={option}", "data=rows.jsonl", *model, *sizes) == 0
    (run,) = tmp_path.glob("outputs/train-*")
    if option != "houlsby":
        assert (run / "train/model/adapter_model.safetensors").is_file()
        return
    few = ["dataset=arithmetic", "dataset.arithmetic.test=4", "dataset.arithmetic.max_new_tokens=4"]
    assert errata("evaluate", *few, *model, f"model.adapter={run}/train/model", "name=asked") == 0
    (asked,) = tmp_path.glob("outputs/asked-*")
    assert json.loads((asked / "results.json").read_text())["datasets"]["arithmetic"][0]["scores"]
    capsys.readouterr()
    assert errata("export", str(run), "--dtype", "float32") == 2
    assert "--dtype float32: this is exported as an adapter" in " ".join(capsys.readouterr().err.split())
    assert errata("export", str(run)) == 0
    assert "bottleneck adapters cannot be merged into weights" in " ".join(capsys.readouterr().out.split())
    folder = run / "export/train/model"
    card = ModelCard.load(folder / "README.md")
    assert "teaches it to read them" in card.text and card.data.library_name == "peft" and "bottleneck" in card.data.tags
    (code,) = re.findall(r"```python\n(.*?)```", card.text, re.DOTALL)
    assert code.startswith("import errata.bottleneck\n")
    there = {}
    exec(code.replace("FOLDER/model", str(folder)).replace("BASE", str(tiny_model)), there)
    ids = torch.arange(6)[None]
    ours = apply_adapter(load_network(Weights(str(tiny_model)), torch.float32), str(run / "train/model"))
    assert torch.allclose(there["model"](ids).logits, ours(ids).logits, atol=1e-5)
