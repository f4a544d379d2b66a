"""Every config composes, is checked by the schema, and builds."""

import re
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from errata.config import config_folder, register
from errata.setup import build, check
from errata.smoke.files import rating_run, revisions_of

CONF = Path(__file__).parents[1] / "conf"
PAIRS = ["corpus.file.path=pairs.json"]
JUDGED = ["testset=[coachlm150]", "testset.coachlm150.path=test.json", "answers=pairs.json", "against=reference"]
NEEDS = {
    ("instructor", "openai"): ["instructor.model=m", "instructor.base_url=http://127.0.0.1:1/v1"],
    ("instructor", "vllm"): ["instructor.model=m"],
    ("instructor", "local_server"): ["instructor.path=org/name"],
    ("instructor", "replay"): ["ledger=l.sqlite"],
    **{("dataset", name): ["instructor=openai", "instructor.model=m"] for name in ("gsm8k", "mmlu", "mbpp")},
    ("equalise", "requests"): ["equalise.requests=9"],
    ("equalise", "train_tokens"): ["equalise.train_tokens=900"],
    ("model", "hf"): ["model.path=org/name"],
    ("model", "gguf"): ["model.path=org/name", "model.gguf=model.Q4_K_M.gguf"],
    ("model", "recorded"): ["model.path=answers.jsonl"],
    ("model", "endpoint"): ["model.model=m"],
    ("tracking", "wandb"): [],
    **{("training", name): ["policy=restart"] for name in ("adalora", "prompt", "p_tuning", "prefix")},
    **{("reviser", name): PAIRS for name in ("none", "reflection", "selective_reflection", "superfiltering")},
    ("reviser", "coach"): [*PAIRS, "reviser.folder=coach"],
    ("reviser", "human"): [*PAIRS, "reviser.revisions=revisions_of_corpora.json"],
    ("reviser", "rated"): [*PAIRS, "reviser.ratings=rated"],
    **{("judge", name): JUDGED for name in ("pairwise", "pandalm", "rating", "rubric", "belle", "mmcu", "mt_bench")},
    ("judge", "recorded"): ["testset=[]", "judge.path=log.json"],
    ("dataset", "bbh"): ["dataset.bbh.shots=0"],
    **{("experiments", file.stem): ["tests.bbh.prompts_folder=coach"] for file in (CONF / "experiments").glob("lai*.yaml")},
    ("dataset", "lm_eval"): ["dataset.lm_eval.limit=5"],
}
TEST_ONLY = ("gsm_plus", "arc", "humaneval", "bbh", "lm_eval")
ASKED_ONLY = (*TEST_ONLY, "recorded", "endpoint")
COMMAND = {"corpus": "revise", "testset": "judge", "reviser": "revise", "judge": "judge"}
DATA = ["instructor=openai", "instructor.model=m"]
GATES = "gate=[answer,length,duplicate,leak]"
HEAVY = {"lm_eval"}  # its library takes a while to import


def slow(group, option):
    """Many of a kind, or one whose library takes its time: `tests/corpus` builds every file there in no time."""
    many = group in ("corpus", "testset") and option not in ("file", "alpaca", "cot", "vicuna80")
    return option in HEAVY or many or option.startswith("lai_")


OPTIONS = [
    pytest.param(folder.name, file.stem, marks=[pytest.mark.slow] if slow(folder.name, file.stem) else [])
    for folder in sorted(CONF.iterdir())
    if folder.is_dir()
    for file in sorted(folder.glob("*.yaml"))
]


@pytest.fixture(autouse=True)
def hydra_ready(tmp_path, monkeypatch):
    register()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    (tmp_path / "l.sqlite").write_bytes(b"")
    (tmp_path / "answers.jsonl").write_text('{"question": "a", "response": "b"}\n')
    (tmp_path / "pairs.json").write_text('[{"instruction": "a", "input": "", "output": "b"}]')
    (tmp_path / "test.json").write_text('[{"instruction": "a", "input": "", "reference response": "b"}]')
    (tmp_path / "log.json").write_text('[{"text": "a", "scores": ["8", "7"], "scores_reverse": ["7", "8"]}]')
    (tmp_path / "coach").mkdir()
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        (tmp_path / "coach" / name).write_text("{}")
    (tmp_path / "coach" / "coach.json").write_text('{"trained_on": []}')
    (tmp_path / "pairs.jsonl").write_text('{"prompt": "a", "response": "b"}\n')
    revisions_of(tmp_path, ["a"])
    rating_run(tmp_path, ["a"])
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        yield


def built(command, *overrides):
    return check(command, compose(command, overrides=list(overrides)))


def meant_for(experiment):
    """The command that an experiment's header names."""
    head = (CONF.parent / "experiments" / f"{experiment}.yaml").read_text()
    return re.search(rf"# Command: errata (\w+) experiments={experiment}\b", head).group(1)


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_composes_and_builds(group, option):
    choice = GATES if group == "gate" else f"{group}={option}"
    needs = NEEDS.get((group, option), [])
    if option in TEST_ONLY:
        setup = built("improve", f"dataset@tests=[{option}]", *[need.replace("dataset.", "tests.") for need in needs])
        assert list(setup.tested) == ["arithmetic", option]
    if group == "experiments" and (command := meant_for(option)) != "improve":
        assert compose(command, overrides=[choice]).name == option
        return
    command = COMMAND.get(group, "evaluate" if option in ASKED_ONLY or group == "model" else "improve")
    if group in ("corpus", "testset"):
        composed = compose(command, overrides=[choice, *DATA])
        (name,) = composed[group]
        assert name == option
        build(composed[group][name], f"{group}.{name}")  # the files themselves are not at hand
        return
    setup = built(command, choice, *needs, *DATA[: 2 * (command == "revise")])
    assert setup.folder.parent == Path("outputs")


@pytest.mark.parametrize("overrides", [["data=pairs.jsonl"], ["data=pairs.jsonl", "training=full"]])
def test_train_composes(overrides):
    assert built("train", *overrides).settings.data == "pairs.jsonl"


def test_evaluate_composes():
    assert list(built("evaluate").datasets) == ["arithmetic"]
    several = built("evaluate", "dataset=[arithmetic,gsm8k]", "dataset.gsm8k.path=.")
    assert list(several.datasets) == ["arithmetic", "gsm8k"]


def test_the_default_is_the_demo():
    default, demo = built("improve", "allocation=paper"), built("improve", "experiments=demo")
    assert default.plain == demo.plain
    assert demo.folder.name.startswith("demo-")


@pytest.mark.parametrize(
    ("override", "same"),
    [
        ("model.token_budget=9999", True), ("output_dir=elsewhere", True), ("tracking=off", True), ("training.threads=2", True),
        ("instructor.concurrency=1", True), ("name=other", True), ("dry_run=true", True), ("model.device=cpu", True),
        ("seed=1", False), ("sample_size=7", False), ("training.learning_rate=1", False), ("strategy=le_informed", False),
        ("dataset.arithmetic.limit=9", False), ("instructor.flaw_rate=0", False), ("gate.leak.ngram=8", False),
        ("gate=[duplicate,answer,length,leak]", False),
    ],
)  # fmt: skip
def test_the_run_folder_is_named_by_what_can_change_the_result(override, same):
    before, after = built("improve"), built("improve", override)
    assert (before.folder.name.split("-")[-1] == after.folder.name.split("-")[-1]) == same


def test_no_key_reaches_the_composed_config():
    assert "sk-test" not in OmegaConf.to_yaml(compose("improve", overrides=["instructor=openai", "instructor.model=m"]))


def test_experiments_say_their_claim_cost_and_command():
    for file in (CONF.parent / "experiments").glob("*.yaml"):
        head = file.read_text()
        for word in ("# Claim:", "# Source:", "# Cost:"):
            assert word in head, (file, word)
        assert meant_for(file.stem), file
