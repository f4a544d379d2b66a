"""`errata reproduce` and `errata diff`: a run once more from its folder alone, and two runs side by side."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from errata import diff_command, reproduce_command
from errata.digests import fingerprint_folder
from errata.errors import ConfigError, ErrataError, InstructorError, RunFolderError
from errata.finished import MARK, _paths, unfinished
from errata.instructor.tutor import Tutor
from errata.ledger import Ledger, Stored
from errata.provenance import environment, local_files, provenance
from errata.records import Request
from errata.report.same import MISSING, OTHER, SAME, compare_stages
from errata.run_folder import RunFolder
from errata.stage.instruct import instruct
from errata.training.run import train as train_here
from tests.stored_run import write_run
from tests.test_loop import SMALL, errata

QUESTIONS = [{"question": f"What is {n} + 1?", "answer": f"{n} + 1 = {n + 1}\n#### {n + 1}"} for n in range(20)]
LOOP = [
    *(one for one in SMALL if not one.startswith("training.threads")),
    "training.threads=1",
    "training.learning_rate=0.01",
]


def reproduce(run, *options):
    return reproduce_command.run([str(run), *map(str, options)])


def stages(run):
    return {path: path.stat().st_mtime_ns for path in run.rglob("stage.json")}


@pytest.fixture(scope="module")
def in_this_process():
    """Training jobs run here: a process of its own takes seconds to start."""

    def job(folder, launch, heard):
        train_here(folder)
        for line in (folder / "metrics.jsonl").read_text().splitlines():
            heard(json.loads(line))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("errata.stage.train._run", job)
        yield


@pytest.fixture(scope="module")
def loop(in_this_process, tiny_model, tmp_path_factory):
    """A run of the loop, from a folder of its own."""
    place = tmp_path_factory.mktemp("reproduced")
    words = [
        "improve",
        *LOOP,
        "model=hf",
        f"model.path={tiny_model}",
        f"output_dir={place}/outputs",
        "name=small",
        "tracking=off",
    ]
    assert errata(*words) == 0
    (folder,) = place.glob("outputs/small-*")
    return folder


@pytest.fixture
def answers(tmp_path, monkeypatch):
    """A folder with questions and recorded answers, where the test then stands; the command that grades them."""
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    Path("data/test.jsonl").write_text("\n".join(map(json.dumps, QUESTIONS)))
    lines = [{"question": q["question"], "response": f"It is {n + 1 if n < 12 else 99}."} for n, q in enumerate(QUESTIONS)]
    Path("answers.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return [
        "evaluate",
        "dataset=gsm8k",
        "dataset.gsm8k.path=data",
        "model=recorded",
        "model.path=answers.jsonl",
        "tracking=off",
    ]


@pytest.fixture
def evaluated(answers, tmp_path):
    assert errata(*answers) == 0
    (folder,) = tmp_path.glob("outputs/evaluate-*")
    return folder


# What a run stores.


def test_a_run_says_what_it_was_made_with_and_how_it_is_made_again(evaluated, answers):
    told = json.loads((evaluated / "run.json").read_text())
    made = told["provenance"]
    assert told["errata_command"] == "evaluate"
    assert made["packages"].keys() >= {"torch", "transformers", "peft", "numpy", "hydra-core", "faiss-cpu"}
    assert made["python"] == ".".join(map(str, sys.version_info[:3]))
    assert made["hardware"]["cores"] == os.cpu_count() and made["hardware"]["memory_gib"] > 0
    assert len(made["errata"].get("commit", "0" * 40)) == 40
    assert made["files"].keys() == {"answers.jsonl", "data"}
    assert len(made["starts"]) == 1 and made["earlier"] == []
    assert "output_dir: outputs" in (evaluated / "config.yaml").read_text()
    assert errata(*answers) == 0
    assert len(json.loads((evaluated / "run.json").read_text())["provenance"]["starts"]) == 2


def test_another_environment_of_the_same_run_is_kept(tmp_path):
    first = provenance(None, {"data": "a"})
    second = provenance(first, {"data": "b"})
    third = provenance(second, {"data": "b"})
    assert third["files"] == {"data": "b"} and len(third["starts"]) == 2
    assert [one["files"] for one in third["earlier"]] == [{"data": "a"}]
    assert "earlier" not in third["earlier"][0]


def test_only_what_is_local_counts_as_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("train", "rows.jsonl"):
        Path(name).write_text("x")
    Path("out").mkdir()
    settings = {
        "split": "train",
        "data": "rows.jsonl",
        "output_dir": "out/",
        "path": "openai/gsm8k",
        "text": "a\n/b",
        "n": 3,
    }
    assert local_files(settings).keys() == {"rows.jsonl"}
    before = local_files({"path": str(tmp_path)})
    Path("rows.jsonl").write_text("y")
    assert local_files({"path": str(tmp_path)}) != before


def test_no_text_of_a_setting_and_no_file_stops_a_run(tmp_path, monkeypatch):
    texts = ["word " * 60 + "and/or", "~nobody.at.all/x", "a\0/b", "/dev/null"]
    assert local_files({"path": "/dev/null", "system": texts}) == {}
    assert list(_paths(texts, tmp_path)) == ["/dev/null"]
    (tmp_path / "closed").write_text("x")
    monkeypatch.setattr("errata.provenance._edges", lambda path: path.open("no such mode"))
    assert local_files({"path": str(tmp_path)}) == {}


def test_a_typed_header_is_not_stored(evaluated, answers, monkeypatch):
    words = ["errata improve", "++instructor.headers.X-Mine=hidden=1", "++m.headers={X: hidden}", "a.headers_env.X=NAME"]
    monkeypatch.setattr(sys, "argv", words)
    RunFolder(evaluated, json.loads((evaluated / "run.json").read_text())["config"]).close()
    told = json.loads((evaluated / "run.json").read_text())["command"]
    assert told == [words[0], "++instructor.headers.X-Mine=(left out)", "++m.headers=(left out)", words[3]]


def test_headers_are_not_stored(tmp_path, tiny_model):
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    from errata.config import config_folder, register
    from errata.setup import check

    register()
    GlobalHydra.instance().clear()
    words = [
        "instructor=openai",
        "instructor.model=m",
        "instructor.base_url=http://127.0.0.1:9/v1",
        f"model.path={tiny_model}",
    ]
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        config = compose("improve", overrides=["model=hf", *words, "++instructor.headers.X-Mine=secret"])
    setup = check("improve", config)
    assert "secret" not in json.dumps(setup.resolved)
    again = check(setup.command, setup.resolved)
    assert (again.plain, again.folder) == (setup.plain, setup.folder)


def test_an_adapter_is_known_by_what_it_is_not_by_its_place_or_the_order_of_a_set(tmp_path):
    prints = []
    for place, names, rank in (("a", ["q", "v"], 4), ("b", ["v", "q"], 4), ("c", ["q", "v"], 8)):
        (tmp_path / place).mkdir()
        config = {"base_model_name_or_path": f"/somewhere/{place}", "target_modules": names, "r": rank}
        (tmp_path / place / "adapter_config.json").write_text(json.dumps(config))
        prints.append(fingerprint_folder(tmp_path / place))
    assert prints[0] == prints[1] != prints[2]


# Reproducing.


def test_the_loop_is_reproduced_from_its_own_ledger_and_nothing_is_sent(loop, monkeypatch, capsys):
    monkeypatch.setattr(Tutor, "running", lambda self: pytest.fail("the tutor was started"))
    assert reproduce(loop) == 0
    shown = capsys.readouterr().out
    again = loop.parent / "reproductions" / loop.name
    assert f"reproduced: {len(stages(loop))} of {len(stages(loop))} stages left the same records" in shown
    assert not (again.parent / "ledger.sqlite").exists()
    assert (again.parent / "evaluations").is_dir()  # its own: those of the stored run were not taken
    assert "taken over" not in (again / "iteration_0/arithmetic/test/stage.json").read_text()
    asked = [
        json.loads((run / "iteration_1/arithmetic/instruct/stage.json").read_bytes())["counts"] for run in (loop, again)
    ]
    assert asked[0]["paid tokens"] > 0 == asked[1]["paid tokens"]
    assert unfinished(again) is None
    before = stages(again)
    assert reproduce(loop) == 0
    assert "going on with the reproduction" in capsys.readouterr().out
    assert stages(again) == before


@pytest.mark.slow
def test_a_reproduction_that_was_stopped_goes_on(loop, tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        patch.setattr("errata.training_set.mix", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            reproduce(loop, "--to", tmp_path)
    before = stages(tmp_path / loop.name)
    finished = {path for path in before if json.loads(path.read_text())["finished"]}
    assert len(finished) == 6
    assert reproduce(loop, "--to", tmp_path) == 0
    after = stages(tmp_path / loop.name)
    assert all(after[path] == before[path] for path in finished)


def test_a_reply_that_is_missing_is_said(loop, tmp_path, capsys):
    ledger = tmp_path / "ledger.sqlite"
    shutil.copy(loop.parent / "ledger.sqlite", ledger)
    with sqlite3.connect(ledger) as db:
        db.execute("DELETE FROM reply WHERE key = (SELECT key FROM reply LIMIT 1)")
    assert reproduce(loop, "--to", tmp_path / "again", "--ledger", ledger) == 1
    shown = capsys.readouterr().out
    assert "lacks 1 of" in shown and "--fresh" in shown and "not the same" in shown
    assert reproduce(loop, "--to", tmp_path / "again", "--ledger", ledger, "--fresh") == 0  # asks for the one


@pytest.mark.slow
def test_fresh_asks_everything_anew(loop, tmp_path, capsys):
    assert reproduce(loop, "--to", tmp_path, "--fresh") == 0  # the tutor says the same again; times do not count
    with sqlite3.connect(tmp_path / "ledger.sqlite") as db, sqlite3.connect(loop.parent / "ledger.sqlite") as own:
        asked = "SELECT count(*) FROM reply"
        assert db.execute(asked).fetchone() == own.execute(asked).fetchone()


def test_a_changed_file_is_told_and_its_consequence_found(evaluated, capsys):
    assert reproduce(evaluated) == 0
    text = Path("answers.jsonl").read_text()
    Path("answers.jsonl").write_text(text.replace("It is 5.", "It is 77."))
    assert reproduce(evaluated, "--to", "again") == 1
    shown = " ".join(capsys.readouterr().out.split())
    assert "answers.jsonl has changed since the run" in shown
    assert "record 5, gsm8k/test/4" in shown and '"It is 5." / "It is 77."' in shown
    assert "1 of 1 stages differ, first iteration_0/gsm8k/test (other, its inputs differ already)" in shown
    assert "-5.0" in shown
    Path("answers.jsonl").unlink()
    with pytest.raises(ConfigError, match=r"answers\.jsonl"):
        reproduce(evaluated, "--to", "third")


@pytest.mark.slow
def test_training_revising_and_judging_are_reproduced(in_this_process, tiny_model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rows = [{"instruction": f"Add {n} and 2.", "input": "", "output": f"{n + 2}"} for n in range(8)]
    Path("rows.json").write_text(json.dumps(rows))
    Path("rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    model = ["model=hf", f"model.path={tiny_model}", "tracking=off"]
    both = {"scores": ["8", "7"], "scores_reverse": ["7", "9"]}
    Path("verdicts.json").write_text(json.dumps([both] * 3))
    commands = {
        "train": [*model, "data=rows.jsonl", "training.method.r=2", "training.batch_size=4", "training.threads=1"],
        "revise": ["corpus=file", "corpus.file.path=rows.json", "reviser=none", *model],
        "judge": ["testset=[]", "judge=recorded", "judge.path=verdicts.json", "tracking=off"],
    }
    runs = {}
    for command, words in commands.items():
        assert errata(command, *words) == 0, capsys.readouterr().err
        (runs[command],) = tmp_path.glob(f"outputs/{command}-*")
        assert reproduce(runs[command]) == 0, capsys.readouterr().out
    capsys.readouterr()
    again = tmp_path / "outputs/reproductions" / runs["judge"].name
    assert diff_command.run([str(runs["judge"]), str(again)]) == 0
    assert "summary.all.wins" in capsys.readouterr().out
    assert diff_command.run([str(runs["judge"]), str(runs["revise"])]) == 0
    assert "no results side by side" in capsys.readouterr().out
    # a model that came out otherwise
    job = tmp_path / "outputs/reproductions" / runs["train"].name / "train/stage.json"
    job.write_text(job.read_text().replace('"model": "', '"model": "0', 2))
    (difference,) = compare_stages(runs["train"], job.parents[1])
    assert difference.outcome == OTHER and difference.outputs == ("model",)
    shutil.rmtree(job.parent)
    assert compare_stages(runs["train"], job.parents[1])[0].outcome == MISSING


def test_what_people_decided_goes_with_a_revision(tiny_model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rows = [
        {"instruction": f"Add {n} and 2.", "input": "", "output": f"It is {n + 2}, as {n} and 2 make."} for n in range(6)
    ]
    Path("rows.json").write_text(json.dumps(rows))
    words = [
        "revise",
        "corpus=file",
        "corpus.file.path=rows.json",
        "reviser=superfiltering",
        "model=hf",
        f"model.path={tiny_model}",
    ]
    assert errata(*words, "tracking=off") == 0, capsys.readouterr().err
    (run,) = tmp_path.glob("outputs/revise-*")
    first = json.loads((run / "final/pairs.jsonl").read_text().split("\n")[0])["id"]
    Path("decisions.json").write_text(json.dumps({first: "remove"}))
    assert errata(*words, "tracking=off", "decisions=decisions.json") == 0
    assert errata(*words, "tracking=off") == 0  # it keeps them
    Path("decisions.json").unlink()
    assert reproduce(run) == 0, capsys.readouterr().out


def test_a_failure_that_is_recorded_fails_again_and_an_unknown_request_stops(tmp_path):
    asked = [
        Request(f"1/arithmetic/train/{n}", "arithmetic", f"arithmetic/train/{n}", ({"role": "user", "content": f"{n}"},), 2)
        for n in range(3)
    ]
    tutor = Tutor(sends=False)
    with Ledger(tmp_path / "ledger.sqlite") as ledger, RunFolder(tmp_path / "run", {}) as folder:
        calls = [tutor.call(one.messages, one.draw, one.schema) for one in asked]
        ledger.put(calls[0], Stored("fine", "stop", 1, 1, 0.0, 0.1))
        ledger.fail(calls[1], "HTTP 400: no")
        with pytest.raises(InstructorError, match="lacks 1 of 3 requests, the first: 1/arithmetic/train/2"):
            instruct(folder.stage("all"), asked, tutor, ledger)
        stage = folder.stage("known")
        replies = instruct(stage, asked[:2], tutor, ledger)
    assert [(reply.text, reply.failure) for reply in replies] == [("fine", None), (None, "HTTP 400: no")]
    assert stage.record.counts["from the ledger"] == 1


@pytest.mark.slow
def test_two_processes_in_two_folders_make_the_same_run(tiny_model, tmp_path):
    """Each asks a tutor of its own; only how long its replies took may differ."""
    words = ["improve", *LOOP, "iterations=2", "model=hf", f"model.path={tiny_model}", "name=small", "tracking=off"]
    runs = []
    for seed, place in (("1", "a"), ("4711", "deeper/b")):
        (tmp_path / place).mkdir(parents=True)
        surroundings = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}
        subprocess.run(
            [sys.executable, "-m", "errata.cli", *words], cwd=tmp_path / place, check=True, capture_output=True,
            env=surroundings | {"PYTHONHASHSEED": seed},
        )  # fmt: skip
        runs += (tmp_path / place).glob("outputs/small-*")
    found = compare_stages(*runs)
    assert len(found) == 17
    assert {each.outcome for each in found} == {SAME}, found
    assert {name for each in found for name in each.inputs} <= {"replies"}  # the digest of which holds the times


# Bad input.


def test_what_cannot_be_reproduced_says_why(evaluated, loop, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunFolderError, match="no run folder"):
        reproduce(tmp_path / "empty")
    (tmp_path / "empty/sweep.json").write_text("{}")
    with pytest.raises(RunFolderError, match="is a sweep: name one of its runs"):
        reproduce(tmp_path / "empty")
    with pytest.raises(RunFolderError, match="where the run itself is"):
        reproduce(evaluated, "--to", "outputs")
    with pytest.raises(RunFolderError, match="inside the run"):
        reproduce(evaluated, "--to", evaluated / "again")
    monkeypatch.setattr("errata.rerun.__version__", "9.9")
    with pytest.raises(RunFolderError, match=r"made with Errata 0.*this is 9\.9"):
        reproduce(evaluated)
    monkeypatch.undo()
    with pytest.raises(RunFolderError, match=r"no ledger at .*nowhere"):
        reproduce(loop, "--to", tmp_path / "again", "--ledger", tmp_path / "nowhere")
    student = Path(shutil.copytree(evaluated, tmp_path / "student")) / "config.yaml"
    endpoint = "model:\n  _target_: errata.model.endpoint.EndpointStudent\n  base_url: https://example.org/v1\n"
    student.write_text(endpoint)
    with pytest.raises(RunFolderError, match="no ledger holds its answers"):
        reproduce(student.parent, "--to", tmp_path / "again")
    student.write_text("a: [")
    with pytest.raises(RunFolderError, match="is not YAML"):
        reproduce(student.parent)
    student.unlink()
    with pytest.raises(RunFolderError, match="Start its command once more"):
        reproduce(student.parent)


def test_relative_paths_are_told_where_they_are_missing(evaluated, tmp_path, capsys, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(ErrataError, match=r"answers\.jsonl"):
        reproduce(evaluated)
    assert "answers.jsonl is not there (a relative path counts from where the run was started)" in capsys.readouterr().out


def test_of_a_run_that_was_stopped_it_says_so(evaluated, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (evaluated / MARK).unlink()
    assert reproduce(evaluated) == 0
    assert "has not come to its end" in capsys.readouterr().out
    (again,) = (tmp_path / "outputs/reproductions").glob("evaluate-*")
    assert unfinished(again) is None


def test_edited_settings_are_told(evaluated, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = evaluated / "config.yaml"
    file.write_text(file.read_text().replace("limit: null", "limit: 4"))
    assert reproduce(evaluated) == 1
    shown = capsys.readouterr().out
    assert "dataset.gsm8k.limit: run.json says otherwise" in shown


# Side by side.


def test_two_runs_side_by_side(answers, evaluated, tmp_path, capsys):
    assert (
        errata(*answers, "dataset.gsm8k.worked_line_required=true", "name=[strict]".replace("[", "").replace("]", "")) == 0
    )
    (strict,) = tmp_path.glob("outputs/strict-*")
    capsys.readouterr()
    assert diff_command.run([str(evaluated), str(strict)]) == 0
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    lines = {line.split("│")[1].strip(): line for line in shown.splitlines() if line.startswith("│")}
    assert "dataset.gsm8k.worked_line_required" in lines and "seed" not in lines
    assert lines["name"].split("│")[2:4] == [" evaluate          ", " strict          "]
    assert "+0.0" in lines["gsm8k"]
    assert "versions, machine and local files are the same" in shown
    assert diff_command.run([str(evaluated), str(strict), "--all"]) == 0
    shown = capsys.readouterr().out
    for word in ("dataset.gsm8k.counts.test", "[1319]", "packages.torch", "hardware.cores"):
        assert word in shown


def test_the_loops_iterations_are_paired_question_by_question(tiny_model, tmp_path, capsys):
    first = write_run(tmp_path / "one-1", tiny_model)
    second = write_run(tmp_path / "two-2", tiny_model, start="base")
    lines = (second / "iteration_2/arithmetic/test/attempts.jsonl").read_text().splitlines()
    kept = [line.replace('"correct":true', '"correct":false') for line in lines[:8]]
    (second / "iteration_2/arithmetic/test/attempts.jsonl").write_text("\n".join(kept) + "\n")
    assert diff_command.run([str(first), str(second)]) == 0
    shown = capsys.readouterr().out
    lines = [line for line in shown.splitlines() if line.startswith("│ arithmetic │ 2")]
    for word in ("70.0 % of 10", "0.0 % of 8", "-87.5", "0 / 7", "0.016", "on the 8 questions of both"):
        assert word in lines[0]
    assert "policy.start" in shown
    assert shown.count("is older than that record") == 2
    assert "local files are the same" not in shown


def test_one_folder_twice_and_no_folder(evaluated, tmp_path):
    with pytest.raises(RunFolderError, match="are one folder"):
        diff_command.run([str(evaluated), str(evaluated) + "/"])
    with pytest.raises(RunFolderError, match="no run folder"):
        diff_command.run([str(evaluated), str(tmp_path)])


def test_the_environment_is_read_quickly():
    import time

    environment.cache_clear()
    start = time.thread_time()
    environment()
    assert time.thread_time() - start < 2  # a tenth of a second of the processor
