"""Sweeps that continue: their folder, their cells, what is passed over and what is done again, and `errata status`."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from errata import cell as cells
from errata import status_command
from errata.dataset.arithmetic import Arithmetic
from errata.errors import RunFolderError
from errata.lock import is_held, locked
from errata.run_folder import Stage, without_headers
from errata.stage.evaluate import evaluate
from errata.status_command import run as status
from errata.sweep import SweepRecord, lock_of, read_sweep
from errata.version import __version__
from tests.scripted import Scripted
from tests.test_loop import errata


@pytest.fixture
def answers(tmp_path, monkeypatch):
    """Two files of recorded answers, and a sweep of `errata evaluate` over them: two cells without a model."""
    monkeypatch.chdir(tmp_path)
    questions = Arithmetic("arithmetic", test=8).load("test")
    for name, good in (("one", 8), ("two", 3)):
        lines = [{"id": q.id, "response": f"#### {q.gold if n < good else 0}"} for n, q in enumerate(questions)]
        Path(f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return ["evaluate", "-m", "model=recorded", "model.path=one.jsonl,two.jsonl", "dataset.arithmetic.test=5"]


def only_sweep():
    (folder,) = Path("outputs/sweeps").glob("*-*")
    return folder


def states():
    return [cell.state for cell in read_sweep(only_sweep()).cells]


def test_the_same_command_finds_the_sweep_and_passes_over_what_is_finished(answers, capsys, monkeypatch):
    assert errata(*answers) == 0
    sweep = read_sweep(only_sweep())
    assert sweep.command == "evaluate"
    assert [cell.overrides for cell in sweep.cells] == [{"model.path": "one.jsonl"}, {"model.path": "two.jsonl"}]
    assert states() == ["finished"] * 2
    capsys.readouterr()

    def never(*_):
        raise AssertionError("a finished cell was loaded")

    monkeypatch.setattr(Arithmetic, "load", never)
    assert errata(*answers, "tracking=off", "hydra.sweep.subdir=x") == 0
    assert capsys.readouterr().err.count("is finished") == 2
    only_sweep()


@pytest.mark.slow
def test_a_finished_cell_that_lost_its_run_or_its_data_is_done_again(answers, capsys):
    assert errata(*answers) == 0
    first, second = (cell.run for cell in read_sweep(only_sweep()).cells)
    Path("two.jsonl").write_text(Path("two.jsonl").read_text() + "\n")
    before = (first / "results.json").stat().st_mtime_ns
    cells = read_sweep(only_sweep()).cells
    assert [cell.state for cell in cells] == ["finished", "waiting"]
    assert "two.jsonl has changed" in cells[1].error
    assert errata(*answers) == 0
    assert states() == ["finished"] * 2
    assert (first / "results.json").stat().st_mtime_ns == before

    (first / "iteration_0/arithmetic/test/stage.json").unlink()
    shutil.rmtree(second)
    said = [cell.error for cell in read_sweep(only_sweep()).cells]
    assert ["test is gone" in said[0], "run folder is gone" in said[1]] == [True, True]
    assert errata(*answers) == 0
    assert states() == ["finished"] * 2


def test_a_failing_cell_does_not_stop_the_others_and_is_tried_again(answers, capsys, monkeypatch):
    good = Path("one.jsonl").read_text()
    Path("one.jsonl").write_text('{"id": "nobody", "response": "1"}')
    assert errata(*answers) == 2
    said = capsys.readouterr().err
    assert "1 of 2 cells did not come to their end" in said
    assert "cell 0 (model.path=one.jsonl): iteration_0/arithmetic/test: not one of 5" in said
    assert states() == ["failed", "finished"]
    Path("one.jsonl").write_text(good)
    assert errata(*answers) == 0
    assert states() == ["finished"] * 2


@pytest.mark.slow
def test_any_exception_fails_its_cell_alone_without_its_secrets(answers, capsys, monkeypatch):
    monkeypatch.setenv("SOME_API_KEY", "sk-very-secret")
    inputs_of = cells.inputs_of

    def crash(run, plain):
        if plain["model"]["path"] == "one.jsonl":
            raise ZeroDivisionError("sent with sk-very-secret\nand more")
        return inputs_of(run, plain)

    monkeypatch.setattr(cells, "inputs_of", crash)
    assert errata(*answers) == 2
    said = capsys.readouterr()
    assert "Traceback" in said.err and "sk-very-secret" not in said.out + said.err
    first, second = read_sweep(only_sweep()).cells
    assert (first.state, first.error) == ("failed", "ZeroDivisionError: sent with (hidden) and more")
    assert second.state == "finished"


@pytest.mark.slow
def test_stopped_by_hand_it_says_so_and_goes_on(answers, capsys, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(cells, "mark", interrupt)
        assert errata(*answers) == 130
    assert states() == ["stopped", "waiting"]
    assert errata(*answers) == 0
    assert states() == ["finished"] * 2


@pytest.mark.slow
def test_a_cell_of_another_process_is_left_to_it(answers, capsys):
    assert errata(*answers) == 0
    run = read_sweep(only_sweep()).cells[1].run
    (run / "finished.json").unlink()
    with locked(lock_of(only_sweep(), run.name)):
        assert states()[1] == "running"
        assert errata(*answers) == 0
        assert "is under way in another process: left to that" in capsys.readouterr().err
    assert states()[1] == "waiting"
    assert errata(*answers) == 0
    assert states() == ["finished"] * 2


def test_cells_that_are_the_same_run_are_run_once(answers, capsys):
    assert errata(*answers[:3], "model.path=one.jsonl", "name=a", "dataset.arithmetic.test=5", "tracking.project=x,y") == 0
    assert states() == ["finished"] * 2
    assert len(list(Path("outputs").glob("a-*"))) == 1
    assert "is finished" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["dataset.arithmetic.test=5,8", "model.path=one.jsonl,three.jsonl"], ["three.jsonl", "[cell 1 (", "and 1 more]"]),
        (["dataset.arithmetic.test=range(3,3)"], ["the grid is empty: dataset.arithmetic.test=range(3,3) names no value"]),
        (["dataset.arithmetic.tset=5,8"], ["there is no", "Did you mean test?"]),
        (["dataset.arithmetic.test=5,x"], ["x"]),
        (["split=test,dev", "split=test"], ["split is given 2 times"]),
        (["dataset.arithmetic.test=interval(1,5)"], ["does not support"]),
    ],
    ids=str,
)
def test_a_mistake_in_any_cell_is_told_before_the_first_runs(words, said, answers, capsys):
    names = {word.partition("=")[0] for word in words}
    assert errata(*(word for word in answers if word.partition("=")[0] not in names), *words) == 2
    shown = capsys.readouterr().err
    assert shown.count("error:") == 1
    assert all(word in shown for word in said), shown
    assert not list(Path("outputs").glob("evaluate-*"))


@pytest.mark.slow
def test_the_same_runs_in_another_spelling_are_the_same_sweep(answers, capsys):
    assert errata(*answers) == 0
    assert errata(*answers[:3], "model.path='one.jsonl',two.jsonl", answers[4]) == 0
    assert states() == ["finished"] * 2
    assert capsys.readouterr().err.count("is finished") == 2


def test_a_dry_run_is_no_sweep_that_waits(answers, capsys):
    assert errata(*answers, "dry_run=true") == 0
    assert not list(Path("outputs").rglob("sweep.json"))


@pytest.mark.slow
def test_a_failure_that_cannot_be_written_down_is_told_all_the_same(answers, capsys, monkeypatch):
    write = cells.write_atomically

    def full(path, content):
        if path.parent.name == "cells" and json.loads(content)["overrides"] == {"model.path": "one.jsonl"}:
            raise OSError(28, "No space left on device")
        write(path, content)

    monkeypatch.setattr(cells, "write_atomically", full)
    assert errata(*answers) == 2
    assert "1 of 2 cells did not come to their end" in capsys.readouterr().err
    assert states() == ["waiting", "finished"]


@pytest.mark.slow
def test_a_grid_whose_cells_are_all_finished_has_its_table_too(answers, capsys):
    rest = [word for word in answers if "one.jsonl" not in word]
    assert errata(*answers) == 0
    for word in ("model.path=one.jsonl", "model.path=two.jsonl,one.jsonl"):  # fewer cells, and another order
        capsys.readouterr()
        assert errata(*rest, word) == 0
        said = capsys.readouterr()
        assert "accuracy " in said.out and "is finished" in said.err
    assert len(list(Path("outputs/sweeps").glob("*/report.html"))) == 3


def test_a_full_disk_is_told_in_one_line(answers, capsys, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("errata.run_folder.Journal.append", full)
    rest = [word for word in answers if word != "-m" and "one.jsonl" not in word]
    assert errata(*rest, "model.path=one.jsonl") == 2
    said = capsys.readouterr().err
    assert "No space left on device. Make room" in said and "Traceback" not in said


@pytest.mark.slow
def test_a_cell_that_finished_once_and_cannot_be_done_again_is_told_too(answers, capsys, monkeypatch):
    assert errata(*answers) == 0
    Path("one.jsonl").write_text(Path("two.jsonl").read_text())
    write = cells.write_atomically

    def full(path, content):
        if path.parent.name == "cells":
            raise OSError(28, "No space left on device")
        write(path, content)

    monkeypatch.setattr(cells, "write_atomically", full)
    capsys.readouterr()
    assert errata(*answers) == 2
    assert "1 of 2 cells did not come to their end" in capsys.readouterr().err


@pytest.mark.slow
def test_cells_that_fail_for_one_reason_share_a_line(answers, capsys, monkeypatch):
    def crash(run, plain):
        raise ZeroDivisionError("no way")

    monkeypatch.setattr(cells, "inputs_of", crash)
    assert errata(*answers) == 2
    assert "  cells 0 (model.path=one.jsonl), 1 (model.path=two.jsonl): ZeroDivisionError: no way" in capsys.readouterr().err


@pytest.mark.slow
def test_status_shows_lists_and_what_cannot_be_read(answers, capsys):
    assert errata(*answers) == 0
    file = only_sweep() / "sweep.json"
    file.write_text(file.read_text().replace('"two.jsonl"', '"[belle,/moss]"'))
    (read_sweep(only_sweep()).cells[0].run / "iteration_0/arithmetic/test/stage.json").write_text("")
    capsys.readouterr()
    assert status(["outputs"]) == 0
    shown = capsys.readouterr().out
    assert "cannot be read" in shown
    assert "60.0" in shown  # the other run's accuracy
    shutil.rmtree(read_sweep(only_sweep()).cells[0].run)
    assert status([str(only_sweep())]) == 0
    assert "[belle,/moss]" in capsys.readouterr().out


@pytest.mark.slow
def test_the_watch_does_not_end_between_two_cells(answers, capsys, monkeypatch):
    assert errata(*answers) == 0
    looks = [True, False, True, False, False, "behind the end"]
    monkeypatch.setattr(status_command, "_runs", lambda folder: looks.pop(0))
    assert status([str(only_sweep()), "--watch", "--every", "0.001"]) == 0
    assert looks == ["behind the end"]


def test_status_of_a_sweep_of_a_run_and_of_all(answers, capsys):
    Path("one.jsonl").write_text('{"id": "nobody", "response": "1"}')
    assert errata(*answers) == 2
    capsys.readouterr()
    assert status([str(only_sweep())]) == 0
    shown = capsys.readouterr().out
    for word in ("2 cells, 1 failed, 1 finished", "two.jsonl", "60.0", "cell 0: iteration_0/arithmetic/test: not one of 5"):
        assert word in " ".join(shown.split())
    assert status([str(read_sweep(only_sweep()).cells[1].run), "--watch"]) == 0
    assert "5 questions, 3 right" in capsys.readouterr().out
    assert status([]) == 0
    shown = capsys.readouterr().out
    assert only_sweep().name in shown
    assert "1 failed, 1 finished" in shown


@pytest.mark.slow
def test_status_of_what_is_no_sweep(answers, capsys, tmp_path):
    assert errata(*answers) == 0
    file = only_sweep() / "sweep.json"
    file.write_text(file.read_text().replace('"version": "', '"version": "9'))
    with pytest.raises(RunFolderError, match=r"was written by Errata 9.*this is"):
        status([str(only_sweep())])
    assert errata(*answers) == 2
    assert "was written by Errata 9" in capsys.readouterr().err
    file.write_text("{")
    with pytest.raises(RunFolderError, match=r"sweep\.json cannot be read.*Remove it"):
        read_sweep(only_sweep())
    with pytest.raises(RunFolderError, match="nothing is not there"):
        status([str(tmp_path / "nothing")])


@pytest.mark.slow
def test_a_sweep_folder_with_another_grid_is_refused(answers, capsys):
    assert errata(*answers) == 0
    file = only_sweep() / "sweep.json"
    record = json.loads(file.read_text())
    record["cells"].pop()
    file.write_text(json.dumps(record))
    assert errata(*answers) == 2
    assert "holds the record of another grid" in capsys.readouterr().err


STUDENT = """
import sys, time
sys.path.insert(0, {root!r})
from pathlib import Path
from errata.dataset.arithmetic import Arithmetic
from errata.run_folder import Stage
from errata.stage import evaluate as module
from tests.scripted import Scripted
module._FLUSH_S = 0.0
journal, asked = Path(sys.argv[1], "attempts.journal"), []
def answer(prompt):
    with open("asked.log", "a") as file:
        file.write(prompt + "\\n")
    asked.append(prompt)
    if sys.argv[1] == "one" and journal.exists() and journal.read_bytes().count(b"\\n") >= 5:
        Path("stands").touch()
        time.sleep(600)  # until it is killed
    time.sleep(0.02 * len(asked))
    return "#### 1"
questions = Arithmetic("a", test=20).load("test")
stage = Stage(Path(sys.argv[1]), "test", {{"model": 1}})
module.evaluate(stage, Scripted(answer), Arithmetic("a", test=20), questions, Path("shared"))
print(stage.record.counts)
"""


@pytest.mark.slow
def test_two_processes_measure_the_same_student_once_and_one_inherits_from_the_dead(tmp_path):
    script = STUDENT.format(root=str(Path(__file__).parents[1]))
    command = [sys.executable, "-c", script]
    first = subprocess.Popen([*command, "one"], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    while not (tmp_path / "stands").exists():
        assert first.poll() is None
        time.sleep(0.01)
    before = (tmp_path / "asked.log").read_text().count("\n")
    kept = (tmp_path / "one" / "attempts.journal").read_bytes().count(b"\n")
    second = subprocess.Popen([*command, "two"], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    third = subprocess.Popen([*command, "three"], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    first.kill()
    first.wait()
    said = [process.communicate(timeout=300)[0] for process in (second, third)]
    assert sorted("taken over" in counts for counts in said) == [False, True]
    assert (tmp_path / "asked.log").read_text().count("\n") == before + 20 - kept


def test_the_cell_of_a_sampler_holds_what_was_chosen_and_no_header(tmp_path):
    given = ["seed=1", "++instructor.headers={X: very-secret}"]
    record = SweepRecord(__version__, "improve", without_headers(given), False, [])
    (tmp_path / "sweep.json").write_bytes(msgspec.json.encode(record))
    planned = cells._planned(cells.Place(tmp_path, 0, [*given, "sample_size=7"]), Path("outputs/improve-1"))
    assert planned.overrides == {"sample_size": "7"}
    assert not any(b"very-secret" in file.read_bytes() for file in tmp_path.rglob("*.json"))


def test_answers_of_another_student_are_not_inherited(tmp_path):
    """The dead run's folder may have begun anew, its journal now another student's."""
    dataset = Arithmetic("a", test=4)
    questions = dataset.load("test")

    def dies(prompt):
        if len(asked) == 3:
            raise MemoryError
        asked.append(prompt)
        return "#### 1"

    for begun_anew in (False, True):
        asked, place = [], tmp_path / str(begun_anew)
        with pytest.raises(MemoryError):
            evaluate(Stage(place / "one", "test", {"model": 1}), Scripted(dies), dataset, questions, place / "shared")
        if begun_anew:
            record = place / "one" / "stage.json"
            record.write_text(record.read_text().replace('"model": 1', '"model": 2'))
        heir = Scripted(lambda prompt: "#### 2")
        attempts = evaluate(Stage(place / "two", "test", {"model": 1}), heir, dataset, questions, place / "shared")
        assert [attempt.response for attempt in attempts].count("#### 2") == len(heir.asked) == (4 if begun_anew else 1)


def test_errata_evaluate_takes_what_the_start_model_has_answered(tiny_model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["evaluate", "model=hf", f"model.path={tiny_model}", "dataset.arithmetic.test=2"]
    for name in ("one", "two"):
        assert errata(*words, "dataset.arithmetic.max_new_tokens=4", f"name={name}") == 0
    found = {
        name: json.loads(next(Path("outputs").glob(f"{name}-*/iteration_0/arithmetic/test/stage.json")).read_text())
        for name in ("one", "two")
    }
    assert found["two"]["counts"] == found["one"]["counts"] | {"taken over": 2}
    assert found["two"]["outputs"] == found["one"]["outputs"]


def test_embeddings_are_made_once_by_two_processes(tmp_path):
    script = """
import sys, time, numpy as np
from pathlib import Path
from errata.retrieval.cache import EmbeddingCache
class Slow:
    fingerprint = "slow"
    def encode(self, texts):
        Path("encoded.log").open("a").write("".join(t + "\\n" for t in texts))
        time.sleep(0.3)
        return np.ones((len(texts), 2), np.float32)
with EmbeddingCache(Path("e.sqlite")) as cache:
    assert cache.vectors(Slow(), ["a", "b", "a"]).shape == (3, 2)
"""
    processes = [subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path) for _ in range(4)]
    assert [process.wait(timeout=300) for process in processes] == [0] * 4
    assert sorted((tmp_path / "encoded.log").read_text().split()) == ["a", "b"]


def test_a_lock_is_free_when_its_holder_is_dead(tmp_path):
    script = "import sys, time; from pathlib import Path; from errata.lock import locked\nwith locked(Path('l')): print('held', flush=True); time.sleep(600)"
    holder = subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    assert is_held(tmp_path / "l")
    holder.kill()
    holder.wait()
    assert not is_held(tmp_path / "l")
    assert not is_held(tmp_path / "never")


def test_the_cells_are_quiet_and_one_table_of_them_all_stands_at_the_end(answers, capsys):
    command, flag, *words = answers
    assert errata(command, *words, flag) == 0  # -m behind the settings
    said = capsys.readouterr()
    assert said.out.count("results.json, report.md") == 1 and f"in {only_sweep()}" in " ".join(said.out.split())
    assert said.err.count("iteration_0/arithmetic/test") == 2
    assert (only_sweep() / "report.html").is_file()
    assert errata("report", str(read_sweep(only_sweep()).cells[0].run)) == 0
    assert "arithmetic (test, corrected)" in capsys.readouterr().out  # the terminal speaks again


def test_several_values_without_m_are_told_how_to_be_swept(answers, capsys):
    assert errata("evaluate", *answers[2:]) == 2
    assert "errata evaluate -m ... sweeps over them" in capsys.readouterr().err
