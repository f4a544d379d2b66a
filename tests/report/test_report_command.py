"""`errata report` over several runs: the table, its files, and what cannot be reported or not together."""

import csv
import io
import json
import re
import shutil
import subprocess

import pytest
from tests.stored_run import records
from tests.test_loop import errata

from errata.records import Attempt, Judgement, Question, Rejection
from errata.version import __version__

MISTRAL = {"kind": "errata.model.hf.HF", "path": "mistralai/Mistral-7B-Instruct-v0.2"}
LE = "llms_as_instructors/main/Mistral-7b-Instruct-v0.2/LE"


def write(place, name, right, seed=0, strategy="le", protocol="paper", split="test", n=100, text="", **config):
    """A run of the loop with `right` of `n` questions by dataset and iteration: {"gsm8k": [20, 50]}."""
    run = place / name
    run.mkdir(parents=True)
    iterations = max((len(each) for each in right.values()), default=1) - 1
    settings = {
        "seed": seed,
        "iterations": iterations,
        "model": MISTRAL,
        "dataset": {name: {} for name in right},
        "split": split,
    }
    settings["strategy"] = {"kind": "errata.strategy.le.LE", "name": strategy}
    (run / "run.json").write_text(json.dumps({"version": __version__, "command": [], "config": settings | config}))
    for dataset, each in right.items():
        for iteration, number in enumerate(each):
            questions = [Question(f"{dataset}/{split}/{q}", dataset, split, f"{text}{q}?", "1") for q in range(n)]
            first = (7 * seed) % 5  # seeds are right about other questions
            attempts = [
                Attempt(
                    q, "r", True, None, place - first in range(number) if iteration else place < number, protocol=protocol
                )
                for place, q in enumerate(questions)
            ]
            records(run / f"iteration_{iteration}" / dataset / split, {}, attempts=attempts)
    for iteration in range(1, iterations + 1):
        summary = {
            "rows": 5,
            "steps": 1,
            "trained_parameters": 9,
            "first_loss": 2,
            "last_loss": 1,
            "tokens_per_s": 1,
            "seconds": 1,
        }
        records(run / f"iteration_{iteration}/train", {})
        (run / f"iteration_{iteration}/train/summary.json").write_text(json.dumps(summary))
    return run


def practise(run, dataset, leaks=2):
    """What came of the errors in iteration 1."""
    place = run / "iteration_1" / dataset
    records(place / "instruct", {"requests": 4, "failed": 0, "tokens": 70, "usd": 0.5, "paid usd": 0.25})
    reasons = [Rejection("x", dataset, name, "", "", "", 1) for name in ("leak",) * leaks + ("malformed",)]
    records(place / "verify", {"kept": 5, "rejected": len(reasons), "wall": {dataset: 100}}, rejections=reasons)


@pytest.fixture(autouse=True)
def pictures(request, monkeypatch):
    """Figures and the page have tests of their own; here they are made where a test asks for them."""
    if "drawn" not in request.node.name:
        monkeypatch.setattr("errata.report.write.draw", lambda groups, folder: ([], []))
        monkeypatch.setattr("errata.report.write.write_page", lambda groups, folder, *_: folder / "report.html")


@pytest.fixture
def arms(tmp_path):
    """Two arms of two seeds each, one of them with practice."""
    out = tmp_path / "outputs"
    runs = [
        write(out, f"lai_mistral_{name}_{seed}-{name}{seed}", {"gsm8k": [20, high], "mmlu": [40, high - 10]}, seed, strategy)
        for name, strategy, high in (("le", "le", 60), ("lec", "lec", 90))
        for seed in (0, 1)
    ]
    for run in runs[:2]:
        practise(run, "gsm8k")
    return runs


def reported(capsys, *arguments):
    code = errata("report", *map(str, arguments))
    told = capsys.readouterr()
    assert code == 0, told.err
    return told.out


def lines_of(folder):
    with (folder / "table.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_arms_by_datasets_with_what_the_paper_prints(arms, tmp_path, capsys):
    out = reported(capsys, *arms, "--against", "paper", "--to", tmp_path / "r")
    results = json.loads((tmp_path / "r/results.json").read_bytes())
    assert {arm: len(runs) for arm, runs in results["arms"].items()} == {"le": 2, "lec": 2} and len(results["runs"]) == 4
    table, by_iteration = results["tables"]
    assert [row["label"] for row in by_iteration["rows"]] == ["le", "lec"]
    assert {cell["column"]["name"]: cell["value"] for cell in by_iteration["rows"][0]["cells"]}["GSM8K 1"] == 60
    assert [column["name"] for column in table["columns"]][:3] == ["MMLU", "ARC-c", "GSM8K"]
    start, le, lec = table["rows"]
    assert [row["label"] for row in table["rows"]] == ["start", "le", "lec"]
    gsm8k = {row["label"]: row["cells"][2] for row in table["rows"]}
    assert (gsm8k["start"]["value"], gsm8k["start"]["printed"], gsm8k["start"]["seeds"]) == (20, 43.2, 1)
    assert (gsm8k["le"]["value"], gsm8k["le"]["printed"], gsm8k["le"]["seeds"]) == (60, 56.2, 2)
    assert gsm8k["le"]["low"] < 60 < gsm8k["le"]["high"] and gsm8k["le"]["by_seed"] == [60, 60]
    assert gsm8k["le"]["holm_start"] < 0.01 and gsm8k["le"]["p_first"] is None and gsm8k["lec"]["holm_first"] < 0.01
    assert le["row"] == LE and start["row"].endswith("/vanilla") and lec["cells"][2]["printed"] == 54.0
    told = (tmp_path / "r/report.md").read_text()
    assert r"60.0\*\*<br>[" in told and "56.2 (+3.8)" in told and "— (a)<br>76.3" in told
    for word in ("not measured: not in the run", "graded by protocol=paper", "seeds: le: 0, 1", "MMLU 100, GSM8K 100"):
        assert word in told and word in " ".join(out.split())
    assert "le: 4; lec: 0; the wall holds the test items of gsm8k 100" in told
    assert "le: leak 4, malformed 2 (kept 10)" in told and "le: 8 requests, worth $1.0000, paid $0.5000" in told
    assert "gsm8k 100 of 1,319" in told and "p < 0.05" in told


def test_the_csv_has_every_iteration_in_full_precision(arms, tmp_path, capsys):
    reported(capsys, *arms, "--to", tmp_path / "r")
    lines = lines_of(tmp_path / "r")
    assert {(line["arm"], line["iteration"]) for line in lines} == {
        (f"{arm}, {at}", str(number)) for arm in ("le", "lec") for number, at in enumerate(("start", "iteration 1"))
    }
    (cell,) = [line for line in lines if line["arm"] == "lec, iteration 1" and line["dataset"] == "Average"]
    assert float(cell["measured"]) == pytest.approx(85) and cell["by_seed"].count(";") == cell["runs"].count(";") == 1
    assert (
        float(cell["low"]) < 85 < float(cell["high"]) and 0 < float(cell["p_start"]) < 0.01 and float(cell["p_first"]) < 0.01
    )


def test_the_latex_is_whole(arms, tmp_path, capsys):
    odd = write(tmp_path / "outputs", "lai_mistral_le_50%&#_x-1", {"gsm8k": [20, 30]}, 0, "odd_one")
    reported(capsys, *arms, odd, "--against", "paper", "--to", tmp_path / "r")
    told = (tmp_path / "r/table.tex").read_text()
    for name in ("table", "tabular", "minipage"):
        assert told.count(rf"\begin{{{name}}}") == told.count(rf"\end{{{name}}}") >= 1
    bare = re.sub(r"\\[{}]", "", told)
    assert bare.count("{") == bare.count("}") and r"\toprule" in told and r"50\%\&\#\_x" in told
    assert r"60.0$^{**}$" in told and r"$^{\ddagger}$" in told and "---" in told and r"($-$" in told
    for columns, body in re.findall(r"\\begin\{tabular\}\{l(r+)\}(.*?)\\bottomrule", told, re.DOTALL):
        rows = [line for line in body.split("\n") if "&" in line]
        assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {len(columns)} and all(r" \\" in row for row in rows)
    assert not re.search(r"(?<!\\)[%#]", told.replace("% \\usepackage", "", 1)) and told.isascii()


def test_a_whole_published_table_in_its_order(arms, tmp_path, capsys):
    reported(capsys, *arms, "--against", "llms_as_instructors/main", "--to", tmp_path / "r")
    (table,) = json.loads((tmp_path / "r/results.json").read_bytes())["tables"]
    assert len(table["rows"]) == 14 and table["rows"][0]["label"] == "GPT-3.5-turbo"
    measured = {row["label"]: row["cells"][2]["value"] for row in table["rows"] if row["cells"][2]["value"] is not None}
    assert measured == {
        f"Mistral-7b-Instruct-v0.2/{name}": value for name, value in (("vanilla", 20), ("LE", 60), ("LEC", 90))
    }
    assert table["rows"][0]["cells"][2]["printed"] == 71.1
    assert "no run of this row is given" in (tmp_path / "r/report.md").read_text()


def test_one_run_goes_into_its_own_folder_and_is_drawn_by_iteration(tmp_path, capsys):
    run = write(tmp_path, "lai_mistral_le-1", {"gsm8k": [20, 50, 60], "mmlu": [10, 20, 30]})
    out = reported(capsys, run, "--against", "paper")
    assert [line["printed"] for line in lines_of(run) if line["dataset"] == "GSM8K"] == ["43.2", "", "56.2"]
    assert LE in out and {"results.json", "report.md", "table.tex", "table.csv", "accuracy.png"} <= {
        f.name for f in run.iterdir()
    }
    assert json.loads((run / "results.json").read_bytes())["against"][0]["row"] == LE
    assert "no published row is known of mine-1" in reported(
        capsys, write(tmp_path, "mine-1", {"gsm8k": [20, 50]}, strategy="mine"), "--against", "paper"
    )


def test_an_iteration_and_the_best_by_dev_are_named(arms, tmp_path, capsys):
    reported(capsys, *arms, "--iteration", "0", "--to", tmp_path / "r")
    (table,) = json.loads((tmp_path / "r/results.json").read_bytes())["tables"]
    assert [row["label"] for row in table["rows"]] == ["le", "lec"] and table["rows"][0]["cells"][0]["value"] == 40
    assert "dev is not measured" in " ".join(reported(capsys, *arms, "--iteration", "best", "--to", tmp_path / "r").split())
    with pytest.raises(SystemExit):
        errata_or_exit("report", str(arms[0]), "--iteration", "latest")


def errata_or_exit(*arguments):
    raise SystemExit(errata(*arguments)) if errata(*arguments) else AssertionError


def sweep(runs, arms, record=None):
    """A sweep's folder over runs, the last cell of which never began."""
    folder = arms[0].parent / "sweeps/lai-1"
    folder.mkdir(parents=True)
    cells = [{"number": place, "overrides": overrides, "run": run} for place, (run, overrides) in enumerate(runs)]
    sweep = {"version": __version__, "command": "improve", "overrides": [], "known": True, "cells": cells}
    (folder / "sweep.json").write_text(json.dumps(sweep | (record or {})))
    return folder


def test_a_sweep_is_its_cells_and_what_has_not_begun_is_a_dash(arms, capsys):
    varied = [{"strategy": name, "seed": seed} for name in ("le", "lec") for seed in ("0", "1")]
    cells = list(zip((run.name for run in arms), varied, strict=True))
    absent = [("lai_mistral_le_9-9", {"strategy": "le", "seed": "9"}), ("x-9", {"strategy": "random", "seed": "0"})]
    out = " ".join(reported(capsys, folder := sweep([*cells, *absent], arms)).split())
    (table,) = json.loads((folder / "results.json").read_bytes())["tables"]
    assert [row["part"] for row in table["rows"]] == ["start", "arm", "arm", "absent"]
    assert "cell 4 (strategy=le, seed=9): waiting" in table["rows"][1]["cells"][0]["missing"]
    assert not table["rows"][2]["cells"][0]["missing"]
    assert "cell 4 (strategy=le, seed=9): no run (waiting" in out
    assert "| cell 5 (strategy=random, seed=0)" in (folder / "report.md").read_text()


def test_a_sweep_that_is_not_complete_says_where_each_cell_stands(arms, capsys):
    """Two cells are finished, one has failed and one was stopped while its last dataset was asked."""
    varied = [{"strategy": name, "seed": seed} for name in ("le", "lec") for seed in ("0", "1")]
    folder = sweep(list(zip((run.name for run in arms), varied, strict=True)), arms)
    (folder / "cells").mkdir()
    for place, (run, overrides) in enumerate(zip(arms, varied, strict=True)):
        if place < 2:
            (run / "finished.json").write_text(json.dumps({"version": __version__, "stages": [], "inputs": {}}))
        else:
            cut(run, "mmlu")
        state = {2: {"state": "failed", "error": "no room"}}.get(place, {"state": "running"})
        record = {"number": place, "overrides": overrides, "run": run.name} | state
        (folder / "cells" / f"{run.name}.json").write_text(json.dumps(record))
    out = " ".join(reported(capsys, folder).split())
    assert "the sweep is not complete: of 4 cells 1 stopped, 1 failed, 2 finished" in out
    assert "cell 2 (strategy=lec, seed=0) has failed: no room" in out and "cell 3 (strategy=lec, seed=1) is stopped" in out
    (table,) = json.loads((folder / "results.json").read_bytes())["tables"]
    lec = table["rows"][2]["cells"][table["columns"].index(next(c for c in table["columns"] if c["name"] == "mmlu"))]
    assert lec["value"] is None and "failed: no room (iteration_1/mmlu/test)" in lec["missing"]
    assert "stopped (iteration_1/mmlu/test)" in lec["missing"]


def cut(run, dataset):
    """The run was stopped while it asked the dataset's test questions."""
    path = run / f"iteration_1/{dataset}/test"
    (path / "attempts.jsonl").unlink()
    stage = json.loads((path / "stage.json").read_text())
    (path / "stage.json").write_text(json.dumps(stage | {"finished": False}))


def test_an_arm_with_two_rows_of_one_table_has_both_beside_it(tmp_path, capsys):
    run, other = (write(tmp_path / "o", f"lai_mistral_le_lec_{n}-{n}", {"gsm8k": [40, 50]}, n, "le_lec") for n in range(2))
    reported(capsys, run, other, "--against", "paper", "--to", tmp_path / "r")
    (table,) = json.loads((tmp_path / "r/results.json").read_bytes())["tables"]
    place = [column["name"] for column in table["columns"]].index("GSM8K")
    held = {row["row"].rpartition("/")[2]: row["cells"][place] for row in table["rows"] if row["row"]}
    assert {"LE+LEC", "LEC+LE"} <= held.keys() and held["LE+LEC"]["value"] == held["LEC+LE"]["value"] == 50
    reported(capsys, run, other, "--against", "llms_as_instructors/merge", "--to", tmp_path / "r")
    (table,) = json.loads((tmp_path / "r/results.json").read_bytes())["tables"]
    found = [row["label"].rpartition("/")[2] for row in table["rows"] if row["cells"][place]["value"] == 50]
    assert sorted(found) == ["LE+LEC", "LEC+LE"]


def test_seeds_that_share_replies_are_said_to(arms, tmp_path, capsys):
    def reply(run, *keys):
        lines = [{"request_id": key, "key": key, "text": "a" if key != "failed" else None} for key in keys]
        path = run / "iteration_1/gsm8k/instruct/replies.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))

    for place, run in enumerate(arms[:2]):
        reply(run, "same", "both", f"own{place}", "failed")
        reply(arms[2 + place], f"other{place}", f"more{place}", "same" if place else "different")
    said = "replies that seeds of an arm share: le 4 of 6 (67 %); their intervals"
    assert said in " ".join(reported(capsys, *arms, "--to", tmp_path / "r").split())
    assert "that seeds" not in reported(capsys, arms[0], arms[2], "--to", tmp_path / "r")


def test_a_strategy_of_the_users_is_called_by_its_class(tmp_path, capsys):
    mine = write(tmp_path, "mine-1", {"gsm8k": [20, 50]})
    (mine / "run.json").write_text((mine / "run.json").read_text().replace("errata.strategy.le.LE", "my_strategy.Capped"))
    practise(mine, "gsm8k")
    assert "no published row is known" in reported(capsys, mine, "--against", "paper")
    assert "practice by strategy Capped" in (mine / "report.md").read_text()


def test_runs_in_a_folder_and_the_default_place(arms, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    again = reported(capsys, "outputs", arms[0])
    (folder,) = (tmp_path / "outputs" / "reports").iterdir()
    assert folder.name.startswith("lai_mistral_le-") and "counts once" in again and (folder / "table.tex").is_file()
    assert len(json.loads((folder / "results.json").read_bytes())["runs"]) == 4


def test_an_unfinished_run_has_no_outcome_and_says_where_it_stands(arms, tmp_path, capsys):
    cut(arms[3], "mmlu")
    out = reported(capsys, *arms, "--to", tmp_path / "r")
    assert "(iteration_1/mmlu/test)" in " ".join(out.split())
    (table,) = json.loads((tmp_path / "r/results.json").read_bytes())["tables"]
    mmlu = {row["label"]: row["cells"][0] for row in table["rows"]}
    assert mmlu["lec"]["seeds"] == 1 and "lec_1-lec1: not finished: killed or still running" in mmlu["lec"]["missing"]
    assert mmlu["le"]["seeds"] == 2 and not mmlu["le"]["missing"]
    assert "unfinished: iteration_1/mmlu/test" in reported(capsys, arms[3])


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"protocol": "corrected"}, "gsm8k is graded by protocol=corrected in"),
        ({"split": "dev"}, "is of the split dev"),
        ({"text": "another "}, "was asked other questions of gsm8k"),
        ({"n": 90}, "(90 and 100, 90 of them the same)"),
    ],
)
def test_what_cannot_be_compared_stands_apart(arms, tmp_path, capsys, changed, said):
    other = write(tmp_path / "outputs", "lai_mistral_le_2-x", {"gsm8k": [20, 60], "mmlu": [40, 50]}, 2, **changed)
    out = reported(capsys, *arms, other, "--to", tmp_path / "r")
    tables = json.loads((tmp_path / "r/results.json").read_bytes())["tables"]
    assert len(tables) == 2 and said in " ".join(out.split())
    assert [len(row["runs"]) for row in tables[0]["rows"] if row["part"] == "arm"] == [2, 2]


def test_a_judging_and_a_revision_stand_apart_from_the_loop(arms, tmp_path, capsys):
    from errata.judge.comparison import summarise

    judged = tmp_path / "outputs/judge-1"
    judged.mkdir()
    config = {"judge": {"kind": "errata.judge.pandalm.PandaLM"}}
    (judged / "run.json").write_text(json.dumps({"version": "1", "config": config}))
    counts = (("win", 71), ("tie", 61), ("loss", 18))
    verdicts = [Judgement(f"{what}{place}", "coachlm150", outcome=what) for what, n in counts for place in range(n)]
    records(judged / "judge", {}, summary=[summarise(verdicts)])
    revised = tmp_path / "outputs/revise-1"
    (revised / "corpus").mkdir(parents=True)
    (revised / "run.json").write_text(json.dumps({"version": "1", "config": {}}))
    out = " ".join(reported(capsys, *arms, judged, revised, "--to", tmp_path / "r").split())
    assert "cannot be compared; apart stand judge-1" in out and "revise-1 is a run of errata revise" in out
    assert "of several versions" in out
    tables = json.loads((tmp_path / "r/results.json").read_bytes())["tables"]
    assert tables[1]["rows"][0]["cells"][0]["value"] == pytest.approx(100 * 101.5 / 150)
    assert "judged by PandaLM, beside coachlm/main" in reported(capsys, judged, "--against", "coachlm/main")
    assert len(lines_of(judged)) > 10
    assert errata("report", str(revised), "--against", "coachlm/main") == 2
    assert "no scores to set beside coachlm/main" in " ".join(capsys.readouterr().err.split())
    reported(capsys, judged, arms[0], "--against", "coachlm/main/Alpaca-CoachLM", "--to", tmp_path / "r")
    rows = json.loads((tmp_path / "r/results.json").read_bytes())["tables"][-1]["rows"]
    assert rows[0]["cells"][2]["printed"] == 88.0 and rows[0]["cells"][2]["value"] == pytest.approx(88)


def test_runs_of_one_name_are_told_apart(tmp_path, capsys):
    one, two = (write(tmp_path / place, "le-1", {"gsm8k": [20, right]}) for place, right in (("here", 50), ("there", 60)))
    out = reported(capsys, one, two, "--to", tmp_path / "r")
    results = json.loads((tmp_path / "r/results.json").read_bytes())
    assert [run["run"] for run in results["runs"]] == ["here/le-1", "there/le-1"] and "not as another seed" in out
    values = [row["cells"][0]["value"] for row in results["tables"][0]["rows"] if row["part"] == "arm"]
    assert values == [50, 60]


def bad(name, place, arms):
    empty = place / "outputs/begun-1"
    if name == "nothing measured":
        empty.mkdir()
        (empty / "run.json").write_text(json.dumps({"version": "1", "config": {"iterations": 1}}))
        return [empty, empty, "--to", place / "r"]
    if name == "a broken manifest":
        (arms[0] / "run.json").write_text("{")
    if name == "another config":
        return [sweep([(arms[0].name, {"seed": "5"})], arms)]
    if name == "another version":
        return [sweep([], arms, {"version": "0.0.1"})]
    if name == "an empty grid":
        return [sweep([], arms)]
    if name == "no folder to write to":
        (place / "file").write_text("")
        return [*arms, "--to", place / "file" / "r"]
    return {
        "neither": [place],
        "not there": [place / "nowhere"],
        "no such row": [arms[0], "--against", "llms_as_instructors/mian"],
        "a broken manifest": [arms[0]],
    }[name]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nothing measured", "has no measured dataset (not finished: before the first answer)"),
        ("neither", "no sweep (no sweep.json) and holds no runs"),
        ("not there", "nowhere is not there; expected outputs/NAME-HASH"),
        ("another config", "the sweep is of another config than its runs"),
        ("another version", "was written by Errata 0.0.1"),
        ("an empty grid", "there is no run to report in"),
        ("no such row", "Did you mean llms_as_instructors/main"),
        ("a broken manifest", "is no run's manifest"),
        ("no folder to write to", "choose another folder"),
    ],
)
def test_bad_input_is_one_clear_message(arms, tmp_path, capsys, name, said):
    assert errata("report", *map(str, bad(name, tmp_path, arms))) == 2
    err = " ".join(capsys.readouterr().err.split())
    assert said in err and "Traceback" not in err and err.count("error:") == 1


def test_tables_are_split_to_fit_a_hundred_columns():
    from errata.report.tables import TextTable, narrow
    from errata.report.write import for_terminal

    table = TextTable("t", ("", *map(str, range(9))), [("a row", *["50.0**\n[40.0, 60.0]"] * 9)])
    parts = narrow(table, 100)
    assert [part.heads[0] for part in parts] == [""] * len(parts) and sum(len(part.heads) - 1 for part in parts) == 9
    from rich.console import Console

    console = Console(width=100, record=True, file=io.StringIO())
    for part in parts:
        console.print(for_terminal(part))
    assert "…" not in (told := console.export_text()) and told.count("[40.0, 60.0]") == 9
    assert narrow(TextTable("t", ("a", "b"), []), 100)[0].heads == ("a", "b")


def test_the_average_is_of_the_seeds_that_have_measured_every_dataset(tmp_path, capsys):
    """A seed without mmlu is in the mean of gsm8k, and in no part of the average."""
    out = tmp_path / "outputs"
    low, high = (write(out, f"le_{n}-{n}", {"gsm8k": [20, right], "mmlu": [40, 50]}, n) for n, right in enumerate((60, 90)))
    shutil.rmtree(high / "iteration_1/mmlu")
    reported(capsys, low, high, "--to", tmp_path / "r")
    found = {row["dataset"]: row for row in lines_of(tmp_path / "r") if row["iteration"] == "1"}
    assert [float(found[name]["measured"]) for name in ("gsm8k", "mmlu", "Average")] == pytest.approx([75, 50, 55])
    average = found["Average"]
    assert average["seeds"] == "1" and float(average["low"]) < 55 < float(average["high"]) and "le_1-1" in average["missing"]
    shutil.rmtree(low / "iteration_1/gsm8k")
    reported(capsys, low, high, "--to", tmp_path / "r")
    (average,) = [row for row in lines_of(tmp_path / "r") if row["iteration"] == "1" and row["dataset"] == "Average"]
    assert average["measured"] == "" and average["missing"]


@pytest.mark.parametrize("value", ["True", ".5", "1_000", "'a b'", "NULL", "${seed}", "1e-5"])
def test_an_override_may_be_written_in_each_way_that_hydra_reads(tmp_path, capsys, value):
    held = {"True": True, ".5": 0.5, "1_000": 1000, "'a b'": "a b", "NULL": None, "${seed}": 0, "1e-5": 0.00001}[value]
    run = write(tmp_path / "outputs", "le-1", {"gsm8k": [20, 50]}, extra=held)
    reported(capsys, sweep([(run.name, {"extra": value})], [run]))


def test_cells_that_are_one_run_and_runs_of_smoke_size_are_said(tmp_path, capsys):
    from errata.report.smoke_size import PREFIX
    from errata.smoke import shrink

    assert PREFIX == shrink.PREFIX
    out = tmp_path / "outputs"
    run, other = write(out, "smoke_le-1", {"gsm8k": [20, 50]}), write(out, "le-2", {"gsm8k": [20, 50]}, 1)
    cells = [(run.name, {"sample_size": size}) for size in ("250", "500")]  # smaller in the run than the sweep has it
    (run / "run.json").write_text(
        (run / "run.json").read_text().replace('"iterations": 1', '"iterations": 1, "sample_size": 8')
    )
    told = " ".join(reported(capsys, sweep(cells, [run])).split())
    assert "sample_size=250 and sample_size=500 are one run, smoke_le-1" in told and "smoke size: all of it" in told
    assert "smoke size: all of it" in " ".join(reported(capsys, run).split())
    assert "smoke size: smoke_le-1; small" in " ".join(reported(capsys, run, other, "--to", tmp_path / "r").split())
    assert "smoke size" in (tmp_path / "r/table.tex").read_text()


def test_failures_of_two_stages_that_asked_are_added_up(tmp_path):
    from errata.report.results import asked_for

    for name, failures in (("instruct", {"timeout": 2, "refused": 1}), ("solve", {"timeout": 3})):
        records(tmp_path / name, {"requests": 9, "failed": sum(failures.values()), "failures": failures})
    found = asked_for([tmp_path / "instruct", tmp_path / "solve"])
    assert found == {"requests": 18, "failed": 6, "failures": {"timeout": 5, "refused": 1}}


def test_a_table_of_comparisons_without_a_row_is_left_out(arms, tmp_path, capsys):
    out = reported(capsys, *arms, "--iteration", "best", "--to", tmp_path / "r")
    assert "arms, their seeds together" not in out and "dev is not measured" in out


def test_a_judging_with_a_row_of_its_own_stands_within_the_whole_published_table(tmp_path):
    from errata.judge.comparison import summarise
    from errata.report.beside import Beside
    from errata.report.judged_table import judged_tables
    from errata.report.published import table

    (tmp_path / "coach.yaml").write_text("# Row: coachlm/main/Alpaca-CoachLM\n")
    summary = summarise([Judgement(f"{place}", "coachlm150", outcome="win") for place in range(150)])
    run = {"run": "coach-1", "config": {}, "summary": summary, "questions": {}, "asked": {}}
    whole = table("coachlm/main")
    _, (found,), _ = judged_tables([run], Beside(tables=[whole], experiments=tmp_path))
    assert [row.part for row in found.rows] == ["arm"] + ["printed"] * (len(whole.rows) - 1)
    _, (found,), _ = judged_tables([run], Beside(paper=True, experiments=tmp_path))
    assert [row.label for row in found.rows] == ["coach-1"]


def test_what_cannot_be_stored_is_printed_all_the_same(tmp_path, capsys):
    from errata.judge.comparison import summarise

    judged = tmp_path / "judge-1"
    judged.mkdir()
    (judged / "run.json").write_text(
        json.dumps({"version": "1", "config": {"judge": {"kind": "errata.judge.pandalm.PandaLM"}}})
    )
    verdicts = [Judgement(str(place), "coachlm150", outcome="win") for place in range(9)]
    records(judged / "judge", {}, summary=[summarise(verdicts)])
    (judged / "verdicts.png").mkdir()
    loop = write(tmp_path, "le-1", {"gsm8k": [20, 50]})
    (loop / "table.csv").mkdir()
    for run, word in ((judged, "coachlm150"), (loop, "gsm8k")):
        assert errata("report", str(run)) == 2
        told = capsys.readouterr()
        err = " ".join(told.err.split())
        assert word in told.out and f"cannot write to {run}: Is a directory" in err
        assert "choose another folder with --to FOLDER" in err


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex here: table.tex is not compiled")
def test_the_latex_compiles_and_fits_the_page(arms, tmp_path, capsys):
    reported(capsys, *arms, "--against", "llms_as_instructors/main", "--to", tmp_path)
    head = r"\documentclass{article}\usepackage{booktabs,graphicx}\begin{document}\input{table.tex}\end{document}"
    (tmp_path / "paper.tex").write_text(head)
    words = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    found = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout[-2000:]
    assert "Overfull" not in found.stdout and "too large" not in found.stdout
