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
STUDENTS = {"mistral": "mistralai/Mistral-7B-Instruct-v0.2", "llama3": "meta-llama/Meta-Llama-3-8B-Instruct"}
STRATEGIES = ("finetune", "auggpt", "le", "lec")
TRAINED = [f"lai_{student}_{strategy}" for student in STUDENTS for strategy in STRATEGIES] + ["lai_mistral_le_lec", "lai"]
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
SOURCES = {  # the other sources' settings: (command, what the user gives, values)
    "coachlm_coach": ("train", ["revisions=pairs.jsonl"], {
        "model.path": "THUDM/chatglm2-6b", "alpha": 0.3, "training.method.r": 64, "training.method.alpha": 32,
        "training.method.dropout": 0.1, "training.epochs": 7, "training.batch_size": 32, "training.learning_rate": 2e-4,
        "training.schedule": "cosine", "training.warmup_steps": 0, "training.weight_decay": 0.0, "training.max_length": 1024,
        "training.method.targets": ["query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"],
    }),
    "alpaca_cot_lora": ("train", ["data=pairs.jsonl"], {
        "model.path": "bigscience/bloom-7b1", "training.method.r": 32, "training.method.alpha": 16,
        "training.method.dropout": 0.05, "training.batch_size": 128, "training.learning_rate": 3e-4,
        "training.warmup_share": 0.1, "training.max_length": 512,
    }),
    "alpaca_cot_adalora": ("train", ["data=pairs.jsonl"], {
        "training.method.init_r": 12, "training.method.target_r": 8, "training.method.beta1": 0.85,
        "training.method.beta2": 0.85, "training.method.delta_t": 10, "training.learning_rate": 3e-4,
    }),
    "alpaca_cot_sadapter_h": ("train", ["data=pairs.jsonl"], {
        "training.method.form": "houlsby", "training.method.bottleneck": 32, "training.method.activation": "tanh",
        "training.method.scaling": 1.0, "training.learning_rate": 3e-4, "training.batch_size": 128,
    }),
    "alpaca_cot_sadapter_p": ("train", ["data=pairs.jsonl"], {"training.method.form": "pfeiffer", "training.method.bottleneck": 32}),
    "alpaca_cot_p_adapter": ("train", ["data=pairs.jsonl"], {"training.method.form": "parallel", "training.method.bottleneck": 32}),
    "reflection_tuning": ("train", ["data=pairs.jsonl"], {
        "model.path": "meta-llama/Llama-2-7b-hf", "model.template": "vicuna", "training.epochs": 3, "training.batch_size": 128,
        "training.learning_rate": 2e-5, "training.warmup_share": 0.03, "training.weight_decay": 0.0, "training.max_length": 2048,
    }),
    "reflection_tuning_13b": ("train", ["data=pairs.jsonl"], {"training.learning_rate": 1e-5, "training.epochs": 3}),
    "reflection_data": ("revise", [], {
        "instructor.model": "gpt-3.5-turbo", "instructor.temperature": 0.0, "instructor.max_tokens": 2048,
        "reviser.choose_instruction_by": "ifd", "reviser.choose_response_by": "rifd", "reviser.drop_unreplaced": True,
    }),
    "reflection_pairwise": ("judge", ["against=answers"], {
        "instructor.temperature": 0.0, "instructor.max_tokens": 1024, "judge.form": "scores",
    }),
    "coachlm_quality": ("judge", ["answers=revised"], {"judge.edges": [3.5, 4.0, 4.5], "judge.high": 4.5}),
}  # fmt: skip
MIXTURES = {  # the files of Alpaca-CoT's registry
    "alpaca_cot": ["alpaca/alpaca_data_cleaned.json", "belle_cn/belle_instructions/belle_data0.5M_cn.json", "cot"],
    "alpaca_cot_without_cot": ["alpaca/alpaca_data_cleaned.json", "belle_cn/belle_instructions/belle_data0.5M_cn.json"],
    "alpaca_cot_without_cn": ["alpaca/alpaca_data_cleaned.json", "cot"],
}
UPDATES = [  # (experiment, rows of its training set, what the head says)
    ("coachlm_coach", 690, "690 rows, 151 updates"),
    ("coachlm_tuning", 52002, "1,219 updates"),
    ("alpaca_cot_train", 49000, "49,000 rows, 383 updates"),
    ("reflection_tuning", 37114, "870 updates"),
    ("reflection_tuning", 46325, "sRecycled WizardLM 1,086"),
    ("reflection_tuning", 52002, "Recycled Alpaca 1,219"),
    ("reflection_tuning", 70000, "Recycled WizardLM 1,641"),
    ("reflection_tuning_13b", 46064, "46,064 rows, 1,080 updates"),
    ("lai_mistral_finetune", 9753, "305 updates"),
    ("lai_llama3_finetune", 9753, "305 updates"),
]
SWEEPS = {  # the command and the experiment that the sweep is meant for, and how many cells it has with it
    "seeds": ("improve", "demo", 3),
    "learning_rate": ("improve", "lai_mistral_le", 12),
    "k": ("improve", "lai_mistral_lec", 4),
    "sample_size": ("improve", "lai_mistral_le", 3),
    "strategy_model": ("improve", "lai", 6),
    "encoder": ("improve", "lai_mistral_lec", 2),
    "policy": ("improve", "lai_mistral_le", 2),
    "instructor": ("improve", "lai_mistral_le", 3),
    "share": ("revise", "reflection_share", 9),
    "random_share": ("revise", "reflection_share", 4),
    "alpha": ("train", "coachlm_coach", 6),
    "peft": ("train", None, 8),
    "instruction_sets": ("revise", "alpaca_cot_data", 9),
    "models": ("judge", "alpaca_cot_belle", 6),
}
SAMPLED = {"optuna"}  # their cells are chosen as they go: tests/test_optuna.py
NEEDS = {
    "alpha": ["revisions=pairs.jsonl"],
    "peft": ["data=pairs.jsonl"],
    "models": ["testset.belle_eval.path=items.json"],
}


@pytest.fixture(autouse=True)
def hydra_ready(tmp_path, monkeypatch):
    register()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    (tmp_path / "cot-prompts").mkdir()
    (tmp_path / "pairs.jsonl").write_text('{"prompt": "a", "response": "b"}\n')
    (tmp_path / "items.json").write_text('[{"question": "a", "std_answer": "b", "class": "Math"}]')
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


def grid(command, chosen):
    """The sweep's dimensions: each as the overrides of its values."""
    hydra = compose(command, overrides=chosen, return_hydra_config=True).hydra
    assert hydra.mode.name == "MULTIRUN"
    parsed: list[Override] = OverridesParser.create().parse_overrides([f"{k}={v}" for k, v in hydra.sweeper.params.items()])
    return [
        [f"{one.key_or_group}={value}" for value in one.sweep_string_iterator()]
        if one.is_sweep_override()
        else [f"{one.key_or_group}={one.value()}"]
        for one in parsed
    ]


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


@pytest.mark.parametrize("name", SOURCES)
def test_the_other_experiments_hold_the_settings_of_their_sources(name):
    command, given, wanted = SOURCES[name]
    config = compose(command, overrides=[f"experiments={name}", *given])
    assert {path: plain(config, path) for path in wanted} == wanted


@pytest.mark.parametrize("name", MIXTURES)
def test_alpaca_cots_mixtures_are_those_of_its_registry(name):
    corpora = compose("revise", overrides=[f"experiments={name}"]).corpus
    assert [one.get("hub_files", corpus) for corpus, one in corpora.items()] == MIXTURES[name]


@pytest.mark.parametrize(("name", "rows", "said"), UPDATES)
def test_a_head_says_the_updates_that_its_settings_give(name, rows, said):
    command = "improve" if name.startswith("lai") else "train"
    training = compose(command, overrides=[f"experiments={name}"]).training
    updates = f"{-(-rows * training.epochs // training.batch_size):,}"
    assert updates in said and said in head_of("experiments", name)
    if name not in ("reflection_tuning", "lai_mistral_finetune", "lai_llama3_finetune"):  # there a range, or hours
        (line,) = re.findall(rf"^\| `{name}` \|.*$", (ROOT / "docs/experiments.md").read_text(), re.MULTILINE)
        assert f"{updates} updates" in line


def test_docs_list_every_experiment_and_sweep():
    text = (ROOT / "docs/experiments.md").read_text()
    for group in ("experiments", "sweeps"):
        for file in (ROOT / group).glob("*.yaml"):
            assert re.search(rf"^\| `{file.stem}` \|", text, re.MULTILINE), f"{group}/{file.name}"


def test_every_sweep_is_in_the_table_of_this_file():
    assert {file.stem for file in (ROOT / "sweeps").glob("*.yaml")} == SWEEPS.keys() | SAMPLED


@pytest.mark.parametrize("sweep", [one if one == "k" else pytest.param(one, marks=pytest.mark.slow) for one in SWEEPS])
def test_every_sweep_says_what_it_varies_and_has_so_many_cells(sweep):
    command, experiment, cells = SWEEPS[sweep]
    head, named = head_of("sweeps", sweep), [f"experiments={experiment}"] if experiment else []
    assert " ".join([f"errata {command}", *named, f"sweeps={sweep}"]) in head
    assert f"{cells} cells" in head or sweep == "seeds"
    chosen = [*named, f"sweeps={sweep}"]
    dimensions = grid(command, chosen)
    assert prod(map(len, dimensions)) == cells
    chosen += NEEDS.get(sweep, []) + ([f"tests.bbh.{EXAMPLES}"] if experiment and experiment.startswith("lai") else [])
    folders = set()
    longest = max(map(len, dimensions))
    for i in range(longest):  # every value of every dimension, not every pair of them
        cell = [values[min(i, len(values) - 1)] for values in dimensions]
        folders.add(check(command, compose(command, overrides=[*chosen, *cell])).folder)
    assert len(folders) == longest


def test_the_sources_grid():
    rates, sizes = grid("improve", ["experiments=lai_mistral_le", "sweeps=learning_rate"])
    assert {float(value.partition("=")[2]) for value in rates} == {2e-6, 5e-6, 5e-7}
    assert [int(value.partition("=")[2]) for value in sizes] == [4 * accumulation for accumulation in (1, 4, 8, 32)]


def test_what_is_drawn_at_random_is_as_much_as_the_shares_that_the_paper_draws():
    (shares,) = grid("revise", ["experiments=reflection_share", "sweeps=share"])
    _, sizes = grid("revise", ["experiments=reflection_share", "sweeps=random_share"])
    counts = {int(float(value.partition("=")[2]) * 46325 + 1e-9) for value in shares}
    assert {int(value.partition("=")[2]) for value in sizes} < counts


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
