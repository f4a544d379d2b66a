"""An option of the command line of which an experiment sets values itself: it is said which hold, and how to have the others."""

from pathlib import Path

from errata.checks.outvoted import outvoted
from errata.config import config_folder
from tests.test_loop import errata

HERE = ("data/pairs.jsonl", '{"instruction": "Add 1 and 1.", "output": "2"}\n')


def test_values_that_do_not_hold_are_told_with_the_remedy(tmp_path: Path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "big.yaml").write_text(
        "defaults: [hf]\npath: org/big\ntemplate: null\nseed: ${seed}\nlengths: {a: 1, b: 2}\n"
    )
    composed = {"model": {"path": "org/small", "template": None, "seed": 3, "lengths": {"a": 1, "b": 5}}}
    (line,) = outvoted(tmp_path, ["experiments=mine", "model=big"], composed)
    assert "model=big: experiments=mine sets model.path=org/small, model.lengths.b=5 itself" in line
    assert "model.path=... model.lengths.b=..." in line


def test_what_the_command_line_gives_and_what_no_experiment_can_have_set_is_no_news(tmp_path: Path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "big.yaml").write_text("path: org/big\n")
    composed = {"model": {"path": "org/small"}}
    assert outvoted(tmp_path, ["experiments=mine", "model=big", "model.path=org/small"], composed) == []
    assert outvoted(tmp_path, ["model=big"], composed) == []
    assert outvoted(tmp_path, ["experiments=mine", "model=absent"], composed) == []
    assert outvoted(tmp_path, ["experiments=mine", "sweeps=k", "seed=1"], composed) == []


def test_an_experiment_or_a_sweep_is_not_held_against_itself():
    for group in ("experiments", "sweeps"):
        for file in sorted((config_folder() / group).glob("*.yaml")):
            words = ["experiments=demo", f"{group}={file.stem}"]
            assert outvoted(config_folder(), words, {"experiments": None, "sweeps": None}) == [], file


def test_a_command_says_so_before_anything_is_loaded(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rows = tmp_path / HERE[0]
    rows.parent.mkdir()
    rows.write_text(HERE[1] * 3)
    errata(
        "train",
        "experiments=reflection_tuning",
        "training=lora",
        f"data={rows}",
        "dry_run=true",
        "model.path=gpt2-absent/none",
    )
    said = " ".join(capsys.readouterr().err.split())
    assert "training=lora: experiments=reflection_tuning sets" in said and "training.max_length=" in said
    assert "training.method" not in said  # it holds
    assert said.count(" sets ") == 1
    assert (config_folder() / "training" / "lora.yaml").is_file()
