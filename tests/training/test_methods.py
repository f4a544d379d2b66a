"""Ways to fine-tune: how much each trains, what it refuses, and that it learns."""

import json

import pytest
import torch
from peft import LoraConfig, PolyConfig, get_peft_model
from tests.test_loop import errata
from tests.training.jobs import LORA, column, metrics, refused, run_here, weights, write_job
from transformers import AutoModelForCausalLM, BloomConfig, LlamaConfig, LlamaForCausalLM

from errata.errors import ConfigError
from errata.training.loss import response_loss
from errata.training.methods import METHODS, AdaLora, Full, Lora, Prefix, Prompt, PTuning, trained_parameters
from errata.training.plan import tensors
from errata.training.run import outlook
from errata.weights import Weights, load_network


@pytest.mark.parametrize(
    ("method", "millions"),
    [
        (Lora(r=32, targets=["query_key_value"]), 15.0),
        (Lora(r=32, targets=["auto"]), 15.0),
        (AdaLora(init_r=12, targets=["query_key_value"]), 5.625),
        (Prompt(virtual_tokens=20), 0.078),
        (PTuning(virtual_tokens=20, hidden=128), 1.098),
        (Prefix(virtual_tokens=20, hidden=128, projection=True), 30.81),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, float) else None,
)
def test_counts_on_bloom_7b_are_those_of_the_published_table(method, millions):
    """Alpaca-CoT, Table 4, in units of 2^20."""
    config = BloomConfig(hidden_size=4096, n_layer=30, n_head=32, vocab_size=250880)
    with torch.device("meta"):
        model = method.wrapped(AutoModelForCausalLM.from_config(config), Weights("bloom"), 100)
    assert trained_parameters(model) / 2**20 == pytest.approx(
        millions, rel=0, abs=10 ** -len(str(millions).partition(".")[2]) / 2
    )


@pytest.mark.parametrize(
    ("method", "said"),
    [
        (Lora(r=0), "training.method.r is 0: it must be at least 1"),
        (Lora(dropout=1.0), "training.method.dropout is 1.0"),
        (Lora(targets=[]), "targets is empty"),
        (Lora(bits=3), "bits is 3: choose 4, 8 or null"),
        (AdaLora(target_r=13), "target_r is 13: it cannot be above init_r (12)"),
        (AdaLora(beta2=2.0), "beta2 is 2.0"),
        (Prompt(virtual_tokens=0), "virtual_tokens is 0"),
        (PTuning(hidden=0), "hidden is 0"),
    ],
)
def test_values_that_cannot_be(method, said):
    assert any(said in problem for problem in method.problems())


def test_the_defaults_can_be():
    assert [kind().problems() for kind in METHODS.values()] == [[]] * len(METHODS)


def test_quantised_weights_without_the_library_are_said(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "bitsandbytes", None)
    assert Lora(bits=4).problems() == ["training.method.bits needs the library bitsandbytes: pip install 'errata[qlora]'"]


@pytest.mark.parametrize("kind", [Lora, AdaLora])
def test_targets_that_match_nothing_list_the_layers(tiny_model, kind):
    network = load_network(Weights(str(tiny_model)), torch.float32)
    with pytest.raises(
        ConfigError, match=r"target query_key_value matches no layer; there are: down_proj \(2\), gate_proj \(2\)"
    ):
        kind(targets=["q_proj", "query_key_value"]).wrapped(network, Weights(str(tiny_model)), 100)


def test_the_heads_and_tables_get_no_adapter(tiny_model):
    network = load_network(Weights(str(tiny_model)), torch.float32)
    model = Lora(r=2).wrapped(network, Weights(str(tiny_model)), 1)
    names = {name for name, value in model.named_parameters() if value.requires_grad}
    assert len(names) == 2 * 2 * 7
    assert not any("lm_head" in name or "embed" in name for name in names)


@pytest.fixture(scope="module")
def adapter(tiny_model, tmp_path_factory):
    """An adapter of rank 4 on two kinds of layers."""
    folder = tmp_path_factory.mktemp("adapter") / "job"
    run_here(
        write_job(folder, tiny_model, rows=8, epochs=1, method={**LORA, "targets": ["q_proj", "v_proj"], "dropout": 0.1})
    )
    return str(folder / "model")


@pytest.mark.parametrize(
    ("method", "said"),
    [
        (Lora(r=8, alpha=8, targets=["q_proj", "v_proj"]), "has r=4, training.method asks for 8"),
        (Lora(r=4, alpha=16, targets=["q_proj", "v_proj"]), "has lora_alpha=8, training.method asks for 16"),
        (Lora(r=4, alpha=8, dora=True, targets=["q_proj", "v_proj"]), "has use_dora=False, training.method asks for True"),
        (Lora(r=4, alpha=8, targets=["q_proj"]), "has targets=q_proj (2), v_proj (2), training.method asks for q_proj (2)"),
        (Lora(r=4, alpha=8), "has targets=q_proj (2), v_proj (2), training.method asks for down_proj (2), gate_proj (2)"),
        (AdaLora(), "AdaLora cannot go on with an adapter"),
        (Prompt(), "Prompt cannot go on with an adapter"),
        (Prefix(), "policy=restart"),
    ],
)
def test_an_adapter_keeps_its_shape(tiny_model, adapter, method, said):
    assert said in refused(method, Weights(str(tiny_model), adapter))


def test_what_fits_has_no_problems(tiny_model, adapter):
    assert Lora(r=4, alpha=8, targets=["q_proj", "v_proj"]).unfit(Weights(str(tiny_model), adapter)) == []
    assert Full().unfit(Weights(str(tiny_model), adapter)) == []
    assert AdaLora(targets=["auto"]).unfit(Weights(str(tiny_model))) == []


@pytest.mark.parametrize("further", ["lm_head", "embed_tokens"])
def test_an_adapter_that_stands_elsewhere_too_is_another(tiny_model, tmp_path, further):
    config = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", further], task_type="CAUSAL_LM")
    get_peft_model(load_network(Weights(str(tiny_model)), torch.float32), config).save_pretrained(tmp_path)
    (said,) = Lora(r=4, alpha=8, targets=["q_proj", "v_proj"]).unfit(Weights(str(tiny_model), str(tmp_path)))
    assert f"{further} (1)" in said


def test_a_damaged_adapter_is_told_by_its_name(tiny_model, tmp_path):
    (tmp_path / "adapter_config.json").write_text("{")
    for method in (Full(), Lora()):
        (said,) = method.unfit(Weights(str(tiny_model), str(tmp_path)))
        assert f"model {tmp_path} cannot be loaded" in said


def test_all_weights_are_not_trained_under_an_adapter_that_cannot_be_merged(tiny_model, tmp_path):
    config = PolyConfig(target_modules=["q_proj"], r=4, task_type="CAUSAL_LM")
    get_peft_model(load_network(Weights(str(tiny_model)), torch.float32), config).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="cannot be merged: go on with its own method"):
        Full().wrapped(load_network(Weights(str(tiny_model)), torch.float32), Weights(str(tiny_model), str(tmp_path)), 1)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["training=lora", "model.adapter=ADAPTER"], "has r=4, training.method asks for 16"),
        (["training=pfeiffer", "training.method.targets=[dense]"], "the bottleneck adapter's target dense matches no layer"),
    ],
)
def test_what_training_would_refuse_is_told_before_anybody_is_asked(words, said, tiny_model, adapter, tmp_path, capsys):
    words = [word.replace("ADAPTER", adapter) for word in words]
    words += ["model=hf", f"model.path={tiny_model}", "tracking=off", "name=misfit", f"output_dir={tmp_path}"]
    assert errata("improve", *words) == 2
    assert said in capsys.readouterr().err
    (run,) = tmp_path.glob("misfit-*")
    assert not list(run.glob("iteration_*"))


def test_an_adapter_goes_on_with_its_weights_and_the_dropout_that_is_asked_for(tiny_model, adapter):
    network = load_network(Weights(str(tiny_model)), torch.float32)
    model = Lora(r=4, alpha=8, targets=["q_proj", "v_proj"], dropout=0.0).wrapped(
        network, Weights(str(tiny_model), adapter), 9
    )
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    assert len(trained) == 8
    assert all(value.abs().sum() > 0 for value in trained.values())
    assert not any(isinstance(layer, torch.nn.Dropout) and layer.p for layer in model.modules())


def test_no_adapter_at_all(tiny_model, tmp_path):
    network = load_network(Weights(str(tiny_model)), torch.float32)
    with pytest.raises(ConfigError, match="cannot be loaded"):
        Lora().wrapped(network, Weights(str(tiny_model), str(tmp_path)), 1)


@pytest.mark.parametrize(
    "method",
    [
        {**LORA, "dora": True},
        {"kind": "Prompt", "virtual_tokens": 5},
        {"kind": "PTuning", "virtual_tokens": 5, "hidden": 16},
        {"kind": "Prefix", "virtual_tokens": 5, "hidden": 16},
        {"kind": "Prefix", "virtual_tokens": 5, "projection": False},
    ],
    ids=lambda method: "-".join(str(value) for value in method.values()),
)
def test_it_learns_and_what_it_leaves_is_what_was_trained(tiny_model, tmp_path, method):
    from errata.weights import apply_adapter

    folder = write_job(tmp_path / "job", tiny_model, rows=16, method=method, dev_share=0.25, epochs=4, learning_rate=0.1)
    run_here(folder)
    dev = [line["loss"] for line in json.loads((folder / "dev.json").read_text())]
    assert min(dev[1:]) < dev[0]
    look = outlook(folder)
    model = apply_adapter(load_network(Weights(str(tiny_model)), torch.float32), str(folder / "model")).eval()
    rows = list(look.dev)
    one = tensors(rows, packed=False, pad_id=0)
    with torch.no_grad():
        total = response_loss(
            model, {name: one[name] for name in ("input_ids", "attention_mask")}, one["positions"], one["targets"]
        )
        alone = []
        for row in rows:
            part = tensors([row], packed=False, pad_id=0)
            inputs = {name: part[name] for name in ("input_ids", "attention_mask")}
            alone.append(float(response_loss(model, inputs, part["positions"], part["targets"])))
    assert float(total) / len(one["targets"]) == pytest.approx(dev[-1], rel=1e-3)
    assert sum(alone) == pytest.approx(float(total), rel=1e-4)  # padding, and where rows begin, make no difference


def test_adalora_prunes_ranks_and_its_adapter_can_be_read(tiny_model, tmp_path):
    from peft import PeftModel

    method = {"kind": "AdaLora", "init_r": 6, "target_r": 3, "delta_t": 1, "alpha": 8}
    folder = write_job(tmp_path / "job", tiny_model, method=method, epochs=4, dev_share=0.2)
    summary = run_here(folder)
    assert summary["last_loss"] < summary["first_loss"]
    pattern = json.loads((folder / "model" / "adapter_config.json").read_text())["rank_pattern"]
    left = [sum(ranks) for ranks in pattern.values()]
    assert len(left) == 14
    assert sum(left) == 14 * 3
    assert len(set(left)) > 1  # where they matter least
    saved = weights(folder)
    assert sum(value.shape[0] for name, value in saved.items() if "lora_A" in name) == 14 * 3
    network = load_network(Weights(str(tiny_model)), torch.float32)
    model = PeftModel.from_pretrained(network, folder / "model").eval()
    (loss,) = [line["loss"] for line in json.loads((folder / "dev.json").read_text())[-1:]]
    rows = outlook(folder).dev
    total = sum(
        float(
            response_loss(
                model,
                {"input_ids": one["input_ids"], "attention_mask": one["attention_mask"]},
                one["positions"],
                one["targets"],
            )
        )
        for one in (tensors([row], packed=False, pad_id=0) for row in rows)
    )
    assert total / rows.trained.sum() == pytest.approx(loss, rel=1e-3)


def test_adaloras_penalty_does_not_depend_on_the_layout(tiny_model, tmp_path):
    method = {"kind": "AdaLora", "init_r": 4, "target_r": 2, "delta_t": 1}
    one = write_job(tmp_path / "one", tiny_model, method=method, epochs=1, micro_tokens=4096)
    many = write_job(tmp_path / "many", tiny_model, method=method, epochs=1, micro_tokens=64)
    assert run_here(one)["steps"] == run_here(many)["steps"] == 5
    assert column(one, "gradient_norm") == pytest.approx(column(many, "gradient_norm"), rel=1e-3)


def test_adalora_needs_updates_to_prune_in(tiny_model):
    with pytest.raises(ConfigError, match="leave none of the 5 updates for pruning"):
        AdaLora(tinit=3, tfinal=2).config(None, 5)


@pytest.fixture(scope="module")
def wider_model(tiny_model, tmp_path_factory):
    """The tiny model with layers as wide as quantised products need them."""
    import shutil

    folder = tmp_path_factory.mktemp("wider") / "model"
    shutil.copytree(tiny_model, folder)
    config = LlamaConfig.from_pretrained(tiny_model)
    config.hidden_size, config.intermediate_size, config.head_dim = 128, 256, 32
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("bits", [4, 8])
def test_quantised_weights_stay_and_their_adapter_is_trained(wider_model, tmp_path, bits):
    pytest.importorskip("bitsandbytes", reason="pip install 'errata[qlora]'")
    method = {**LORA, "bits": bits}
    try:
        job = outlook(write_job(tmp_path / "try", wider_model, rows=8, method=method)).job
        network = load_network(job.weights, torch.float32, **job.method.loading())
        network(input_ids=torch.tensor([[1, 2, 3]]))
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        pytest.skip(f"bitsandbytes has no product of {bits} bits for this CPU: {error}")
    folder = write_job(tmp_path / "job", wider_model, rows=24, method=method, epochs=1, dev_share=0.2, learning_rate=3e-2)
    summary = run_here(folder)
    assert summary["last_loss"] < summary["first_loss"]
    assert all(line["gradient_norm"] > 0 for line in metrics(folder))
    assert {value.dtype for value in weights(folder).values()} == {torch.float32}


def test_full_merges_what_it_is_given(tiny_model, adapter):
    network = load_network(Weights(str(tiny_model)), torch.float32)
    before = network.model.layers[0].self_attn.q_proj.weight.clone()
    model = Full().wrapped(network, Weights(str(tiny_model), adapter), 1)
    assert trained_parameters(model) == sum(value.numel() for value in model.parameters())
    assert not torch.equal(model.model.layers[0].self_attn.q_proj.weight, before)
