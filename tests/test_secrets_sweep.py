"""A sweep's own files hold no secret either: Hydra's, the launchers' logs and pickles, W&B's."""

import os
import re
import subprocess
import sys

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from errata.config import config_folder, register
from errata.run_folder import without_headers
from errata.sweep_headers import hide_headers, words_of
from tests.instructor.test_openai import KEY
from tests.test_loop import errata
from tests.test_secrets import HEADER, server, told_everywhere  # noqa: F401 - server is a fixture

PLAIN = "plain-header-77ab"


@pytest.mark.slow
def test_no_secret_is_in_any_file_of_a_sweep(server, tiny_model, tmp_path):  # noqa: F811
    """With the launcher that writes most: pickles of the cells, what they returned, their output."""
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="pip install 'errata[slurm]'")
    command = [
        sys.executable, "-m", "errata.cli", "improve", "-m", "hydra/launcher=submitit_local", "model=hf", f"model.path={tiny_model}",
        "tracking=offline", "iterations=1", "sample_size=8", "dataset.arithmetic.train=6", "dataset.arithmetic.test=4",
        "dataset.arithmetic.max_new_tokens=6", "instructor=openai", "instructor.model=m", f"instructor.base_url={server.url}",
        "instructor.max_retries=0", "instructor.timeout_s=5", f"instructor.headers.X-Plain={PLAIN}",
        "instructor.headers_env.X-Mine=MY_HEADER", "training.max_length=8", "seed=0,1",
    ]  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}
    ended = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert server.headers["X-Plain"] == PLAIN, ended.stderr[-3000:]
    assert server.headers["X-Mine"] == HEADER
    assert server.headers["Authorization"] == f"Bearer {KEY}"
    files = dict(told_everywhere(tmp_path))
    assert any(path.name == "multirun.yaml" for path in files)
    assert any(path.suffix == ".wandb" for path in files)
    assert any(path.suffix == ".pkl" for path in files)
    for secret in (KEY, PLAIN, HEADER):
        assert secret not in ended.stdout + ended.stderr
        assert [str(path) for path, content in files.items() if secret.encode() in content] == []


def composed(*words):
    register()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        return compose("improve", overrides=["instructor=openai", *words], return_hydra_config=True)


@pytest.mark.parametrize("word", ["++instructor.headers.X={0}", "++instructor.headers={{X: '{0}'}}"])
def test_a_header_on_the_command_line_becomes_a_variable_that_cells_inherit(word, monkeypatch):
    config = composed(word.format("some value"))
    hide_headers(config)
    assert "some value" not in OmegaConf.to_yaml(config)
    (renamed,) = [text for text in words_of(config) if "headers" in text]
    found = re.fullmatch(r"\+\+instructor\.headers\.X=\$\{oc\.env:(\w+)\}", renamed)
    monkeypatch.setenv(found[1], os.environ[found[1]])  # gone again with the test
    assert composed(*words_of(config)[1:]).instructor.headers.X == "some value"


def test_headers_among_other_settings_are_left_out_and_no_sweeps(capsys, tmp_path, monkeypatch):
    word = "++instructor={max_tokens: 9, headers: {X: some value}}"
    assert without_headers(["a=b", word]) == ["a=b", "++instructor=(left out)"]
    assert without_headers(["a={headers_env: {X: NAME}}", "name=headers"]) == ["a={headers_env: {X: NAME}}", "name=headers"]
    monkeypatch.chdir(tmp_path)
    assert errata("improve", "-m", "instructor=openai", "instructor.model=m", word, "seed=0,1", "dry_run=true") == 2
    assert "give those by themselves" in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.rglob("*"))


@pytest.mark.parametrize("word", ["instructor.headers.X=one,two", "gate.consensus.instructor.headers.X=one,two"])
def test_headers_cannot_be_swept_over(word, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert errata("improve", "-m", word, "dry_run=true") == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "give a header one, beside the grid" in said
    assert not list(tmp_path.rglob("*"))
