"""Runs with a file that cannot be read: the file is named with what helps; beside others the run is left out, and said to be."""

import pytest
from page_runs import made_run
from tests.report.test_report_command import reported, write

from errata.errors import RunFolderError
from errata.report.diff_results import result_tables
from errata.report.results import manifest, read
from errata.report.revisions import collect_revisions
from errata.report.verdicts import collect_verdicts

TORN = {
    "answers": "iteration_1/toy/test/attempts.jsonl",
    "a stage": "iteration_1/toy/test/stage.json",
    "rejections": "iteration_1/toy/verify/rejections.jsonl",
    "a training": "iteration_1/train/summary.json",
}


@pytest.mark.parametrize("name", TORN)
@pytest.mark.parametrize("content", [b'{"half', b'{"question": "\xe9"}'])
def test_a_file_that_cannot_be_read_is_named(tmp_path, name, content):
    run = made_run(tmp_path)
    path = run / TORN[name]
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    with pytest.raises(RunFolderError, match="Remove its folder and give the run's command again") as raised:
        read(run)
    assert str(path) in str(raised.value)


def test_settings_that_are_no_mapping_are_no_manifest(tmp_path):
    (tmp_path / "run.json").write_text('{"version": "0.1.0", "config": []}')
    with pytest.raises(RunFolderError, match="no run's manifest"):
        manifest(tmp_path)


def test_a_damaged_run_is_left_out_of_a_report_of_several(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("errata.report.write.draw", lambda groups, folder: ([], []))
    good, bad = write(tmp_path, "a-1", {"gsm8k": [20, 50]}), write(tmp_path, "b-2", {"gsm8k": [20, 60]}, strategy="lec")
    (bad / "iteration_1/gsm8k/test/attempts.jsonl").write_text('{"question"')
    out = " ".join(reported(capsys, good, bad, "--to", tmp_path / "r").split())
    assert "left out: b-2: " in out and "cannot be read" in out and "50.0" in out and "60.0" not in out


def test_a_folder_of_runs_is_in_the_order_of_its_numbers(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("errata.report.write.draw", lambda groups, folder: ([], []))
    for k in (10, 1, 2):
        write(tmp_path / "o", f"k_{k}-0a", {"gsm8k": [20, 50 + k]}, retrieval={"k": k})
    out = reported(capsys, tmp_path / "o", "--to", tmp_path / "r")
    places = [out.index(f" {k} ", out.index("start")) for k in (1, 2, 10)]
    assert places == sorted(places)


def test_runs_that_were_asked_other_questions_of_the_same_ids_are_not_paired(tmp_path):
    first = write(tmp_path, "a-1", {"gsm8k": [20, 50]}, n=60)
    other = write(tmp_path, "b-2", {"gsm8k": [20, 50]}, n=60, text="else ")
    assert [row[-1] for row in result_tables(first, other)[0].rows] == ["no question in common"] * 2
    more = write(tmp_path, "c-3", {"gsm8k": [20, 50]}, n=100)
    assert [row[-1] for row in result_tables(first, more)[0].rows] == ["on the 60 questions of both"] * 2


def test_a_judging_and_a_revision_name_their_damaged_file_too(tmp_path):
    for folder, read_it in (("judge", collect_verdicts), ("revise", collect_revisions)):
        path = tmp_path / folder / "stage.json"
        path.parent.mkdir()
        path.write_text("{")
        (tmp_path / "run.json").write_text('{"version": "0.1.0", "config": {}}')
        with pytest.raises(RunFolderError, match="cannot be read") as raised:
            read_it(tmp_path)
        assert str(path) in str(raised.value)
        path.unlink()
