"""`errata judge` from test set to report, with a scripted judge and a scripted model."""

import json
from collections import Counter
from collections.abc import Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
from tests.scripted import Scripted

from errata.errors import DataError, InstructorError
from errata.instructor.base import FailedCall
from errata.jsonl import decode_lines, encode_lines
from errata.judge.belle import Belle
from errata.judge.checks import judging_problems
from errata.judge.mmcu import MMCU
from errata.judge.pairwise import Pairwise
from errata.judge.rating import Rating
from errata.judge.recorded import Recorded
from errata.judge.rubric import Rubric
from errata.judging import expected, judge, read_items
from errata.ledger import Call, Stored
from errata.records import Judgement, Pair, Revision
from errata.report.verdict_plot import VERDICT_PLOT, plot_verdicts
from errata.report.verdicts import collect_verdicts, verdict_lines, verdict_tables
from errata.run_folder import read_stage
from errata.setup import Setup
from errata.tracking.tracker import Tracking

ITEMS = [("Add 1 and 2.", "3"), ("写一首关于春天的诗。", "春眠不觉晓"), ("Name a colour.", "Red"), ("Say no.", "No")]


@dataclass
class Listed:
    """A test set from a list."""

    items: list
    rows: int | None = None
    languages: str = ""
    licence: str = ""
    location: str = "a list"
    fingerprint: str = "listed"

    def problems(self, name):
        return []

    def pairs(self, name):
        return (Pair(f"{name}/{n}", text, "", output, name) for n, (text, output) in enumerate(self.items))


@dataclass
class ScriptedJudge:
    """Replies by rule to what it is asked; None: the call fails."""

    rule: Callable[[str], str | None] = field(metadata={"neutral": True})
    asked: Counter = field(default_factory=Counter, metadata={"neutral": True})
    probes: int = field(default=0, metadata={"neutral": True})

    sends, mode, concurrency, max_retries = True, "now", 4, 0
    timeout_s, deadline_s, give_up_s, pause_s = 5.0, 5.0, 5.0, 0.0
    requests_per_minute = tokens_per_minute = None

    def problems(self, datasets):
        return []

    def probe(self):
        self.probes += 1

    def call(self, messages, draw, schema=None):
        return Call("scripted", "judge", messages, {}, draw)

    def price(self, prompt_tokens, completion_tokens, cached_tokens=0):
        return 0.0

    def prompt_tokens(self, messages):
        return sum(len(message["content"]) for message in messages) // 4

    def expected_tokens(self, call):
        return 10

    def most_tokens(self, call):
        return 10, 10

    @asynccontextmanager
    async def running(self):
        yield

    def stored(self, call, ledger):
        return ledger.get(call)

    async def reply(self, call):
        text = self.rule(call.messages[-1]["content"])
        self.asked[call.key] += 1
        if text is None:
            raise FailedCall("HTTP 500")
        return Stored(text, "stop", 5, 5, 0.0, 0.01)


def made(tmp_path, how, instructor=None, testsets=None, model=None, **settings):
    budget = SimpleNamespace(account=None, usd=None, tokens=None)
    chosen = {"answers": None, "against": None, "max_new_tokens": 16, **settings}
    everything = SimpleNamespace(
        output_dir=str(tmp_path), name="judge", ledger=None, budget=budget, tracking=Tracking("off"), **chosen
    )
    return Setup(
        everything, {"judge": type(how).__name__, **settings}, model or Scripted(lambda prompt: "no"), {}, {}, {}, None,
        instructor, testsets=testsets or {}, judge=how,
    )  # fmt: skip


def longest(prompt):
    """Prefers the longer answer, in both orders; cannot say about colours, and fails on `Say no.`"""
    if "Say no." in prompt:
        return None
    if "colour" in prompt:
        return "Both are fine."
    first, second = (prompt.split(f"<answer_{n}>\n")[1].split(f"\n</answer_{n}>")[0] for n in (1, 2))
    return "7 7\nequal" if len(first) == len(second) else "9 4\n第一个更好" if len(first) > len(second) else "4 9\nlater"


def test_the_models_answers_against_the_references(tmp_path):
    model = Scripted(lambda prompt: "春天来了,万物复苏。" if "春" in prompt else "3")
    instructor = ScriptedJudge(longest)
    setup = made(tmp_path, Pairwise(), instructor, {"demo": Listed(ITEMS)}, model, against="reference")
    run = judge(setup)
    found = decode_lines((run / "judge" / "judgements.jsonl").read_bytes(), Judgement)
    assert [one.id for one in found] == ["demo/0", "demo/1", "demo/2", "demo/3"]
    assert [(one.outcome, one.reason) for one in found] == [("tie", ""), ("win", ""), (None, "unparsed"), (None, "no_reply")]
    assert found[1].orders == ((9, 4), (9, 4))
    items = [json.loads(line) for line in (run / "judge" / "items.jsonl").read_text().splitlines()]
    assert items[1]["question"]["instruction"] == ITEMS[1][0]
    assert items[1]["answer"].startswith("春天")

    results = collect_verdicts(run)
    row = results["summary"]["all"]
    assert (row["items"], row["n"], row["wins"], row["ties"], row["no_verdict"]) == (4, 2, 1, 1, 2)
    rates, trust = verdict_tables(results)
    assert rates.rows[0][:4] == ("demo", "4", "1-1-0", "75.0")
    assert trust.rows == [("demo", "0", "0.0", "0", "0", "2")]
    lines = "\n".join(verdict_lines(results))
    assert "unparsed 1" in lines
    assert "no reply 1" in lines
    assert "6 requests" in lines  # two answers were the same
    plot_verdicts(results, run / VERDICT_PLOT)
    assert (run / VERDICT_PLOT).stat().st_size > 5000

    idle = ScriptedJudge(longest)
    again = made(
        tmp_path, Pairwise(), idle, {"demo": Listed(ITEMS)}, Scripted(lambda prompt: "x", loads=0), against="reference"
    )
    assert judge(again) == run
    assert (sum(idle.asked.values()), idle.probes, again.model.loads) == (0, 0, 0)


def test_a_killed_judging_goes_on_from_the_ledger(tmp_path):
    def dies(prompt):
        if sum(first.asked.values()) >= 3:
            raise InstructorError("gone")
        return "8 7"

    files = tmp_path / "mine.json"
    files.write_text(json.dumps([{"instruction": text, "output": f"{text}!"} for text, _ in ITEMS]))
    first = ScriptedJudge(dies)
    settings = {"answers": str(files), "against": "reference"}
    with pytest.raises(InstructorError, match="gone"):
        judge(made(tmp_path, Pairwise(), first, {"demo": Listed(ITEMS)}, **settings))
    second = ScriptedJudge(lambda prompt: "8 7")
    run = judge(made(tmp_path, Pairwise(), second, {"demo": Listed(ITEMS)}, **settings))
    assert not first.asked.keys() & second.asked.keys()
    assert len(first.asked) + len(second.asked) == 8
    assert read_stage(run / "judge").counts["verdicts"] == 4


def test_files_that_do_not_fit_cost_nothing(tmp_path):
    files = tmp_path / "mine.json"
    files.write_text(json.dumps([{"instruction": "Add 1 and 2.", "output": "3"}]))
    instructor = ScriptedJudge(longest)
    setup = made(tmp_path, Pairwise(), instructor, {"demo": Listed(ITEMS)}, answers=str(files), against="reference")
    with pytest.raises(DataError, match=r"demo has 4 items.*mine\.json has 1 answers.*demo/1"):
        judge(setup)
    assert (instructor.probes, sum(instructor.asked.values())) == (0, 0)
    assert not setup.folder.exists()
    bare = Listed([("Say no.", "")])
    with pytest.raises(DataError, match="no reference answer, the first: bare/0"):
        read_items(made(tmp_path, Pairwise(), instructor, {"bare": bare}, against="reference"))


def test_a_revise_run_is_rated_before_and_after(tmp_path):
    def revision(number, final, source="alpaca"):
        before = Pair(f"{source}/{number}", "Name colour", "", "red", source)
        return Revision(before.id, before, final and Pair(before.id, *final, source), "revised" if final else "dropped")

    run = tmp_path / "revise-1"
    (run / "revise").mkdir(parents=True)
    kept = ("Name colour", "", "Red, as a rose is.")
    revisions = [revision(0, ("Name a colour, please.", "", "Red.")), revision(1, kept), revision(2, None)]
    (run / "revise" / "revisions.jsonl").write_bytes(encode_lines(revisions))

    def rates(prompt):
        return "Score: 3" if "\nred\n" in prompt else "Score: 4.5/5"

    setup = made(tmp_path, Rating(), ScriptedJudge(rates), answers=str(run))
    results = collect_verdicts(judge(setup))
    row = results["summary"]["sets"]["alpaca"]
    assert (row["after"]["mean"], row["before"]["mean"], row["after"]["n"]) == (4.5, 3, 2)
    assert row["reasons"] == {"dropped": 1}
    (table,) = verdict_tables(results)
    assert [cells[1] for cells in table.rows] == ["before", "after"]
    plot_verdicts(results, tmp_path / "plot.png")

    compared = read_items(made(tmp_path, Pairwise(), ScriptedJudge(longest), answers=str(run)))
    assert [item.left_out for item in compared] == ["other_question", "", "dropped"]
    assert judging_problems(setup.settings, Rating(), []) == []
    assert "testset=[]" in judging_problems(setup.settings, Rating(), ["demo"])[0]


def test_recorded_verdicts_bring_their_own_items(tmp_path):
    log = tmp_path / "set_a.json"
    log.write_text(json.dumps([{"review": "8 7", "review_reverse": "6 9"}, {"review": "5 5", "review_reverse": "oops"}]))
    setup = made(tmp_path, Recorded(str(log)))
    run = judge(setup)
    row = collect_verdicts(run)["summary"]["sets"]["set_a"]
    assert (row["wins"], row["no_verdict"]) == (1, 1)
    log.write_text(json.dumps([{"review": "8 7", "review_reverse": "9 6"}]))
    assert collect_verdicts(judge(setup))["summary"]["sets"]["set_a"]["contradictory"] == 1
    assert judging_problems(setup.settings, setup.judge, []) == []
    assert judging_problems(setup.settings, setup.judge, ["demo"])


def test_mmcu_asks_nobody_and_belle_asks_once(tmp_path):
    sets = {"mmcu": Listed([("选什么?", "AC"), ("哪个?", "B")])}
    model = Scripted(lambda prompt: "答案是A、C")
    results = collect_verdicts(judge(made(tmp_path, MMCU(), None, sets, model)))
    assert results["summary"]["sets"]["mmcu"]["all"]["mean"] == 50
    assert results["asked"] == {}
    plot_verdicts(results, tmp_path / "mmcu.png")

    instructor = ScriptedJudge(lambda prompt: "Score: 0.5")
    results = collect_verdicts(judge(made(tmp_path, Belle(), instructor, sets, model, max_new_tokens=8)))
    assert results["summary"]["sets"]["mmcu"]["all"]["mean"] == 50
    assert sum(instructor.asked.values()) == 2
    assert verdict_tables(results)[0].rows[-1] == ("macro average", "", "", "50.00")


def test_two_runs_answers_are_compared(tmp_path):
    sets = {"demo": Listed(ITEMS[:2])}
    first = judge(made(tmp_path, Rating(), ScriptedJudge(lambda p: "Score: 4"), sets, Scripted(lambda p: "a long answer")))
    setup = made(tmp_path, Pairwise(), ScriptedJudge(longest), sets, Scripted(lambda p: "short"), against=str(first))
    row = collect_verdicts(judge(setup))["summary"]["all"]
    assert (row["wins"], row["losses"]) == (0, 2)


def test_the_plan_takes_answers_to_be_as_long_as_they_can_be(tmp_path):
    setup = made(
        tmp_path, Pairwise(), ScriptedJudge(longest), {"demo": Listed(ITEMS)}, against="reference", max_new_tokens=50
    )
    requests = expected(setup, read_items(setup))
    assert len(requests) == 8
    assert all("word" * 50 in request.messages[-1]["content"] for request in requests)


@pytest.mark.parametrize(
    ("settings", "how", "testsets", "said"),
    [
        ({}, Pairwise(), ["a"], "against is not set"),
        ({}, Rating(), [], "testset is empty"),
        ({"answers": "/none/here.json"}, Rating(), ["a"], "no such file"),
        ({"answers": "reference"}, Rating(), ["a"], None),  # a set's own answers are rated
        ({"against": "reference"}, Pairwise(), ["a"], None),
        ({"against": "reference", "max_new_tokens": 0}, Pairwise(), ["a"], "at least 1"),
        ({"answers": "x"}, Recorded("y"), [], "answers=null"),
    ],
)
def test_problems_are_found_before_anything_is_read(tmp_path, settings, how, testsets, said):
    found = judging_problems(made(tmp_path, how, **settings).settings, how, testsets)
    assert (found == []) if said is None else (said in found[0])


def test_a_rubric_whose_levels_changed_decides_anew(tmp_path):
    """A level is in no request, and decides all the same."""
    rubric = tmp_path / "rubric.json"
    sides = [{"side": side, "name": "form", "level": "basic", "low": 0, "high": 80, "checks": "form"}
             for side in ("instruction", "response")]  # fmt: skip
    extra = {"side": "response", "name": "wit", "level": "basic", "low": 0, "high": 90, "checks": "wit"}
    answers = tmp_path / "mine.json"
    answers.write_text(json.dumps([{"output": "x"}] * len(ITEMS)))
    scores = []
    for level in ("basic", "red line"):
        rubric.write_text(json.dumps([*sides, {**extra, "level": level}]))
        asked = ScriptedJudge(lambda prompt: "form: 30\nwit: 50")
        run = judge(made(tmp_path, Rubric(rubric=str(rubric)), asked, {"demo": Listed(ITEMS)}, answers=str(answers)))
        scores.append(decode_lines((run / "judge" / "judgements.jsonl").read_bytes(), Judgement)[0].score)
    assert scores == [30, 50]
    assert not asked.asked, "the same requests: nothing is bought again"


@pytest.mark.parametrize("name", ["from $\\frac{$ to $5", "a$_$b"])
def test_a_dollar_in_a_name_is_drawn(tmp_path, name):
    row = {"categories": {name: {"items": 1, "n": 1, "mean": 50.0}}, "macro": 50.0}
    summary = {"kind": "graded", "measure": "mean", "sets": {"demo": row}}
    plot_verdicts({"run": "judge-1", "summary": summary}, tmp_path / VERDICT_PLOT)
    assert (tmp_path / VERDICT_PLOT).stat().st_size > 0


def test_a_revise_run_that_is_not_finished_is_called_so(tmp_path):
    (tmp_path / "corpus").mkdir()
    for name in ("run.json", "corpus/stage.json"):
        (tmp_path / name).write_text("{}")
    settings = made(tmp_path, Rating(), answers=str(tmp_path)).settings
    (problem,) = judging_problems(settings, Rating(), [])
    assert "not finished" in problem
