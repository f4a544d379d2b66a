"""What is shown where there is no terminal, how titles break, and what is told once."""

import logging
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from errata import terminal
from errata.report.tables import TextTable
from errata.report.write import for_terminal


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(terminal, "time", SimpleNamespace(monotonic=lambda: now[0], strftime=time.strftime))
    return now


def test_a_long_stage_gives_a_sign_of_life_without_a_terminal(clock, capsys):
    with terminal.bar("iteration_0/toy/test", 240, done=10) as advance:
        for _ in range(9):
            clock[0] += 20
            advance(5, "40.0% right")
    said = capsys.readouterr().err.splitlines()
    assert [line.partition("] ")[2].split() for line in said] == [
        ["iteration_0/toy/test", str(count), "of", "240", "40.0%", "right"] for count in (25, 40, 55)
    ]


def test_a_short_stage_says_nothing_meanwhile(clock, capsys):
    with terminal.bar("corpus", 0) as advance:
        clock[0] += 59
        advance(3)
    assert capsys.readouterr().err == ""


def test_a_title_is_as_wide_as_the_terminal_not_as_its_table(capsys):
    title = "toy (test, corrected): accuracy, [95 % interval]"
    terminal.console().print(for_terminal(TextTable(title, ("a", "n"), [("all", "1")])))
    assert title in capsys.readouterr().out.splitlines()


def test_what_was_said_of_the_grid_is_not_said_again_by_its_cells(caplog):
    log = logging.getLogger("errata")
    for anew in (True, False, False, True):
        with terminal.said_once(anew=anew), caplog.at_level(logging.INFO, logger="errata"):
            log.info("the same")
            log.info("the same")
    assert caplog.messages == ["the same"] * 2


@pytest.mark.slow
def test_the_training_process_is_quiet_once_lightning_is_imported():
    code = (
        "import logging, runpy, sys; sys.argv = ['training', '/nowhere']\n"
        "try: runpy.run_module('errata.training', run_name='__main__')\n"
        "except BaseException: pass\n"
        "assert 'pytorch_lightning' in sys.modules\n"
        "print(logging.getLogger('pytorch_lightning').level)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split()[-1] == str(logging.ERROR)
