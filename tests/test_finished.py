"""The mark of a finished run: what counts as changed, what does not, and what moves with the run."""

import json
import os
import shutil
from pathlib import Path

import pytest

from errata.finished import MARK, inputs_of, mark, unfinished


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working folder with a run that has read `data/rows.jsonl`."""
    home = tmp_path / "home"
    (home / "data/more").mkdir(parents=True)
    (home / "data/rows.jsonl").write_text("one\n")
    (home / "outputs/le-1/mix").mkdir(parents=True)
    (home / "outputs/le-1/mix/stage.json").write_text("{}")
    monkeypatch.chdir(home)
    begin(home)
    return home


def begin(home):
    run = home / "outputs/le-1"
    (run / "run.json").write_text("{}")
    return run


def marked(home, settings="data/rows.jsonl"):
    run = begin(home)
    mark(run, inputs_of(run, {"dataset": {"path": settings}}))
    return run


def test_the_same_size_and_time_with_other_content_is_a_change(place):
    run = marked(place)
    assert unfinished(run) is None
    rows = place / "data/rows.jsonl"
    stat = rows.stat()
    rows.write_text("two\n")
    os.utime(rows, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert unfinished(run) == "data/rows.jsonl has changed"


def test_a_file_that_was_only_touched_or_copied_back_has_not_changed(place):
    run = marked(place)
    os.utime(place / "data/rows.jsonl", (1, 1))
    assert unfinished(run) is None
    (place / "data/rows.jsonl").unlink()
    assert unfinished(run) == "data/rows.jsonl is gone"
    (place / "data/rows.jsonl").write_text("one\n")
    assert unfinished(run) is None


def test_a_folder_is_known_by_all_that_is_in_it(place):
    run = marked(place, "data")
    assert unfinished(run) is None
    (place / "data/more/rows.jsonl").write_text("more\n")
    assert unfinished(run) == "data has changed"


def test_a_large_file_is_known_by_size_and_time(place, monkeypatch):
    monkeypatch.setattr("errata.finished._LARGE", 2)
    run = marked(place)
    os.utime(place / "data/rows.jsonl", (1, 1))
    assert unfinished(run) == "data/rows.jsonl has changed"


def test_outputs_may_move_alone_or_with_their_data(place, tmp_path):
    marked(place)
    shutil.move(place / "outputs", tmp_path / "elsewhere")
    assert unfinished(tmp_path / "elsewhere/le-1") is None
    shutil.move(tmp_path / "elsewhere", place / "outputs")
    os.chdir(tmp_path)
    shutil.move(place, tmp_path / "new_home")
    assert unfinished(tmp_path / "new_home/outputs/le-1") is None
    (tmp_path / "new_home/data/rows.jsonl").write_text("two\n")
    assert unfinished(Path("new_home/outputs/le-1")) == "data/rows.jsonl has changed"


@pytest.mark.parametrize("given", ["data/rows.jsonl", "data"])
def test_what_changed_under_the_run_makes_it_unfinished(place, given):
    """Also deep in a folder that is named without a slash, as prompts are."""
    (place / "data/more/user.txt").write_text("one")
    run = begin(place)
    inputs = inputs_of(run, {"strategy": {"prompts_dir": given}})
    (place / "data/rows.jsonl").write_text("two\n")
    if given == "data":
        (place / "data/rows.jsonl").write_text("one\n")
        (place / "data/more/user.txt").write_text("two")
    mark(run, inputs)
    assert unfinished(run) == f"{given} has changed"


def test_a_run_that_is_read_may_be_reported_on_since(place):
    other = place / "outputs/le-0"
    (other / "mix").mkdir(parents=True)
    for name in ("run.json", "mix/stage.json"):
        (other / name).write_text("{}")
    run = marked(place, "outputs/le-0")
    (other / "report.md").write_text("since")
    assert unfinished(run) is None
    (other / "mix/stage.json").write_text('{"outputs": 1}')
    assert unfinished(run) == "outputs/le-0 has changed"


def test_folders_that_hold_the_run_are_no_inputs_and_a_broken_mark_is_said(place):
    run = begin(place)
    mark(run, inputs_of(run, {"a": "outputs", "b": ["no/such/file", "le"], "c": 3}))
    assert json.loads((run / MARK).read_text())["inputs"] == {} and unfinished(run) is None
    (run / "mix/stage.json").unlink()
    assert unfinished(run) == "its stage mix is gone"
    (run / MARK).write_text('{"version": 1')
    assert unfinished(run) == f"{MARK} is damaged, or of an earlier form"
    (run / MARK).unlink()
    assert unfinished(run) == "it has not come to its end"
