"""`errata evaluate` from the command line: recorded answers, both protocols, grading anew, runs compared."""

import json

import pytest

from errata.jsonl import decode_lines
from errata.records import Attempt
from tests.test_loop import errata

QUESTIONS = [{"question": f"What is {n} + 1?", "answer": f"{n} + 1 = {n + 1}\n#### {n + 1}"} for n in range(20)]


def response(n):
    if n < 10:
        return f" It is #### {n + 1}\nThat took me 3 steps."  # the source reads the 3
    return "I'm sorry, I cannot tell." if n == 10 else f"It is {n + 1}." if n < 15 else "It is 99."


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "test.jsonl").write_text("\n".join(map(json.dumps, QUESTIONS)))
    lines = [{"question": q["question"], "response": response(n)} for n, q in enumerate(QUESTIONS) if n != 19]
    (tmp_path / "answers.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return tmp_path


ASK = ["evaluate", "dataset=gsm8k", "dataset.gsm8k.path=data"]
RECORDED = [*ASK, "model=recorded", "model.path=answers.jsonl"]


def measured(place, name):
    (folder,) = place.glob(f"outputs/{name}-*")
    results = json.loads((folder / "results.json").read_text())
    (part,) = results["datasets"]["gsm8k"]
    return folder, part


def test_recorded_answers_are_graded_and_missing_ones_left_out_and_counted(place, capsys):
    assert errata(*RECORDED) == 0
    folder, part = measured(place, "evaluate")
    score = part["scores"]["all"]
    assert (part["protocol"], score["n"], score["right"], part["left_out"]) == ("corrected", 19, 14, 1)
    assert score["low"] < score["accuracy"] < score["high"]
    assert part["kinds"] == {"wrong_value": 4, "refusal": 1}
    attempts = decode_lines((folder / "iteration_0/gsm8k/test/attempts.jsonl").read_bytes(), Attempt)
    refused = attempts[10]
    assert (refused.id, refused.answer, refused.question.gold) == ("gsm8k/test/10", None, "11")
    assert (refused.correct, refused.kind, refused.detail) == (False, "refusal", "I'm sorry")
    assert attempts[-1].detail == "answered 99, the answer is 19"
    shown = capsys.readouterr().out
    assert "gsm8k (test, corrected)" in shown
    assert "wrong value 4, refusal 1" in shown
    assert errata(*RECORDED) == 0  # again: nothing is done twice
    assert len(list(place.glob("outputs/evaluate-*"))) == 1


def test_stored_responses_are_graded_anew_without_a_model(place, capsys, monkeypatch):
    errata(*RECORDED, "name=first")
    (run,) = place.glob("outputs/first-*")
    (place / "answers.jsonl").unlink()
    assert errata(*ASK, f"regrade={run}", "protocol=paper", "name=again") == 0
    _, part = measured(place, "again")
    assert (part["protocol"], part["scores"]["all"]["n"]) == ("paper", 19)
    assert part["scores"]["all"]["right"] == 4 + 1  # 10 to 14 but the refusal, and 2 + 1, whose answer is 3 by chance
    capsys.readouterr()
    (again,) = place.glob("outputs/again-*")
    assert errata("report", str(run), str(again)) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "table 1" in shown and "table 2" in shown  # graded under two protocols: not to be averaged or tested
    assert errata("diff", str(run), str(again)) == 0
    shown = capsys.readouterr().out
    assert "-47.4" in shown and "different protocols" in shown


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([*ASK, "regrade=nowhere"], "regrade is 'nowhere': no run folder there"),
        ([*ASK, "regrade={run}", "split=train"], "no train"),
        (["evaluate", "dataset=arithmetic", "regrade={run}"], "holds no responses to arithmetic/test; it holds gsm8k/test"),
        ([*ASK, "protocol=papre"], "dataset.gsm8k.protocol is 'papre': choose corrected or paper"),
        ([*ASK, "model=recorded", "model.path=nowhere.jsonl"], "nowhere.jsonl': no such file"),
        (["evaluate", "dataset=arithmetic", "model=recorded", "model.path=answers.jsonl"], "not one of 240 questions"),
        (["improve", "model=recorded", "model.path=answers.jsonl"], "can only be asked, not trained"),
        (["improve", "dataset=humaneval"], "dataset.humaneval has no train split to take errors from"),
        (["improve", "dataset@tests=[arithmetic]"], "tests.arithmetic is among the datasets already"),
        (["improve", "dataset@tests=[arc]", "tests.arc.limit=0"], "tests.arc.limit is 0"),
        ([*ASK, "dataset.gsm8k.fields.question=qestion"], "the field 'qestion' is missing; it has question, answer"),
        ([*ASK, "dataset.gsm8k.fields.qestion=question"], "no option 'dataset.gsm8k.fields.qestion'"),
        ([*ASK, "dataset.gsm8k.splits.tset=x"], "no option 'dataset.gsm8k.splits.tset'"),
        ([*ASK, "dataset.gsm8k.stop=['']"], "an empty string"),
        (["evaluate", "dataset=bbh"], "prompts_folder=FOLDER"),
        (["evaluate", "dataset=humaneval", "dataset.humaneval.timeout_s=0"], "timeout_s is 0"),
        (["evaluate", "dataset=humaneval", "dataset.humaneval.shots=1"], "no train or dev split to take examples from"),
    ],
)
def test_bad_input_is_one_clear_error(place, capsys, arguments, said):
    errata(*RECORDED, "name=first")
    (run,) = place.glob("outputs/first-*")
    capsys.readouterr()
    assert errata(*(argument.replace("{run}", str(run)) for argument in arguments)) == 2
    shown = " ".join(capsys.readouterr().err.split())
    assert said in shown
    assert shown.count("error:") == 1


def test_a_train_question_that_is_a_test_question_is_never_asked(tmp_path, monkeypatch):
    from errata.splits import load_splits
    from tests.test_config import built

    (tmp_path / "train.jsonl").write_text(
        "\n".join(map(json.dumps, [*QUESTIONS[:3], {**QUESTIONS[5], "question": "Odd one?"}]))
    )
    (tmp_path / "test.jsonl").write_text("\n".join(map(json.dumps, [{**QUESTIONS[1], "question": " what is  1 + 1?"}])))
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    from errata.config import config_folder, register

    register()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        asked = ["dataset=gsm8k", f"dataset.gsm8k.path={tmp_path}", "instructor=openai", "instructor.model=m"]
        setup = built("improve", *asked, "instructor.base_url=http://127.0.0.1:1/v1")
    ids = [question.id for question in load_splits(setup)["gsm8k"]["train"]]
    assert ids == ["gsm8k/train/0", "gsm8k/train/2", "gsm8k/train/3"]
