"""`smoke=true`: every experiment checks at its smoke size, and the rehearsal's replies are such as the code can use."""

import json
import random
import re
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from errata import grid
from errata.config import SCHEMAS, config_folder, register
from errata.corpus.instruction_set import InstructionSet
from errata.dataset.arithmetic import Arithmetic
from errata.dataset.gsm8k import GSM8K
from errata.dataset.mbpp import MBPP
from errata.dataset.mmlu import MMLU
from errata.gate.consensus import Consensus, as_question
from errata.instructor.tutor import Tutor
from errata.judge.base import Item
from errata.judge.belle import Belle
from errata.judge.pairwise import Pairwise
from errata.judge.rating import Rating
from errata.judge.rubric import Rubric
from errata.records import Attempt, Case, Example, Pair, Reply
from errata.reviser.reflecting import Reflecting
from errata.setup import check
from errata.smoke import student as students
from errata.smoke.rehearsal import Rehearsal
from errata.smoke.replies import UNKNOWN, write_reply
from errata.smoke.shrink import PREFIX, shrink
from errata.smoke.student import ARITHMETIC, DATA, student
from errata.strategy.le import LE
from errata.strategy.lec import LEC
from tests.test_loop import errata

ROOT = Path(__file__).parents[1]
COMMANDS = {
    file.stem: re.search(r"^# Command: errata (\w+)", file.read_text(), re.MULTILINE).group(1)
    for file in sorted((ROOT / "experiments").glob("*.yaml"))
}
SWEPT = {"demo_strategies": ["strategy=le,lec", "seed=0"]}
"""What is narrowed in the slow test: fifteen cells of one kind show no more than two."""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """An output_dir whose small model was not taught: nothing is run in it. Other folders get one that was."""
    folder = tmp_path_factory.mktemp("smoke")

    def untaught(partial):
        (partial / "config.json").write_text('{"model_type": "llama"}')
        (partial / "model.safetensors").write_bytes(b"")
        students._tokenizer().save_pretrained(partial)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(students, "_teach", untaught)
        student(folder / "smoke" / "models", "some/model")
    return folder


def composed(command, *overrides):
    register()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        return compose(command, overrides=list(overrides))


def plain(command, *overrides):
    return resolved(command, composed(command, *overrides))


def resolved(command, config):
    config = OmegaConf.merge(OmegaConf.structured(SCHEMAS[command]), config)
    OmegaConf.resolve(config)
    return OmegaConf.to_container(config)


@pytest.fixture(autouse=True)
def no_command_line(monkeypatch):
    """`compose` leaves no overrides behind, a former test's run may."""
    monkeypatch.setattr(HydraConfig, "initialized", staticmethod(lambda: False))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_experiment_checks_at_its_smoke_size(name, place):
    command = COMMANDS[name]
    config = composed(command, f"experiments={name}", "smoke=true", f"output_dir={place}")
    setup, real = check(command, config), resolved(command, config)
    assert setup.settings.name.startswith(PREFIX)
    assert setup.settings.smoke is False  # it stands for itself: run again from its folder, it is run as it is
    assert check(command, setup.resolved).plain == setup.plain
    for group in ("strategy", "allocation", "reviser", "judge"):
        if (real.get(group) or {}).get("_target_"):
            assert setup.resolved[group]["_target_"] == real[group]["_target_"]
    for group in ("dataset", "tests", "wall", "gate", "corpus", "testset"):
        assert list(setup.resolved.get(group) or {}) == list(real.get(group) or {})
    if "training" in real:
        same = (
            "strategy",
            "learning_rate",
            "schedule",
            "betas",
            "weight_decay",
            "clip",
            "max_length",
            "gradient_checkpointing",
        )
        assert {key: setup.resolved["training"][key] for key in same} == {key: real["training"][key] for key in same}
        assert setup.resolved["training"]["method"]["_target_"] == real["training"]["method"]["_target_"]
    if setup.instructor is not None:
        assert isinstance(setup.instructor, Rehearsal | Tutor)
        asked = ("model", "temperature", "max_tokens", "usd_per_million_in")
        wanted = {key: real["instructor"][key] for key in asked if real["instructor"].get(key, "???") != "???"}
        assert {key: getattr(setup.instructor, key) for key in wanted} == wanted
    assert str(setup.settings.output_dir) == str(place)
    if command == "improve":
        assert setup.ledger != place / "ledger.sqlite"  # never among replies that were paid for


def test_what_the_command_line_sets_stays(place):
    config = plain("improve", "experiments=lai_mistral_le", "iterations=2", "sample_size=20", f"output_dir={place}")
    small = shrink("improve", config, ["iterations"])
    assert (small["iterations"], small["sample_size"], small["training"]["batch_size"]) == (2, 20, 4)
    assert shrink("improve", config)["iterations"] == 1


@pytest.mark.slow
def test_cells_of_a_sweep_stay_apart(place):
    def folders(experiment, *cells):
        start = ("smoke=true", f"experiments={experiment}", f"output_dir={place}")
        return {check("improve", composed("improve", *start, cell)).folder for cell in cells}

    models = [f"model={name}" for name in ("mistral_7b_instruct", "llama3_8b_instruct")]
    assert len(folders("lai", *models)) == 2
    assert len(folders("lai", "sample_size=1500", "sample_size=3000", "sample_size=6000")) == 3
    assert len(folders("lai_mistral_lec", "retrieval.k=1", "retrieval.k=5", "retrieval=minilm")) == 3
    assert len(folders("lai", "instructor=gpt4_turbo", "instructor=gpt_4_1_mini", "instructor=gpt_5_mini")) == 3


def test_a_sweep_plans_the_runs_that_its_cells_make(place, capsys, monkeypatch):
    monkeypatch.undo()
    checked, planned = grid._checked, set()

    def noted(*given):
        setups = checked(*given)
        planned.update(setup.folder.name for setup in setups)
        return setups

    monkeypatch.setattr(grid, "_checked", noted)
    words = ["smoke=true", "experiments=alpaca_cot_lora", f"output_dir={place}", "sweeps=learning_rate", "dry_run=true"]
    assert errata("train", *words, "hydra.verbose=true", "training.learning_rate=1e-5") == 0
    shown = "".join(capsys.readouterr().out.split())  # its lines are folded
    assert len(planned) == 4  # its batch sizes are not lowered: the sweep sets them
    assert all(name in shown for name in planned)


@pytest.mark.parametrize("name", [".", "..", "a/" * 200 + "model"])
def test_any_path_of_a_model_has_a_stand_in_beside_the_others(name, place):
    folder = student(place / "smoke/models", name)
    assert folder.parent == place / "smoke/models"
    assert (folder / "config.json").is_file()


def test_a_ledger_that_the_config_names_gets_no_reply_of_the_rehearsal(place):
    config = plain("improve", "ledger=outputs/ledger.sqlite", f"output_dir={place}")
    assert shrink("improve", config, ["ledger"])["ledger"] == str(place / "smoke/ledger.sqlite")


def test_what_is_replaced_though_it_was_given_is_told(place, caplog):
    caplog.set_level("INFO", "errata")
    config = plain("train", "data=mine.jsonl", "seed=3", f"output_dir={place}")
    rows = shrink("train", config, ["data", "seed", "model", "smoke"])["data"]
    assert rows == str(place / "smoke/data.jsonl")
    assert f"in the place of what was given: data={rows}" in [line.rpartition("smoke: ")[2] for line in caplog.messages]


def test_cells_that_start_at_once_write_one_file(tmp_path, monkeypatch):
    from errata.smoke.files import training_rows

    replace = Path.replace

    def overtaken(path, target):
        monkeypatch.setattr(Path, "replace", replace)
        monkeypatch.setattr("os.getpid", lambda: -1)  # another process comes in between
        training_rows(tmp_path, "data")
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", overtaken)
    assert len(Path(training_rows(tmp_path, "data")).read_text().splitlines()) > 4


def test_what_a_cpu_cannot_do_is_left_out_and_said(place, caplog):
    caplog.set_level("INFO", "errata")
    config = plain("train", "training=qlora", "training.precision=16-mixed", "training.method.targets=[W_pack]")
    small = shrink("train", config | {"output_dir": str(place), "data": "absent.jsonl"})["training"]
    assert (small["precision"], small["method"]["bits"], small["method"]["targets"]) == ("32-true", None, ["all-linear"])
    for words in ("16-mixed", "not quantised", "W_pack"):
        assert words in caplog.text


def test_the_users_files_are_replaced(place):
    def train(**given):
        return shrink("train", plain("train") | {"output_dir": str(place)} | given)

    assert train(revisions="???")["revisions"].endswith("expert_revisions.json")
    assert train(data="absent.jsonl")["revisions"] is None
    judge = plain("judge", "judge=recorded", "testset=[]") | {"output_dir": str(place)}
    assert Path(shrink("judge", judge)["judge"]["path"]).is_file()


FORMS = {
    "alpaca": ("auto", {}),
    "sharegpt": ("sharegpt", {}),
    "messages": ("messages", {}),
    "nested": ("fields", {"instruction": "asked", "input": "instances.0.input", "output": "instances.0.output"}),
    "named": ("fields", {"id": "number", "instruction": "Q", "output": "P", "skill": "kind"}),
}


@pytest.mark.parametrize("form", FORMS)
def test_an_instruction_set_is_written_in_its_own_form(form, tmp_path):
    from errata.smoke.files import instruction_set

    kind, fields = FORMS[form]
    node = {"format": kind, "fields": fields, "languages": "en"}
    path = instruction_set(tmp_path, form, node, 24)
    pairs = list(InstructionSet(path, format=kind, fields=fields).pairs(form))
    assert len(pairs) == 24
    assert all(pair.instruction and pair.output for pair in pairs)
    assert len({pair.prompt for pair in pairs}) == 24


DATASETS = {
    "word_problem": GSM8K("gsm8k", path=str(DATA / "gsm8k"), splits={"train": "train", "test": "test"}),
    "multiple_choice": MMLU("mmlu", path=str(DATA / "mmlu"), splits={"train": "dev_val", "test": "test"}),
    "code": MBPP("mbpp", path=str(DATA / "mbpp"), splits={"train": "train", "test": "test"}),
}
STRATEGIES = [
    LE("le"), LE("le_informed"), LE("auggpt"), LE("llm2llm"), LE("random_seed"), LE("self_instruct"), LEC("lec"),
    LEC("lec_informed"), LE("le", structured=True), LE("le_informed", structured=True),
]  # fmt: skip


@pytest.mark.parametrize("layout", DATASETS)
@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda one: f"{one.name}{'_json' * one.structured}")
def test_practice_parses_and_is_right_whatever_the_strategy(strategy, layout):
    dataset = DATASETS[layout]
    first, second = dataset.load("train")[:2]
    error = Attempt(first, "no idea", True, None, False, "no_answer")
    right = Attempt(second, second.solution, True, second.gold, True)
    request = strategy.request(Case(first.id, error, (right,), problems=4), layout)
    reply = write_reply(request.messages, request.schema, random.Random(1))
    assert reply == write_reply(request.messages, request.schema, random.Random(1))
    problems = dataset.parse(reply)
    assert [problem.malformed for problem in problems] == [None] * 4, reply
    assert len({problem.question for problem in problems}) > 1
    assert [dataset.check(problem.solution, problem.answer) for problem in problems] == [None] * 4


@pytest.mark.parametrize("layout", ["word_problem", "multiple_choice"])
def test_the_consensus_agrees_with_the_practice(layout):
    dataset, gate = DATASETS[layout], Consensus()
    request = LE("le").request(Case("1", Attempt(dataset.load("train")[0], "", True, None, False)), layout)
    for seed in range(8):
        (problem,) = dataset.parse(write_reply(request.messages, None, random.Random(seed)))
        row = Example("row", dataset.name, problem.question, problem.solution, problem.answer, "", "", 1)
        asked = gate.requests(row, layout)
        said = [Reply(one.id, row.dataset, "", "", write_reply(one.messages, None, random.Random(0))) for one in asked]
        assert gate.verdict(row, said, dataset) is None, (said[0].text, as_question(row, layout))


PAIRS = [
    Pair("a/1", "Name a river.", "", "The Rhine.", "a"),
    Pair("a/2", "Shorten it.", "It is the case that it rains.", "It rains.", "a"),
    Pair("a/3", "一年有多少个月？", "", "一年有十二个月。", "a"),
]


@pytest.mark.parametrize("stage", ["instruction", "response"])
def test_reflections_pass_their_filters(stage):
    reviser = Reflecting()
    replies = [
        Reply(request.id, "a", request.error_id, "", write_reply(request.messages, None, random.Random(number)))
        for number, request in enumerate(reviser.requests(stage, PAIRS))
    ]
    assert [outcome.reason for outcome in reviser.outcomes(stage, PAIRS, replies)] == [""] * len(PAIRS)


@pytest.mark.parametrize(
    "judge", [Pairwise(), Pairwise("choice"), Rating(), Rubric(), Belle()], ids=lambda one: type(one).__name__
)
def test_every_judge_reads_a_verdict(judge):
    for pair in PAIRS:
        item = Item(pair, pair.output, "Another answer, longer than the first." if judge.compares else None)
        requests = judge.requests(item)
        replies = [Reply(one.id, "a", pair.id, "", write_reply(one.messages, None, random.Random(0))) for one in requests]
        verdict = judge.judgement(item, replies)
        assert verdict.reason == "", replies
        assert not verdict.contradicts


def test_a_form_that_it_does_not_know_is_said():
    assert write_reply([{"role": "user", "content": "Sing."}], None, random.Random(0)) == UNKNOWN


@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    """The output_dir of all smoke runs, those of the other test processes too: one ledger, one set of caches."""
    folder = tmp_path_factory.getbasetemp()
    folder = (folder.parent if folder.name.startswith("popen-") else folder) / "all_smoke_runs"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.mark.slow
def test_the_student_knows_a_part(shared):
    from errata.model.hf import HF

    model = HF(path=str(student(shared / "smoke" / "models", "some/model")), device="cpu").load()
    for dataset in (*DATASETS.values(), Arithmetic("arithmetic", **ARITHMETIC)):
        questions = dataset.load("train")
        answers = dict(model.answers(dataset.prompts(questions), 48))
        right = sum(dataset.grade(question, answers[place].text).correct for place, question in enumerate(questions))
        assert 5 <= right <= len(questions) - 2, dataset.name  # k=5 neighbours, and errors


def stages(run):
    return {
        file.parent.relative_to(run).as_posix()
        for file in run.rglob("stage.json")
        if json.loads(file.read_bytes())["finished"]
    }


def expected(command, setup):
    """The stages that the experiment has at any size, by its settings alone."""
    settings = setup.settings
    if command == "train":
        return {"train"}
    if command == "evaluate":
        return {f"iteration_0/{name}/{settings.split}" for name in setup.datasets}
    if command == "judge":
        answers = {f"respond/{name}" for name in setup.testsets} if settings.answers is None else set()
        return {"judge"} | ({"instruct"} if setup.judge.asks else set()) | answers
    if command == "revise":
        return {"corpus", "final"}
    found = {"iteration_1/mix", "iteration_1/train"}
    found |= {f"iteration_{n}/{name}/test" for name in setup.tested for n in (0, 1)}
    for name in setup.datasets:
        steps = ["verify"] if setup.instructor is None else ["allocate", "instruct", "parse", "verify"]
        steps += ["retrieve"] if getattr(setup.strategy, "contrasts", False) else []
        found |= {
            f"iteration_1/{name}/{step}" for step in ("train", *steps) if setup.instructor is not None or step != "train"
        }
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_every_experiment_runs_at_its_smoke_size(name, shared, capsys, monkeypatch):
    command = COMMANDS[name]
    monkeypatch.undo()
    words = [f"experiments={name}", "smoke=true", f"output_dir={shared}", *SWEPT.get(name, [])]
    assert errata(command, *words) == 0, capsys.readouterr().err
    runs = [run for run in shared.glob(f"{PREFIX}{name}*-????????") if (run / "run.json").is_file()]
    runs = [run for run in runs if name in SWEPT or run.name.rpartition("-")[0] == PREFIX + name]
    assert len(runs) == (2 if name in SWEPT else 1)
    for run in runs:
        stored = OmegaConf.to_container(OmegaConf.load(run / "config.yaml"))
        setup = check(command, stored)
        assert setup.folder == run
        assert expected(command, setup) <= stages(run), stages(run)
        assert (run / "report.md").is_file()
        assert (run / "results.json").is_file()
        trained = [json.loads(file.read_bytes()) for file in run.rglob("summary.json")]
        assert all(summary["steps"] >= 1 for summary in trained)
        assert bool(trained) == (command in ("improve", "train"))
        replies = [json.loads(line) for file in run.rglob("replies.jsonl") for line in file.read_text().splitlines()]
        if setup.instructor is not None:
            assert replies
            assert sum(reply["text"] is not None and reply["text"] != UNKNOWN for reply in replies) > 0.8 * len(replies)
