"""Words that the command line cannot read, and what it says instead of a grammar's error."""

import subprocess
import sys

import pytest

from errata.errors import ErrataError
from errata.places import no_hub_id
from errata.trained import weights_in
from tests.test_loop import errata


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("model.path=~/models/x", """'model.path="~/models/x"'"""),
        ("name=été", """'name="été"'"""),
        ('name="x', """'name="x"'"""),
        ("dry_run", "'dry_run' gives no value: settings are NAME=VALUE"),
        ("experiments=dmeo", "there is no experiment 'dmeo'. Did you mean demo?"),
        ("sweeps=strategis", "there is no sweep 'strategis'"),
    ],
)
def test_a_word_that_cannot_be_read_is_said_with_what_would_do(word, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert errata("improve", word, "model=hf") == 2
    shown = capsys.readouterr().err
    assert said in shown and "hydra" not in shown.lower() and "Lexer" not in shown


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["strategy=[le,lec]"], "strategy is one option; errata improve -m strategy=le,lec sweeps over them"),
        (["-m", "seed=1,2", "training=[lora, full]"], "training is one option; errata improve -m training=lora,full"),
        (["strategy=le,lec"], "strategy=le,lec has several values: errata improve -m ... sweeps over them\n"),
        (["dataset=arithmetic,gsm8k"], "NAME=[A,B] is one list"),
    ],
)
def test_one_option_is_not_silently_the_last_of_a_list(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert errata("improve", *words, "dry_run=true") == 2
    assert said in capsys.readouterr().err


def test_what_is_proposed_can_be_read(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert errata("improve", 'model.path="~/models/x"', "model=hf") == 2
    assert "model.path is '~/models/x': no such folder" in capsys.readouterr().err


def test_why_a_place_is_not_asked_of_the_hub_comes_with_what_to_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert no_hub_id("meta-llama/Llama-2-7b-hf") == ""
    (tmp_path / "meta-llama").mkdir()  # another model of theirs was loaded into it
    assert "run the command from a folder without meta-llama/" in no_hub_id("meta-llama/Llama-2-7b-hf")
    assert "openai-community/gpt2" in no_hub_id("gpt2") and no_hub_id("gpt2", bare=True) == ""


def test_python_m_errata_is_the_command_line():
    done = subprocess.run([sys.executable, "-m", "errata", "imrpove"], capture_output=True, text=True)
    assert done.returncode == 2 and "Did you mean improve?" in done.stderr


@pytest.mark.parametrize(
    "held", ["base: /somewhere\nmethod: lora\n", "weights: {unheard_of: 1}\n", "weights: [\n", "", None]
)
def test_a_training_of_another_version_is_one_error(held, tmp_path):
    if held is not None:
        (tmp_path / "training.yaml").write_text(held)
    with pytest.raises(ErrataError, match=r"training\.yaml does not say which weights were trained"):
        weights_in(tmp_path)
