"""A run folder as `errata improve` leaves it, written by hand: real adapters on the tiny model, scores that are known."""

import json
from dataclasses import asdict
from pathlib import Path

import yaml

from errata.jsonl import encode_lines
from errata.records import Attempt, Example, Question, Rejection, StageRecord
from errata.weights import Weights

SYSTEM = "Answer in figures."
RIGHT = {0: 3, 1: 9, 2: 7}  # of 10 test questions, by iteration
DEV = {0: 0.2, 1: 0.8, 2: 0.6}


def write_run(run, base, method="Lora", patience=2, start="last", **weights):
    """Two iterations, each of which trained something; by dev the first is best."""
    run.mkdir()
    config = {
        "seed": 4,
        "model": {"kind": "errata.model.hf.HF", "path": str(base), "adapter": None, "revision": None, "stop_tokens": [], **weights},
        "dataset": {"arithmetic": {"kind": "errata.dataset.arithmetic.Arithmetic", "name": "arithmetic"}},
        "tests": {"gsm8k": {"kind": "errata.dataset.gsm8k.GSM8K", "name": "gsm8k", "path": "openai/gsm8k"}},
        "errors": {"splits": ["train"], "leave_out": []},
        "strategy": {"kind": "errata.strategy.le.LE", "name": "le", "prompts_dir": "/home/someone/prompts"},
        "policy": {"start": start, "data": "latest", "replay": 0.0, "replay_from": "earlier", "patience": patience},
        "instructor": {"kind": "errata.instructor.openai.OpenAI", "model": "gpt-4.1-mini", "temperature": 0.7},
        "gate": [
            {"kind": "errata.gate.length.Length"},
            {"kind": "errata.gate.leak.Leak", "ngram": 13, "short": 8, "similarity": None},
        ],
        "training": {
            "method": {"kind": f"errata.training.methods.{method}", "r": 4},
            "epochs": 1, "batch_size": 8, "learning_rate": 0.001, "precision": "auto",
        },
    }  # fmt: skip
    (run / "run.json").write_text(json.dumps({"version": "0.1.0", "command": ["errata improve"], "config": config}))
    for iteration in RIGHT:
        place = run / f"iteration_{iteration}"
        attempts(place / "arithmetic/test", RIGHT[iteration])
        if patience:
            attempts(place / "arithmetic/dev_after", round(10 * DEV[iteration]))
        if iteration:
            rows = [row(iteration, number) for number in range(5)]
            records(place / "mix", {}, train=rows)
            records(place / "arithmetic/instruct", {"requests": 4, "failed": 0})
            records(place / "arithmetic/train", {"wrong": 6})
            reasons = [Rejection("x", "arithmetic", name, "", "", "", iteration) for name in ("leak", "malformed", "leak")]
            counts = {"kept": 5, "rejected": 3, "wall": {"arithmetic": 10}}
            records(place / "arithmetic/verify", counts, examples=rows, rejections=reasons)
            train(place / "train", base, method, iteration, weights)
    return run


def attempts(folder, right):
    questions = [Question(f"arithmetic/test/{n}", "arithmetic", "test", f"What is {n} + 1?", str(n + 1)) for n in range(10)]
    records(folder, {}, attempts=[Attempt(q, q.gold, True, q.gold, n < right) for n, q in enumerate(questions)])


def row(iteration, number):
    request = f"{iteration}/arithmetic/train/{number}"
    text = f"What is {number} + {iteration}?", f"{number + iteration}"
    return Example(f"{request}/1", "arithmetic", *text, text[1], f"arithmetic/train/{number}", request, iteration)


def records(folder, counts, **tables):
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in tables.items():
        (folder / f"{name}.jsonl").write_bytes(encode_lines(lines))
    stage = StageRecord("/".join(folder.parts[-2:]), {}, True, {}, counts, 1.0)
    (folder / "stage.json").write_text(json.dumps(asdict(stage)))


def train(folder, base, method, iteration, weights):
    """A train stage whose model is an adapter with random weights, or the whole tiny model, changed a little."""
    import torch
    from peft import LoraConfig, PromptTuningConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    records(folder, {})
    network = AutoModelForCausalLM.from_pretrained(base)
    torch.manual_seed(iteration)
    if method == "Full":
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
    elif method == "Lora":
        network = get_peft_model(
            network, LoraConfig(r=4, init_lora_weights=False, target_modules="all-linear", task_type="CAUSAL_LM")
        )
    else:
        network = get_peft_model(network, PromptTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM"))
    network.save_pretrained(folder / "model")
    AutoTokenizer.from_pretrained(base).save_pretrained(folder / "model")
    summary = {"rows": 5, "steps": 1, "tokens": 60, "first_loss": 6.5, "last_loss": 6.25, "trained_parameters": 9}
    (folder / "summary.json").write_text(json.dumps(summary | {"tokens_per_s": 1.0, "seconds": 1.0}))
    job = {"weights": asdict(Weights(str(base), **weights)), "data": "train.jsonl", "method": {"kind": method}}
    (Path(folder) / "training.yaml").write_text(yaml.safe_dump(job))
