"""Fine-tuning on a CPU: Errata beside TRL's SFTTrainer, on the same weights, rows, order, optimiser, precision and threads.

    pip install trl==1.16.0              the peer; in a virtual environment of its own, or in this one
    python benchmarks/training.py DATA/gsm8k/train.jsonl --trl-python OTHER/bin/python --out benchmarks/results/training.json

SmolLM2-135M-Instruct in float32, 512 real GSM8K rows, 8 rows an update, loss on the responses, AdamW (0.9, 0.95), cosine,
two threads. Every arm is a process of its own, one after the other; TRL gets the token ids that Errata trains on, no
gradient checkpointing, and its fused optimiser. Its arms: padded; padding-free (the same rows an update in one sequence);
packed (bfd, which orders the rows anew: as many tokens an update, but not the same rows). Without FlashAttention, which a
CPU has not, TRL's last two keep rows apart by a mask over the whole sequence. The first updates of an arm do not count.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

ARMS = ("errata", "trl_padded", "trl_padding_free", "trl_packed")
PER_UPDATE = 8
WARM = 2
"""Updates in the beginning that are not timed."""
Row = dict[str, Any]


def build(folder: str, method: str) -> Any:
    """The same model, and adapter, in every arm."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.config.use_cache = False
    if method == "lora":
        torch.manual_seed(0)
        model = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"))
    return model.train()


def train_arm(job: dict[str, Any]) -> dict[str, Any]:
    """Errata: its training process, as every command starts it."""
    import yaml

    from errata.config import Training
    from errata.stage.train import job_settings
    from errata.training.methods import Full, Lora

    method = Lora(r=16, alpha=32) if job["method"] == "lora" else Full()
    training = Training(
        method=method, batch_size=PER_UPDATE, learning_rate=job["lr"], warmup_steps=0, clip=0.0, max_length=2048,
        checkpoint_every_steps=1 << 30, threads=job["threads"],
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        settings = job_settings(training, job["seed"])
        whole = {"weights": {"base": job["folder"]}, "data": job["data"], "device": "cpu", **settings}
        (Path(folder) / "training.yaml").write_text(yaml.safe_dump(whole))
        done = subprocess.run([sys.executable, "-m", "errata.training", folder], capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stderr)
        lines = [json.loads(text) for text in (Path(folder) / "metrics.jsonl").read_text().splitlines()]
    log = [
        line(
            one["tokens"] / one["tokens_per_s"],
            one["tokens"],
            round(one["trained_tokens_per_s"] * one["tokens"] / one["tokens_per_s"]),
            one["loss"],
        )
        for one in lines
    ]
    return {"versions": versions("torch", "transformers", "peft", "pytorch-lightning"), "updates": log}


def trl_arm(job: dict[str, Any], arm: str) -> dict[str, Any]:
    """TRL's SFTTrainer, with the rows as token ids in the order that is given."""
    from datasets import Dataset
    from torch.utils.data import SequentialSampler
    from transformers import AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    packed = arm == "trl_packed"
    columns = [
        {"input_ids": row["ids"], "labels": [-100] * (len(row["ids"]) - row["trained"]) + row["ids"][-row["trained"] :]}
        for row in job["rows"]
    ]
    log: list[dict[str, float]] = []
    counted = {"start": 0.0, "tokens": 0, "trained": 0}

    class Same(SFTTrainer):  # type: ignore[misc]
        def _get_train_sampler(self, dataset: Any = None) -> Any:
            return SequentialSampler(dataset if dataset is not None else self.train_dataset)

        def training_step(self, model: Any, inputs: Any, *rest: Any, **named: Any) -> Any:
            mask = inputs.get("attention_mask")
            counted["tokens"] += int(inputs["input_ids"].numel() if mask is None else mask.sum())
            counted["trained"] += int((inputs["labels"] != -100).sum())
            return super().training_step(model, inputs, *rest, **named)

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, *given: Any, **named: Any) -> None:
            counted.update(start=time.perf_counter(), tokens=0, trained=0)

        def on_step_end(self, *given: Any, **named: Any) -> None:
            log.append(line(time.perf_counter() - counted["start"], int(counted["tokens"]), int(counted["trained"]), 0.0))

        def on_log(self, arguments: Any, state: Any, control: Any, logs: Any = None, **named: Any) -> None:
            if logs and "loss" in logs:
                log[-1]["loss"] = float(logs["loss"])

    with tempfile.TemporaryDirectory() as folder:
        settings = SFTConfig(
            output_dir=folder, use_cpu=True, bf16=False, num_train_epochs=1, gradient_checkpointing=False,
            per_device_train_batch_size=1 if packed else PER_UPDATE, gradient_accumulation_steps=2 if packed else 1,
            packing=packed, max_length=job["pack_length"] if packed else None, padding_free=arm == "trl_padding_free",
            learning_rate=job["lr"], lr_scheduler_type="cosine", warmup_steps=0,
            adam_beta2=0.95, weight_decay=0.0, max_grad_norm=0.0,
            logging_steps=1, report_to="none", save_strategy="no", disable_tqdm=True, seed=0,
        )  # fmt: skip
        tokenizer = AutoTokenizer.from_pretrained(job["folder"])
        Same(
            model=build(job["folder"], job["method"]), args=settings, train_dataset=Dataset.from_list(columns),
            processing_class=tokenizer, callbacks=[Clock()],
        ).train()  # fmt: skip
    return {"versions": versions("torch", "transformers", "peft", "trl"), "updates": log}


def line(seconds: float, tokens: int, trained: int, loss: float) -> dict[str, float]:
    """What is noted of an update."""
    return {"seconds": round(seconds, 4), "tokens": tokens, "trained": trained, "loss": loss}


def versions(*names: str) -> dict[str, str]:
    """What this arm ran with."""
    from importlib.metadata import version

    return {name: version(name) for name in names}


def peak() -> dict[str, float]:
    """GFLOP/s of a large float32 product, two ways: as torch does it, and oneDNN's own."""
    one, two = torch.randn(3072, 3072), torch.randn(3072, 3072)
    onednn = torch.ops.mkldnn._linear_pointwise
    ways = {"torch.mm": lambda: one @ two, "oneDNN": lambda: onednn(one, two, None, "none", [], "")}
    found = {}
    for name, way in ways.items():
        seconds = []
        for _ in range(6):
            start = time.perf_counter()
            way()
            seconds.append(time.perf_counter() - start)
        found[name] = round(2 * 3072**3 / min(seconds) / 1e9, 1)
    return found


def needed(config: dict[str, Any], method: str, tokens: float, trained: float) -> float:
    """GFLOP of the linear layers' products, there and back; the head on responses only; attention is not counted."""
    size, wide, heads = config["hidden_size"], config["intermediate_size"], config["num_attention_heads"]
    kept = size * config["num_key_value_heads"] // heads
    shapes = [(size, size)] * 2 + [(size, kept)] * 2 + [(size, wide)] * 3
    layers = config["num_hidden_layers"]
    body = layers * sum(one * two for one, two in shapes)
    adapter = layers * sum(16 * (one + two) for one, two in shapes) if method == "lora" else 0
    times = 4 if method == "lora" else 6
    return ((times * body + 6 * adapter) * tokens + times * size * config["vocab_size"] * trained) / 1e9


def read(path: Path, folder: str, count: int, seed: int) -> list[Row]:
    """GSM8K's questions and solutions as token ids, in the order in which Errata trains on them."""
    from transformers import AutoTokenizer

    from errata.chat import prompt_ids, response_ids
    from errata.training.plan import order

    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = []
    for text in path.read_text().split("\n")[:count]:
        given = json.loads(text)
        prompt, response = prompt_ids(tokenizer, given["question"]), response_ids(tokenizer, given["answer"])
        rows.append({"ids": [*prompt, *response], "trained": len(response)})
    return [rows[place] for place in order(len(rows), 1, seed)]


def run_arm(python: str, arm: str, job: Path) -> dict[str, Any]:
    """The arm in a process of its own."""
    out = job.with_name(f"{arm}.json")
    command = [python, __file__, "--arm", arm, "--job", str(job), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    if done.returncode:
        raise SystemExit(f"{arm} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(out.read_text())
    return found


def summary(arm: str, method: str, found: dict[str, Any], config: dict[str, Any], best: float) -> dict[str, Any]:
    """One line of the table."""
    timed = found["updates"][WARM:]
    seconds = sum(update["seconds"] for update in timed)
    tokens, trained = (sum(update[name] for update in timed) for name in ("tokens", "trained"))
    return {
        "method": method,
        "arm": arm,
        "updates": len(found["updates"]),
        "seconds": round(seconds, 1),
        "tokens_per_s": round(tokens / seconds, 1),
        "tokens_per_s_median": round(statistics.median(update["tokens"] / update["seconds"] for update in timed), 1),
        "trained_tokens_per_s": round(trained / seconds, 1),
        "share_of_peak": round(needed(config, method, tokens, trained) / seconds / best, 3),
        "losses": [update["loss"] for update in found["updates"]],
        "versions": found["versions"],
    }


def show(lines: list[dict[str, Any]], peaks: dict[str, float]) -> None:
    """The table."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"SmolLM2-135M, float32, {torch.get_num_threads()} threads; products at most {peaks} GFLOP/s")
    names = ("method", "arm", "tokens/s", "median", "trained/s", "Errata is", "of peak", "first loss", "last 4", "apart")
    for name in names:
        table.add_column(name, justify="left" if name in ("method", "arm") else "right")
    for row in lines:
        ours = next(other for other in lines if other["arm"] == "errata" and other["method"] == row["method"])
        same = row["arm"] in ("errata", "trl_padded", "trl_padding_free")
        apart = max(abs(one - two) for one, two in zip(ours["losses"], row["losses"], strict=same))
        row["errata_times_as_fast"] = round(ours["tokens_per_s"] / row["tokens_per_s"], 3)
        row["losses_apart_at_most"] = apart if same else None
        table.add_row(
            row["method"], row["arm"], f"{row['tokens_per_s']:.0f}", f"{row['tokens_per_s_median']:.0f}",
            f"{row['trained_tokens_per_s']:.0f}", f"{row['errata_times_as_fast']:.2f} x", f"{row['share_of_peak']:.0%}",
            f"{row['losses'][0]:.4f}", f"{statistics.mean(row['losses'][-4:]):.4f}",
            f"{apart:.1e}" if same else "other rows",
        )  # fmt: skip
    Console(width=125).print(table)


def main() -> None:
    """Run the arms and print the table; or be an arm."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("rows", type=Path, nargs="?", help="GSM8K's train.jsonl")
    arguments.add_argument("--n", type=int, default=512)
    arguments.add_argument("--methods", nargs="+", default=["lora", "full"], choices=["lora", "full"])
    arguments.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS)
    arguments.add_argument("--trl-python", default=sys.executable, help="the Python that has TRL")
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--pack-length", type=int, default=896, help="TRL's max_length where it packs, two an update")
    arguments.add_argument("--out", type=Path, help="where the figures are also written, as JSON")
    arguments.add_argument("--arm", choices=ARMS, help=argparse.SUPPRESS)
    arguments.add_argument("--job", type=Path, help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.arm:
        job = json.loads(given.job.read_text())
        torch.set_num_threads(job["threads"])
        given.out.write_text(json.dumps(train_arm(job) if given.arm == "errata" else trl_arm(job, given.arm)))
        return
    if given.rows is None or "errata" not in given.arms:
        arguments.error("GSM8K's train.jsonl is needed, and the arm `errata`, with which the others are compared")

    from errata.model.smollm2_135m import SmolLM2

    torch.set_num_threads(given.threads)
    folder = str(SmolLM2().weights.base)
    config = json.loads((Path(folder) / "config.json").read_text())
    rows = read(given.rows, folder, given.n, given.seed)
    peaks = peak()
    lines = []
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch) / "rows.jsonl"
        given_rows = [json.loads(text) for text in given.rows.read_text().split("\n")[: given.n]]
        pairs = [{"prompt": row["question"], "response": row["answer"]} for row in given_rows]
        data.write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
        for method in given.methods:
            job = {"folder": folder, "method": method, "rows": rows, "threads": given.threads}
            job |= {
                "data": str(data),
                "seed": given.seed,
                "pack_length": given.pack_length,
                "lr": 2e-4 if method == "lora" else 1e-5,
            }
            (path := Path(scratch) / "job.json").write_text(json.dumps(job))
            for arm in given.arms:
                found = run_arm(sys.executable if arm == "errata" else given.trl_python, arm, path)
                lines.append(summary(arm, method, found, config, peaks["oneDNN"]))
                brief = {name: what for name, what in lines[-1].items() if name not in ("losses", "versions")}
                print(json.dumps(brief), flush=True)
    show(lines, peaks)
    if given.out:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        whole = {"rows": len(rows), "rows_per_update": PER_UPDATE, "peak_gflops": peaks, "arms": lines}
        given.out.write_text(json.dumps(whole, indent=1))


if __name__ == "__main__":
    main()
