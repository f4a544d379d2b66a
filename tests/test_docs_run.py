"""What README.md and docs/ show is really run, where that takes seconds and no network: dry runs, and commands on a stored run."""

import json
import os
import shutil
import sys
from io import StringIO
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra

from errata.cli import _CONFIGURED, _STORED, main
from tests.docs_blocks import PAGES, ROOT, commands
from tests.test_loop import SMALL

SHARED = Path(os.environ.get("ERRATA_DATA", ROOT.parent / "shared" / "data"))
pytestmark = pytest.mark.slow
QUIET = ("dry_run=true", "--cfg")
NEEDS = {  # a word of the command: what it needs that is not at hand
    "--push": "the hub", "org/name": "the hub", "--adapter": "a base on the hub", "--watch": "somebody who watches",
    "outputs/sweeps": "a sweep", "_*": "several runs", "best": "a run with policy.patience", "JUDGE_RUN": "a judge's run", "SWEEP": "a sweep", "corpus=": "published corpora",
    "mistralai/": "the hub", "lai_mistral": "another run", "experiments=": "published benchmarks", "prompts_folder": "published benchmarks",
}  # fmt: skip
OFFLINE_EXPERIMENTS = ("experiments=demo", "experiments=demo_strategies")


def run_here(words, capsys=None):
    """The exit code of a command in this process, and what it printed."""
    GlobalHydra.instance().clear()
    before, sys.argv = sys.argv, list(words)
    try:
        main()
    except SystemExit as end:
        return end.code, "".join(capsys.readouterr()) if capsys else ""
    finally:
        sys.argv = before
    return 0, ""


@pytest.fixture(scope="module")
def place(tiny_model, tmp_path_factory):
    """A folder with two small runs, a model, and files under the names that the pages use."""
    folder = tmp_path_factory.mktemp("shown")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, strategy in (("RUN_A", "le"), ("RUN_B", "le_informed")):
            code, _ = run_here(
                ["errata", "improve", *SMALL, "model=hf", f"model.path={tiny_model}", f"name={name}", f"strategy={strategy}"]
            )
            assert code == 0
    for name in ("RUN_A", "RUN_B"):
        (made,) = (folder / "outputs").glob(f"{name}-*")
        shutil.copytree(made, folder / "outputs" / name)
        if name == "RUN_A":
            shutil.copytree(made, folder / "outputs" / "RUN")
    for name in ("FOLDER", "my-model"):
        (folder / name).symlink_to(tiny_model)
    rows = [{"prompt": f"What is {n} + 1?", "response": str(n + 1)} for n in range(20)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pairs = [{"instruction": row["prompt"], "input": "", "output": row["response"]} for row in rows]
    (folder / "pairs.json").write_text(json.dumps(pairs))
    if SHARED.is_dir():
        (folder / "DATA").symlink_to(SHARED)
    return folder


def why_not(line):
    """Why a command is not run here, or None."""
    program, *words = line.words
    if program != "errata" or not words or words[0] not in (*_CONFIGURED, *_STORED):
        return "not a command of ours"
    if "--config-dir" in words:
        return "run by tests/test_docs_extending.py"
    if words[0] == "reproduce":
        return "it trains again: tests/test_reproduce.py"
    if words[0] in _CONFIGURED and not any(word in words for word in QUIET) and "preview=" not in line.text:
        return "it would work for minutes"
    if "DATA" in line.text and not SHARED.is_dir():
        return f"no data in {SHARED}"
    rest = [word for word in words if word not in OFFLINE_EXPERIMENTS]
    return next((f"it needs {needs}" for sign, needs in NEEDS.items() if any(sign in word for word in rest)), None)


RUN = [line for page in PAGES for line in commands(page) if why_not(line) is None]


def test_enough_is_run():
    assert len(RUN) >= 15
    assert {line.words[1] for line in RUN} >= {"improve", "train", "revise", "report", "why", "export", "chat", "ledger"}


@pytest.mark.parametrize("line", RUN, ids=lambda line: f"{line.place} {line.words[1]}")
def test_what_is_shown_runs(line, place, monkeypatch, capsys):
    for leftover in (place / "my-model-made", place / "outputs/RUN/export"):
        shutil.rmtree(leftover, ignore_errors=True)
    monkeypatch.chdir(place)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-shown")  # nothing is sent
    monkeypatch.setattr("sys.stdin", StringIO())  # a chat without a question
    stand_ins = {"my-model": "my-model-made"} if line.words[1] == "export" else {"OTHER": "outputs/ledger.sqlite"}
    words = [stand_ins.get(word, word) for word in line.words]
    words = ["outputs/ledger.sqlite" if word == "LEDGER" else word for word in words]
    words = [str(next(Path("outputs").glob("RUN_A-*"))) if word.startswith("outputs/demo-") else word for word in words]
    if words[1] in _CONFIGURED and not any(word.startswith("model=") for word in words):
        words += ["model=hf", "model.path=FOLDER"]
    code, said = run_here(words, capsys)
    assert code == 0, f"{line.place}: {line.text}\n{said[-2000:]}"
