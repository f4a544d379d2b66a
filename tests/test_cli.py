"""The command line as a person meets it, and the other commands of the family."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from errata.cli import main
from errata.config import config_folder
from errata.errors import ConfigError
from errata.explain import explain
from errata.places import no_hub_id
from errata.setup import check
from errata.strategy.base import load_prompts
from errata.strategy.le import LE
from errata.version import __version__
from tests.stored_run import attempts
from tests.test_loop import errata


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    path = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    lines = [json.dumps({"prompt": f"What is {n} + 1?", "response": f"{n} + 1 = {n + 1}\n#### {n + 1}"}) for n in range(16)]
    path.write_text("\n".join(lines))
    return path


@pytest.mark.slow
def test_train_then_evaluate_what_it_left(tiny_model, pairs, tmp_path, capsys):
    common = ["model=hf", f"model.path={tiny_model}", f"output_dir={tmp_path}"]
    assert errata("train", f"data={pairs}", *common, "tracking=off", "training.threads=1") == 0
    (folder,) = tmp_path.glob("train-*")
    assert "trained parameters" in capsys.readouterr().out
    adapter = folder / "train" / "model"
    small = ["dataset.arithmetic.test=10", "dataset.arithmetic.max_new_tokens=4", f"model.adapter={adapter}"]
    assert errata("evaluate", *common, *small) == 0
    (folder,) = tmp_path.glob("evaluate-*")
    results = json.loads((folder / "results.json").read_text())
    assert results["datasets"]["arithmetic"][0]["scores"]["all"]["n"] == 10
    assert len((folder / "iteration_0/arithmetic/test/attempts.jsonl").read_text().splitlines()) == 10


@pytest.mark.slow
def test_rows_that_do_not_fit_are_named(tiny_model, pairs, tmp_path, capsys):
    common = ["model=hf", f"model.path={tiny_model}", f"output_dir={tmp_path}", "tracking=off"]
    assert errata("train", f"data={pairs}", *common, "training.max_length=8") == 2
    said = capsys.readouterr().err
    assert "16 of 16 rows cannot be trained on" in said
    assert "line 1: " in said and "tokens, training.max_length is 8: raise it" in said


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_dry_run_of_the_others(command, pairs, tmp_path, capsys):
    extra = [f"data={pairs}"] if command == "train" else []
    assert errata(command, *extra, f"output_dir={tmp_path}", "dry_run=true") == 0
    assert ("16 rows, 2 updates" if command == "train" else "240 questions") in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--help"], ["improve", "evaluate", "train", "report", "why", "export", "chat", "dry_run=true"]),
        (["--version"], ["errata"]),
        (
            ["improve", "--help"],
            [
                "experiments: demo,",
                "seeds",
                "gpt_4_1_mini, gpt_5_mini, local_server, openai, replay, tutor, vllm",
                "sample_size",
            ],
        ),
        (["evaluate", "--help"], ["errata evaluate", "split: test"]),
        (["train", "--help"], ["errata train data=pairs.jsonl", "learning_rate"]),
        (["why", "--help"], ["RUN", "ROW"]),
        (["improve", "--cfg", "job", "seed=7"], ["seed: 7", "_target_: errata.strategy.le.LE"]),
    ],
    ids=" ".join,
)
def test_help_teaches(arguments, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert errata(*arguments) == 0
    out = capsys.readouterr().out
    for word in words:
        assert word in out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("command", "own", "others"),
    [
        ("improve", {"demo", "lai_mistral_le", "k", "seeds"}, {"alpaca_cot", "coachlm_coach", "alpha"}),
        ("train", {"coachlm_coach", "alpha", "seeds"}, {"demo", "lai", "k"}),
        ("judge", {"coachlm_table", "seeds"}, {"demo", "coachlm_coach", "alpha"}),
    ],
)
def test_experiments_and_sweeps_of_other_commands_are_not_offered(command, own, others, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf/experiments").mkdir(parents=True)
    (tmp_path / "conf/experiments/of_mine.yaml").write_text("# @package _global_\nseed: 3\n")
    assert errata(command, "--help", "--config-dir", "conf", "experiments=of_mine") == 0
    told = capsys.readouterr().out
    lists = re.findall(r"(?m)^(?:experiments|sweeps): (.*)$", told)
    named = {name for names in lists[:2] for name in names.split(", ")}
    assert own | {"of_mine"} <= named and not others & named
    assert lists[2:] == ["null", "null"]  # the settings below the lists
    offered = set()
    for group in ("experiments", "sweeps"):
        monkeypatch.setenv("COMP_LINE", f"errata {command} {group}=")
        assert errata("-sc", "query=bash") == 0
        offered |= {word.partition("=")[2] for word in capsys.readouterr().out.split()}
    assert own <= offered and not others & offered


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("errata ", {"improve", "evaluate", "train", "report", "why", "export", "chat"}),
        ("errata im", {"improve"}),
        ("errata improve strategy=", {"strategy=le", "strategy=le_informed"}),
        ("errata improve experiments=", {"experiments=demo"}),
    ],
)
def test_tab_completion(line, offered):
    environment = {**os.environ, "COMP_LINE": line, "COMP_POINT": str(len(line))}
    command = [str(Path(sys.executable).with_name("errata")), "-sc", "query=bash"]
    out = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert offered <= set(out.split())


def test_a_sweep_with_a_cell_that_cannot_be_shows_no_plan_at_all(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert errata("improve", "-m", "sample_size=5,0,7", "dry_run=true") == 2
    shown = capsys.readouterr()
    assert "plan for" not in shown.out
    assert "sample_size is 0: it must be at least 1 [cell 1 (sample_size=0)]" in shown.err
    assert errata("improve", "-m", "sample_size=5,7", "dry_run=true") == 0
    assert "2 cells" in capsys.readouterr().out


@pytest.mark.parametrize("given", ["sizes={arithmetic: 7}", "sizes.arithmetic=7"])
def test_settings_whose_names_are_the_users_need_no_plus(given, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert errata("improve", "--cfg", "job", given) == 0
    assert "sizes:\n  arithmetic: 7" in capsys.readouterr().out


def test_a_dry_run_prices_without_a_key_and_says_that_the_run_needs_one(tiny_model, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    words = ["improve", "model=hf", f"model.path={tiny_model}", "instructor=gpt_4_1_mini", f"output_dir={tmp_path}/out"]
    assert errata(*words, "dry_run=true") == 0
    said = capsys.readouterr()
    assert "the run itself will end with: no API key" in said.err and "$" in said.out
    assert errata(*words, "dry_run=true", "instructor.base_url=nowhere") == 2
    assert "must start with http://" in capsys.readouterr().err
    assert errata(*words) == 2
    assert "no API key" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_plugin_that_is_not_there_names_its_extra():
    told = [explain("improve", [], Exception(f"Could not find 'hydra/{one}'")) for one in ("sweeper/optuna", "sweeper/x")]
    assert told == [
        "hydra has no sweeper/optuna: it comes with an extra, pip install 'errata[optuna]'",
        "hydra has no sweeper/x",
    ]


HEAVY = {
    "torch", "transformers", "peft", "pytorch_lightning", "deepspeed", "faiss", "scipy", "datasets", "datasketch", "openai",
    "aiohttp", "wandb", "matplotlib", "lm_eval",
}  # fmt: skip
LOADED = """
import sys
from errata.cli import main
sys.argv = ["errata", *sys.argv[1:]]
try:
    main()
finally:
    print("LOADED", *sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
"""


def stored(place):
    """A run that has asked ten questions."""
    run = place / "outputs" / "le-1"
    attempts(run / "iteration_0/arithmetic/test", 5)
    config = {"seed": 0, "model": {"kind": "errata.model.hf.HF", "path": "org/name"}, "dataset": {"arithmetic": {}}}
    (run / "run.json").write_text(json.dumps({"version": __version__, "command": [], "config": config}))
    return run


@pytest.mark.parametrize(
    ("arguments", "code", "may"),
    [
        (["improve", "--help"], 0, ()),
        (["improve", "nosuch=1"], 2, ()),
        (["improve", "strategy=nosuch"], 2, ()),
        (["improve", "sample_size=-1", "strategy=lec", "model=endpoint", "model.model=m"], 2, ()),
        (["improve", "dry_run=true"], 0, ()),
        (["chat", "--help"], 0, ()),
        (["status", "RUN"], 0, ()),
        (["diff", "RUN", "RUN"], 2, ()),
        (["report", "RUN"], 0, ("scipy", "matplotlib")),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_needs_no_model_loads_no_heavy_library(arguments, code, may, tmp_path):
    run = stored(tmp_path)
    words = [sys.executable, "-c", LOADED, *(str(run) if word == "RUN" else word for word in arguments)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == code, done.stderr
    loaded = set(done.stderr.rpartition("LOADED")[2].split())
    assert "errata" in loaded
    assert not loaded & HEAVY - set(may)


def test_help_and_a_misspelt_name_do_not_even_load_what_checks_a_configuration(tmp_path):
    for arguments in (["improve", "--help"], ["train", "sweeps=nosuch"]):
        words = [sys.executable, "-c", LOADED.replace('.partition(".")[0]', ""), *arguments]
        done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, check=False)
        loaded = set(done.stderr.rpartition("LOADED")[2].split())
        assert "errata.config" in loaded and not loaded & {"errata.setup", "errata.command", "numpy", "jinja2"}


@pytest.mark.parametrize(
    ("arguments", "said", "unsaid"),
    [
        (["improve", "experiments=nosuch"], "Those of errata improve are: demo, ", "alpaca_cot"),
        (["revise", "experiments=reflection_dat"], "Did you mean reflection_data or", "lai_mistral"),
        (["train", "experiments=lai_mistra"], "Did you mean errata improve experiments=lai_mistral", "demo"),
        (["train", "sweeps=nosuch"], "Those of errata train are: alpha, models, peft, seeds", "strategy_model"),
        (["train", "experiments=lai_mistral_le"], "is for another command: errata improve experiments=lai_mistral_le", "k"),
        (["improve", "experiments=coachlm_coach"], "is for another command: errata train experiments=coachlm_coach", "key"),
        (
            ["evaluate", "-m", "experiments=lai_mistral_vanilla,llm2llm"],
            "experiments=llm2llm is for another command",
            "In '",
        ),
        (["judge", "sweeps=alpha"], "sweeps=alpha is for another command: errata train sweeps=alpha", "no option"),
    ],
)
def test_experiments_and_sweeps_of_other_commands_are_told_apart(arguments, said, unsaid, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert errata(*arguments) == 2
    shown = capsys.readouterr().err
    assert said in shown
    assert unsaid not in shown.replace(said, "") or len(unsaid) < 4


@pytest.mark.parametrize("command", ["report", "status", "diff", "reproduce", "why", "export"])
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("outputs/le-1/run.json", "run.json is a file: name the run that it is of, outputs/le-1"),
        ("notes.txt", "notes.txt is a file: a folder is expected, outputs/NAME-HASH"),
        ("nowhere", "nowhere is not there; expected outputs/NAME-HASH"),
        (".", "is no run folder (it has no run.json)"),
    ],
)
def test_what_is_no_stored_run_is_told_alike(command, given, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    stored(tmp_path)
    Path("notes.txt").write_text("")
    more = {"why": ["1"], "diff": ["outputs/le-1"]}.get(command, [])
    assert errata(command, given, *more) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("path", "bare", "why"),
    [
        ("org/name", False, ""),
        ("org/Some-7B-v0.1-GGUF", False, ""),
        ("gsm8k", True, ""),
        ("gsm8k", False, "and no hub id (org/name) either"),
        ("data/gsm8k", True, "data/ is a folder here"),
        ("outputs/x/train/model", False, "no hub id"),
        ("./model", True, "no hub id"),
        ("../model", True, "no hub id"),
        ("/model", True, "no hub id"),
        ("~/model", True, "no hub id"),
        ("org/name/", True, "no hub id"),
        ("set/train.jsonl", True, "no hub id"),
        ("train.parquet", True, "no hub id"),
        ("", True, "no hub id"),
    ],
)
def test_a_path_of_this_machine_is_told_from_a_hub_id(path, bare, why, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    found = no_hub_id(path, bare)
    assert why in found and bool(found) == bool(why)


def test_a_missing_local_path_is_one_error_before_any_network(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()

    def never(*_):
        raise AssertionError("the network was tried")

    monkeypatch.setattr("socket.getaddrinfo", never)
    words = ["improve", "dataset=gsm8k", "dataset.gsm8k.path=data/gsm8k", "model=hf", "model.path=outputs/x/train/model"]
    assert errata(*words, "strategy=lec", "retrieval=bert", "retrieval.path=./bert") == 2
    said = capsys.readouterr().err
    for name, path in (("dataset.gsm8k", "data/gsm8k"), ("model", "outputs/x/train/model"), ("retrieval", "./bert")):
        assert f"{name}.path is {path!r}: no such" in said
    assert (
        errata("revise", "corpus=[alpaca]", "corpus.alpaca.path=null", "corpus.alpaca.hub=data/a.json", "reviser=none") == 2
    )
    assert "corpus.alpaca.hub is 'data/a.json': that is no hub id (org/name)" in capsys.readouterr().err


def test_a_name_of_smoke_runs_is_refused_but_for_a_smoke_run_once_more(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["evaluate", "model=recorded", "model.path=answers.jsonl", "dataset.arithmetic.test=2"]
    Path("answers.jsonl").write_text("")
    assert errata(*words, "name=smoke_x", "dry_run=true") == 2
    assert "name is 'smoke_x': names in smoke_... are those of smoke=true" in capsys.readouterr().err
    assert errata(*words, "name=smokers", "dry_run=true") == 0
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        setup = check("evaluate", compose("evaluate", overrides=words[1:]))
    assert check("evaluate", setup.resolved | {"name": "smoke_evaluate"}).settings.name == "smoke_evaluate"


def test_a_layout_that_nobody_describes_is_a_problem(tmp_path):
    folder = tmp_path / "le" / "poem"
    folder.mkdir(parents=True)
    (folder / "user.txt").write_text("{question} {layout}")
    with pytest.raises(ConfigError, match=r"layout 'poem' is described nowhere: write .*poem\.txt \(there are code, "):
        load_prompts("le", "poems", "poem", str(tmp_path))
    (folder / "user.txt").write_text("{question} {response} {n}")
    said = LE(prompts_dir=str(tmp_path), structured=True).problems({"poems": "poem"})
    assert said == ["strategy.structured: layout 'poem' has no JSON schema (code, multiple_choice, word_problem have one); "
                    "set it to false"]  # fmt: skip


@pytest.mark.parametrize("kind", [ValueError, ConnectionError])
def test_a_fault_of_ours_is_told_whole_but_for_the_keys(kind, monkeypatch, capsys):
    def broken(_):
        raise kind("sent with key-of-the-teacher")

    monkeypatch.setenv("TEACHER_KEY", "key-of-the-teacher")
    monkeypatch.setattr("errata.cli._dispatch", broken)
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr().err
    assert ended.value.code == 1
    assert f"{kind.__name__}: sent with (hidden)" in said and "in broken" in said
