"""What a job will take: operations by hand, memory by hand, and what the preview shows of it."""

import pytest
import torch
from tests.training.jobs import FULL, LORA, pairs, write_job
from transformers import AutoModelForCausalLM, LlamaConfig

from errata.training.estimate import estimate, flops_per_token, peak_flops
from errata.training.job import read_job
from errata.training.methods import Lora
from errata.training.preview import numbers, show
from errata.training.run import outlook
from errata.weights import Weights, load_network

GIB = 2**30
SIZES = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": 500}
LAYER = 4 * 64 * 64 + 3 * 64 * 128
NORMS = 7 * 64


def empty(tied=False, dtype=torch.float32):
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(LlamaConfig(**SIZES, tie_word_embeddings=tied), dtype=dtype)


@pytest.mark.parametrize("tied", [True, False])
def test_operations_are_six_a_weight_that_is_multiplied_with_and_attention(tied):
    weights = 3 * LAYER + 500 * 64
    assert flops_per_token(empty(tied), 0) == 6 * weights
    assert flops_per_token(empty(tied), 100) == 6 * weights + 3 * 2 * 3 * 64 * 100


def test_an_adapter_spares_the_frozen_weights_a_third():
    with torch.device("meta"):
        model = Lora(r=2).wrapped(empty(), Weights("x"), 1)
    added = 3 * 2 * (4 * (64 + 64) + 3 * (64 + 128))
    assert flops_per_token(model, 0) == 4 * (3 * LAYER + 500 * 64) + 6 * added


def test_quantised_weights_count_by_the_numbers_that_they_stand_for(tiny_model):
    pytest.importorskip("bitsandbytes", reason="pip install 'errata[qlora]'")
    method, weights = Lora(r=2, bits=4), Weights(str(tiny_model))
    packed = method.wrapped(load_network(weights, torch.float32, **method.loading()), weights, 1)
    whole = Lora(r=2).wrapped(load_network(weights, torch.float32), weights, 1)
    assert flops_per_token(packed, 10) == flops_per_token(whole, 10)


@pytest.mark.parametrize(
    ("method", "precision", "strategy", "ranks", "weights", "gradients", "optimizer"),
    [
        (FULL, "32-true", "one", 1, 4, 4, 8),
        (FULL, "bf16-mixed", "one", 1, 4, 4, 8),
        (FULL, "bf16-true", "one", 1, 2, 2, 4),
        (FULL, "bf16-mixed", "zero1", 4, 2, 2, 3),
        (FULL, "bf16-mixed", "zero2", 4, 2, 0.5, 3),
        (FULL, "bf16-mixed", "zero3", 4, 0.5, 0.5, 3),
        (FULL, "bf16-mixed", "zero2_offload", 4, 2, 0.5, 0),
        (FULL, "bf16-true", "fsdp", 2, 1, 1, 2),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bytes_a_parameter(tiny_model, tmp_path, method, precision, strategy, ranks, weights, gradients, optimizer, dtype):
    job = read_job(write_job(tmp_path / "job", tiny_model, rows=1, method=method, precision=precision))
    model = empty(dtype=dtype)  # what the file's numbers are does not matter
    count = 3 * LAYER + NORMS + 2 * 500 * 64
    told = estimate(model, job, strategy, ranks, tokens_in_pass=100, tokens=1000, length=50, peak=1e9)
    assert [round(value * GIB / count, 3) for value in (told.weights, told.gradients, told.optimizer)] == [
        weights, gradients, optimizer
    ]  # fmt: skip
    assert told.seconds == pytest.approx(1000 * flops_per_token(model, 50) / (0.4e9 * ranks))


@pytest.mark.parametrize(
    ("bits", "precision", "linear", "other"), [(None, "bf16-mixed", 2, 2), (4, "bf16-mixed", 0.5, 2), (8, "32-true", 1, 4)]
)
def test_bytes_of_frozen_weights(tiny_model, tmp_path, bits, precision, linear, other):
    job = read_job(write_job(tmp_path / "job", tiny_model, rows=1, method={**LORA, "bits": bits}, precision=precision))
    with torch.device("meta"):
        model = Lora(r=2).wrapped(empty(), Weights("x"), 1)
    added = 3 * 2 * (4 * (64 + 64) + 3 * (64 + 128))
    told = estimate(model, job, "one", 1, tokens_in_pass=100, tokens=1000, length=50, peak=None)
    assert told.weights * GIB == pytest.approx(3 * LAYER * linear + (NORMS + 2 * 500 * 64) * other + added * 4)
    assert told.seconds is None


def test_checkpointing_keeps_less():
    from types import SimpleNamespace

    jobs = [
        SimpleNamespace(precision="32-true", gradient_checkpointing=on, method=SimpleNamespace()) for on in (True, False)
    ]
    less, more = (estimate(empty(), job, "one", 1, 4096, 1, 512, None).activations for job in jobs)
    assert less < more / 2


def test_a_cpus_peak_is_tried_out():
    assert 1e8 < peak_flops(torch.device("cpu"), "32-true") < 1e14


def test_the_preview_shows_rows_with_their_trained_tokens_and_the_figures(tiny_model, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    rows = [*pairs(9), {"prompt": "word " * 300, "response": "5"}]
    folder = write_job(
        tmp_path / "job", tiny_model, rows, max_length=128, too_long="drop", batch_size=2, warmup_steps=100, epochs=1
    )
    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", None)  # no weights are read
    show(folder, 3)
    out = capsys.readouterr().out
    look = outlook(folder)
    assert out.count(" trained\n") == 3
    for place in (*look.plan[0], look.plan[1][0]):
        response = next(row["response"] for row in rows if row["response"] in look.tokenizer.decode(look.rows[place].ids))
        for line in f"{response}<|end|>".splitlines():
            assert line in out
    assert "\x1b[1;32m" in out
    shown = {name: " ".join(value.split()) for name, value in numbers(look).items()}
    assert shown["rows"] == "9 of 10 (1 too long and left out, 0 cut)"
    assert "bear loss (" in shown["tokens"]
    assert shown["updates"].startswith("5 of 2 rows over 1 epochs, 0") and "(asked for 100)" in shown["updates"]
    assert "trained parameters" in shown
    assert "weights" in shown["memory"] and "at 40 % of the peak" in shown["time"]


@pytest.mark.parametrize("method", [{"kind": "AdaLora"}, {"kind": "Prefix"}, {"kind": "PTuning"}, {**LORA, "bits": 4}])
def test_the_figures_of_any_method_need_no_weights(tiny_model, tmp_path, monkeypatch, method):
    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", None)
    look = outlook(write_job(tmp_path / "job", tiny_model, rows=24, method=method))
    assert "%" in numbers(look)["trained parameters"]
