"""What an iteration asks about, starts from and trains on: whole loops with a scripted student, training made believe."""

import json
from collections import Counter
from dataclasses import dataclass, replace
from random import Random

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from errata.cell import run as run_marked
from errata.config import config_folder, register
from errata.dataset.arithmetic import Arithmetic
from errata.errors import DataError
from errata.finished import MARK
from errata.identity import neutral
from errata.improve import improve
from errata.instructor.local import Local
from errata.instructor.tutor import write_reply
from errata.jsonl import decode_lines
from errata.plan import show_loop_plan
from errata.records import Attempt, Example, Reply, Request
from errata.run import Run
from errata.run_folder import RunFolder
from errata.screening import Screening
from errata.setup import check
from errata.splits import load_splits
from errata.tracking.tracker import Tracker
from errata.training_set import training_set
from tests.scripted import Scripted
from tests.test_loop import scripted_setup

QUESTIONS = {q.text: q for split in ("train", "dev", "test") for q in Arithmetic("arithmetic").load(split)}


class Student(Scripted):
    """Answers by `says`, given how often it was trained and the question; all that come of it keep one record."""

    def __init__(self, says, name="start", age=0, record=None):
        super().__init__(self.answer, name)
        self.says, self.age, self.record = says, age, [] if record is None else record

    def answer(self, prompt):
        self.record.append((self.age, QUESTIONS[prompt].split))
        return self.says(self.age, QUESTIONS[prompt])

    def with_weights(self, weights):
        return Student(self.says, weights.base, self.age + 1, self.record)


def number(question):
    return int(question.id.rpartition("/")[2])


def right_in(*every):
    """Who knows each n-th question only, n by how often it was trained, and errs in another way each time."""

    def says(age, question):
        right = number(question) % every[min(age, len(every) - 1)] == 0
        return f"#### {question.gold if right else 99990 + age}"

    return says


def knows_more(age, question):
    """13 of 20 questions wrong at first, 5 later."""
    right = number(question) % 4 if age else number(question) % 3 == 0
    return f"#### {question.gold if right else 99990 + age}"


@pytest.fixture
def loop(tmp_path, monkeypatch):
    """A function that runs the loop with settings, and gives the run folder."""

    def train(folder, launch, heard):
        job = yaml.safe_load((folder / "training.yaml").read_text())
        rows = (folder / "train.jsonl").read_text().count("\n")
        (folder / "model").mkdir()
        (folder / "model" / "config.json").write_text(json.dumps(job["weights"]["base"]))
        summary = {"rows": rows, "steps": 1, "tokens": 1, "tokens_per_s": 1.0, "first_loss": 2.0, "last_loss": 1.0}
        (folder / "summary.json").write_text(json.dumps(summary))

    monkeypatch.setattr("errata.stage.train._run", train)

    def run(*overrides, student=None):
        return improve(setup(*overrides, student=student))

    def setup(*overrides, student=None):
        small = ["instructor.flaw_rate=0", "dataset.arithmetic.dev=20", "iterations=2"]
        return scripted_setup(tmp_path, student or Student(right_in(3)), *small, *overrides)

    run.setup = setup
    return run


def mixed(folder, iteration):
    return decode_lines((folder / f"iteration_{iteration}/mix/train.jsonl").read_bytes(), Example)


def requests(folder, iteration=1):
    return decode_lines((folder / f"iteration_{iteration}/arithmetic/instruct/requests.jsonl").read_bytes(), Request)


def bases(folder):
    jobs = sorted(folder.glob("iteration_*/train/training.yaml"))
    return [yaml.safe_load(job.read_text())["weights"]["base"] for job in jobs]


def test_an_iteration_starts_from_the_last_student_or_from_the_first(loop):
    folder = loop("policy.start=last")
    assert bases(folder) == ["start", str(folder / "iteration_1/train/model")]
    assert bases(loop("policy.start=base")) == ["start", "start"]


def test_an_iteration_trains_on_the_latest_practice_or_on_all_so_far(loop):
    latest, everything = loop(), loop("policy.data=all")
    assert {row.iteration for row in mixed(latest, 2)} == {2}
    first, second = mixed(everything, 1), mixed(everything, 2)
    assert [row for row in second if row.iteration == 1] != []
    assert {row.id for row in first} == {row.id for row in second if row.iteration == 1}
    assert Counter(row.iteration for row in second) == {1: 30, 2: 30}
    assert len({row.prompt for row in second}) == 60


def test_former_practice_of_a_dataset_that_yields_none_now_stays_in(loop, tmp_path):
    def row(name, iteration):
        return Example(f"{iteration}/{name}/1", name, f"{name} {iteration}", "7", "7", "e", "r", iteration)

    setup, former = loop.setup("policy=restart"), [row("arithmetic", 1), row("other", 1)]
    with RunFolder(tmp_path / "run", {}) as folder, Tracker(setup.settings.tracking, tmp_path, {}) as tracker:
        screening = Screening(Run(setup, folder, None, tracker), {})
        found = training_set(screening, {"arithmetic": [], "other": [row("other", 2)]}, 2, former, former)
    assert {one.id for one in found} == {"1/arithmetic/1", "1/other/1", "2/other/1"}


def test_original_rows_that_were_trained_on_stay_in_too(loop):
    folder = loop("strategy=duplicate_errors", "policy.data=all", student=Student(right_in(3, 2)))
    assert {row.prompt for row in mixed(folder, 1)} <= {row.prompt for row in mixed(folder, 2)}


def test_an_equal_token_budget_leaves_room_for_new_practice_beside_all_so_far(loop):
    folder = loop("policy=restart", "equalise.train_tokens=900")
    assert {row.iteration for row in mixed(folder, 2)} == {1, 2}


def test_original_rows_are_replayed_in_each_training_set(loop):
    folder = loop("policy.replay=0.4", "policy.replay_from=original")
    for iteration in (1, 2):
        rows = mixed(folder, iteration)
        old = [row for row in rows if not row.request_id]
        assert (len(rows), len(old)) == (30, 12)
        assert all(row.response == QUESTIONS[row.prompt].solution for row in old)
        assert {QUESTIONS[row.prompt].split for row in old} == {"train"}


def test_former_practice_is_replayed_from_the_second_iteration_on(loop):
    folder = loop("policy.replay=0.4", "policy.replay_from=earlier")
    assert Counter(row.iteration for row in mixed(folder, 1)) == {1: 30}
    assert Counter(row.iteration for row in mixed(folder, 2)) == {2: 18, 1: 12}


def test_patience_ends_the_loop_and_the_best_by_dev_is_named(loop):
    folder = loop("policy.patience=2", "iterations=6", student=Student(right_in(4, 2, 4)))
    log = (folder / "run.log").read_text()
    assert "dev has not been better since iteration 1: the loop ends here" in log
    assert "best by dev: iteration 1 (50.0 %)" in log
    assert sorted(path.name for path in folder.glob("iteration_*")) == [f"iteration_{n}" for n in range(4)]


def test_where_nothing_helps_the_start_is_the_best(loop):
    folder = loop("policy.patience=1", "iterations=6", student=Student(right_in(4)))
    assert "best by dev: iteration 0 (25.0 %)" in (folder / "run.log").read_text()
    assert not (folder / "iteration_2").exists()


def test_errors_on_dev_are_asked_about_and_nothing_of_train(loop):
    student = Student(right_in(3))
    folder = loop("errors=dev", student=student)
    for iteration in (1, 2):
        assert {request.error_id.split("/")[1] for request in requests(folder, iteration)} == {"dev"}
        assert len(requests(folder, iteration)) == 13
    assert {split for _, split in student.record} == {"dev", "test"}


def test_errors_of_both_splits_are_asked_about(loop):
    folder = loop("errors=both", "iterations=1")
    assert Counter(request.error_id.split("/")[1] for request in requests(folder)) == {"train": 13, "dev": 13}


def test_kinds_of_error_that_are_left_out_are_not_asked_about(loop):
    def says(age, question):
        return "I cannot help with that." if number(question) % 2 else "#### 99999"

    folder = loop("errors.leave_out=[refusal]", "iterations=1", student=Student(says))
    attempts = decode_lines((folder / "iteration_1/arithmetic/train/attempts.jsonl").read_bytes(), Attempt)
    assert Counter(attempt.kind for attempt in attempts) == {"refusal": 10, "wrong_value": 10}
    assert {request.error_id for request in requests(folder)} == {a.id for a in attempts if a.kind == "wrong_value"}


def test_a_run_that_leaves_all_errors_out_does_not_call_them_right(loop):
    folder = loop("errors.leave_out=[wrong_value]", "iterations=1")
    assert "gets every arithmetic question right" not in (folder / "run.log").read_text()


@pytest.mark.parametrize("strategy", ["le", "random_seed", "self_instruct"])
@pytest.mark.parametrize("wanted", [4, 31])
def test_an_equal_number_of_requests_is_kept_exactly(loop, strategy, wanted):
    folder = loop(f"strategy={strategy}", f"equalise.requests={wanted}", "iterations=1")
    asked = requests(folder)
    assert len(asked) == wanted == len({request.id for request in asked})
    assert len({(request.error_id, request.draw) for request in asked}) == wanted
    if wanted == 4:
        assert {request.draw for request in asked} == {0}
    elif strategy != "self_instruct":  # its examples differ anyway
        content = (folder / "iteration_1/arithmetic/instruct/replies.jsonl").read_bytes()
        texts = {reply.text for reply in decode_lines(content, Reply)}
        assert len(texts) == wanted  # another draw is another reply


def test_strategies_that_are_compared_ask_for_the_same_number_of_problems(loop):
    counts = []
    for strategy in ("le", "random_seed", "self_instruct"):
        asked = requests(loop(f"strategy={strategy}", "equalise.requests=9", "iterations=1"))
        counts.append(sum(request.problems for request in asked))
    assert counts == [9 * 5] * 3


def test_finetune_and_duplicate_errors_ask_nobody(loop, monkeypatch):
    def never(*args, **kwargs):
        raise AssertionError("somebody was asked")

    monkeypatch.setattr("errata.run.instruct", never)
    every = mixed(loop("strategy=finetune", "iterations=1"), 1)
    again = mixed(loop("strategy=duplicate_errors", "iterations=1"), 1)
    assert len({row.error_id for row in every}) == len(every) > 13
    assert len(again) == 30
    assert {number(QUESTIONS[row.prompt]) % 3 for row in again} == {1, 2}
    for row in (*every, *again):
        assert row.response == QUESTIONS[row.prompt].solution
        assert row.request_id == ""
    uses = Counter(row.id for row in again).values()
    assert max(uses) - min(uses) <= 1 < max(uses)


@pytest.mark.parametrize(("allocation", "second"), [("uniform", 4), ("paper", 7)])
def test_n_stays_that_of_the_first_iteration_or_follows_the_papers_rule(loop, allocation, second):
    folder = loop(f"allocation={allocation}", student=Student(knows_more))
    assert (len(requests(folder)), len(requests(folder, 2))) == (13, 5)
    assert {request.problems for request in requests(folder)} == {4}  # ceil(30 / 13) + 1
    assert {request.problems for request in requests(folder, 2)} == {second}


@pytest.mark.parametrize("strategy", ["le", "llm2llm", "auggpt"])
def test_an_error_that_is_made_again_gets_new_practice(loop, strategy):
    def says(age, question):
        return f"#### {question.gold if number(question) % 3 == 0 else 99999}"

    folder = loop(f"strategy={strategy}", student=Student(says))
    assert len(mixed(folder, 2)) == 30


def test_more_clusters_than_errors_end_the_run_with_the_setting_to_change(loop):
    with pytest.raises(DataError, match=r"allocation\.clusters=14, and there are 13 errors"):
        loop("allocation=by_cluster", "allocation.clusters=14", "iterations=1")


def test_what_the_start_model_answers_is_shared_between_runs(loop):
    first, second = Student(right_in(3, 2)), Student(right_in(3, 2))
    one = loop("errors=both", student=first)
    two = loop("errors=both", "seed=5", student=second)
    assert one != two
    assert {split for age, split in first.record if age == 0} == {"train", "dev", "test"}
    assert len([age for age, _ in first.record if age == 0]) == 60
    assert not [age for age, _ in second.record if age == 0]
    assert [age for age, _ in second.record if age > 0]
    for place in ("iteration_0/arithmetic/test", "iteration_1/arithmetic/train"):
        assert (one / place / "attempts.jsonl").read_bytes() == (two / place / "attempts.jsonl").read_bytes()


def gsm8k_setup(tmp_path, *overrides):
    def line(a):
        return json.dumps({"question": f"What is {a} + 4?", "answer": f"{a} + 4 = {a + 4}\n#### {a + 4}"}) + "\n"

    (tmp_path / "train.jsonl").write_text("".join(line(a % 36) for a in range(40)))  # four come twice
    (tmp_path / "test.jsonl").write_text("".join(line(a) for a in range(35, 45)))  # one is a train question
    register()
    GlobalHydra.instance().clear()
    common = ["dataset=gsm8k", f"dataset.gsm8k.path={tmp_path}", "tracking=off", f"output_dir={tmp_path}"]
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        return compose("improve", overrides=[*common, "model=hf", f"model.path={tmp_path}", *overrides])


ENDPOINT = ["instructor=openai", "instructor.model=m", "instructor.base_url=http://127.0.0.1:9/v1"]


@pytest.mark.parametrize("errors", [["errors=dev"], ["errors=both"], ["policy.patience=1", "errors.dev_share=0.25"]])
def test_a_held_out_dev_share_is_apart_from_train_and_test(tmp_path, tiny_model, errors):
    config = gsm8k_setup(tmp_path, *ENDPOINT, f"model.path={tiny_model}", *errors)
    splits = load_splits(check("improve", config))["gsm8k"]
    train, dev, test = ({question.text for question in splits[name]} for name in ("train", "dev", "test"))
    assert not train & dev and not train & test and not dev & test
    assert len(train | dev) == 35
    assert len(splits["dev"]) == (10 if "errors.dev_share=0.25" in errors else 8)
    other = load_splits(check("improve", gsm8k_setup(tmp_path, *ENDPOINT, f"model.path={tiny_model}", *errors, "seed=7")))
    assert other["gsm8k"] == splits


def test_a_strategy_that_asks_nobody_needs_no_instructor_for_the_dataset(tmp_path, tiny_model):
    config = gsm8k_setup(tmp_path, "strategy=finetune", f"model.path={tiny_model}")
    assert check("improve", config).strategy.name == "finetune"


def test_the_plan_of_a_finished_run_has_nothing_to_pay(loop, capsys):
    student = Student(knows_more)
    folder = loop(student=student)
    show_loop_plan(loop.setup(student=student))
    plan = " ".join(capsys.readouterr().out.split())
    assert len(requests(folder, 2)) == 5
    for iteration in (1, 2):
        asked = len(requests(folder, iteration))
        assert f"iteration_{iteration}/arithmetic/instruct │ done │ {asked} requests, {asked} of them in the ledger" in plan


def test_the_plan_counts_the_questions_that_errors_come_from(loop, capsys):
    show_loop_plan(loop.setup("errors=dev", "dataset.arithmetic.dev=17", "iterations=1"))
    plan = capsys.readouterr().out
    assert "iteration_1/arithmetic/dev" in plan
    assert "at most 17 requests" in plan


def test_a_run_that_is_started_again_asks_and_answers_nothing_again(loop):
    first = loop("policy=restart", "policy.patience=3", "policy.replay=0.2")
    before = {path: path.stat().st_mtime_ns for path in first.rglob("stage.json")}
    student = Student(right_in(3))
    assert loop("policy=restart", "policy.patience=3", "policy.replay=0.2", student=student) == first
    assert student.record == []
    assert {path: path.stat().st_mtime_ns for path in first.rglob("stage.json")} == before


@dataclass
class Heard(Local):
    """Writes as the tutor does, and notes whatever it is wanted for."""

    wanted: list[str] = neutral(factory=list)

    def probe(self):
        self.wanted.append("probe")

    def answer(self, messages):
        self.wanted.append("request")
        text = "\n".join(message["content"] for message in messages)
        return write_reply(text, None, Random(text))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (["iterations=4", "policy.patience=1"], right_in(4)),  # dev gets no better
        (["iterations=4"], right_in(3, 1)),  # nothing is wrong any more
    ],
)
def test_a_run_that_ended_early_does_not_even_look_for_its_instructor_again(loop, settings, says):
    def once():
        setup = replace(loop.setup(*settings, student=Student(says)), instructor=Heard("m"))
        run_marked(setup, improve)
        return setup.folder, setup.instructor.wanted

    folder, wanted = once()
    assert {"probe", "request"} == set(wanted) and not (folder / "iteration_2/train").exists()
    assert once() == (folder, [])
    (folder / MARK).unlink()  # killed since: who knows
    assert once() == (folder, ["probe"])


def test_a_student_that_can_only_be_asked_has_no_best_iteration(loop):
    asked_only = replace(Scripted(lambda prompt: right_in(3)(0, QUESTIONS[prompt])), trains=False)
    folder = loop("iterations=1", "policy.patience=1", student=asked_only)
    log = (folder / "run.log").read_text()
    assert "this student can only be asked" in log
    assert "best by dev" not in log
