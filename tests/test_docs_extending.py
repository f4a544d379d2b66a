"""docs/extending.md: every part that it adds is added as it says, and does what it says."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from errata.jsonl import decode_lines
from errata.records import Attempt, Example, Rejection, Reply, Revision
from tests.docs_blocks import ROOT, commands, files, section
from tests.test_loop import errata

PAGE = ROOT / "docs" / "extending.md"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty folder with the page's files, on Python's path."""
    for name, text in files(PAGE).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("my_")]:
        del sys.modules[name]


def ended(line):
    """The exit code of a command of the page."""
    return errata(*line.words[1:])


def runs(heading, capsys):
    """The run folders that the section's commands leave, in their order; each must end well."""
    made = []
    for line in commands(PAGE, section(PAGE, heading)):
        known = set(Path("outputs").glob("*-*")) if Path("outputs").is_dir() else set()
        assert ended(line) == 0, f"{line.place}: {capsys.readouterr().err}"
        made += sorted(set(Path("outputs").glob("*-*")) - known)
    assert made, f"{PAGE.name}: no commands under {heading!r}"
    return made


def read(run, pattern, kind):
    (file,) = run.glob(pattern)
    return decode_lines(file.read_bytes(), kind)


def accuracy(run):
    attempts = read(run, "iteration_0/*/*/attempts.jsonl", Attempt)
    return sum(attempt.correct for attempt in attempts) / len(attempts)


def test_a_model(place, capsys):
    right, off_by_one = map(accuracy, runs("A model", capsys))
    assert 0.2 <= right <= 0.22
    assert off_by_one == 0


@pytest.mark.slow
def test_a_module_is_found_by_its_path_in_another_process(place):
    line = commands(PAGE, section(PAGE, "A model"))[0]
    program = [sys.executable, "-m", "errata.cli", *line.words[1:]]
    ended = subprocess.run(program, env={**os.environ, "PYTHONPATH": "."}, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


def test_a_strategy(place, capsys):
    (run,) = runs("A strategy", capsys)
    replies = read(run, "iteration_1/*/instruct/replies.jsonl", Reply)
    assert len(replies) == 8
    assert len(read(run, "iteration_1/mix/train.jsonl", Example)) == 40


def test_a_dataset(place, capsys):
    assert [round(accuracy(run), 2) for run in runs("A dataset", capsys)] == [0.5, 0.33]


def test_an_instructor(place, capsys):
    (run,) = runs("An instructor", capsys)
    replies = read(run, "iteration_1/*/instruct/replies.jsonl", Reply)
    assert [reply.failure for reply in replies] == [None, None]
    assert sum(reply.text.count("Question:") for reply in replies) == 6
    assert {row.reason for row in read(run, "iteration_1/*/verify/rejections.jsonl", Rejection)} == {"duplicate"}
    rows = read(run, "iteration_1/mix/train.jsonl", Example)
    assert {row.response for row in rows} == {"Lima", "Cairo", "Riga"}


def test_an_instructor_that_fails_is_a_counted_failure(place, capsys):
    (place / "atlas.py").write_text("import sys; sys.exit(3)")
    (line,) = commands(PAGE, section(PAGE, "An instructor"))
    assert ended(line) != 0
    assert "ended with 3" in capsys.readouterr().err


def test_a_corpus(place, capsys):
    (run,) = runs("A corpus", capsys)
    rows = [json.loads(line) for line in (run / "final/train.alpaca.jsonl").read_text().splitlines()]
    assert len(rows) == 3
    assert "100 degrees Celsius." in {row["output"] for row in rows}


def test_a_reviser(place, capsys):
    (run,) = runs("A reviser", capsys)
    revisions = read(run, "revise/revisions.jsonl", Revision)
    assert {one.id: (one.status, one.final.output) for one in revisions} == {
        "faq/0": ("revised", "A soft one four minutes, a hard one ten."), "faq/1": ("kept", "100 degrees Celsius."),
        "faq/2": ("revised", "Eight."),
    }  # fmt: skip
