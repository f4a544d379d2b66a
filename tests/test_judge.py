"""`errata judge` end to end: a loopback judge that favours the first place, recorded verdicts, a revise run that is rated."""

import json
import re

import pytest

from tests.instructor.test_openai import KEY, Server, completion
from tests.test_loop import errata


class FirstPlace(Server):
    """Gives the longer answer 8 and the other 6, one more to whatever stands first, and now and then no verdict at all."""

    async def _answer(self, request):
        text = (await request.json())["messages"][-1]["content"]
        self.seen[text] += 1
        if "unjudgeable" in text:
            return completion("Both have their merits.")
        if "<answer_1>" not in text:
            return completion(f"Score: {'4.5' if 'longer' in text else '3'}")
        first, second = (len(part) for part in re.findall(r"(?:short|much longer)[^\n]*", text)[-2:])
        scores = (9, 6) if first > second else (7, 8) if first < second else (8, 7)
        return completion(f"{scores[0]} {scores[1]}\nThe one is better than the other.")


@pytest.fixture
def judge(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server = FirstPlace()
    yield server
    server.stop()


@pytest.fixture
def files(tmp_path):
    """A test set of five, answers to it, and others."""
    tests = [{"text": f"Question number {n}: how?", "category": "x"} for n in range(3)]
    tests += [{"text": f"An {what} question?", "category": "x"} for what in ("unjudgeable", "equally answered")]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in tests))
    first = ["much longer than the other one, by far.", "short one.", "short one.", "short one.", "the same."]
    second = ["short one.", "much longer than the other one, by far.", "short two.", "short two.", "the same."]
    for name, texts in (("first", first), ("second", second)):
        rows = [{"instruction": row["text"], "output": text} for row, text in zip(tests, texts, strict=True)]
        (tmp_path / f"{name}.json").write_text(json.dumps(rows[::-1]))  # in another order: they are known by their questions
    return tmp_path


def command(files, server):
    return [
        "judge", f"testset.vicuna80.path={files / 'test.jsonl'}", f"answers={files / 'first.json'}",
        f"against={files / 'second.json'}", f"instructor.base_url={server.url}", f"output_dir={files}", "instructor.model=m",
    ]  # fmt: skip


def test_each_item_is_judged_in_both_orders_and_asked_once(files, judge, capsys):
    assert errata(*command(files, judge), "dry_run=true") == 0, capsys.readouterr().err
    assert "8 requests" in capsys.readouterr().out and not judge.seen
    assert errata(*command(files, judge)) == 0, capsys.readouterr().err
    assert sum(judge.seen.values()) == 8
    (run,) = files.glob("judge-*")
    judgements = [json.loads(line) for line in (run / "judge/judgements.jsonl").read_text().splitlines()]
    assert [one.get("outcome") for one in judgements] == ["win", "loss", "tie", None, "tie"]
    assert [one["contradicts"] for one in judgements] == [False, False, True, False, False]
    assert judgements[3]["reason"] == "unparsed"
    assert (run / "results.json").is_file() and (run / "report.md").is_file() and list(run.glob("*.png"))
    out = capsys.readouterr().out
    assert "vicuna80" in out and "unparsed" in out
    assert errata(*command(files, judge)) == 0
    assert sum(judge.seen.values()) == 8
    assert errata("report", str(run)) == 0


def test_files_that_do_not_fit_are_said_before_anything_is_asked(files, judge, capsys):
    rows = json.loads((files / "second.json").read_text())
    (files / "second.json").write_text(json.dumps(rows[1:]))
    assert errata(*command(files, judge)) == 2
    said = capsys.readouterr().err
    assert "second.json" in said and "vicuna80" in said
    assert not judge.seen


def test_the_model_answers_where_no_file_does(files, judge, tiny_model, capsys):
    rest = [word for word in command(files, judge) if not word.startswith("answers=")]
    assert errata(*rest, "model=hf", f"model.path={tiny_model}", "max_new_tokens=4", "judge=rating", "against=null") == 0
    (run,) = files.glob("judge-*")
    assert len((run / "respond/vicuna80/responses.jsonl").read_text().splitlines()) == 5
    assert "unparsed" in (run / "judge/judgements.jsonl").read_text()


def test_a_revise_run_is_rated_before_and_after(files, judge, tiny_model, capsys):
    raw = [{"instruction": f"Say {n}.", "input": "", "output": "A much longer answer."} for n in range(3)]
    (files / "raw.json").write_text(json.dumps(raw))
    chosen = ["reviser=superfiltering", "reviser.share=1", "reviser.below=9", "model=hf", f"model.path={tiny_model}"]
    assert errata("revise", f"corpus.file.path={files / 'raw.json'}", *chosen, f"output_dir={files}") == 0
    (revised,) = files.glob("revise-*")
    address = [f"instructor.base_url={judge.url}", "instructor.model=m", f"output_dir={files}"]
    assert errata("judge", "testset=[]", "judge=rating", f"answers={revised}", *address) == 0, capsys.readouterr().err
    (run,) = files.glob("judge-*")
    judgements = [json.loads(line) for line in (run / "judge/judgements.jsonl").read_text().splitlines()]
    assert len(judgements) == 3
    assert "before" in capsys.readouterr().out


def test_the_plan_counts_the_turns_of_conversations_and_the_conversations(files, judge, capsys):
    rows = [{"question_id": n, "category": "writing", "turns": [f"Name {n} birds.", "And a fish."]} for n in range(3)]
    (files / "turns.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    chosen = ["testset=[mt_bench]", f"testset.mt_bench.path={files / 'turns.jsonl'}", "judge=mt_bench"]
    address = [f"instructor.base_url={judge.url}", "instructor.model=m", f"output_dir={files}"]
    assert errata("judge", *chosen, *address, "dry_run=true") == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    assert re.search(r"mt_bench\W+80\W+6, turns of 3\W", said), said
    assert "6 requests" in said
