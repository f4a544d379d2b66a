import fcntl
import json
import os
import threading

import pytest

from errata.errors import RunFolderError
from errata.jsonl import Journal
from errata.records import Parsed
from errata.run_folder import RunFolder, changed_fields, read_stage
from errata.version import __version__

ONE, TWO = Parsed("one"), Parsed("two\u2028lines")


def test_a_journal_keeps_whole_records_and_drops_a_half(tmp_path):
    path = tmp_path / "x.journal"
    Journal(path, Parsed).append([ONE, TWO])
    whole = path.read_bytes()
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        kept = Journal(path, Parsed)
        assert kept.records == [ONE, TWO][: whole[:cut].count(b"\n")]
        kept.append([ONE])
        assert Journal(path, Parsed).records[-1] == ONE


def test_a_finished_stage_is_skipped_and_a_half_done_one_goes_on(tmp_path):
    with RunFolder(tmp_path / "run", {}) as folder:
        stage = folder.stage("1/parse", replies="a")
        stage.journal("x", Parsed).append([ONE])
        again = folder.stage("1/parse", replies="a")
        assert not again.finished
        assert again.journal("x", Parsed).records == [ONE]
        again.finish({"rows": 1}, rows=[ONE])
        third = folder.stage("1/parse", replies="a")
        assert third.finished
        assert third.read("rows", Parsed) == [ONE]
        assert not list(third.folder.glob("*.journal"))


def test_a_changed_input_is_named_and_the_stage_done_again(tmp_path):
    with RunFolder(tmp_path / "run", {}) as folder:
        folder.stage("s", replies="a", gate={"n": 1, "m": 2}).finish({}, rows=[ONE])
        stage = folder.stage("s", replies="a", gate={"n": 3, "m": 2})
        assert stage.changed == ["gate.n"]
        assert not stage.finished
        assert not (stage.folder / "rows.jsonl").exists()


def test_outputs_that_were_tampered_with_are_made_again(tmp_path):
    with RunFolder(tmp_path / "run", {}) as folder:
        folder.stage("s").finish({}, rows=[ONE])
        (tmp_path / "run" / "s" / "rows.jsonl").write_text("")
        assert folder.stage("s").changed == ["outputs on disk"]


def test_stages_of_a_former_run_that_went_further_are_dropped(tmp_path):
    with RunFolder(tmp_path / "run", {}) as folder:
        for name in ("iteration_1/mix", "iteration_2/mix"):
            folder.stage(name).finish({}, rows=[ONE])
    with RunFolder(tmp_path / "run", {}) as folder:
        folder.stage("iteration_1/mix")
        folder.drop_unvisited()
    assert (tmp_path / "run/iteration_1/mix").exists()
    assert not (tmp_path / "run/iteration_2/mix").exists()


def test_a_folder_is_held_by_one_process_at_a_time(tmp_path):
    with RunFolder(tmp_path / "run", {}):
        with pytest.raises(RunFolderError, match="in use"):
            RunFolder(tmp_path / "run", {})
    RunFolder(tmp_path / "run", {}).close()


def test_another_version_is_refused_by_name(tmp_path):
    RunFolder(tmp_path / "run", {}).close()
    manifest = tmp_path / "run" / "run.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"version": "0.0.1"}))
    with pytest.raises(RunFolderError, match=rf"written by Errata 0\.0\.1, this is {__version__}"):
        RunFolder(tmp_path / "run", {})


def test_an_unwritable_place_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match="output_dir"):
        RunFolder(tmp_path / "file" / "run", {})


def test_the_run_log_holds_a_line_a_stage(tmp_path):
    with RunFolder(tmp_path / "run", {}) as folder:
        folder.stage("s").finish({"rows": 2, "reasons": {"a": 1}}, rows=[])
    assert "2 rows (a 1)" in (tmp_path / "run" / "run.log").read_text()


def test_changed_fields_are_dotted():
    assert changed_fields({"a": {"b": 1, "c": 2}, "d": 1}, {"a": {"b": 1, "c": 3}, "e": 1}) == ["a.c", "d", "e"]


def test_stage_records_survive_a_round_trip(tmp_path):
    with RunFolder(tmp_path / "run", {}) as folder:
        folder.stage("s", x=1).finish({"rows": 1}, rows=[ONE])
    stored = read_stage(tmp_path / "run" / "s")
    assert stored.finished
    assert stored.inputs == {"version": __version__, "x": 1}
    assert os.listdir(tmp_path / "run" / "s").count("stage.json") == 1  # noqa: PTH208


def test_a_look_at_the_lock_does_not_stop_a_run(tmp_path, monkeypatch):
    monkeypatch.setattr("errata.run_folder._LOOKS", 1200)  # the thread that ends the look may be slow to run
    (tmp_path / "run").mkdir()
    with (tmp_path / "run" / ".lock").open("w") as look:
        fcntl.flock(look, fcntl.LOCK_SH)
        timer = threading.Timer(0.1, fcntl.flock, (look, fcntl.LOCK_UN))
        timer.start()
        with RunFolder(tmp_path / "run", {}):
            pass
        timer.join()
