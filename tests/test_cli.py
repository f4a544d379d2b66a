"""The command line as a person meets it, and the other commands of the family."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_loop import errata


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    path = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    lines = [json.dumps({"prompt": f"What is {n} + 1?", "response": f"{n} + 1 = {n + 1}\n#### {n + 1}"}) for n in range(16)]
    path.write_text("\n".join(lines))
    return path


@pytest.mark.slow
def test_train_then_evaluate_what_it_left(tiny_model, pairs, tmp_path, capsys):
    common = ["model=hf", f"model.path={tiny_model}", f"output_dir={tmp_path}"]
    assert errata("train", f"data={pairs}", *common, "tracking=off", "training.threads=1") == 0
    (folder,) = tmp_path.glob("train-*")
    assert "trained parameters" in capsys.readouterr().out
    adapter = folder / "train" / "model"
    small = ["dataset.arithmetic.test=10", "dataset.arithmetic.max_new_tokens=4", f"model.adapter={adapter}"]
    assert errata("evaluate", *common, *small) == 0
    (folder,) = tmp_path.glob("evaluate-*")
    results = json.loads((folder / "results.json").read_text())
    assert results["datasets"]["arithmetic"][0]["scores"]["all"]["n"] == 10
    assert len((folder / "iteration_0/arithmetic/test/attempts.jsonl").read_text().splitlines()) == 10


@pytest.mark.slow
def test_rows_that_do_not_fit_are_named(tiny_model, pairs, tmp_path, capsys):
    common = ["model=hf", f"model.path={tiny_model}", f"output_dir={tmp_path}", "tracking=off"]
    assert errata("train", f"data={pairs}", *common, "training.max_length=8") == 2
    said = capsys.readouterr().err
    assert "16 of 16 rows cannot be trained on" in said
    assert "line 1: " in said and "tokens, training.max_length is 8: raise it" in said


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_dry_run_of_the_others(command, pairs, tmp_path, capsys):
    extra = [f"data={pairs}"] if command == "train" else []
    assert errata(command, *extra, f"output_dir={tmp_path}", "dry_run=true") == 0
    assert ("16 rows, 2 updates" if command == "train" else "240 questions") in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--help"], ["improve", "evaluate", "train", "report", "why", "export", "chat", "dry_run=true"]),
        (["--version"], ["errata"]),
        (
            ["improve", "--help"],
            [
                "experiments: alpaca_cot,",
                "seeds",
                "gpt_4_1_mini, gpt_5_mini, local_server, openai, replay, tutor, vllm",
                "sample_size",
            ],
        ),
        (["evaluate", "--help"], ["errata evaluate", "split: test"]),
        (["train", "--help"], ["errata train data=pairs.jsonl", "learning_rate"]),
        (["why", "--help"], ["RUN", "ROW"]),
        (["improve", "--cfg", "job", "seed=7"], ["seed: 7", "_target_: errata.strategy.le.LE"]),
    ],
    ids=" ".join,
)
def test_help_teaches(arguments, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert errata(*arguments) == 0
    out = capsys.readouterr().out
    for word in words:
        assert word in out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("errata ", {"improve", "evaluate", "train", "report", "why", "export", "chat"}),
        ("errata im", {"improve"}),
        ("errata improve strategy=", {"strategy=le", "strategy=le_informed"}),
        ("errata improve experiments=", {"experiments=demo"}),
    ],
)
def test_tab_completion(line, offered):
    environment = {**os.environ, "COMP_LINE": line, "COMP_POINT": str(len(line))}
    command = [str(Path(sys.executable).with_name("errata")), "-sc", "query=bash"]
    out = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert offered <= set(out.split())


def test_a_sweep_goes_on_past_a_failing_cell(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert errata("improve", "-m", "sample_size=5,0,7", "dry_run=true") == 2
    shown = capsys.readouterr()
    assert shown.out.count("plan for") == 2
    assert "sample_size is 0" in shown.err


@pytest.mark.parametrize("given", ["sizes={arithmetic: 7}", "sizes.arithmetic=7"])
def test_settings_whose_names_are_the_users_need_no_plus(given, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert errata("improve", "--cfg", "job", given) == 0
    assert "sizes:\n  arithmetic: 7" in capsys.readouterr().out
