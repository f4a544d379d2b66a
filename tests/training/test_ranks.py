"""Several processes, over gloo on a CPU: one update is the same under every strategy, and a killed job goes on exactly."""

import socket
import subprocess
import sys

import pytest
from tests.training.jobs import (
    FULL,
    LORA,
    assert_close,
    assert_same,
    column,
    kill_behind,
    metrics,
    run,
    run_here,
    start,
    weights,
    write_job,
)

pytestmark = pytest.mark.slow


def job(folder, base, method, **changes):
    return write_job(folder, base, **{"rows": 40, "epochs": 1, "method": method, "learning_rate": 1e-3, **changes})


@pytest.fixture(scope="module")
def alone(tiny_model, tmp_path_factory):
    """What one process makes of each method."""
    folders = {}
    for name, method in (("full", FULL), ("lora", LORA)):
        folders[name] = job(tmp_path_factory.mktemp(name) / "job", tiny_model, method)
        run_here(folders[name])
    return folders


@pytest.mark.parametrize(
    ("method", "strategy", "devices"),
    [
        ("lora", "ddp", 2), ("full", "ddp", 4), ("full", "zero2", 2), ("lora", "zero2", 2), ("full", "zero3", 2), ("full", "fsdp", 2),
        ("lora", "fsdp", 2), ("full", "zero1", 2), ("full", "zero2_offload", 2),
    ],
)  # fmt: skip
def test_all_strategies_make_the_same_updates(alone, tiny_model, tmp_path, method, strategy, devices):
    kind = {"full": FULL, "lora": LORA}[method]
    folder = job(tmp_path / "job", tiny_model, kind, strategy=strategy, devices=devices)
    summary = run(folder)
    assert (summary["ranks"], summary["strategy"]) == (devices, strategy)
    for name in ("loss", "gradient_norm", "learning_rate", "tokens"):
        assert column(folder, name) == pytest.approx(column(alone[method], name), rel=1e-4)
    assert_close(weights(folder), weights(alone[method]), atol=5e-5)


@pytest.mark.parametrize(("strategy", "method"), [("zero2", FULL), ("ddp", {**LORA, "dropout": 0.1})])
def test_killed_ranks_go_on_to_the_same_bits(tiny_model, tmp_path, strategy, method):
    whole, killed = (
        job(tmp_path / name, tiny_model, method, strategy=strategy, devices=2, rows=80) for name in ("whole", "killed")
    )
    run(whole)
    kill_behind(killed, 4)
    before = metrics(killed)[:3]
    run(killed)
    assert metrics(killed)[:3] == before  # their speeds too: it went on, and did not begin anew
    assert_same(weights(killed), weights(whole))
    for name in ("loss", "gradient_norm", "learning_rate"):
        assert column(killed, name) == column(whole, name)


def test_dev_loss_and_best_weights_are_those_of_one_process(tiny_model, tmp_path):
    settings = {"dev_share": 0.2, "dev_every_steps": 1, "keep": "best", "learning_rate": 0.05}
    one, two = (job(tmp_path / name, tiny_model, FULL, **settings, **more) for name, more in
                (("one", {}), ("two", {"strategy": "zero2", "devices": 2})))  # fmt: skip
    alone, both = run_here(one), run(two)
    assert both["best_dev_update"] == alone["best_dev_update"]
    assert both["best_dev_loss"] == pytest.approx(alone["best_dev_loss"], rel=1e-3)
    assert_close(weights(two), weights(one), atol=1e-3)


def test_two_machines_of_torchrun(alone, tiny_model, tmp_path):
    folder = job(tmp_path / "job", tiny_model, FULL, strategy="zero2")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    agent = [
        sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d",
        f"--rdzv-endpoint=127.0.0.1:{port}", "-m", "errata.training", str(folder),
    ]  # fmt: skip
    agents = [subprocess.Popen(agent, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    words = [agent.communicate(timeout=600)[1] for agent in agents]
    assert [agent.returncode for agent in agents] == [0, 0], "\n".join(words)[-4000:]
    assert column(folder, "loss") == pytest.approx(column(alone["full"], "loss"), rel=1e-4)
    assert_close(weights(folder), weights(alone["full"]), atol=5e-5)


def test_a_mistake_on_ranks_ends_them_all_with_one_message(tiny_model, tmp_path):
    folder = job(tmp_path / "job", tiny_model, FULL, strategy="ddp", devices=2, learning_rate=1e30, clip=0.0)
    process = start(folder)
    process.communicate(timeout=600)
    assert process.returncode == 2
    assert "lower training.learning_rate" in (folder / "error.txt").read_text()


@pytest.mark.parametrize("method", ["full", "lora"])
def test_fsdp_mixes_precisions_by_a_policy_of_its_own(tiny_model, tmp_path, method):
    folders = {}
    for strategy, devices in (("one", 1), ("fsdp", 2)):
        settings = {"strategy": strategy, "devices": devices, "precision": "bf16-mixed"}
        folders[strategy] = job(tmp_path / strategy, tiny_model, {"full": FULL, "lora": LORA}[method], **settings)
        run(folders[strategy])
    assert column(folders["fsdp"], "loss") == pytest.approx(column(folders["one"], "loss"), rel=1e-3)
