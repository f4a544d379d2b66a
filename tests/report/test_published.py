"""The published numbers: every file loads, what can be recomputed is; and runs beside their rows."""

import json
from pathlib import Path

import pytest
from tests.stored_run import records
from tests.test_loop import errata

from errata.errors import DataError
from errata.judge.comparison import summarise
from errata.judge.graded import summarise as summarise_grades
from errata.judge.rates import Tally, macro
from errata.records import Attempt, Judgement, Question
from errata.report import published
from errata.report.against import against, against_table, list_lines
from errata.report.published import Column, Slip, Table, row, rows, tables

ROOT = Path(__file__).parents[2]
FILES = sorted((Path(published.__file__).parent / "published").glob("*.json"))
LE = "llms_as_instructors/main/Mistral-7b-Instruct-v0.2/LE"
ROUNDED_UP = "reflection_tuning/data_size/IFD/5%"  # 57.9025 of parts that are rounded themselves, printed as 57.91


def fields(kind):
    return set(kind.__dataclass_fields__)


def slips(name):
    return {(slip.row, slip.column): slip.follows for slip in tables()[name].slips}


def values(name):
    return {one.own_name: one.values for one in rows() if one.table.name == name}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_file_has_the_schema_and_no_more(file):
    system = json.loads(file.read_bytes())
    assert set(system) == {"system", "citation", "tables"}
    for table in system["tables"].values():
        assert set(table) <= fields(Table) - {"name", "citation"}
        assert table["known"] in ("printed", "digitised")
        names = [column["name"] for column in table["columns"]]
        assert len(set(names)) == len(names)
        for column in table["columns"]:
            assert set(column) <= fields(Column)
            assert column.get("known", "") in ("", "recovered", "recomputed")
            assert set(column.get("mean_of", [])) <= set(names)
            assert bool(column.get("measure")) == bool(column.get("datasets"))
        assert all(len(cells) == len(names) for cells in table["rows"].values())
        for slip in table.get("slips", []):
            assert set(slip) == fields(Slip) and slip["row"] in table["rows"] and slip["column"] in names


def test_every_row_is_found_by_its_name():
    assert len(FILES) == 4 and len(tables()) == 24
    assert len({one.name for one in rows()}) == len(rows()) == 202
    assert all(row(one.name) == one for one in rows())
    assert row(LE).values["GSM8K"] == 56.2


def test_columns_name_datasets_test_sets_and_parts_that_there_are():
    datasets = {path.stem for path in (ROOT / "conf/dataset").glob("*.yaml")}
    testsets = {path.stem for path in (ROOT / "conf/testset").glob("*.yaml")}
    classes = {each["name"] for each in json.loads((ROOT / "src/errata/judge/rubrics/belle.json").read_bytes()).values()}
    parts = {
        "belle_eval": classes,
        "mmcu": {"Medicine", "Psychology", "Law", "Education"},
        "mt_bench": {"turn 1", "turn 2"},
        "lm_eval": {"arc_challenge", "hellaswag", "mmlu", "truthfulqa_mc2"},
    }
    compared = {*summarise([Judgement("a", "x", outcome="win")])["all"]}
    for table in tables().values():
        for column in table.columns:
            known = datasets if column.measure == "accuracy" else testsets
            assert set(column.datasets) <= known, (table.name, column.name)
            assert column.measure in {"", "accuracy", "mean", "macro", *compared}
            assert not column.part or column.part in parts[column.datasets[0]]


def test_every_printed_average_follows_from_its_row_but_for_the_slips():
    checked = 0
    for one in rows():
        for place, column in enumerate(one.table.columns):
            printed = one.values[column.name]
            if not column.mean_of or printed is None:
                continue
            digits = max(len(str(cells[place]).partition(".")[2]) for cells in one.table.rows.values() if cells[place])
            follows = macro(one.values[name] for name in column.mean_of)
            agrees = abs(follows - printed) <= (1 if one.name == ROUNDED_UP else 0.5001) * 10**-digits
            known = slips(one.table.name).get((one.own_name, column.name))
            assert agrees == (known is None), (one.name, follows, printed)
            assert known is None or follows == pytest.approx(known, abs=0.005)
            checked += 1
    assert checked == 14 + 7 + 11 + 13 + 10 + 10 + 13 + 12


def test_coachlms_rates_follow_from_the_counts():
    cells = 0
    for name, found in values("coachlm/main").items():
        for testset, n in (("CoachLM150", 150), ("PandaLM170", 170), ("Vicuna80", 80), ("Self-Instruct252", 252)):
            tally = Tally(*(found[f"{testset} {what}"] for what in ("wins", "ties", "losses")))
            assert tally.n == n
            for measure in ("wr1", "wr2", "qs"):
                rate = 100 * getattr(tally, measure)
                assert rate == pytest.approx(found[f"{testset} {measure.upper()}"], abs=0.0501), (name, testset)
            cells += 1
    assert cells == 48


def test_alpacaevals_rates_and_errors_follow_from_the_counts_but_for_the_slips():
    known = slips("reflection_tuning/alpaca_eval")
    for name, found in values("reflection_tuning/alpaca_eval").items():
        tally = Tally(found["wins"], found["draws"], found["items"] - found["wins"] - found["draws"])
        for column, follows in (("win rate", 100 * tally.wr1), ("standard error", 100 * tally.win_rate_se)):
            agrees = follows == pytest.approx(found[column], abs=0.00501)
            assert agrees == ((name, column) not in known), (name, follows)
            assert agrees or follows == pytest.approx(known[name, column], abs=0.00501)


@pytest.mark.parametrize("name", ["reflection_tuning/pairwise", "reflection_tuning/ablation"])
def test_headlines_follow_from_the_counts_but_for_the_slips(name):
    known = slips(name)
    for opponent, found in values(name).items():
        for n in (218, 1030):
            counts = [found.get(f"{n} items {what}") for what in ("wins", "ties", "losses")]
            if None in counts:
                continue
            tally, column = Tally(*counts), f"{n} items headline"
            assert tally.n == n
            follows = known.get((opponent, column), found[column])
            assert tally.headline == pytest.approx(follows, abs=0.000501), (opponent, n)
            agrees = tally.headline == pytest.approx(found[column], abs=0.000501)
            assert agrees == ((opponent, column) not in known)


def test_the_iteration_figure_ends_in_the_main_table():
    main = values("llms_as_instructors/main")
    vanilla = main["Mistral-7b-Instruct-v0.2/vanilla"]
    for name, found in values("llms_as_instructors/iterations").items():
        for column in [each for each in vanilla if each != "Average"]:
            assert found[f"{column} 0"] == vanilla[column] and found[f"{column} 3"] == main[name][column]
    for name, found in values("llms_as_instructors/merge").items():
        if name in main:
            assert all(main[name][column] == value for column, value in found.items())


def test_alpaca_cots_gains_follow_from_its_tables_but_for_the_slip():
    known = slips("alpaca_cot/figure_1")
    for column, table in (("Belle", "alpaca_cot/table_2"), ("MMCU", "alpaca_cot/table_3")):
        base = {name.lower(): found["Average"] for name, found in values(table).items()}
        for name, found in values("alpaca_cot/figure_1").items():
            gain = found[column] - base[name]
            follows = known.get((name, f"{column} gain"), found[f"{column} gain"])
            assert gain == pytest.approx(follows, abs=0.00501), name
    trained = values("alpaca_cot/table_6"), values("alpaca_cot/table_7")
    assert trained[0]["Alpaca-GPT4"]["Average"] == values("alpaca_cot/table_4")["LoRA"]["Belle"] == 58.1
    assert trained[1]["Alpaca-GPT4"]["Average"] == values("alpaca_cot/table_4")["LoRA"]["MMCU"] == 19.07
    assert trained[1]["COIG-exam"]["Edu"] is None


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("llms_as_instructors/main/Mistral-7b-Instruct-v0.2/LEX", "Did you mean Mistral-7b-Instruct-v0.2/LE"),
        ("coachlm/mian/Alpaca-CoachLM", "Did you mean coachlm/main/Alpaca-CoachLM"),
        ("coachlm/main", "is a table, no row"),
        ("paper", "errata report --against list"),
        ("", "The tables: "),
    ],
)
def test_an_unknown_row_is_told_its_neighbours(name, said):
    with pytest.raises(DataError, match="row") as raised:
        row(name)
    assert said in str(raised.value)


def run_folder(place, iterations, protocol="corrected", split="test"):
    """A run of the loop: by iteration and dataset, (right, n)."""
    place.mkdir()
    config = {"seed": 0, "split": split}
    (place / "run.json").write_text(json.dumps({"version": "1", "config": config}))
    for iteration, measured in enumerate(iterations):
        for name, (right, n) in measured.items():
            questions = [Question(f"{name}/test/{number}", name, split, "?", "1") for number in range(n)]
            attempts = [Attempt(q, "", True, None, place < right, protocol=protocol) for place, q in enumerate(questions)]
            records(place / f"iteration_{iteration}" / name / split, {}, attempts=attempts)
    return place


def test_a_run_stands_beside_the_row(tmp_path, capsys):
    measured = [{"gsm8k": (43, 100), "arithmetic": (3, 10)}, {"gsm8k": (56, 100), "mmlu": (10, 100), "arithmetic": (7, 10)}]
    run = run_folder(tmp_path / "le-1", measured)
    assert errata("report", str(run), "--against", LE) == 0, capsys.readouterr().err
    results = json.loads((run / "results.json").read_bytes())
    (found,) = results["against"]
    cells = {cell["column"] or cell["dataset"]: cell for cell in found["cells"]}
    assert list(cells) == ["MMLU", "ARC-c", "GSM8K", "GSM-PLUS", "MBPP", "HumanEval", "BBH", "Average", "arithmetic"]
    gsm8k = cells["GSM8K"]
    assert (gsm8k["n"], gsm8k["iteration"], gsm8k["printed"], gsm8k["inside"]) == (100, 1, 56.2, True)
    assert gsm8k["measured"] == pytest.approx(56) and gsm8k["difference"] == pytest.approx(-0.2)
    assert (gsm8k["low"], gsm8k["high"]) == pytest.approx((46.23, 65.32), abs=0.01)  # Wilson's, by hand
    assert cells["MMLU"]["inside"] is False and cells["MMLU"]["difference"] == pytest.approx(-50.9)
    assert cells["BBH"]["measured"] is None and cells["BBH"]["missing"] == "not measured" and cells["BBH"]["printed"] == 55.9
    assert cells["Average"]["missing"] == "2 of 7 columns are measured" and cells["Average"]["difference"] is None
    assert cells["arithmetic"]["printed"] is None and cells["arithmetic"]["n"] == 10
    assert cells["arithmetic"]["measured"] == pytest.approx(70) and cells["arithmetic"]["missing"]
    told = (run / "report.md").read_text()
    assert "| GSM8K | gsm8k | 1 | 100 | 56.0 % [46.2 %, 65.3 %] | 56.2 % | -0.2 | yes |" in told
    assert "| BBH | bbh |  |  | missing | 55.9 % |  | not measured |" in told
    assert "| missing | arithmetic |" in told
    assert "the graders differ" in told and "protocol=corrected" in told and "gsm8k 100 of 1,319" in told
    out = capsys.readouterr().out
    assert "the graders differ" in out and LE in out
    assert errata("report", str(run)) == 0
    assert "against" not in json.loads((run / "results.json").read_bytes())


def test_under_the_papers_protocol_nothing_is_said_of_graders_and_another_split_is_named(tmp_path):
    from errata.report.results import collect

    everything = dict.fromkeys(("mmlu", "arc", "gsm8k", "gsm_plus", "mbpp", "humaneval", "bbh"), (5, 10))
    run = run_folder(tmp_path / "eval-1", [everything], "paper", "dev")
    found = against(collect(run), row(LE))
    assert not any("graders" in line for line in found["lines"])
    assert any("the splits differ: the run's is dev" in line for line in found["lines"])
    (average,) = [cell for cell in found["cells"] if cell["column"] == "Average"]
    assert average["measured"] == 50 and average["difference"] == pytest.approx(-5.0) and average["inside"] is None
    slip = against(collect(run), row("llms_as_instructors/main/Mistral-7b-Instruct-v0.2/AugGPT"))
    assert "slip in the source: Average is 52.6, 52.66 follows (cut off, or its parts were rounded up)" in slip["lines"]


def test_a_table_by_iterations_takes_each_of_them(tmp_path):
    from errata.report.results import collect

    run = run_folder(tmp_path / "le-1", [{"gsm8k": (right, 100)} for right in (43, 54)])
    found = against(collect(run), row("llms_as_instructors/iterations/Mistral-7b-Instruct-v0.2/LE"))
    cells = {cell["column"]: cell for cell in found["cells"]}
    assert [cells[f"GSM8K {number}"]["measured"] for number in range(4)] == [43, pytest.approx(54), None, None]
    assert cells["GSM8K 2"]["missing"] == "not measured" and cells["GSM8K 2"]["printed"] == 56.0
    assert len(against_table(found).rows) == 28


def test_a_leaderboard_row_goes_by_the_harness_tasks(tmp_path):
    from errata.report.results import collect

    run = tmp_path / "lm-1"
    run.mkdir()
    (run / "run.json").write_text(json.dumps({"version": "1", "config": {}}))
    shares = {"arc_challenge": 1.0, "hellaswag": 1.0, "mmlu": 0.0, "truthfulqa_mc2": 0.25, "winogrande": 1.0}
    attempts = [
        Attempt(Question(f"{task}/{n}", "lm_eval", "test", "?", "1", skill=task), "", True, None, share == 1, score=share)
        for task, share in shares.items()
        for n in range(4)
    ]
    records(run / "iteration_0/lm_eval/test", {}, attempts=attempts)
    found = against(collect(run), row("reflection_tuning/leaderboard/Alpaca 7B"))
    cells = {cell["column"] or cell["dataset"]: cell for cell in found["cells"]}
    assert cells["Average"]["measured"] == pytest.approx(100 * 2.25 / 4) and cells["Average"]["n"] == 16
    assert cells["TruthfulQA"]["measured"] == 25 and cells["MMLU"]["difference"] == pytest.approx(-41.73)
    assert cells["lm_eval: winogrande"]["printed"] is None and len(cells) == 6
    assert "published, and not measured by Errata: data" in found["lines"]


def judged(kind, summary):
    return {"run": "judge-1", "summary": summary, "config": {"judge": {"kind": kind}, "instructor": {"model": "m"}}}


def verdicts(**sets):
    """Judgements with (wins, ties, losses) by test set."""
    return [
        Judgement(f"{name}/{what}/{number}", name, outcome=what)
        for name, counts in sets.items()
        for what, count in zip(("win", "tie", "loss"), counts, strict=True)
        for number in range(count)
    ]


def test_the_published_counts_as_a_judging_differ_by_nothing():
    own = summarise(verdicts(coachlm150=(71, 61, 18), vicuna80=(8, 59, 13), mine=(1, 1, 1)))
    found = against(judged("errata.judge.pandalm.PandaLM", own), row("coachlm/main/Alpaca-CoachLM"))
    cells = {cell["column"] or cell["dataset"]: cell for cell in found["cells"]}
    for column in ("CoachLM150 WR1", "CoachLM150 WR2", "CoachLM150 QS", "Vicuna80 WR1", "Vicuna80 WR2", "Vicuna80 QS"):
        assert abs(cells[column]["difference"]) < 0.051 and cells[column]["inside"]
    assert cells["CoachLM150 WR2"]["low"] == pytest.approx(70.28, abs=0.01)  # Wilson's of 71 in 89
    assert cells["PandaLM170 WR1"]["missing"] == "not measured" and cells["mine"]["missing"]
    assert any("PandaLM with m" in line for line in found["lines"])
    assert any("CoachLM150 wins" in line for line in found["lines"])


def test_a_stored_judging_is_reported_beside_the_row(tmp_path, capsys):
    run = tmp_path / "judge-1"
    run.mkdir()
    (run / "run.json").write_text(
        json.dumps({"version": "1", "config": {"judge": {"kind": "errata.judge.pandalm.PandaLM"}}})
    )
    records(run / "judge", {}, summary=[summarise(verdicts(coachlm150=(71, 61, 18)))])
    assert errata("report", str(run), "--against", "coachlm/main/Alpaca-CoachLM") == 0, capsys.readouterr().err
    told = (run / "report.md").read_text()
    assert "| CoachLM150 QS | coachlm150: QS | 150 | 88.0 % [81.8 %, 92.3 %] | 88.0 % | +0.0 | yes |" in told
    assert "| Vicuna80 QS | vicuna80: QS |  | missing | 83.8 % |  | not measured |" in told
    assert json.loads((run / "results.json").read_bytes())["against"][0]["row"] == "coachlm/main/Alpaca-CoachLM"


def test_headlines_and_win_rates_with_their_errors():
    five = {"koala180": (60, 80, 40), "lima300": (100, 120, 80), "self_instruct252": (90, 100, 62), "vicuna80": (30, 30, 20)}
    own = summarise(verdicts(**five, wizardlm218=(81, 94, 43)))
    found = against(judged("errata.judge.pairwise.Pairwise", own), row("reflection_tuning/ablation/select at random"))
    small, large = found["cells"]
    assert small["measured"] == pytest.approx(1.174, abs=0.0005) and small["inside"] and small["n"] == 218
    assert small["low"] < 1.08 < 1.26 < small["high"]  # 1.174 +- 1.96 x 0.0495, about
    assert large["n"] == 1030 and large["measured"] == pytest.approx(1 + (361 - 245) / 1030) and large["printed"] == 1.149
    assert against_table(found).rows[0][3].startswith("1.174 [1.0")
    alone = against(judged("x.Pairwise", summarise(verdicts(wizardlm218=(81, 94, 43)))), row(found["row"]))
    assert alone["cells"][1]["missing"] == "not measured"
    eval805 = summarise(verdicts(alpaca_eval805=(692, 0, 113)))
    found = against(judged("x.Pairwise", eval805), row("reflection_tuning/alpaca_eval/sRecycled WizardLM 13B"))
    assert [round(cell["measured"], 2) for cell in found["cells"]] == [85.96, 1.23]
    assert [cell["inside"] for cell in found["cells"]] == [True, None]


def test_grades_stand_beside_mmcu_and_not_beside_comparisons():
    judgements = [Judgement(f"{n}", "mmcu", "Law", score=float(n < 20)) for n in range(100)]
    judgements += [Judgement(f"m{n}", "mmcu", "Medicine", score=0.0) for n in range(10)]
    own = judged("errata.judge.mmcu.MMCU", summarise_grades(judgements, "accuracy, %", str, []))
    cells = {cell["column"]: cell for cell in against(own, row("alpaca_cot/table_7/Alpaca-GPT4"))["cells"]}
    assert (cells["Law"]["measured"], cells["Law"]["n"], cells["Law"]["inside"]) == (20, 100, True)
    assert cells["Edu"]["missing"] == "not measured" and cells["Average"]["missing"] == "2 of 4 columns are measured"
    assert against_table(against(own, row("alpaca_cot/table_7/COIG-exam"))).rows[3][-1] == "not measured; not published"
    found = against(own, row("coachlm/main/Alpaca"))
    assert {cell["missing"] for cell in found["cells"]} == {"the run's judge compares nothing", "the row has no such column"}


def test_the_list_names_every_row_and_needs_no_run(capsys):
    assert errata("report", "--against", "list") == 0
    out = capsys.readouterr().out
    assert all(f"    {one.name}\n" in out for one in rows()) and out.strip() == "\n".join(list_lines()).strip()


def test_an_unknown_row_is_refused_before_anything_is_written(tmp_path, capsys):
    run = run_folder(tmp_path / "le-1", [{"gsm8k": (43, 100)}])
    assert errata("report", str(run), "--against", LE, "--against", LE + "X") == 2
    assert "Did you mean" in capsys.readouterr().err and not (run / "report.md").exists()


def test_a_run_without_scores_is_refused():
    with pytest.raises(DataError, match="has no scores"):
        against({"run": "revise-1", "config": {}}, row(LE))
