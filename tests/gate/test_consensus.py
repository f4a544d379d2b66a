"""Self-consistency: rows, solutions, verdicts; and the whole loop with it."""

import json

import pytest
from tests.test_loop import SMALL, errata

from errata.dataset.arithmetic import Arithmetic, draw, recognise, solve
from errata.dataset.mmlu import MMLU
from errata.gate.consensus import Consensus
from errata.jsonl import decode_lines
from errata.records import Example, Reply

ROW = Example("1/x/1", "arithmetic", "What is 3 + 4?", "3 + 4 = 7\n#### 7", "7", "x", "1/x", 1)


def replies(*texts):
    return [Reply(f"1/x/1/solve~{place}", "arithmetic", "x", "k", text) for place, text in enumerate(texts)]


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (("#### 7", "so it is 7", "#### 8"), None),
        (("#### 7", "#### 8", "#### 8"), "1 of 3 solutions give 7, 2 give 8"),
        (("#### 8", "#### 9", None), "0 of 3 solutions give 7, 1 give 8"),
        (("#### 7", None, "who knows"), "1 of 3 solutions give 7"),
        ((), None),
    ],
)
def test_the_majority_decides(texts, said):
    verdict = Consensus().verdict(ROW, replies(*texts), Arithmetic("arithmetic"))
    assert verdict == (None if said is None else ("no_consensus", said))


def test_options_are_read_from_the_row():
    prompt = "Choose.\n\nThe capital of France?\nA. Rome\nB. Paris\nC. Bonn\nD. Bern"
    row = Example("1/x/1", "mmlu", prompt, "Answer: B", "B", "x", "1/x", 1)
    assert Consensus().verdict(row, replies("It is Paris.\nAnswer: B", "Answer: B", "Answer: C"), MMLU("mmlu")) is None
    assert Consensus().verdict(row, replies("Answer: C", "Answer: C", "Answer: B"), MMLU("mmlu"))[0] == "no_consensus"


def test_programs_are_not_asked_about_and_draws_differ():
    assert Consensus().requests(ROW, "code") == []
    asked = Consensus(draws=2).requests(ROW, "word_problem")
    assert [request.draw for request in asked] == [0, 1] and len({request.id for request in asked}) == 2
    assert asked[0].messages[-1]["content"] == ROW.prompt and "7" not in asked[0].messages[0]["content"]


def test_the_tutor_solves_what_it_writes():
    import random

    from errata.dataset.arithmetic import SKILLS

    rng = random.Random(0)
    for skill in SKILLS * 20:
        question, _, answer = draw(skill, "train", rng)
        assert recognise(question) is not None
        assert solve(question)[1] == answer, question


@pytest.mark.slow
def test_the_loop_with_it(tiny_model, tmp_path, capsys):
    arguments = ["improve", *SMALL, "model=hf", f"model.path={tiny_model}", f"output_dir={tmp_path}", "name=agreed"]
    gates = ["gate=[length,leak,duplicate,consensus]", "gate.consensus.draws=3", "training.epochs=1"]
    assert errata(*arguments, *gates) == 0
    (run,) = tmp_path.glob("agreed-*")
    place = run / "iteration_1/arithmetic"
    verified, agreed = (json.loads((place / step / "stage.json").read_text())["counts"] for step in ("verify", "agree"))
    solved = json.loads((place / "solve/stage.json").read_text())["counts"]
    assert solved["requests"] == 3 * verified["kept"] > 0
    assert agreed["kept"] + agreed["rejected"] == verified["kept"]
    assert agreed["reasons"].get("no_consensus")  # the tutor's wrong sums, which no other gate was asked to find
    rows = decode_lines((run / "iteration_1/mix/train.jsonl").read_bytes(), Example)
    kept = {row.id for row in decode_lines((place / "agree/examples.jsonl").read_bytes(), Example)}
    assert {row.id for row in rows} <= kept
    results = json.loads((run / "results.json").read_text())
    (practice,) = results["practice"]
    assert practice["kept"] == agreed["kept"] and practice["requests"] > solved["requests"]
    capsys.readouterr()
    assert errata("why", str(run), "1") == 0
    assert "an independent solution" in capsys.readouterr().out
