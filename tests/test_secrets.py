"""The key and secret headers stay in memory: not on disk, not on the screen, after success and after each failure."""

import gzip
import os
import subprocess
import sys

import pytest

from tests.instructor.test_openai import KEY, Server
from tests.test_loop import errata

HEADER = "header-secret-5d1c"


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("MY_HEADER", HEADER)
    running = Server()
    yield running
    running.stop()


def told_everywhere(folder):
    """Every byte that a run has left in a folder, unpacked."""
    for path in folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            yield path, gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content


SLOW = [
    pytest.param(f"{how}", marks=pytest.mark.slow)
    for how in ("401 always", "garbage", "403 always", "404 always", "500 always", "400 always")
]


@pytest.mark.parametrize("meets", ["success", *SLOW])
def test_no_secret_is_written_or_shown(meets, server, tiny_model, tmp_path):
    prompts = tmp_path / "prompts/le/arithmetic"
    prompts.mkdir(parents=True)
    (prompts / "user.txt").write_text(f"{meets} {{question}}")
    command = [
        sys.executable, "-m", "errata.cli", "improve", "model=hf", f"model.path={tiny_model}", "tracking=offline",
        "iterations=1", "sample_size=8", "dataset.arithmetic.train=6", "dataset.arithmetic.test=4",
        "dataset.arithmetic.max_new_tokens=6", f"strategy.prompts_dir={tmp_path / 'prompts'}", "instructor=openai",
        "instructor.model=m", f"instructor.base_url={server.url}", "instructor.max_retries=1", "instructor.timeout_s=5",
        "+instructor.headers_env.X-Mine=MY_HEADER",
    ]  # fmt: skip
    # not the service of W&B that other tests have started in this process
    environment = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}
    ended = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert ended.returncode == (0 if meets == "success" else 2), ended.stderr
    for secret in (KEY, HEADER):
        assert secret not in ended.stdout + ended.stderr
        for path, content in told_everywhere(tmp_path):
            assert secret.encode() not in content, path
    assert any(path.suffix == ".wandb" for path, _ in told_everywhere(tmp_path))
    assert server.headers["X-Mine"] == HEADER
    assert server.headers["Authorization"] == f"Bearer {KEY}"


def test_no_secret_stands_in_the_composed_config(tmp_path):
    command = [sys.executable, "-m", "errata.cli", "improve", "instructor=openai", "instructor.model=m", "--cfg", "job"]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env={"OPENAI_API_KEY": KEY, "PATH": ""})
    assert "api_key_env: OPENAI_API_KEY" in ended.stdout
    assert KEY not in ended.stdout + ended.stderr


@pytest.mark.parametrize("place", ["errata.setup._draft", "errata.command.improve"])
@pytest.mark.parametrize("held", ["api_key_file", "api_key_env"])
def test_a_crash_is_told_without_the_key_that_only_the_config_leads_to(
    place, held, tiny_model, tmp_path, monkeypatch, capsys
):
    key, file = "plain-words-no-pattern-knows", tmp_path / "teacher"
    file.write_text(f"{key}\n")
    monkeypatch.setenv("TEACHER", key)
    monkeypatch.chdir(tmp_path)

    def crash(*_):
        raise RuntimeError(f"nobody foresaw {key}") from ValueError(key)

    monkeypatch.setattr(place, crash)
    words = ["model=hf", f"model.path={tiny_model}", "instructor=openai", "instructor.model=m", "tracking=off"]
    words += ["instructor.api_key_env=null", f"instructor.api_key_file={file}"] if held == "api_key_file" else []
    words += ["instructor.api_key_env=TEACHER"] if held == "api_key_env" else []
    assert errata("improve", *words) == 1
    told = capsys.readouterr()
    assert "RuntimeError: nobody foresaw (hidden)" in told.err and "ValueError: (hidden)" in told.err
    assert key not in told.out + told.err
