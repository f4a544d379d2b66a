"""`errata revise` end to end: a loopback instructor that misbehaves, a coach that is really trained, and a reviser in the loop."""

import hashlib
import json
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from urllib.request import urlopen

import pytest

from errata.dataset.arithmetic import Arithmetic
from errata.gate.length import Length
from errata.jsonl import decode_lines, encode_lines
from errata.records import Example, Pair, Rejection, Revision
from errata.run import Run
from errata.run_folder import RunFolder
from errata.screening import Screening
from tests.instructor.test_openai import KEY, Server, completion
from tests.reviser.misbehaving import reason_of
from tests.test_loop import SMALL, errata

EXPERTS = Path(__file__).parents[1] / "../shared/data/coachlm/expert_revisions.json"


@pytest.fixture
def teacher(monkeypatch):
    """The misbehaving instructor in a process of its own: (its address, what it has answered with so far)."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.reviser.misbehaving", "--port", "0"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1],
    )  # fmt: skip
    address = process.stdout.readline().strip()

    def seen():
        return Counter(json.loads(urlopen(address.replace("/v1", "/seen")).read()))

    yield address, seen
    process.stdin.close()
    process.wait(60)


@pytest.fixture
def raw(tmp_path):
    """200 raw pairs of the experts' file in Alpaca's form, or as many made up where it is not at hand."""
    if EXPERTS.is_file():
        rows = json.loads(EXPERTS.read_bytes())[:200]
        pairs = [{name: row[f"Raw {label}"] for name, label in LABELS.items()} for row in rows]
    else:
        asked = [f"Name {n} birds." for n in range(2, 201)]
        asked.append("Say which of all birds that winter by the sea can be heard from the window of a small house.")
        pairs = [{"instruction": text, "input": "", "output": f"Bird {n}."} for n, text in enumerate(asked)]
    path = tmp_path / "raw.json"
    path.write_text(json.dumps(pairs))
    return path


LABELS = {"instruction": "Instruction", "input": "Input", "output": "Response"}


def revisions_of(run):
    return decode_lines((run / "revise/revisions.jsonl").read_bytes(), Revision)


def test_nothing_is_lost_or_mismatched_with_a_teacher_that_misbehaves(teacher, raw, tmp_path, capsys):
    address, seen = teacher
    command = ["revise", f"corpus.file.path={raw}", "instructor.model=m", f"instructor.base_url={address}"]
    assert errata(*command, f"output_dir={tmp_path}", "dry_run=true") == 0
    assert "at most 400 requests" in capsys.readouterr().out and not seen()
    assert errata(*command, f"output_dir={tmp_path}") == 0
    (run,) = tmp_path.glob("revise-*")
    revisions = revisions_of(run)
    assert len(revisions) == len({one.id for one in revisions}) == 200
    answered = seen()
    for stage in ("instruction", "response"):
        bad = Counter(reason_of(key.partition(": ")[2]) for key in answered.elements() if key.startswith(stage))
        assert sum(bad.values()) == 200
        assert len(bad) > 8
    replies = [json.loads(line) for line in (run / "desk/instruction/replies.jsonl").read_bytes().split(b"\n") if line]
    assert Counter(reply["text"] is None for reply in replies)[True] == answered["instruction: silence"]
    for one in revisions:
        assert one.status == ("kept" if one.final == one.original else "revised")
        marks = {name: set(re.findall(r"Q[0-9a-f]{10}", getattr(one.final, name))) for name in ("instruction", "output")}
        if one.status == "revised" and not one.reason:  # each half was written for this very pair
            assert len(marks["instruction"]) == len(marks["output"]) == 1
        if one.status == "kept":
            assert one.reason and one.final == one.original
    final = [json.loads(line) for line in (run / "final/train.messages.jsonl").read_bytes().split(b"\n") if line]
    assert [row["id"] for row in final] == [one.id for one in revisions]
    assert final[0]["messages"][1]["content"] == revisions[0].final.output
    results = json.loads((run / "results.json").read_text())
    assert sum(results["outcomes"][status] for status in ("revised", "kept", "dropped")) == 200
    assert "what the reviser made of the pairs" in capsys.readouterr().out

    assert errata(*command, f"output_dir={tmp_path}") == 0  # again: nothing is asked twice, but for what had failed
    assert seen() == answered
    revised = [one.id for one in revisions if one.status == "revised"]
    chosen = {revised[0]: "reject", revised[1]: "accept", revised[2]: "remove"}
    (tmp_path / "decisions.json").write_text(json.dumps(chosen))
    assert errata(*command, f"output_dir={tmp_path}", f"decisions={tmp_path / 'decisions.json'}") == 0
    assert seen() == answered
    pairs = {pair.id: pair for pair in decode_lines((run / "final/pairs.jsonl").read_bytes(), Pair)}
    before = {one.id: one for one in revisions}
    assert pairs[revised[0]] == before[revised[0]].original
    assert pairs[revised[1]] == before[revised[1]].final
    assert revised[2] not in pairs
    capsys.readouterr()
    assert errata(*command, f"output_dir={tmp_path}") == 0  # what people decided stays
    assert "decided by people: accept 1, reject 1, remove 1" in capsys.readouterr().out
    assert errata("report", str(run)) == 0
    assert errata("train", f"data={run}", "dry_run=true", f"output_dir={tmp_path}") == 0
    assert "199 rows" in capsys.readouterr().out


@pytest.mark.slow
def test_a_killed_revision_goes_on_and_pays_nothing_twice(teacher, raw, tmp_path):
    address, seen = teacher
    command = [
        sys.executable, "-m", "errata.cli", "revise", f"corpus.file.path={raw}", "instructor.model=m", "instructor.concurrency=1",
        f"instructor.base_url={address}", f"output_dir={tmp_path}",
    ]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while process.poll() is None and seen().total() < 60:
        pass
    process.kill()
    process.wait()
    halted = seen()
    assert halted.total() < 400, "it was too fast to be killed"
    assert subprocess.run(command, capture_output=True).returncode == 0
    silent = sum(number for kind, number in halted.items() if kind.endswith("silence"))  # a failure is asked again
    assert seen().total() <= 400 + silent + 1  # one was under way
    (run,) = tmp_path.glob("revise-*")
    assert len(revisions_of(run)) == 200


def test_a_test_question_in_a_corpus_is_kept_out(raw, tmp_path):
    rows = json.loads(raw.read_text())
    long = next(row for row in rows if len(row["instruction"].split()) > 14 and not row["input"])
    (tmp_path / "test.jsonl").write_text(json.dumps({"text": long["instruction"], "category": "x"}) + "\n")
    command = ["revise", f"corpus.file.path={raw}", "reviser=none", "testset=[vicuna80]"]
    assert errata(*command, f"testset.vicuna80.path={tmp_path / 'test.jsonl'}", f"output_dir={tmp_path}") == 0
    (run,) = tmp_path.glob("revise-*")
    assert "leak" in (run / "corpus/dropped.jsonl").read_text()
    rows = [json.loads(line) for line in (run / "final/train.alpaca.jsonl").read_bytes().split(b"\n") if line]
    assert len(rows) > 150 and long["instruction"] not in {row["instruction"] for row in rows}
    before = (run / "final/train.messages.jsonl").stat().st_mtime_ns
    assert errata(*command, f"testset.vicuna80.path={tmp_path / 'test.jsonl'}", f"output_dir={tmp_path}") == 0
    assert (run / "final/train.messages.jsonl").stat().st_mtime_ns == before


def test_a_test_question_in_any_turn_of_a_conversation_is_kept_out(tmp_path):
    def talk(*said):
        turns = [{"role": role, "content": text} for role, text in zip(("user", "assistant") * 2, said, strict=True)]
        return json.dumps({"messages": turns}) + "\n"

    asked = "Who painted the ceiling?"  # so short that only the whole question tells
    talks = [
        talk("Hello, my friend.", "Hi.", asked, "Michelangelo."), talk(asked, "Michelangelo.", "When?", "In 1512."),
        talk("Name a bird.", "Crow.", "Another one.", "Jay."),
    ]  # fmt: skip
    (tmp_path / "talks.jsonl").write_text("".join(talks))
    (tmp_path / "test.jsonl").write_text(json.dumps({"text": asked, "category": "x"}) + "\n")
    command = ["revise", f"corpus.file.path={tmp_path / 'talks.jsonl'}", "reviser=none", "testset=[vicuna80]"]
    assert errata(*command, f"testset.vicuna80.path={tmp_path / 'test.jsonl'}", f"output_dir={tmp_path}") == 0
    (run,) = tmp_path.glob("revise-*")
    rows = (run / "final/train.messages.jsonl").read_bytes().splitlines()
    assert [json.loads(row)["id"] for row in rows] == ["file/2"]
    assert not (run / "final/train.alpaca.jsonl").read_bytes()  # a conversation has no such form


def test_an_edit_is_held_to_a_wall_that_came_later(tiny_model, tmp_path):
    (tmp_path / "raw.json").write_text(json.dumps([{"instruction": f"Name {n} birds.", "output": "Crow."} for n in (2, 3)]))
    test, decisions = tmp_path / "test.jsonl", tmp_path / "decisions.json"
    test.write_text(json.dumps({"text": "Name a planet of the sun.", "category": "x"}) + "\n")
    edit = {"instruction": "Name a star of the night.", "input": "", "output": "Sirius."}
    decisions.write_text(json.dumps({"file/0": {"edit": edit}}))
    command = [
        "revise", f"corpus.file.path={tmp_path / 'raw.json'}", "testset=[vicuna80]", f"decisions={decisions}",
        f"testset.vicuna80.path={test}", f"output_dir={tmp_path}", "reviser=superfiltering", "reviser.share=1",
        "reviser.below=9", "model=hf", f"model.path={tiny_model}",
    ]  # fmt: skip
    for left in (2, 1):
        assert errata(*command) == 0
        (run,) = tmp_path.glob("revise-*")
        assert len((run / "final/pairs.jsonl").read_text().splitlines()) == left
        test.write_text(json.dumps({"text": edit["instruction"], "category": "x"}) + "\n")


@pytest.mark.parametrize(("content", "said"), [("[", "no JSON"), ('{"other/1": "accept"}', "not among these")])
def test_wrong_decisions_are_found_before_anyone_is_asked(content, said, teacher, tmp_path, capsys):
    address, seen = teacher
    (tmp_path / "raw.json").write_text(json.dumps([{"instruction": f"Name {n} birds.", "output": "Crow."} for n in (2, 3)]))
    (tmp_path / "decisions.json").write_text(content)
    assert errata(
        "revise", f"corpus.file.path={tmp_path / 'raw.json'}", "instructor.model=m", f"instructor.base_url={address}",
        f"output_dir={tmp_path}", f"decisions={tmp_path / 'decisions.json'}",
    ) != 0  # fmt: skip
    assert said in capsys.readouterr().err
    assert not seen()


@pytest.mark.slow
def test_a_coach_is_trained_and_revises_what_it_was_not_trained_on(tiny_model, tmp_path, capsys):
    rows = [
        {
            "Raw Instruction": f"Name {n} birds.", "Raw Input": "", "Raw Response": "Sparrow.", "Revised Instruction":
            f"Name {n} birds, and say where each of them lives.", "Revised Input": "", "Revised Response": "Sparrow: towns. " * n,
        }
        for n in range(2, 12)
    ]  # fmt: skip
    (tmp_path / "experts.json").write_text(json.dumps(rows))
    pairs = [{name: row[f"Raw {label}"] for name, label in LABELS.items()} for row in rows]
    (tmp_path / "raw.json").write_text(json.dumps(pairs))
    place = ["model=hf", f"model.path={tiny_model}", f"output_dir={tmp_path}", "tracking=off"]
    shape = ["training.max_length=1024", "training.batch_size=2", "training.threads=1"]
    assert errata("train", f"revisions={tmp_path / 'experts.json'}", "alpha=0.5", *place, *shape) == 0, (
        capsys.readouterr().err
    )
    (trained,) = tmp_path.glob("train-*")
    record = json.loads((trained / "train/model/coach.json").read_text())
    assert (record["selected"], record["rows"], len(record["trained_on"])) == (5, 5, 5)
    assert errata("export", str(trained), "--to", str(tmp_path / "exported")) == 0, capsys.readouterr().err
    assert json.loads((tmp_path / "exported/model/coach.json").read_text()) == record
    coach = ["reviser=coach", f"reviser.folder={trained}", "reviser.max_new_tokens=8"]
    assert errata("revise", f"corpus.file.path={tmp_path / 'raw.json'}", *coach, *place) == 0, capsys.readouterr().err
    (run,) = tmp_path.glob("revise-*")
    reasons = Counter(one.reason for one in revisions_of(run))
    assert reasons["trained_on"] == 5  # the five largest revisions
    assert sum(reasons.values()) == 10
    results = json.loads((run / "results.json").read_text())
    assert results["throughput"]["desk/coach"] > 0
    assert "prompts/s" in (run / "run.log").read_text()


def test_the_student_chooses_among_the_teachers_reflections(teacher, raw, tiny_model, tmp_path, capsys):
    address, seen = teacher
    place = ["model=hf", f"model.path={tiny_model}", f"output_dir={tmp_path}", "corpus.file.limit=30", "max_length=512"]
    command = ["revise", f"corpus.file.path={raw}", "reviser=selective_reflection", "instructor.model=m", *place]
    limits = ["reviser.ifd_below=null", "reviser.rifd_below=null"]  # what a random student says is near 1
    assert errata(*command, *limits, f"instructor.base_url={address}") == 0, capsys.readouterr().err
    asked = seen()
    (run,) = tmp_path.glob("revise-*")
    revisions = revisions_of(run)
    status = Counter(one.status for one in revisions)
    assert len(revisions) == 30 and status["dropped"] and status["revised"]
    scored = [one for one in revisions if one.scores["ifd_before"] is not None]
    assert asked.total() == 2 * len(scored)  # nothing is paid for a pair that the student cannot score
    assert {one.reason for one in revisions if one not in scored} <= {"unscored"}
    for one in revisions:
        if one.status == "revised":
            assert one.scores["rifd_after"] < one.scores["rifd_before"]
            assert one.scores["ifd_before"] > 0
    told = json.loads((run / "results.json").read_text())["scores"]["ifd_before"]
    assert (told["scored"], told["missing"]) == (len(scored), 30 - len(scored))
    assert errata(*command, *limits, f"instructor.base_url={address}") == 0
    assert seen() == asked


def test_the_hardest_share_is_kept(raw, tiny_model, tmp_path, capsys):
    place = ["model=hf", f"model.path={tiny_model}", f"output_dir={tmp_path}", "corpus.file.limit=20"]
    command = ["revise", f"corpus.file.path={raw}", "reviser=superfiltering", "reviser.share=0.25", "reviser.below=9"]
    assert errata(*command, *place) == 0, capsys.readouterr().err
    (run,) = tmp_path.glob("revise-*")
    kept = [one for one in revisions_of(run) if one.status == "kept"]
    assert len(kept) == 5
    assert len((run / "final/train.messages.jsonl").read_bytes().splitlines()) == 5


class Both(Server):
    """Writes practice, and better answers to it: some good, some with a wrong sum."""

    async def _answer(self, request):
        text = (await request.json())["messages"][-1]["content"]
        self.seen[text] += 1
        number = int(hashlib.sha256(text.encode()).hexdigest(), 16)
        if "<better_answer>" not in text:
            a, b = number % 89 + 10, number // 89 % 89 + 10
            names = ("Ada", "Ben", "Cleo", "Dora", "Emil")[number // 7921 % 5]
            question = f"{names} has {a} stamps and finds {b} more in box {number % 997}. How many stamps are there now?"
            return completion(f"### Problem 1\nQuestion: {question}\nSolution: {a} + {b} = {a + b}\n#### {a + b}")
        answer = re.search(r"<answer>\n(.*?)\n</answer>", text, re.DOTALL)[1]
        better = f"First I see what is asked.\n{answer}" if number % 3 else re.sub(r"= (\d+)", r"= 1\1", answer)
        return completion(f"It is bare.\n\n<better_answer>\n{better}\n</better_answer>")


@pytest.mark.slow
def test_the_loop_revises_between_verify_and_mix(tiny_model, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server = Both()
    arguments = [
        "improve", *[item for item in SMALL if not item.startswith("instructor")], "model=hf", f"model.path={tiny_model}",
        f"output_dir={tmp_path}", "name=revised", "instructor=openai", "instructor.model=m", f"instructor.base_url={server.url}",
        "reviser=reflection", "reviser.stages=[response]",
    ]  # fmt: skip
    try:
        assert errata(*arguments, "dry_run=true") == 0, capsys.readouterr().err
        assert "iteration_1/arithmetic/revise" in capsys.readouterr().out
        assert errata(*arguments) == 0, capsys.readouterr().err
        asked = sum(server.seen.values())
        assert errata(*arguments) == 0
        assert sum(server.seen.values()) == asked
    finally:
        server.stop()
    (run,) = tmp_path.glob("revised-*")
    place = run / "iteration_1/arithmetic/revise"
    revisions = decode_lines((place / "revised/revisions.jsonl").read_bytes(), Revision)
    status = Counter((one.status, one.reason) for one in revisions)
    assert status[("revised", "")] > 3
    assert (
        status[("kept", "wrong_sum")] + status[("kept", "answer_mismatch")] > 0
    )  # a gate saw what the reviser made of them
    rows = {row.id: row for row in decode_lines((run / "iteration_1/mix/train.jsonl").read_bytes(), Example)}
    for one in revisions:
        if one.id in rows:
            assert rows[one.id].response == one.final.output
            assert rows[one.id].response.startswith("First I see") == (one.status == "revised")
    results = json.loads((run / "results.json").read_text())
    (practice,) = results["practice"]
    assert practice["revised"]["pairs"] == len(revisions)
    assert practice["requests"] == asked
    revised = next(one.id for one in revisions if one.status == "revised" and one.id in rows)
    capsys.readouterr()
    assert errata("why", str(run), revised) == 0
    assert "the reviser: revised" in capsys.readouterr().out


def test_a_changed_row_is_held_against_the_rows_that_stay(tmp_path):
    """A gate that compares questions must see those of this very iteration, too."""
    rows = [Example(f"1/toy/{n}", "toy", f"Question {n}?", f"It is {n}.", str(n), "toy/1", "1/toy", 1) for n in range(3)]

    class One:
        scores = False

        def revise(self, pairs, desk):
            better = replace(pairs[1], output="It is 1, to be sure.")
            return [Revision(pair.id, pair, better if pair is pairs[1] else pair, "revised" if pair is pairs[1] else "kept")
                    for pair in pairs]  # fmt: skip

    class Screened(Screening):
        def verified(self, rows, name, iteration, earlier, inputs, step=""):
            held.append(([row.id for row in rows], [row.id for row in earlier]))
            return rows

    held = []
    settings = SimpleNamespace(training=SimpleNamespace(max_length=64))
    setup = SimpleNamespace(reviser=One(), datasets={"toy": Arithmetic("toy")}, settings=settings, model=None)
    with RunFolder(tmp_path / "run", {}) as folder:
        run = Run(setup, folder, None, SimpleNamespace(stage=lambda stage: None))
        left = Screened(run, {}).revised(None, rows, "toy", 1, [replace(rows[0], id="0/toy/9")])
    assert held == [(["1/toy/1"], ["0/toy/9", "1/toy/0", "1/toy/2"])]
    assert [row.response for row in left] == ["It is 0.", "It is 1, to be sure.", "It is 2."]


def test_a_revised_row_that_lost_its_answer_stays_as_it_was(tmp_path):
    rows = [Example(f"1/toy/{n}", "toy", f"Question {n}?", "3 + 4 = 7\n#### 7", "7", "toy/1", "1/toy", 1) for n in range(4)]

    class Rewriting:
        scores = False

        def revise(self, pairs, desk):
            questions = ("Another question?", "Another question?", pairs[2].instruction, pairs[3].instruction)
            outputs = ("Nobody can tell.", "4 + 4 = 8\n#### 8", "3 + 5 = 8\n#### 8", "Three and four: 3 + 4 = 7\n#### 7")
            return [
                Revision(pair.id, pair, replace(pair, instruction=question, output=output), "revised")
                for pair, question, output in zip(pairs, questions, outputs, strict=True)
            ]

    settings = SimpleNamespace(training=SimpleNamespace(max_length=64), errors=SimpleNamespace(splits=["train"]))
    setup = SimpleNamespace(
        reviser=Rewriting(), datasets={"toy": Arithmetic("toy")}, settings=settings, gates={"length": Length()}, wall=[],
        model=SimpleNamespace(fingerprint="start", count_tokens=lambda prompt, response: 1), retrieval=None,
    )  # fmt: skip
    with RunFolder(tmp_path / "run", {}) as folder:
        run = Run(setup, folder, None, SimpleNamespace(stage=lambda stage: None))
        left = Screening(run, {"toy": {}}).revised(None, rows, "toy", 1, [])
        (place,) = folder.path.glob("iteration_1/toy/revise/revised")
        revisions = decode_lines((place / "revisions.jsonl").read_bytes(), Revision)
    assert left[0] == rows[0]
    assert (left[1].prompt, left[1].answer) == ("Another question?", "8")
    assert left[2] == rows[2]
    assert left[3].response.startswith("Three and four")
    assert [one.reason for one in revisions] == ["no_answer", "", "wrong_value", ""]
    assert [one.status for one in revisions] == ["kept", "revised", "kept", "revised"]
    assert revisions[2].detail == "the reviser's response answers 8, the row 7"
    assert "Nobody can tell." in revisions[0].rejected


def test_verdicts_of_a_former_start_change_no_revision(tmp_path):
    rows = [Example(f"1/toy/{n}", "toy", f"Question {n}?", "#### 7", "7", "toy/1", "1/toy", 1) for n in range(2)]

    class Choosing:
        scores = False

        def revise(self, pairs, desk):
            better = replace(pairs[1], output="3 + 4 = 7\n#### 7")
            return [
                Revision(pairs[0].id, pairs[0], None, "dropped", "poor"),
                Revision(pairs[1].id, pairs[1], better, "revised"),
            ]

    settings = SimpleNamespace(training=SimpleNamespace(max_length=64), errors=SimpleNamespace(splits=["train"]))
    setup = SimpleNamespace(
        reviser=Choosing(), datasets={"toy": Arithmetic("toy")}, settings=settings, gates={"length": Length()}, wall=[],
        model=SimpleNamespace(fingerprint="start", count_tokens=lambda prompt, response: 1), retrieval=None,
    )  # fmt: skip
    with RunFolder(tmp_path / "run", {}) as folder:
        stale = folder.path / "iteration_1/toy/revise/agree"
        stale.mkdir(parents=True)
        said = [Rejection(row.id, "toy", "no_consensus", "", row.prompt, row.request_id, 1) for row in rows]
        (stale / "rejections.jsonl").write_bytes(encode_lines(said))
        run = Run(setup, folder, None, SimpleNamespace(stage=lambda stage: None))
        left = Screening(run, {"toy": {}}).revised(None, rows, "toy", 1, [])
    assert [(row.id, row.response) for row in left] == [("1/toy/1", "3 + 4 = 7\n#### 7")]


@pytest.mark.slow
def test_a_coach_stays_on_its_own_base_when_the_student_has_moved_on(tiny_model, tmp_path, capsys):
    """Trained whole, the student of iteration 2 is another base, which the coach's adapter is not made for."""
    sides = ("Raw", "Birds: two.", "Crow."), ("Revised", "Name two birds.", "Crow and jay.")
    row = {
        f"{side} {name}": text
        for side, *texts in sides
        for name, text in zip(("Instruction", "Response"), texts, strict=True)
    }
    (tmp_path / "experts.json").write_text(json.dumps([row | {"Raw Input": "", "Revised Input": ""}]))
    place = ["model=hf", f"model.path={tiny_model}", f"output_dir={tmp_path}", "tracking=off", "training.threads=1"]
    assert errata("train", f"revisions={tmp_path / 'experts.json'}", "alpha=1", *place, "training.max_length=1024") == 0, (
        capsys.readouterr().err
    )
    (coach,) = tmp_path.glob("train-*")
    assert errata(
        "improve", *SMALL, *place, "iterations=2", "name=loop", "training=full", "reviser=coach",
        f"reviser.folder={coach}", "reviser.max_new_tokens=4", "dataset.arithmetic.train=8", "dataset.arithmetic.test=4",
    ) == 0, capsys.readouterr().err  # fmt: skip
    (run,) = tmp_path.glob("loop-*")
    assert len(list(run.glob("iteration_*/arithmetic/revise/revised/revisions.jsonl"))) == 2
