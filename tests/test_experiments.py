"""Experiments hold the settings and figures of their sources; sweeps hold the cells that they say."""

import re
from math import prod
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from errata.config import config_folder, register
from errata.setup import check

ROOT = Path(__file__).parents[1]
EXAMPLES = "prompts_folder=cot-prompts"
# LLMs-as-Instructors, main table: MMLU, ARC, GSM8K, GSM-Plus, MBPP, HumanEval, BBH, average
MAIN = {
    "lai_mistral_vanilla": "57.3 / 73.9 / 43.2 / 32.5 / 38.0 / 28.6 / 44.3 / 45.4",
    "lai_mistral_finetune": "59.8 / 74.5 / 58.0 / 43.6 / 31.5 / 22.6 / 50.4 / 48.6",
    "lai_mistral_auggpt": "58.9 / 76.0 / 54.4 / 44.0 / 44.1 / 37.8 / 53.4 / 52.6",
    "lai_mistral_le": "60.9 / 76.3 / 56.2 / 46.0 / 51.5 / 38.4 / 55.9 / 55.0",
    "lai_mistral_lec": "61.5 / 77.2 / 54.0 / 46.0 / 47.0 / 43.3 / 56.8 / 55.1",
    "lai_llama3_vanilla": "66.3 / 82.2 / 79.2 / 64.6 / 56.1 / 59.7 / 65.5 / 67.7",
    "lai_llama3_finetune": "66.3 / 82.3 / 79.5 / 64.6 / 55.1 / 59.8 / 65.5 / 67.6",
    "lai_llama3_auggpt": "66.5 / 83.0 / 77.8 / 64.1 / 56.1 / 56.7 / 65.3 / 67.1",
    "lai_llama3_le": "66.1 / 82.5 / 81.2 / 65.9 / 56.5 / 60.4 / 65.8 / 68.3",
    "lai_llama3_lec": "66.2 / 82.8 / 80.2 / 66.0 / 56.5 / 61.6 / 66.1 / 68.5",
}
STUDENTS = {"mistral": "mistralai/Mistral-7B-Instruct-v0.2", "llama3": "meta-llama/Meta-Llama-3-8B-Instruct"}
TRAINED = [name for name in MAIN if not name.endswith("vanilla")] + ["lai_mistral_le_lec", "lai"]
SETTINGS = {  # its code (facts 1.1 to 1.6); iterations from its page
    "protocol": "paper",
    "sample_size": 3000,
    "iterations": 3,
    "policy.start": "last",
    "policy.data": "latest",
    "errors.splits": ["train"],
    "allocation.rule": "paper",
    "retrieval.path": "google-bert/bert-base-uncased",
    "retrieval.k": 2,
    "instructor.model": "gpt-4-0125-preview",
    "instructor.temperature": 0.8,
    "instructor.max_tokens": 4095,
    "instructor.usd_per_million_in": 10.0,
    "instructor.usd_per_million_out": 30.0,
    "training.method._target_": "errata.training.methods.Full",
    "training.strategy": "zero2",
    "training.learning_rate": 5e-6,
    "training.batch_size": 32,
    "training.micro_batch_size": 1,
    "training.epochs": 1,
    "training.schedule": "cosine",
    "training.warmup_steps": 100,
    "training.warmup_share": None,
    "training.warmup_too_long": "error",
    "training.betas": [0.9, 0.95],
    "training.weight_decay": 0.0,
    "training.clip": 1.0,
    "training.max_length": 512,
    "training.gradient_checkpointing": True,
}
OWN = {name: {"iterations": 1} for name in ("lai_mistral_finetune", "lai_llama3_finetune")}
SWEEPS = {  # an experiment that the sweep is meant for, and how many cells it has with it
    "seeds": ("demo", 3),
    "learning_rate": ("lai_mistral_le", 12),
    "k": ("lai_mistral_lec", 4),
    "sample_size": ("lai_mistral_le", 3),
    "strategy_model": ("lai", 6),
    "encoder": ("lai_mistral_lec", 2),
    "policy": ("lai_mistral_le", 2),
    "instructor": ("lai_mistral_le", 3),
}


@pytest.fixture(autouse=True)
def hydra_ready(tmp_path, monkeypatch):
    register()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    (tmp_path / "cot-prompts").mkdir()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        yield


def head_of(group, name):
    """A file's opening comments as one line."""
    lines = (ROOT / group / f"{name}.yaml").read_text().split("\n")
    return " ".join(line.strip("# ") for line in lines if line.startswith("#"))


def plain(config, path):
    value = OmegaConf.select(config, path)
    return OmegaConf.to_container(value) if OmegaConf.is_config(value) else value


def grid(experiment, sweep):
    """The sweep's dimensions: each as the overrides of its values."""
    chosen = [f"experiments={experiment}", f"sweeps={sweep}"]
    hydra = compose("improve", overrides=chosen, return_hydra_config=True).hydra
    assert hydra.mode.name == "MULTIRUN"
    parsed: list[Override] = OverridesParser.create().parse_overrides([f"{k}={v}" for k, v in hydra.sweeper.params.items()])
    return [[f"{one.key_or_group}={value}" for value in one.sweep_string_iterator()] for one in parsed]


@pytest.mark.parametrize("name", TRAINED)
def test_every_trained_row_holds_the_settings_of_the_source(name):
    config: DictConfig = compose("improve", overrides=[f"experiments={name}", f"tests.bbh.{EXAMPLES}"])
    wanted = SETTINGS | OWN.get(name, {})
    assert {path: plain(config, path) for path in SETTINGS} == wanted
    student, _, strategy = name.removeprefix("lai_").partition("_")
    assert config.model.path == STUDENTS.get(student, STUDENTS["mistral"])
    assert config.strategy.name == (strategy or "le")
    assert config.name == name
    setup = check("improve", config)
    assert list(setup.datasets) == ["mmlu", "gsm8k", "mbpp"]
    assert list(setup.tests) == ["arc", "bbh", "gsm_plus", "humaneval"]
    assert {one.max_new_tokens for one in setup.tested.values()} == {1024}
    assert {key: one.shots for key, one in setup.tested.items() if one.shots} == {"bbh": 3}
    assert {one.protocol for one in setup.tested.values()} == {"paper"}
    assert "answer" not in setup.gates  # the source believes what the instructor writes
    rows = sum(map(setup.size, setup.datasets))
    assert rows == (7473 + 1816 + 464 if strategy == "finetune" else 9000)
    assert -(-rows // config.training.batch_size) > config.training.warmup_steps


@pytest.mark.parametrize("name", ["lai_mistral_vanilla", "lai_llama3_vanilla"])
def test_vanilla_rows_measure_what_the_trained_ones_do(name):
    setup = check("evaluate", compose("evaluate", overrides=[f"experiments={name}", f"dataset.bbh.{EXAMPLES}"]))
    trained = check("improve", compose("improve", overrides=["experiments=lai", f"tests.bbh.{EXAMPLES}"]))
    assert dict(setup.datasets) == trained.tested
    assert setup.model.path == STUDENTS[name.split("_")[1]]
    assert (setup.settings.split, setup.settings.protocol, setup.settings.name) == ("test", "paper", name)


@pytest.mark.parametrize(("name", "row"), MAIN.items())
def test_headers_and_docs_print_the_row_of_the_table(name, row):
    assert f"{row}." in head_of("experiments", name)
    (line,) = (line for line in (ROOT / "docs/experiments.md").read_text().split("\n") if line.startswith(f"| `{name}` |"))
    assert f"| {row} |" in line


def test_docs_list_every_experiment_and_sweep():
    text = (ROOT / "docs/experiments.md").read_text()
    for group in ("experiments", "sweeps"):
        for file in (ROOT / group).glob("*.yaml"):
            assert re.search(rf"^\| `{file.stem}` \|", text, re.MULTILINE), f"{group}/{file.name}"


def test_every_sweep_is_in_the_table_of_this_file():
    assert {file.stem for file in (ROOT / "sweeps").glob("*.yaml")} == SWEEPS.keys()


@pytest.mark.parametrize("sweep", [one if one == "k" else pytest.param(one, marks=pytest.mark.slow) for one in SWEEPS])
def test_every_sweep_says_what_it_varies_and_has_so_many_cells(sweep):
    experiment, cells = SWEEPS[sweep]
    head = head_of("sweeps", sweep)
    assert f"errata improve experiments={experiment} sweeps={sweep}" in head
    assert f"{cells} cells" in head or sweep == "seeds"
    dimensions = grid(experiment, sweep)
    assert prod(map(len, dimensions)) == cells
    examples = [f"tests.bbh.{EXAMPLES}"] if experiment.startswith("lai") else []
    folders, chosen = set(), [f"experiments={experiment}", f"sweeps={sweep}", *examples]
    longest = max(map(len, dimensions))
    for i in range(longest):  # every value of every dimension, not every pair of them
        cell = [values[min(i, len(values) - 1)] for values in dimensions]
        folders.add(check("improve", compose("improve", overrides=[*chosen, *cell])).folder)
    assert len(folders) == longest


def test_the_sources_grid():
    rates, sizes = grid("lai_mistral_le", "learning_rate")
    assert {float(value.partition("=")[2]) for value in rates} == {2e-6, 5e-6, 5e-7}
    assert [int(value.partition("=")[2]) for value in sizes] == [4 * accumulation for accumulation in (1, 4, 8, 32)]


def test_a_sweep_overrides_what_the_experiment_chose():
    chosen = [
        "experiments=lai_mistral_lec",
        "sweeps=strategy_model",
        "strategy=auggpt",
        "model=llama3_8b_instruct",
        "retrieval.k=5",
    ]
    config = compose("improve", overrides=chosen)
    assert (config.strategy.name, config.model.path, config.retrieval.k) == ("auggpt", STUDENTS["llama3"], 5)
    assert config.sample_size == 3000


def test_the_learning_rate_can_be_chosen_by_dev():
    dev = ["errors.dev_share=0.05", "policy.patience=1", "iterations=1", f"tests.bbh.{EXAMPLES}"]
    setup = check("improve", compose("improve", overrides=["experiments=lai_mistral_le", "sweeps=learning_rate", *dev]))
    assert setup.settings.needs_dev
    assert setup.settings.training.warmup_too_long == "cut"
