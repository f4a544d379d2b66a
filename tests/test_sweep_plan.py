"""`dry_run=true` of a sweep: one table, what cells share counted once, and never less than what is sent."""

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from errata.cases import anew
from errata.ledger import Ledger
from errata.records import Request
from tests.test_loop import errata

PRICED = [
    "instructor=gpt_4_1_mini",
    "iterations=1",
    "sample_size=20",
    "dataset.arithmetic.train=10",
    "dataset.arithmetic.test=4",
]


@pytest.fixture
def plan(tiny_model, tmp_path, monkeypatch, capsys):
    """The table of a sweep by row, and all that was said; its code is checked."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "key-of-a-test")

    def shown(*words, command="improve", code=0):
        model = [] if command in ("revise", "judge") else ["model=hf", f"model.path={tiny_model}"]
        last = {word.partition("=")[0]: word for word in words}
        assert errata(command, "-m", *model, *last.values(), "dry_run=true") == code, capsys.readouterr().err
        said = capsys.readouterr()
        lines = [line for line in said.out.splitlines() if line[:1] in "│┃"]
        cut = [[part.strip() for part in re.split("[│┃]", line)[1:-1]] for line in lines]
        heads = [
            " ".join(filter(None, parts))
            for parts in zip(*(row for row in cut if not re.match(r"\d|all", row[0])), strict=True)
        ]
        rows = {row[0]: dict(zip(heads, row, strict=True)) for row in cut if re.match(r"\d|all", row[0])}
        return rows, " ".join((said.out + said.err).split())

    return shown


def column(rows, head):
    return [row[head] for row in rows.values()]


def test_requests_that_cells_share_are_counted_once(plan):
    rows, said = plan(*PRICED, "training.learning_rate=1e-4,1e-3", "seed=0,1", "instructor.usd_per_million_out=1e4")
    assert column(rows, "requests, at most") == ["10"] * 4 + ["40"]
    assert column(rows, "shared") == ["0", "10", "10", "10", "30"]
    assert column(rows, "to send, at most") == ["10", "0", "0", "0", "10"]
    assert rows["all"]["price"] == rows["0"]["price"] != "$0.00"
    assert not list(Path("outputs").rglob("*"))
    assert "sent once" in said and "hydra.verbose=true" in said and "There is no budget" in said


@pytest.mark.parametrize(
    "differs",
    ["dataset.arithmetic.max_new_tokens=8,9", "strategy=le,le_informed", "sample_size=20,30", "instructor.temperature=0,1"],
)
def test_cells_that_may_ask_other_things_share_nothing(differs, plan):
    """Other answers make other errors, other instructors other calls."""
    rows, _ = plan(*PRICED, differs)
    assert "shared" not in rows["0"]
    assert rows["all"]["requests, at most"] == "20"


@pytest.mark.parametrize("strategy", ["random_seed", "self_instruct"])
def test_what_the_seed_draws_is_no_cells_but_its_own(strategy, plan):
    rows, _ = plan(*PRICED, f"strategy={strategy}", "seed=0,1")
    assert "shared" not in rows["0"]


def test_what_decides_the_requests_keeps_cells_apart(plan):
    """K-means begins by the seed."""
    rows, _ = plan(*PRICED, "allocation=by_cluster", "allocation.clusters=2", "seed=0,1")
    assert "shared" not in rows["0"]


def test_what_gates_and_revisers_ask_is_bounded_by_any_number_of_errors(plan):
    """Nine errors get four problems each, ten get three; what is revised comes to the gate again."""
    solved = ["gate=[leak,consensus]", "gate.consensus.draws=2", "seed=0,1"]
    rows, said = plan(*PRICED, *solved)
    assert rows["0"]["requests, at most"] == str(10 + 2 * 36)
    assert "no more problems than it is asked for" in said
    rows, _ = plan(*PRICED, *solved, "reviser=reflection")
    assert rows["0"]["requests, at most"] == str(10 + 2 * 36 + 2 * 36 + 2 * 36)
    rows, _ = plan(*PRICED, "strategy=finetune", "reviser=reflection", "seed=0,1", "gate=[leak,consensus]")
    assert rows["0"]["requests, at most"] == str(2 * 10)


def test_rows_that_come_again_are_among_the_updates(plan):
    rows, _ = plan(*PRICED, "iterations=2", "training.batch_size=4", "policy.data=latest,all")
    assert column(rows, "updates, at most") == ["10", "15", "25"]


def test_stand_ins_that_look_alike_may_come_to_differ(plan, tmp_path):
    """A prompt of the user's may show the student's answer alone."""
    folder = tmp_path / "prompts" / "le" / "arithmetic"
    folder.mkdir(parents=True)
    (folder / "system.txt").write_text("Coach.")
    (folder / "user.txt").write_text("Write {n} problems.")
    rows, _ = plan(*PRICED, "strategy.prompts_dir=prompts", "seed=0,1")
    assert column(rows, "to send, at most") == ["10", "0", "10"]


def test_a_sweep_has_one_output_folder(plan):
    _, said = plan(*PRICED, "output_dir=a,b", code=2)
    assert "output_dir has several values" in said


def test_later_iterations_are_each_cells_own(plan):
    rows, said = plan(*PRICED, "iterations=2", "training.learning_rate=1e-4,1e-3")
    assert column(rows, "to send, at most") == ["20", "10", "30"]
    assert "each cell's own" in said


def test_a_budget_that_will_not_do_is_told_for_the_sweep(plan):
    _, said = plan(*PRICED, "strategy=le,le_informed", "budget.usd=1")
    assert "has spent $0.0000 of $1." in said and "may not do" not in said
    _, said = plan(*PRICED, "strategy=le,le_informed", "budget.usd=0.0001")
    assert "That may not do for all of this" in said
    _, said = plan(*PRICED, "strategy=le,le_informed", "budget.tokens=100")
    assert "0 of 100 tokens. That may not do" in said


def test_cells_of_one_run_are_one(plan):
    rows, _ = plan(*PRICED, "strategy=le", "retrieval.k=1,2")
    assert list(rows) == ["0", "1 (as 0)", "all"]
    assert rows["all"]["requests, at most"] == "10"


def test_an_unknown_price_makes_the_total_unknown(plan):
    rows, _ = plan(*PRICED, "instructor=openai", "instructor.model=m", "strategy=le,le_informed")
    assert column(rows, "price") == ["unknown"] * 3


def test_the_other_commands(plan, tmp_path):
    rows, _ = plan("dataset.arithmetic.test=3,4", command="evaluate")
    assert column(rows, "questions") == ["3", "4", "7"]
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("\n".join(f'{{"prompt": "question {n}", "response": "answer {n}"}}' for n in range(16)))
    rows, _ = plan(f"data={pairs}", "training.batch_size=8,4", command="train")
    assert column(rows, "updates, at most") == ["2", "4", "6"]
    rows, said = plan(f"data={pairs},{tmp_path / 'none.jsonl'}", command="train", code=2)
    assert "none.jsonl" in said


def test_revisions_that_mixtures_share(plan, tmp_path):
    pairs = tmp_path / "pairs.json"
    pairs.write_text("[" + ", ".join(f'{{"instruction": "Say {n}", "input": "", "output": "{n}"}}' for n in range(6)) + "]")
    given = ["corpus=[file]", f"corpus.file.path={pairs}", "reviser=reflection", "instructor=gpt_4_1_mini"]
    rows, _ = plan(*given, "max_length=100,200", command="revise")
    assert "shared" not in rows["0"]
    rows, _ = plan(*given, "name=a,b", command="revise")
    assert rows["1"]["to send, at most"] == "0" != rows["0"]["to send, at most"]
    assert rows["all"]["to send, at most"] == rows["0"]["to send, at most"]


SMALL = [
    "tracking=off", "iterations=1", "sample_size=12", "dataset.arithmetic.train=16", "dataset.arithmetic.test=4",
    "dataset.arithmetic.max_new_tokens=8", "training.threads=1", "instructor.flaw_rate=0", "instructor.seed=0",
    "training.max_length=8", "seed=0,1",
]  # fmt: skip


@pytest.mark.slow
def test_no_more_is_sent_than_the_table_says(plan, tiny_model, tmp_path):
    """Without training: every row is too long for it."""
    rows, _ = plan(*SMALL)
    assert column(rows, "to send, at most") == ["16", "0", "16"]
    words = [sys.executable, "-m", "errata.cli", "improve", "-m", *SMALL, "model=hf", f"model.path={tiny_model}"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    with Ledger(tmp_path / "outputs" / "ledger.sqlite") as ledger:
        sent = ledger.db.execute("SELECT count(*) FROM payment").fetchone()[0]
    assert 0 < sent <= 16
    rows, _ = plan(*SMALL)
    assert list(rows) == ["0 (finished)", "1 (finished)", "all"]
    assert rows["all"]["in ledger"] == rows["all"]["requests"] == str(2 * sent)
    assert rows["all"]["to send"] == "0"


def test_the_same_messages_are_another_draw_the_next_time():
    """In the plan as in the loop: what an earlier iteration has sent is in the ledger, and is not the reply to this."""
    sent = Counter()
    once, twice = (Request(name, "arithmetic", name, ({"role": "user", "content": "same"},), 1, 0) for name in "ab")
    assert [request.draw for request in anew([once, twice], sent)] == [0, 0]
    assert [request.draw for request in anew([once], sent)] == [2]
