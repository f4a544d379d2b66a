"""`errata train`, from its command line to the model that it leaves."""

import json
import subprocess
import sys

import pytest
from hydra.core.global_hydra import GlobalHydra

from errata.cli import main
from errata.training.run import train as train_here


def errata(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["errata", *arguments])
    GlobalHydra.instance().clear()
    try:
        code = main()
    except SystemExit as end:
        code = end.code
    return code or 0


@pytest.fixture
def command(tmp_path, monkeypatch, tiny_model):
    """`errata train` on the tiny model in an empty folder; the job runs in this process."""
    monkeypatch.chdir(tmp_path)
    trained = []

    def in_this_process(folder, launch, heard):
        trained.append(folder)
        train_here(folder)
        for line in (folder / "metrics.jsonl").read_text().splitlines():
            heard(json.loads(line))

    monkeypatch.setattr("errata.stage.train._run", in_this_process)
    common = ["train", "model=hf", f"model.path={tiny_model}", "model.device=cpu", "tracking=off", "training.threads=1"]
    common += ["training.method.r=2", "training.batch_size=2"]

    def run(*arguments):
        return errata(monkeypatch, *common, *arguments)

    run.trained = trained
    return run


USER, OWN = {"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}
FORMS = {
    "pairs": {"prompt": "2 + 2?", "response": "4"},
    "messages": {"messages": [USER, OWN, {**USER, "content": "And 3 + 3?"}, {**OWN, "content": "6"}]},
    "alpaca": {"instruction": "Add", "input": "2 and 2", "output": "4"},
}


@pytest.mark.parametrize("form", FORMS)
def test_each_form_of_rows_trains(command, tmp_path, form):
    (tmp_path / "rows.jsonl").write_text(f"{json.dumps(FORMS[form])}\n" * 4)
    assert command("data=rows.jsonl") == 0
    (stage,) = tmp_path.glob("outputs/train-*/train")
    assert (stage / "model" / "adapter_config.json").is_file()
    assert json.loads((stage / "summary.json").read_text())["rows"] == 4


def test_run_again_it_trains_nothing_and_with_other_rows_anew(command, tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text(f"{json.dumps(FORMS['pairs'])}\n" * 4)
    assert command("data=rows.jsonl") == command("data=rows.jsonl") == 0
    assert len(command.trained) == 1
    rows.write_text(f"{json.dumps(FORMS['alpaca'])}\n" * 4)
    assert command("data=rows.jsonl") == 0
    assert len(command.trained) == 2


def test_prepare_says_how_to_start_it_and_the_same_command_takes_it_over(command, tmp_path, capsys):
    (tmp_path / "rows.jsonl").write_text(f"{json.dumps(FORMS['pairs'])}\n" * 4)
    assert command("data=rows.jsonl", "prepare=true") == 0
    said = capsys.readouterr().out
    (stage,) = tmp_path.glob("outputs/train-*/train")
    assert command.trained == []
    assert "torchrun --nnodes=2" in said and "srun --nodes=2" in said and str(stage) in said
    train_here(stage)
    assert command("data=rows.jsonl") == 0
    assert command.trained == []


def test_a_preview_shows_rows_and_leaves_no_run(command, tmp_path, monkeypatch, capsys):
    from errata.training.preview import show

    monkeypatch.setattr("errata.command.preview", show)
    (tmp_path / "rows.jsonl").write_text(f"{json.dumps(FORMS['messages'])}\n" * 4)
    assert command("data=rows.jsonl", "preview=2") == 0
    out = capsys.readouterr().out
    assert out.count("trained\n") == 2
    assert "And 3 + 3?" in out
    assert "4 of 4" in out
    assert command.trained == []
    assert [path.name for path in (tmp_path / "outputs").iterdir()] == ["tokens"]  # which the training takes from there


@pytest.mark.slow
def test_a_preview_in_a_process_of_its_own(command, tmp_path, capfd):
    (tmp_path / "rows.jsonl").write_text(f"{json.dumps(FORMS['messages'])}\n" * 4)
    assert command("data=rows.jsonl", "preview=2") == 0
    assert "And 3 + 3?" in capfd.readouterr().out
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a"}\n')
    assert command("data=rows.jsonl", "preview=2") == 2
    assert "'response' is missing" in capfd.readouterr().err


def test_dev_loss_early_end_and_the_best(command, tmp_path):
    (tmp_path / "rows.jsonl").write_text(f"{json.dumps(FORMS['pairs'])}\n" * 8)
    (tmp_path / "dev.jsonl").write_text(f"{json.dumps(FORMS['alpaca'])}\n" * 2)
    assert command("data=rows.jsonl", "dev=dev.jsonl", "training.dev_every_steps=1", "training.keep=best") == 0
    (stage,) = tmp_path.glob("outputs/train-*/train")
    assert len(json.loads((stage / "dev.json").read_text())) == 4


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"prompt": "a"}\n', ["rows.jsonl: 1 of 1 rows cannot be trained on.", "line 1: the field 'response' is missing"]),
        ("", ["is empty: there is no row to train on"]),
    ],
)
def test_bad_rows_end_in_one_message(command, tmp_path, capsys, content, said):
    (tmp_path / "rows.jsonl").write_text(content)
    assert command("data=rows.jsonl") == 2
    error = capsys.readouterr().err
    assert error.count("error:") == 1
    for words in said:
        assert words in error


@pytest.mark.slow
def test_a_launcher_starts_it_as_a_job_and_brings_its_mistakes_home(tiny_model, tmp_path):
    """submitit's local executor stands for its Slurm one: the same plugin, the same pickled job."""
    pytest.importorskip("submitit", reason="pip install 'errata[slurm]'")
    (tmp_path / "rows.jsonl").write_text(f"{json.dumps(FORMS['pairs'])}\n" * 4)
    command = [
        sys.executable, "-m", "errata.cli", "train", "-m", "hydra/launcher=submitit_local", "data=rows.jsonl", "model=hf",
        f"model.path={tiny_model}", "tracking=off",
    ]  # fmt: skip
    good = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert good.returncode == 0, good.stderr
    assert list(tmp_path.glob("outputs/train-*/train/model/adapter_config.json"))
    bad = subprocess.run([*command, "training.max_length=8"], cwd=tmp_path, capture_output=True, text=True)
    assert bad.returncode == 2
    assert "4 of 4 rows cannot be trained on" in bad.stderr
