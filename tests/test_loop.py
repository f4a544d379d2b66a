"""The loop end to end: a tiny real student, the real tutor over HTTP, real training."""

import json
import sys
from dataclasses import replace

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from errata.cli import main
from errata.config import config_folder, register
from errata.dataset.arithmetic import Arithmetic
from errata.improve import improve
from errata.jsonl import decode_lines
from errata.records import Example
from errata.setup import check
from tests.instructor.test_openai import KEY, Server
from tests.scripted import Scripted

SMALL = [
    "iterations=1", "sample_size=30", "dataset.arithmetic.train=20", "dataset.arithmetic.test=20", "seed=4",
    "dataset.arithmetic.max_new_tokens=8", "training.micro_batch_size=8", "training.threads=2", "instructor.flaw_rate=0.5",
]  # fmt: skip


def errata(*arguments):
    GlobalHydra.instance().clear()
    before, sys.argv = sys.argv, ["errata", *arguments]
    try:
        with pytest.raises(SystemExit) as end:
            main()
    finally:
        sys.argv = before
    return end.value.code


@pytest.fixture(scope="module")
def run(tiny_model, tmp_path_factory):
    """A whole run: (its folder, the arguments that made it)."""
    place = tmp_path_factory.mktemp("loop")
    arguments = ["improve", *SMALL, "model=hf", f"model.path={tiny_model}", f"output_dir={place}", "name=small"]
    assert errata(*arguments) == 0
    (folder,) = place.glob("small-*")
    return folder, arguments


def test_it_leaves_results_a_report_and_a_plot(run):
    folder, _ = run
    results = json.loads((folder / "results.json").read_text())
    measured = results["datasets"]["arithmetic"]
    assert [part["iteration"] for part in measured] == [0, 1]
    assert measured[0]["scores"]["all"]["n"] == 20
    assert measured[1]["scores"]["all"]["p"] is not None
    (practice,) = results["practice"]
    assert 18 <= practice["errors"] == practice["requests"] <= 20
    assert sum(practice["rejections"].values()) + practice["kept"] == practice["problems"]
    assert len(practice["rejections"]) >= 2
    assert results["training"][0]["rows"] == 30
    report = (folder / "report.md").read_text()
    for word in ("accuracy.png", "| all | 20 |", *practice["rejections"], f"{practice['requests']} requests"):
        assert word in report
    assert (folder / "accuracy.png").read_bytes().startswith(b"\x89PNG")


def test_tracking_is_offline_by_default_and_holds_no_key(run):
    folder, _ = run
    assert list(folder.glob("wandb/offline-run-*/*.wandb"))


def test_every_row_leads_back_to_its_error(run, capsys):
    folder, _ = run
    rows = decode_lines((folder / "iteration_1/mix/train.jsonl").read_bytes(), Example)
    assert errata("why", str(folder), "3") == 0
    by_number = capsys.readouterr().out
    assert errata("why", str(folder), rows[2].id) == 0
    assert capsys.readouterr().out == by_number
    for word in (rows[2].id, rows[2].error_id, "right answer:", "the student's answer", "Write", "### Problem 1", "kept"):
        assert word in by_number
    assert errata("why", str(folder), "999") == 2
    assert errata("why", str(folder), "nonsense") == 2
    errors = capsys.readouterr().err
    assert "choose 1 to 30" in errors
    assert "no training row 'nonsense'" in errors


def test_report_again_from_the_stored_run(run, capsys):
    folder, _ = run
    before = json.loads((folder / "results.json").read_text())
    (folder / "results.json").unlink()
    assert errata("report", str(folder)) == 0
    assert json.loads((folder / "results.json").read_text()) == before
    assert "exact McNemar" in capsys.readouterr().out


def test_the_same_command_again_does_nothing_again(run, monkeypatch):
    folder, arguments = run
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("stage.json")}

    def never(*args, **kwargs):
        raise AssertionError("something was done again")

    monkeypatch.setattr("errata.stage.train._run", never)
    monkeypatch.setattr("errata.model.hf.HF.load", never)
    assert errata(*arguments, "tracking=off") == 0
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("stage.json")} == before


def test_dry_run_knows_what_is_done_and_sends_nothing(run, capsys):
    folder, arguments = run
    asked = json.loads((folder / "results.json").read_text())["cost"]["requests"]
    capsys.readouterr()
    assert errata(*arguments, "dry_run=true") == 0
    plan = capsys.readouterr().out
    assert plan.count("done") >= 5
    assert f"{asked} requests, {asked} of them in the ledger" in plan
    assert errata(*arguments[:-1], "name=fresh", "seed=9", "dry_run=true") == 0
    plan = capsys.readouterr().out
    assert "at most 20 requests" in plan
    assert "to do" in plan
    assert "done " not in plan


def test_dry_run_prices_what_has_a_price(tmp_path, tiny_model, capsys):
    (tmp_path / "train.jsonl").write_text('{"question": "What is 3 + 4?", "answer": "3 + 4 = 7\\n#### 7"}')
    (tmp_path / "test.jsonl").write_text('{"question": "What is 3 + 5?", "answer": "3 + 5 = 8\\n#### 8"}')
    endpoint = ["instructor=openai", "instructor.model=m", "instructor.base_url=http://127.0.0.1:9/v1"]
    common = [
        "improve",
        "dataset=gsm8k",
        f"dataset.gsm8k.path={tmp_path}",
        *endpoint,
        f"output_dir={tmp_path}",
        "dry_run=true",
    ]
    assert errata(*common, "model=hf", f"model.path={tiny_model}") == 0
    assert "unknown" in capsys.readouterr().out
    assert errata(*common, "instructor.usd_per_million_in=1e6", "instructor.usd_per_million_out=1e6") == 0
    assert "unknown" not in capsys.readouterr().out
    assert not list(tmp_path.glob("improve-*"))


@pytest.mark.slow
def test_replay_makes_the_same_training_set_without_the_tutor(run, tmp_path):
    folder, arguments = run
    ledger = f"ledger={folder.parent / 'ledger.sqlite'}"
    replay = [a for a in arguments if not a.startswith(("instructor", "output_dir"))] + ["instructor=replay", ledger]
    assert errata(*replay, f"output_dir={tmp_path}", "tracking=off") == 0
    (again,) = tmp_path.glob("small-*")
    for name in ("iteration_1/mix/train.jsonl", "iteration_1/arithmetic/test/attempts.jsonl"):
        assert (again / name).read_bytes() == (folder / name).read_bytes()


def test_when_nothing_survives_the_run_ends_cleanly_and_says_why(tiny_model, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server = Server()
    endpoint = ["instructor=openai", "instructor.model=m", f"instructor.base_url={server.url}"]
    small = [argument for argument in SMALL if "flaw_rate" not in argument]
    arguments = ["improve", *small, *endpoint, "model=hf", f"model.path={tiny_model}", f"output_dir={tmp_path}"]
    assert errata(*arguments) == 0
    server.stop()
    (folder,) = tmp_path.glob("improve-*")
    assert list(folder.glob("wandb/offline-run-*/*.wandb"))
    assert KEY not in "".join(capsys.readouterr())
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path
    results = json.loads((folder / "results.json").read_text())
    assert results["practice"][0]["rejections"] == {"no_problem": results["practice"][0]["errors"]}
    assert results["practice"][0]["kept"] == 0
    assert results["training"] == []
    assert "leaves nothing to train on" in (folder / "run.log").read_text()


def scripted_setup(tmp_path, student, *overrides):
    register()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        config = compose("improve", overrides=[*SMALL, "tracking=off", f"output_dir={tmp_path}", *overrides])
    return replace(check("improve", config), model=student)


def test_a_student_without_errors_is_the_happy_end(tmp_path):
    gold = {q.text: q.gold for split in ("train", "test") for q in Arithmetic("a").load(split)}
    folder = improve(scripted_setup(tmp_path, Scripted(lambda prompt: f"#### {gold[prompt]}")))
    assert "all arithmetic answers are right: no error to learn from" in (folder / "run.log").read_text()
    assert not (folder / "iteration_1" / "train").exists()


def test_test_questions_never_become_errors_or_training_rows(run):
    folder, _ = run
    tests = {question.text for question in Arithmetic("arithmetic", test=20).load("test")}
    rows = decode_lines((folder / "iteration_1/mix/train.jsonl").read_bytes(), Example)
    assert all(row.error_id.startswith("arithmetic/train/") for row in rows)
    assert not tests & {row.prompt for row in rows}
