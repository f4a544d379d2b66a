"""Reports over runs that were asked different questions, or that are older than what a report would like to say."""

from tests.report.test_report_command import reported, write
from tests.stored_run import records

from errata.report.arms import gather
from errata.report.page import _told
from errata.report.results import read
from errata.report.run_facts import key_figures
from errata.report.tables import contamination_line


def test_the_page_counts_each_question_once_whatever_table_it_stands_in(tmp_path):
    runs = [
        read(write(tmp_path, "a-1", {"gsm8k": [20, 50]}, n=100)),
        read(write(tmp_path, "b-2", {"gsm8k": [10, 20]}, n=40, strategy="lec")),  # the first 40 of them
        read(write(tmp_path, "c-3", {"gsm8k": [10, 20]}, n=30, text="else ", strategy="lec")),  # others, of the same ids
    ]
    groups = gather(runs)
    assert dict(key_figures([arm for group in groups for arm in group]))["test questions"] == "130"
    assert [told for told, _ in _told(groups)] == [f"Table {n}: " for n in range(1, len(groups) + 1)] and len(groups) > 1


def test_a_wall_that_was_not_noted_is_not_called_empty(tmp_path, capsys):
    run = write(tmp_path, "old-1", {"gsm8k": [20, 50]})
    for stage, counts in (("instruct", {"requests": 3}), ("verify", {"kept": 2, "rejected": 1})):
        records(run / "iteration_1/gsm8k" / stage, counts, examples=[], rejections=[])
    assert "how many test items the wall holds is not recorded" in contamination_line(read(run).results)
    other = write(tmp_path, "old-2", {"gsm8k": [20, 60]}, strategy="lec")
    out = " ".join(reported(capsys, run, other, "--to", tmp_path / "r").split())
    assert "the wall holds is not recorded" in out and "test items of nothing" not in out
