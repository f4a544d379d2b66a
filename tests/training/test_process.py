"""The training process, run for real on a tiny model: here where one process is enough, apart where it is to be killed."""

import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from tests.training.jobs import (
    FULL,
    LORA,
    assert_close,
    assert_same,
    column,
    kill_behind,
    metrics,
    pairs,
    run,
    run_here,
    weights,
    write_job,
    write_rows,
)

from errata.errors import ConfigError, DataError, TrainingError
from errata.processes import alive, started_at
from errata.stage import train as train_stage
from errata.training.__main__ import main
from errata.training.checkpoint import Checkpoints
from errata.training.module import FineTuning
from errata.training.run import outlook, warmup
from errata.training.watch import Metrics


class KilledError(Exception):
    """In place of kill -9, where the process is this one."""


def stopped_at(monkeypatch, update, folder):
    """Train until an update has been made and its line written, then die."""
    write = Metrics.on_train_batch_end

    def die(self, trainer, module, *rest):
        write(self, trainer, module, *rest)
        if module.updates_done == update:
            raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(Metrics, "on_train_batch_end", die)
        with pytest.raises(KilledError):
            run_here(folder)


@pytest.fixture(scope="module")
def undisturbed(tiny_model, tmp_path_factory):
    folder = write_job(tmp_path_factory.mktemp("undisturbed") / "job", tiny_model)
    return folder, run_here(folder)


def test_it_learns_and_leaves_an_adapter(undisturbed):
    folder, summary = undisturbed
    assert summary["last_loss"] < summary["first_loss"] - 0.1
    assert summary["rows"] == 40
    assert summary["steps"] == 10
    assert summary["strategy"] == "one"
    assert summary["packing"] is True
    assert summary["trained_tokens"] < summary["tokens"]
    assert (folder / "model" / "adapter_config.json").exists()
    assert (folder / "model" / "tokenizer.json").exists()
    assert not (folder / "checkpoints").exists()
    assert not (folder / "tokens").exists()


def test_each_update_leaves_its_figures(undisturbed):
    lines = metrics(undisturbed[0])
    assert [line["update"] for line in lines] == list(range(1, 11))
    for name in ("loss", "learning_rate", "gradient_norm", "tokens_per_s", "trained_tokens_per_s", "memory_gib", "mfu"):
        assert all(line[name] >= 0 for line in lines), name
    assert all(line["trained_tokens_per_s"] < line["tokens_per_s"] for line in lines)
    assert {line["padding"] for line in lines} == {0.0}


def test_the_schedule_is_a_cosine_with_warm_up(undisturbed):
    folder, summary = undisturbed
    assert summary["warmup_steps"] == 1
    by_hand = [1e-2 * 0.5 * (1 + math.cos(math.pi * (step - 1) / 9)) for step in range(1, 11)]
    assert column(folder, "learning_rate") == pytest.approx(by_hand, abs=1e-9)


def test_stopped_and_started_again_it_ends_with_the_same_bits(undisturbed, tiny_model, tmp_path, monkeypatch):
    reference, _ = undisturbed
    folder = write_job(tmp_path / "job", tiny_model, checkpoint_every_steps=3, keep_checkpoints=2)
    stopped_at(monkeypatch, 8, folder)
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == ["update_3", "update_6"]
    assert len(metrics(folder)) == 8
    killed_while_saving = folder / "checkpoints" / "update_9.partial"
    killed_while_saving.mkdir()
    (killed_while_saving / "state.json").write_text("{}")
    run_here(folder)
    assert_same(weights(folder), weights(reference))
    for name in ("loss", "gradient_norm", "learning_rate"):
        assert column(folder, name) == column(reference, name)


def test_what_a_killed_save_has_left_never_costs_a_checkpoint(tmp_path):
    checkpoints = Checkpoints(tmp_path, every=1, keep=1, identity={}, layout="one on 1")
    for name in ("update_9", "update_10", "update_30.partial"):
        (tmp_path / name).mkdir()
    checkpoints._prune()
    assert [path.name for path in tmp_path.iterdir()] == ["update_10"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"learning_rate": 1e-3}, "learning_rate"),
        ({"data": "other.jsonl"}, "the rows (data)"),
        ({"method": {**LORA, "r": 8}}, "method"),
        ({"base": "copy"}, "the model"),
    ],
)
def test_a_checkpoint_of_another_job_is_refused(tiny_model, tmp_path, monkeypatch, changes, said):
    folder = write_job(tmp_path / "job", tiny_model, rows=16)
    stopped_at(monkeypatch, 2, folder)
    job = yaml.safe_load((folder / "training.yaml").read_text())
    write_rows(folder / "other.jsonl", pairs(16, start=1))
    if "base" in changes:
        shutil.copytree(tiny_model, tmp_path / "copy")
        changes = {"weights": {**job["weights"], "base": str(tmp_path / "copy")}}
    (folder / "training.yaml").write_text(yaml.safe_dump({**job, **changes}))
    with pytest.raises(TrainingError, match="is a checkpoint of another job") as error:
        run_here(folder)
    assert f"it differs in: {said}." in str(error.value)
    assert "to begin anew" in str(error.value)


def test_a_loss_that_is_not_finite_stops_the_job(tiny_model, tmp_path, capsys):
    folder = write_job(tmp_path / "job", tiny_model, method=FULL, learning_rate=1e30, clip=0.0)
    assert main(folder, None) == 2
    assert "lower training.learning_rate" in capsys.readouterr().err
    assert "lower training.learning_rate" in (folder / "error.txt").read_text()
    assert not (folder / "summary.json").exists()


def spoil(monkeypatch, updates, factor):
    """Multiply the loss of some updates."""
    right = FineTuning.token_loss
    monkeypatch.setattr(
        FineTuning, "token_loss", lambda self, one: right(self, one) * (factor if self.updates_done in updates else 1)
    )


def test_bad_updates_are_left_out_where_asked_for_and_said(tiny_model, tmp_path, monkeypatch, capsys):
    folder = write_job(tmp_path / "job", tiny_model, bad_loss="skip")
    spoil(monkeypatch, {0, 9}, math.nan)
    summary = run_here(folder)
    assert summary["skipped"] == 2
    assert math.isfinite(summary["first_loss"]) and math.isfinite(summary["last_loss"])
    assert capsys.readouterr().err.count("left out") == 2
    assert [line["loss"] is None for line in metrics(folder)] == [True, *[False] * 8, True]
    assert all(torch.isfinite(value).all() for value in weights(folder).values())


def test_a_job_whose_updates_are_all_bad_leaves_no_model(tiny_model, tmp_path, monkeypatch):
    folder = write_job(tmp_path / "job", tiny_model, rows=16, bad_loss="skip")
    spoil(monkeypatch, range(9), math.inf)
    with pytest.raises(TrainingError, match="none of 4 updates could be made"):
        run_here(folder)
    assert not (folder / "model").exists()


@pytest.mark.parametrize("rule", ["stop", "skip"])
def test_a_jump_of_the_loss_is_bad_too(tiny_model, tmp_path, monkeypatch, capsys, rule):
    folder = write_job(tmp_path / "job", tiny_model, bad_loss=rule, spike=3.0)
    spoil(monkeypatch, {7}, 10)
    if rule == "skip":
        assert run_here(folder)["skipped"] == 1
        assert "the loss jumped to" in capsys.readouterr().err
    else:
        with pytest.raises(TrainingError, match=r"the loss jumped to .* at update 8; it was"):
            run_here(folder)


def test_the_best_weights_by_dev_are_kept_and_no_patience_is_wasted(tiny_model, tmp_path):
    held_out = write_rows(tmp_path / "dev.jsonl", pairs(8, start=100))
    folder = write_job(
        tmp_path / "job", tiny_model, method=FULL, dev=str(held_out), dev_every_steps=1, keep="best", patience=2,
        learning_rate=0.3, epochs=4,
    )  # fmt: skip
    summary = run_here(folder)
    dev = {line["update"]: line["loss"] for line in json.loads((folder / "dev.json").read_text())}
    best = min(dev, key=dev.__getitem__)
    assert summary["best_dev_update"] == best
    assert list(dev) == list(range(1, best + 3))
    assert summary["steps"] == best + 2
    again = write_job(tmp_path / "again", folder / "model", rows=8, method=FULL, dev=str(held_out), learning_rate=1e-12)
    assert run_here(again)["best_dev_loss"] == pytest.approx(dev[best], rel=1e-4)


def test_a_job_that_was_killed_behind_its_early_end_ends_there(tiny_model, tmp_path, monkeypatch):
    settings = {"method": FULL, "dev_share": 0.2, "dev_every_steps": 1, "patience": 1, "learning_rate": 0.3, "epochs": 4}
    whole, killed = (write_job(tmp_path / name, tiny_model, **settings) for name in ("whole", "killed"))
    run_here(whole)
    with monkeypatch.context() as patch:
        patch.setattr("errata.training.run.save", lambda *_: sys.exit(9))
        with pytest.raises(SystemExit):
            run_here(killed)
    run_here(killed)
    assert len(metrics(whole)) < 16
    assert column(killed, "loss") == column(whole, "loss")
    assert_same(weights(killed), weights(whole))


def test_the_dev_loss_is_the_mean_over_trained_tokens(tiny_model, tmp_path):
    rows = pairs(12)
    settings = {"learning_rate": 1e-12, "method": FULL, "epochs": 1, "batch_size": 12}
    dev = write_rows(tmp_path / "dev.jsonl", rows)
    folder = write_job(tmp_path / "job", tiny_model, rows=rows, dev=str(dev), micro_tokens=100, **settings)
    summary = run_here(folder)
    assert summary["best_dev_loss"] == pytest.approx(summary["first_loss"], rel=1e-5)


def test_too_long_rows_are_an_error_or_dropped_or_cut_and_counted(tiny_model, tmp_path, capsys):
    rows = [*pairs(16), {"prompt": "word " * 300, "response": "5"}, {"prompt": "?", "response": "long " * 300}]
    with pytest.raises(DataError, match=r"2 of 18 rows cannot be trained on.\nline 17: .*training.too_long=drop or cut"):
        outlook(write_job(tmp_path / "error", tiny_model, rows, max_length=128))
    look = outlook(write_job(tmp_path / "cut", tiny_model, rows, max_length=128, too_long="cut"))
    assert look.rows.counts == {"given": 18, "cut": 1, "too_long": 1}
    summary = run_here(write_job(tmp_path / "drop", tiny_model, rows, max_length=128, too_long="drop", epochs=1))
    assert (summary["rows"], summary["rows_too_long"]) == (16, 2)
    assert "of 18 rows 2 are longer than 128 tokens and left out" in capsys.readouterr().err


def test_a_warm_up_longer_than_the_run_is_cut_and_said_or_an_error(tiny_model, tmp_path, capsys):
    run_here(write_job(tmp_path / "cut", tiny_model, rows=16, warmup_steps=100))
    assert "warm-up cut from 100 to 0 of 4 updates" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="warmup_steps is 100 and the run has 4 updates"):
        outlook(write_job(tmp_path / "error", tiny_model, rows=16, warmup_steps=100, warmup_too_long="error"))
    job = outlook(write_job(tmp_path / "some", tiny_model, rows=16, warmup_steps=3, warmup_too_long="error")).job
    assert (warmup(job, 4), warmup(job, 40)) == (3, 3)
    assert [warmup(replace(job, warmup_share=share), 870) for share in (0.0, 0.03)] == [0, 27]


def test_packed_padded_and_in_parts_it_is_the_same_training(tiny_model, tmp_path):
    common = {"method": FULL, "learning_rate": 1e-3, "rows": 24}
    layouts = {
        "packed": {}, "small_packs": {"micro_tokens": 64}, "padded": {"packing": False, "micro_batch_size": 8},
        "two_by_two": {"packing": False, "micro_batch_size": 2}, "twice": {"gradient_checkpointing": True},
    }  # fmt: skip
    folders = [write_job(tmp_path / name, tiny_model, **common, **layout) for name, layout in layouts.items()]
    for folder in folders:
        run_here(folder)
    for folder in folders[1:]:
        for name in ("loss", "gradient_norm"):
            assert column(folder, name) == pytest.approx(column(folders[0], name), rel=1e-4)
        assert_close(weights(folder), weights(folders[0]), atol=1e-4)


def test_full_fine_tuning_leaves_a_whole_model_that_an_adapter_can_go_on(undisturbed, tiny_model, tmp_path):
    adapter = str(undisturbed[0] / "model")
    further = write_job(tmp_path / "further", tiny_model, adapter=adapter, epochs=1)
    full = write_job(tmp_path / "full", tiny_model, adapter=adapter, method=FULL, learning_rate=1e-3, epochs=1)
    first = undisturbed[1]["first_loss"]
    assert run_here(further)["first_loss"] < first
    assert run_here(full)["first_loss"] < first
    assert (full / "model" / "config.json").exists()
    assert not (full / "model" / "adapter_config.json").exists()


def test_running_out_of_memory_names_the_settings_that_help(tiny_model, tmp_path, monkeypatch, capsys):
    def too_much(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("errata.training.run.load", too_much)
    assert main(write_job(tmp_path / "job", tiny_model), None) == 2
    said = capsys.readouterr().err
    for setting in ("micro_tokens", "gradient_checkpointing", "zero3"):
        assert setting in said


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"devices": 3}, "batch_size is 8: its rows do not divide over 3 ranks. Choose 9 rows, or 2 ranks"),
        ({"devices": 2, "strategy": "one"}, "strategy=one trains on one device"),
        ({"device": "cuda"}, "torch sees no GPU here"),
        ({"precision": "16-mixed"}, "16-mixed needs a GPU"),
        ({"strategy": "zero2", "devices": 2, "bad_loss": "skip"}, "zero2 cannot take an update back"),
        ({"method": {"kind": "AdaLora"}, "strategy": "zero2", "devices": 2}, "AdaLoRA ranks by gradients"),
        ({"method": {"kind": "AdaLora"}, "bad_loss": "skip"}, "AdaLoRA counts on every update"),
        ({"method": {"kind": "Prompt"}, "strategy": "fsdp", "devices": 2}, "choose ddp or zero2"),
        ({"method": {"kind": "Prefix"}, "gradient_checkpointing": True}, "prefix tuning"),
        ({"method": {**LORA, "bits": 4}, "strategy": "zero3", "devices": 2}, "quantised weights cannot be shared out"),
    ],
)
def test_what_does_not_go_together_is_said_before_a_model_is_loaded(tiny_model, tmp_path, changes, said):
    with pytest.raises(ConfigError, match=said.replace("(", r"\(")):
        outlook(write_job(tmp_path / "job", tiny_model, rows=8, **changes))


def test_a_batch_script_under_slurm_is_no_rank(tiny_model, tmp_path, monkeypatch):
    folder = write_job(tmp_path / "job", tiny_model, rows=8)
    monkeypatch.setenv("SLURM_NTASKS", "8")
    monkeypatch.setenv("SLURM_PROCID", "0")
    assert outlook(folder).where.ranks == 1
    for name, value in {"STEP_NUM_TASKS": 8, "STEP_NUM_NODES": 2, "PROCID": 5, "LOCALID": 1, "NODEID": 1}.items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))
    with pytest.raises(ConfigError, match="--ntasks-per-node"):
        outlook(folder)
    monkeypatch.setenv("SLURM_NTASKS_PER_NODE", "4")
    where = outlook(folder).where
    assert (where.ranks, where.nodes, where.rank) == (8, 2, 5)


@pytest.mark.slow
def test_it_never_imports_hydra_nor_the_rest_of_errata():
    code = (
        "import sys, errata.training.run; print([m for m in sys.modules if m.startswith(('hydra', 'omegaconf', 'errata'))])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    loaded = {name.partition(".")[2].partition(".")[0] for name in eval(out)}
    assert loaded <= {"", "version", "errors", "chat", "weights", "training"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "method", [{**LORA, "dropout": 0.1}, {"kind": "Bottleneck", "bottleneck": 4}], ids=lambda method: method["kind"]
)
def test_killed_and_started_again_it_ends_with_the_same_bits(tiny_model, tmp_path, method):
    reference, folder = (write_job(tmp_path / name, tiny_model, method=method) for name in ("whole", "killed"))
    run(reference)
    kill_behind(folder, 4)
    before = metrics(folder)[:3]
    run(folder)
    assert metrics(folder)[:3] == before  # their speeds too: it went on, and did not begin anew
    assert_same(weights(folder), weights(reference))
    assert column(folder, "loss") == column(reference, "loss")


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's")
@pytest.mark.parametrize("late", [0, 0.5])  # killed behind, and before, the child could ask the kernel for its signal
def test_it_dies_with_its_parent_even_while_it_starts(tiny_model, tmp_path, late):
    folder = write_job(tmp_path / "job", tiny_model)
    code = f"""
import time
from pathlib import Path
from errata.stage import train
asked = train._die_with
train._die_with = lambda parent: (time.sleep({late}), asked(parent))
train._run(Path({str(folder)!r}), [], print)
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)

    def children():
        threads = Path(f"/proc/{parent.pid}/task").glob("*/children")
        return [child for thread in threads for child in thread.read_text().split()]

    for _ in range(6000):
        if children():
            break
        time.sleep(0.01)
    child = int(children()[0])
    started = started_at(child)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    for _ in range(6000):
        if not alive(socket.gethostname(), child, started):
            break
        time.sleep(0.01)
    assert not alive(socket.gethostname(), child, started)
    assert not (folder / "model").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's")
def test_a_further_rank_ends_where_the_process_that_started_it_is_gone_already():
    code = "from errata.training.__main__ import die_with_parent; die_with_parent()"
    environment = {name: value for name, value in os.environ.items() if name not in ("LOCAL_RANK", "ERRATA_STARTER")}
    for further, ends in (
        ({}, 0),
        ({"LOCAL_RANK": "1"}, 0),  # as torchrun starts it
        ({"LOCAL_RANK": "1", "ERRATA_STARTER": str(os.getpid())}, 0),
        ({"LOCAL_RANK": "1", "ERRATA_STARTER": "0"}, -signal.SIGKILL),
    ):
        assert subprocess.run([sys.executable, "-c", code], env=environment | further).returncode == ends, further


def test_a_job_that_was_killed_is_told_as_killed(tmp_path, monkeypatch):
    for script, said in (
        ("kill -9 $$", "was killed by SIGKILL, as a machine short of memory does"),
        ("exit 7", "ended with code 7"),
    ):
        monkeypatch.setattr("errata.stage.train.commands", lambda *_, script=script: ["sh", "-c", script])
        with pytest.raises(TrainingError, match=said):
            train_stage._run(tmp_path, [], print)
