"""What W&B is told, read back from its own files; and what it is never told."""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import wandb
from tests.tracking.wandb_file import read_whole
from tests.tracking.wandb_server import WandbServer

from errata.records import Attempt, Case, Example, Question, Rejection, Reply
from errata.run_folder import Stage
from errata.tracking.connection import connect_stage
from errata.tracking.lineage import Place, artifact_name, product
from errata.tracking.tracker import Tracker, Tracking

KEY = "0123456789abcdef0123456789abcdef01234567"
ROOT = Path(__file__).parents[2]
ROWS, SAMPLE = 40, 5
CONFIG = {
    "seed": 7,
    "model": {"path": "someone/small-model"},
    "dataset": {"sums": {}},
    "strategy": {"name": "lec"},
    "policy": {"start": "last"},
    "instructor": {
        "api_key_env": "TEACHER", "headers_env": {"X-Mine": "HEADER"}, "headers": {"X-Other": "plain-secret"},
        "base_url": "https://me:pass-word@host/v1",
    },
}  # fmt: skip
SECRETS = (KEY, "teacher-secret", "header-secret", "plain-secret", "pass-word")


def attempts(iteration, split, right):
    questions = [Question(f"sums/{split}/{n}", "sums", split, f"sum {n} of {split}", str(n)) for n in range(ROWS)]
    texts = [f"answer {iteration}-{split}-{n} teacher-secret" for n in range(ROWS)]
    return [
        Attempt(q, text, True, "0", n < right, None if n < right else "wrong_value")
        for n, (q, text) in enumerate(zip(questions, texts, strict=True))
    ]


def made(run, name, counts, outputs=None, inputs="a", **tables):
    stage = Stage(run / name, name, {"given": inputs})
    if not stage.finished:
        stage.finish(counts, outputs, **tables)
    return stage


def first_half(run):
    yield made(run, "iteration_0/sums/test", {"questions": ROWS}, attempts=attempts(0, "test", 10))
    wrong = attempts(1, "train", 30)
    yield made(run, "iteration_1/sums/train", {"questions": ROWS, "wrong": 10}, attempts=wrong)
    cases = [Case(f"1/{one.id}", one) for one in wrong[30:]]
    yield made(run, "iteration_1/sums/allocate", {"cases": 10}, cases=cases)
    beside = [replace(case, neighbours=(wrong[0],), similarities=(0.5,)) for case in cases]
    yield made(run, "iteration_1/sums/retrieve", {"cases": 10}, cases=beside)
    replies = [Reply(case.id, "sums", case.error.id, "k", f"reply {case.id} " + "long " * 500) for case in cases]
    counts = {"requests": 10, "usd": "unknown", "paid usd": 0.25, "paid tokens": 900}
    yield made(run, "iteration_1/sums/instruct", counts, replies=replies)


def second_half(run):
    rows = [Example(f"1/{n}", "sums", f"practice {n}", "r", "a", "sums/train/30", "1/x", 1) for n in range(ROWS)]
    rejected = [Rejection(f"1/{n}", "sums", "leak", "detail", f"rejected {n}", "1/x", 1) for n in range(ROWS)]
    counts = {"kept": ROWS, "rejected": ROWS, "reasons": {"leak": ROWS}}
    yield made(run, "iteration_1/sums/verify", counts, examples=rows, rejections=rejected)
    yield made(run, "iteration_1/mix", {"rows": ROWS}, train=rows)
    yield made(run, "iteration_1/train", {"rows": ROWS}, {"model": "weights-digest"})
    yield made(run, "iteration_1/sums/test", {"questions": ROWS}, attempts=attempts(1, "test", 20))


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """A run that was stopped half way and went on: (its folder, the records of each of its two .wandb files)."""
    run = tmp_path_factory.mktemp("tracking") / "lai-12ab34cd"
    run.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ERRATA_SWEEP", "strategies-99ff")
        for name, value in (("WANDB_API_KEY", KEY), ("TEACHER", "teacher-secret"), ("HEADER", "header-secret")):
            patch.setenv(name, value)
        with pytest.raises(RuntimeError), Tracker(Tracking(sample=SAMPLE, lineage="run"), run, CONFIG, "improve") as tracker:
            for stage in first_half(run):
                tracker.stage(stage)
            (run / "iteration_1/train").mkdir()
            training = Stage(run / "iteration_1/train", "iteration_1/train", {"given": "a"})
            for number in (1, 2):
                tracker.update(training, {"update": number, "loss": 2.0 / number, "bad": None})
            raise RuntimeError
        time.sleep(1)  # W&B names its folders by the second
        with Tracker(Tracking(sample=SAMPLE, lineage="run"), run, CONFIG, "improve") as tracker:
            for stage in first_half(run):
                tracker.stage(stage)
            for number in (1, 2, 3):
                tracker.update(training, {"update": number, "loss": 2.0 / number})
            for stage in second_half(run):
                tracker.stage(stage)
    return run, [read_whole(file) for file in sorted(run.glob("wandb/offline-run-*/*.wandb"))]


def kind(records, name):
    return [getattr(record, name) for record in records if record.WhichOneof("record_type") == name]


def history(records):
    rows = []
    for record in kind(records, "history"):
        rows.append({item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.item})
        rows[-1]["_step"] = record.step.num
    return rows


def logged(records):
    found = [artifact for artifact in kind(records, "artifact") if artifact.type != "run_table"]
    return {(artifact.type, json.loads(artifact.metadata)["stage"]): artifact for artifact in found}


def test_a_stopped_run_goes_on_as_one_run(told):
    _, parts = told
    assert len(parts) == 2
    for records in parts:
        (run,) = kind(records, "run")
        assert (run.run_id, run.display_name, run.project) == ("lai-12ab34cd", "lai-12ab34cd", "errata")
        assert (run.run_group, run.job_type) == ("strategies-99ff", "improve")
        assert list(run.tags) == ["lec", "small-model", "sums"]
        assert {item.key: item.value_json for item in run.config.update}["seed"] == "7"
    assert [kind(records, "exit")[0].exit_code for records in parts] == [1, 0]
    steps = [row["_step"] for records in parts for row in history(records)]
    assert steps == list(range(len(steps)))


def test_numbers_by_stage(told):
    rows = [row for records in told[1] for row in history(records)]
    for name, at in (("test", 0), ("train", 1), ("test", 1)):
        (row,) = [row for row in rows if row.get("iteration") == at and f"accuracy/{name}/sums" in row]
        assert row[f"accuracy/{name}/sums_low"] < row[f"accuracy/{name}/sums"] < row[f"accuracy/{name}/sums_high"]
        assert f"stage/sums/{name}/seconds" in row
    (last,) = [row for row in rows if row.get("iteration") == 1 and "accuracy/test/sums" in row]
    assert last["accuracy/test/sums"] == 0.5
    assert last["accuracy/test/sums_low"] == pytest.approx(0.352, abs=1e-3)  # Wilson's, 20 of 40
    (asked,) = [row for row in rows if "stage/sums/instruct/requests" in row]
    assert asked["stage/sums/instruct/paid_usd"] == 0.25
    assert "stage/sums/instruct/usd" not in asked  # unknown is missing, not 0
    (verified,) = [row for row in rows if "stage/sums/verify/kept" in row]
    assert verified["stage/sums/verify/reasons/leak"] == ROWS
    updates = [(row["train/update"], row["train/iteration_1/loss"]) for row in rows if "train/update" in row]
    assert updates == [(1, 2.0), (2, 1.0), (3, 2 / 3)]


def test_nothing_is_told_twice(told):
    first, second = told[1]
    assert {stage for _, stage in logged(first)}.isdisjoint(stage for _, stage in logged(second))
    assert not any("stage/sums/instruct/requests" in row for row in history(second))


def test_the_lineage_goes_from_scores_back_to_errors(told):
    artifacts = {**logged(told[1][0]), **logged(told[1][1])}
    of = {f"{found.name}:{json.loads(found.metadata)['digest']}": found for found in artifacts.values()}

    def back(label):
        sources = json.loads(of[label].metadata)["from"]
        return [of[label].type, *(back(sources[0]) if sources else [])]

    last = artifacts["scores", "iteration_1/sums/test"]
    chain = back(f"{last.name}:{json.loads(last.metadata)['digest']}")
    assert chain == ["scores", "model", "training_set", "replies", "cases", "cases", "errors"]
    assert not any(found.user_created or found.use_after_commit for found in artifacts.values())  # all are the run's outputs
    replies = artifacts["replies", "iteration_1/sums/instruct"]
    assert not any(entry.ref for found in artifacts.values() for entry in found.manifest.contents)  # see Artifacts
    assert set(replies.aliases) == {"latest", "iteration_1"}
    assert json.loads(replies.metadata)["counts"]["requests"] == 10


def cells(run):
    """Every row of every table on the disk, by its columns."""
    tables = [json.loads(path.read_text()) for path in run.glob("wandb/offline-run-*/files/media/table/**/*.json")]
    tables += [json.loads(path.read_text()) for path in run.glob("wandb/artifacts/staging/*")]
    return [(tuple(table["columns"]), table["data"]) for table in tables if "columns" in table]


def test_tables_hold_few_rows_and_always_of_the_same_questions(told):
    run, _ = told
    tables = cells(run)
    assert {columns[0] for columns, _ in tables} >= {"id", "request"}
    assert max(len(rows) for _, rows in tables) == SAMPLE
    tested = [
        {row[0] for row in rows}
        for columns, rows in tables
        if "gold" in columns and all(row[0].startswith("sums/test") for row in rows)
    ]
    assert len(tested) >= 2
    assert all(part == tested[0] for part in tested)
    replies = [row[2] for columns, rows in tables if columns[0] == "request" for row in rows]
    assert replies
    assert all(len(reply) < 600 and "characters)" in reply for reply in replies)
    wrong = [row for columns, rows in tables if "gold" in columns and len(rows) for row in rows if "1-train" in row[2]]
    assert {row[5] for row in wrong} == {True, False}  # attempts show both; errors only what is wrong


def test_neither_secrets_nor_rows_beyond_the_sample_reach_any_file(told):
    run, _ = told
    content = b"\n".join(path.read_bytes() for path in (run / "wandb").rglob("*") if path.is_file())
    for secret in SECRETS:
        assert secret.encode() not in content
    shown = Counter(f"practice {n}".encode() + b'"' in content for n in range(ROWS))
    assert shown[True] == SAMPLE
    assert sum(f"rejected {n}".encode() + b'"' in content for n in range(ROWS)) == SAMPLE


def test_a_changed_stage_is_told_anew(told, tmp_path, monkeypatch):
    run = tmp_path / "again-12345678"
    run.mkdir()
    for inputs, rows in (("a", 3), ("a", 3), ("b", 4)):
        with Tracker(Tracking(sample=0), run, {}, "improve") as tracker:
            tracker.stage(made(run, "iteration_1/mix", {"rows": rows}, inputs=inputs, train=[]))
        time.sleep(1)
    files = sorted(run.glob("wandb/offline-run-*/*.wandb"))
    numbers = [row["stage/mix/rows"] for file in files for row in history(read_whole(file)) if "stage/mix/rows" in row]
    assert numbers == [3, 4]
    assert not cells(run)  # sample=0


@pytest.mark.parametrize("lineage", ["run", "stage"])
def test_weights_are_sent_from_where_they_lie(lineage, tmp_path):
    run = tmp_path / "run-12345678"
    stage = made(run, "iteration_1/train", {"rows": 1}, {"model": "digest"})
    weights = stage.folder / "model/model.safetensors"
    weights.parent.mkdir()
    weights.write_bytes(b"the weights")
    with Tracker(Tracking(upload_model=True, lineage=lineage), run, {}, "improve") as tracker:
        tracker.stage(stage)
        tracker.stage(made(run, "iteration_1/sums/test", {"questions": ROWS}, attempts=attempts(1, "test", 9)))
    artifacts = [one for file in run.glob("wandb/offline-run-*/*.wandb") for one in kind(read_whole(file), "artifact")]
    models = [artifact for artifact in artifacts if artifact.type == "model"]
    assert len({artifact.digest for artifact in models}) == 1
    assert len(models) == {"run": 1, "stage": 2}[lineage]  # left by one, used by the other
    for artifact in models:
        (entry,) = [entry for entry in artifact.manifest.contents if entry.path == weights.name]
        assert entry.local_path == str(weights)
    assert not [path for path in run.glob("wandb/**/*") if path.is_file() and path.read_bytes() == b"the weights"]


def test_when_wandb_fails_the_run_goes_on(tmp_path, monkeypatch, caplog):
    run = tmp_path / "fails-12345678"
    run.mkdir()
    with Tracker(Tracking(), run, {}, "improve") as tracker:
        sender = tracker._sender

        def broken(*given, **more):
            raise OSError("no space left")

        monkeypatch.setattr(sender.run, "log", broken)
        for stage in first_half(run):
            tracker.stage(stage)
        sender.run.finish()
    assert [record.message for record in caplog.records if "tracking stops" in record.message] == [
        "tracking stops here, the run goes on: OSError: no space left"
    ]


def test_a_cell_whose_tracking_stopped_leaves_nothing_to_the_next(tmp_path, monkeypatch):
    for name in ("first-12345678", "second-12345678"):
        (tmp_path / name).mkdir()
        with Tracker(Tracking(), tmp_path / name, {}, "improve") as tracker:
            sender = tracker._sender
            assert sender.run.id == name
            assert os.environ["WANDB_DATA_DIR"] == str(tmp_path / name / "wandb")
            with monkeypatch.context() as patch:
                patch.setattr(sender, "finish", lambda code: 1 / 0)
                tracker.__exit__(None)
        assert "WANDB_DATA_DIR" not in os.environ
    wandb.teardown()


def test_when_wandb_does_not_start_the_run_goes_on(tmp_path, monkeypatch, caplog):
    def broken(**given):
        raise RuntimeError("no wandb-core here")

    monkeypatch.setattr(wandb, "init", broken)
    with Tracker(Tracking(), tmp_path, {}, "improve") as tracker:
        tracker.summarise({"a": 1})
    assert [record.message for record in caplog.records] == ["this run is not tracked: RuntimeError: no wandb-core here"]
    assert "WANDB_DATA_DIR" not in os.environ


def test_off_imports_nothing(tmp_path):
    code = (
        "import sys; from pathlib import Path; from errata.tracking.tracker import *\n"
        f"with Tracker(Tracking('off'), Path({str(tmp_path)!r}), {{}}) as t: t.summarise({{'a': 1}})\n"
        "print([name for name in sys.modules if name.startswith('wandb')])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
    assert not list(tmp_path.iterdir())


CONNECT = """
import logging, sys
from pathlib import Path
from errata.errors import ConfigError
from errata.tracking import connection
from errata.tracking.tracker import Tracker, Tracking
connection._WAIT_S = float(sys.argv[2])
logging.basicConfig(level=logging.INFO)
try:
    with Tracker(Tracking("online"), Path(sys.argv[1]), {}, "improve") as tracker:
        tracker.summarise({"a": 1})
except ConfigError as error:
    print("refused:", error)
"""


def connected(url, run, key=KEY, wait_s=300):
    run.mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    environment |= {"WANDB_BASE_URL": url, "WANDB_API_KEY": key}
    command = [sys.executable, "-c", CONNECT, str(run), str(wait_s)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert key not in done.stdout + done.stderr
    return done


@pytest.mark.slow
def test_a_refused_key_is_one_error_before_work_begins(tmp_path):
    server = WandbServer(refuses=401)
    said = connected(server.url, tmp_path / "refused-12345678").stdout
    server.stop()
    assert said.startswith("refused: the configuration has a problem:")
    assert "tracking=offline" in said


@pytest.mark.slow
def test_a_server_that_does_not_answer_leaves_the_run_offline(tmp_path):
    run = tmp_path / "alone-12345678"
    said = connected("http://127.0.0.1:9", run, wait_s=4).stderr
    assert f"WANDB_RESUME=allow wandb sync {run}/wandb" in said
    assert list(run.glob("wandb/offline-run-*/*.wandb"))


def synced(run):
    """A server that has got all of a run folder."""
    server = WandbServer()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    environment |= {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY, "WANDB_RESUME": "allow"}
    command = [str(Path(sys.executable).with_name("wandb")), "sync", str(run / "wandb")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
    server.stop()
    assert done.returncode == 0, done.stderr
    return server


@pytest.mark.slow
def test_wandb_sync_makes_one_run_of_the_parts(told):
    run, parts = told
    server = synced(run)
    assert list(server.runs) == ["lai-12ab34cd"]
    assert server.runs["lai-12ab34cd"]["groupName"] == "strategies-99ff"
    rows = server.history["lai-12ab34cd"]
    assert [rows[place]["_step"] for place in sorted(rows)] == list(range(sum(len(history(part)) for part in parts)))
    kinds = {"errors", "cases", "replies", "training_set", "model", "scores"}
    made = [(name, by) for name, by in server.made if name.startswith("lai-")]  # the others are the tables in the run
    assert {name.partition(":")[0].rpartition("-")[2] for name, _ in made} == kinds
    assert {by for _, by in made} == {"lai-12ab34cd"}
    assert not server.used
    assert sum(bool(metadata.get("from")) for metadata in server.artifacts.values()) == 6


BEGIN = """
import os, sys
from pathlib import Path
from tests.tracking.test_tracking import CONFIG, first_half, second_half
from errata.tracking import connection
from errata.tracking.tracker import Tracker, Tracking
"""
CHAIN = ["errors", "cases", "cases", "replies", "training_set", "model", "scores"]


@pytest.fixture(scope="module")
def staged(tmp_path_factory):
    """The folder of a run whose stages are runs of their own; it was stopped half way."""
    run = tmp_path_factory.mktemp("staged") / "lai-12ab34cd"
    run.mkdir()
    for stages in (list(first_half(run)), [*first_half(run), *second_half(run)]):
        with Tracker(Tracking(sample=SAMPLE), run, CONFIG, "improve") as tracker:
            for stage in stages:
                tracker.stage(stage)
        time.sleep(1)
    return run


def test_each_stage_is_a_run_that_uses_what_the_one_before_it_left(staged):
    made, used, jobs = {}, {}, {}
    for file in staged.glob("wandb/offline-run-*/*.wandb"):
        records = read_whole(file)
        (run,) = kind(records, "run")
        jobs.setdefault(run.display_name.removeprefix("lai-12ab34cd"), []).append((run.job_type, run.run_group))
        for artifact in kind(records, "artifact"):
            if artifact.type == "run_table":
                continue
            edge = (artifact.type, artifact.name, artifact.digest)
            if artifact.use_after_commit:
                assert artifact.user_created  # or the run would be a producer too
                used.setdefault(edge, set()).add(run.run_id)
            else:
                assert edge not in made
                made[edge] = run.run_id
    assert jobs.pop("") == [("improve", "lai")] * 2
    assert jobs == {
        f"/{stage}": [(job, "lai")]
        for stage, job in {
            "iteration_0/sums/test": "evaluate", "iteration_1/sums/train": "evaluate", "iteration_1/sums/allocate": "allocate",
            "iteration_1/sums/retrieve": "retrieve", "iteration_1/sums/instruct": "instruct", "iteration_1/mix": "mix",
            "iteration_1/train": "train", "iteration_1/sums/test": "evaluate",
        }.items()
    }  # fmt: skip
    assert used.keys() <= made.keys()  # by content: the server takes both for one
    found, (edge,) = [], [edge for edge in made if edge[0] == "errors"]
    while edge is not None:
        found.append(edge[0])
        later = [other for other, run in made.items() if run in used.get(edge, ())]
        assert len(later) <= 1
        edge = later[0] if later else None
    assert found == CHAIN


def test_a_stage_that_cannot_be_a_run_leaves_its_artifact_to_the_run(tmp_path, monkeypatch, caplog):
    run, asked = tmp_path / "lai-12345678", []

    def busy(*given):
        asked.append(given[2])
        raise wandb.errors.CommError("no answer\nPost: connection refused")

    monkeypatch.setattr("errata.tracking.sender.connect_stage", busy)
    with Tracker(Tracking(sample=0), run, CONFIG, "improve") as tracker:
        for stage in first_half(run):
            tracker.stage(stage)
    assert asked == ["iteration_0/sums/test"]
    (said,) = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert said == (
        "iteration_0/sums/test is no run of its own in W&B, nor are the stages after it (CommError: no answer): "
        "their artifacts are the run's"
    )
    (file,) = run.glob("wandb/offline-run-*/*.wandb")
    records = read_whole(file)
    assert [stage for _, stage in logged(records)] == [stage.name for stage in first_half(run)]
    assert [row["iteration"] for row in history(records)] == [0, 1, 1, 1, 1]


def test_a_stage_that_fails_on_its_way_is_ended_and_its_artifact_is_the_runs(tmp_path, monkeypatch, caplog, capfd):
    run = tmp_path / "lai-12345678"
    run.mkdir()
    with Tracker(Tracking(sample=0), run, CONFIG, "improve") as tracker:
        monkeypatch.setattr(tracker._sender, "_use", lambda *given: 1 / 0)
        for stage in first_half(run):
            tracker.stage(stage)
    files = {file.stem: logged(read_whole(file)) for file in run.glob("wandb/offline-run-*/*.wandb")}  # both have an end
    assert len(files) == 4  # the run, its two evaluations, which use nothing, and the allocation
    assert [stage.rpartition("/")[2] for _, stage in files["run-lai-12345678"]] == ["allocate", "retrieve", "instruct"]
    assert caplog.text.count("is no run of its own") == 1 and "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize(("offline", "patient", "limit"), [(False, False, 30), (False, True, 0), (True, False, 0)])
def test_the_end_of_a_stage_does_not_wait_for_ever(tmp_path, monkeypatch, offline, patient, limit):
    given = {}
    monkeypatch.setattr(wandb, "init", lambda **settings: given.update(settings))
    connect_stage(Tracking(), tmp_path / "lai-12345678", "iteration_1/mix", "mix", offline, patient)
    assert given["settings"].finish_timeout == limit
    assert given["settings"].finish_timeout_raises is not offline


OFFLINE = """
with Tracker(Tracking(sample=0), Path(sys.argv[1]), CONFIG, "improve") as tracker:
    for stage in first_half(Path(sys.argv[1])):
        tracker.stage(stage)
"""
OWN = {
    "WANDB_MODE": "disabled", "WANDB_RUN_ID": "own", "WANDB_NAME": "own", "WANDB_RUN_GROUP": "own", "WANDB_JOB_TYPE": "own",
    "WANDB_TAGS": "own", "WANDB_RESUME": "must", "WANDB_PROJECT": "own", "WANDB_DIR": "/nowhere",
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("more", "runs"), [({}, 6), ({"WANDB_SWEEP_ID": "agent"}, 1)])
def test_the_users_own_variables_of_wandb_do_not_come_between(tmp_path, more, runs):
    """Under an agent of W&B's sweeps the run has the agent's id, and its stages are no runs."""
    run = tmp_path / "lai-12ab34cd"
    run.mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")} | OWN | more
    command = [sys.executable, "-c", BEGIN + OFFLINE, str(run)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, timeout=300)
    assert done.returncode == 0 and "tracking" not in done.stderr and "no run of its own" not in done.stderr, done.stderr
    files = [read_whole(file) for file in run.glob("wandb/offline-run-*/*.wandb")]
    told = [one for records in files for one in kind(records, "run")]
    assert len(told) == runs
    assert {one.run_id.startswith("lai-12ab34cd") for one in told} == {not more}
    assert {(one.run_group, one.project) for one in told} == {("lai", "own" if more else "errata")}
    assert sum(len(logged(records)) for records in files) >= 5


def edges(server):
    """From kind to kind of artifact: what a run used, and what it left."""
    made = {name: run for name, run in server.made if name.startswith("lai-")}
    kinds = {name: name.partition(":")[0].rpartition("-")[2] for name in made}
    return {(kinds[name], kinds[other]) for name, run in server.used for other, producer in made.items() if producer == run}


@pytest.mark.slow
def test_what_is_synced_is_a_graph_from_errors_to_scores(staged):
    server = synced(staged)
    assert edges(server) == set(pairwise(CHAIN))
    assert len(server.runs) == 9


ONLINE = """
with Tracker(Tracking("online", sample=5), Path(sys.argv[1]), CONFIG, "improve") as tracker:
    for stage in [*first_half(Path(sys.argv[1])), *second_half(Path(sys.argv[1]))]:
        tracker.stage(stage)
"""


@pytest.mark.slow
def test_online_it_is_the_same_graph(tmp_path):
    run = tmp_path / "lai-12ab34cd"
    run.mkdir()
    server = WandbServer()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    environment |= {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY}
    command = [sys.executable, "-c", BEGIN + ONLINE, str(run)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, timeout=120)
    server.stop()
    assert done.returncode == 0, done.stderr
    assert "tracking stops" not in done.stderr
    assert edges(server) == set(pairwise(CHAIN))
    assert len(server.runs) == 9
    assert not list(run.glob("wandb/offline-run-*"))


LOST = """
from tests.tracking.wandb_server import WandbServer
server = WandbServer()
os.environ["WANDB_BASE_URL"] = server.url
run = Path(sys.argv[1])
tracker = Tracker(Tracking("online", sample=5), run, CONFIG, "improve")
stages = [*first_half(run), *second_half(run)]
tracker.stage(stages[0])
server.stop()
connection._WAIT_S = 3
for stage in stages[1:]:
    tracker.stage(stage)
print("told of all" if tracker._sender else "stopped", flush=True)
os._exit(0)
"""


@pytest.mark.slow
def test_a_server_that_goes_away_costs_the_run_one_wait(tmp_path):
    run = tmp_path / "lai-12ab34cd"
    run.mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    environment["WANDB_API_KEY"] = KEY
    command = [sys.executable, "-c", BEGIN + LOST, str(run)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("is no run of its own in W&B") == 1 and done.stdout == "told of all\n", done.stderr


def test_problems_are_named():
    assert "choose online" in Tracking("nowhere").problems()[0]
    assert "choose stage or run" in Tracking("off", lineage="both").problems()[0]
    assert "0 or more" in Tracking("off", sample=-1).problems()[0]


def test_names_are_legal_and_places_are_read():
    assert artifact_name("run-1", "gsm 8k/ä", "errors") == "run-1-gsm_8k__-errors"
    assert Place.of("iteration_2/gsm8k/revise/verify") == Place(2, "gsm8k", "revise/verify")
    assert Place.of("iteration_2/mix") == Place(2, "", "mix")
    assert Place.of("respond/belle") == Place(None, "", "respond/belle")
    restart = product(Place.of("iteration_2/train"), ["model"], ["sums"], "base")
    assert restart.sources == (("2/training_set",),)
    supplied = product(Place.of("iteration_1/mix"), ["train"], ["sums"], "last")
    assert supplied.sources == (("1/sums/replies", "1/sums/errors/train"),)
