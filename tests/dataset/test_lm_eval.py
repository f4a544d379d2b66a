"""lm-eval as a benchmark source: its own scores on our model, free text by our engine, and our graders beside its own."""

import importlib.metadata
import json
import os
import re
import sys
from pathlib import Path

import pytest
import yaml

pytest.importorskip("lm_eval")

from lm_eval.evaluator import evaluate as harness
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from tests.test_loop import errata
from transformers import AutoModelForCausalLM

from errata.dataset.lm_eval import LMEval
from errata.errors import DataError
from errata.jsonl import decode_lines
from errata.model.hf import HF
from errata.records import Attempt

REAL = Path(os.environ.get("ERRATA_DATA", Path(__file__).parents[3] / "shared" / "data"))
WORDS = "one two three four five six seven eight nine ten".split()
MEANS = {"aggregation": "mean", "higher_is_better": True}
CHOICE = {
    "task": "counting", "output_type": "multiple_choice", "doc_to_text": "What comes after {{word}}?\nAnswer:",
    "doc_to_target": "{{gold}}", "doc_to_choice": "{{options}}", "doc_to_decontamination_query": "word",
    "should_decontaminate": True, "metric_list": [{"metric": "acc", **MEANS}, {"metric": "acc_norm", **MEANS}],
}  # fmt: skip
FREE = {
    "task": "saying", "output_type": "generate_until", "doc_to_text": "What comes after {{word}}?\nAnswer:",
    "doc_to_target": "{{options[0]}}", "generation_kwargs": {"until": ["\n", "?"], "max_gen_toks": 12},
    "metric_list": [{"metric": "exact_match", **MEANS}],
    "filter_list": [
        {"name": "first", "filter": [{"function": "take_first"}]},
        {"name": "letters", "filter": [{"function": "regex", "regex_pattern": "([a-z])"}, {"function": "take_first"}]},
    ],
}  # fmt: skip
ROLLING = {
    "task": "perplexing", "output_type": "loglikelihood_rolling", "doc_to_text": "", "doc_to_target": "{{word}}",
    "metric_list": [{"metric": "word_perplexity"}],
}  # fmt: skip


@pytest.fixture
def tasks(tmp_path):
    """Three tasks on a local file, one of each kind."""
    rows = [
        {"word": WORDS[n], "options": [WORDS[n + 1], WORDS[n - 1], "none of these numbers"], "gold": 0} for n in range(1, 9)
    ]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "tasks").mkdir()
    for task in (CHOICE, FREE, ROLLING):
        where = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(tmp_path / "data.jsonl")}}}
        content = {**task, **where, "test_split": "test", "fewshot_split": "test"}
        (tmp_path / "tasks" / f"{task['task']}.yaml").write_text(yaml.safe_dump(content))
    return tmp_path / "tasks"


def samples(tasks, name, tiny_model, shots=None):
    """What lm-eval says when it is left alone."""
    student = HF(str(tiny_model))
    plain = AutoModelForCausalLM.from_pretrained(tiny_model)
    loaded = TaskManager(include_defaults=False, include_path=str(tasks)).load([name])
    if shots is not None:
        loaded["tasks"][name].set_config(key="num_fewshot", value=shots)
    loaded["tasks"][name].set_fewshot_seed(seed=1234)
    found = harness(HFLM(pretrained=plain, tokenizer=student.tokenizer, batch_size=2), loaded, bootstrap_iters=0)
    return found["samples"][name]


def attempts(dataset, tiny_model, folder):
    folder.mkdir(exist_ok=True)
    questions = dataset.load("test")
    return [one for part in dataset.attempts(HF(str(tiny_model)), questions, folder) for one in part]


@pytest.mark.parametrize("metric", ["acc", "acc_norm"])
def test_the_scores_are_those_that_the_harness_gives_alone(tasks, tiny_model, tmp_path, metric):
    dataset = LMEval("lm_eval", ["counting"], [str(tasks)], {"counting": 2}, {"counting": metric})
    assert dataset.problems() == []
    mine = attempts(dataset, tiny_model, tmp_path / "stage")
    theirs = samples(tasks, "counting", tiny_model, shots=2)
    assert [attempt.value for attempt in mine] == [sample[metric] for sample in theirs]
    for attempt, sample in zip(mine, theirs, strict=True):
        chances = [float(line.split(" ")[0]) for line in attempt.response.split("\n")]
        assert chances == pytest.approx([chance for chance, _ in sample["filtered_resps"]], abs=2e-4)
        assert attempt.correct == (attempt.answer == attempt.question.gold)
    assert mine[0].question.text == "two"  # what is asked, by which leaks are found: not the prompt around it
    assert (mine[0].id, mine[0].question.skill) == ("lm_eval/test/counting/0", "counting")


def test_free_text_comes_from_our_engine_and_is_the_same(tasks, tiny_model, tmp_path):
    dataset = LMEval("lm_eval", ["saying"], [str(tasks)], metric={"saying": "exact_match,letters"})
    mine = attempts(dataset, tiny_model, tmp_path / "stage")
    theirs = [sample for sample in samples(tasks, "saying", tiny_model) if sample["filter"] == "letters"]
    assert [attempt.response for attempt in mine] == [sample["resps"][0][0] for sample in theirs]
    assert [attempt.answer for attempt in mine] == [sample["filtered_resps"][0] for sample in theirs]
    assert len(mine) == 8


@pytest.mark.slow
def test_a_killed_evaluation_asks_only_what_it_has_not_heard(tasks, tiny_model, tmp_path, monkeypatch):
    dataset = LMEval("lm_eval", ["counting", "saying"], [str(tasks)])
    first = attempts(dataset, tiny_model, tmp_path / "stage")

    def fails(*args, **kwargs):
        raise AssertionError("asked again")

    monkeypatch.setattr(HFLM, "_loglikelihood_tokens", fails)
    monkeypatch.setattr(HF, "complete", fails)
    again = LMEval("lm_eval", ["counting", "saying"], [str(tasks)])
    assert attempts(again, tiny_model, tmp_path / "stage") == first
    with pytest.raises(AssertionError, match="asked again"):
        attempts(again, tiny_model, tmp_path / "elsewhere")


@pytest.mark.slow
def test_a_run_reports_each_task_and_goes_on(tasks, tiny_model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = [
        "evaluate", "model=hf", f"model.path={tiny_model}", "dataset=lm_eval", "dataset.lm_eval.tasks=[counting,saying]",
        f"dataset.lm_eval.include_path=[{tasks}]", "dataset.lm_eval.limit=5",
    ]  # fmt: skip
    assert errata(*command) == 0
    (folder,) = tmp_path.glob("outputs/evaluate-*")
    (part,) = json.loads((folder / "results.json").read_text())["datasets"]["lm_eval"]
    assert part["protocol"].startswith("lm-eval 0.4.")
    assert {name: score["n"] for name, score in part["scores"].items()} == {"all": 10, "counting": 5, "saying": 5}
    place = folder / "iteration_0/lm_eval/test"
    assert len(decode_lines((place / "attempts.jsonl").read_bytes(), Attempt)) == 10
    assert sorted(path.name for path in place.iterdir()) == ["attempts.jsonl", "stage.json"]
    assert errata(*command, "dataset.lm_eval.batch_size=3") == 0  # the same run: nothing is asked again
    assert len(list(tmp_path.glob("outputs/evaluate-*"))) == 1


@pytest.mark.slow
def test_what_cannot_be_is_said_in_one_error(tasks, tiny_model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def problems(**settings):
        return LMEval(**{"name": "lm_eval", "tasks": ["counting"], "include_path": [str(tasks)], **settings}).problems()

    assert problems(tasks=["conting"]) == [
        "dataset.lm_eval.tasks: lm-eval has no task, group or tag 'conting'; did you mean counting?"
    ]
    assert "no folder nowhere" in problems(include_path=["nowhere"])[0]
    assert "at least 1" in problems(limit=0)[0]
    assert "at least 0" in problems(num_fewshot={"counting": -1})[0]
    assert "name at least one" in problems(tasks=[])[0]
    for settings, message in (
        ({"metric": {"counting": "f1"}}, "has no metric 'f1'; it has acc, acc_norm"),
        ({"metric": {"counting": "acc,strict"}}, "has no filter 'strict'; it has none"),
        ({"tasks": ["perplexing"]}, "is no mean over questions"),
    ):
        with pytest.raises(DataError, match=message):
            LMEval(**{"name": "lm_eval", "tasks": ["counting"], "include_path": [str(tasks)], **settings}).load("test")
    with pytest.raises(DataError, match="testing only"):
        LMEval("lm_eval", ["counting"], [str(tasks)]).load("train")

    (tmp_path / "answers.jsonl").write_text('{"question": "a", "response": "b"}\n')
    recorded = ["model=recorded", "model.path=answers.jsonl", "dataset=lm_eval", "dataset.lm_eval.tasks=[piqa]"]
    assert errata("evaluate", *recorded) == 2
    assert "needs a model whose weights are at hand" in capsys.readouterr().err
    assert errata("improve", "dataset=lm_eval", "dataset.lm_eval.tasks=[piqa]") == 2
    assert "has no train split to take errors from" in capsys.readouterr().err

    monkeypatch.setitem(sys.modules, "lm_eval.tasks", None)
    assert "pip install 'errata[lmeval]'" in problems()[0]

    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    assert errata("evaluate", "model=hf", f"model.path={tiny_model}", "dataset=lm_eval") == 2
    assert "needs the package lm-eval" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_dir(), reason="the real benchmark files are not beside this checkout (ERRATA_DATA)")
@pytest.mark.parametrize("name", ["gsm8k", "arc"])
def test_our_verdicts_are_those_of_lm_eval_on_the_same_prompts(name, tmp_path):
    """A real student, real questions: the same texts from both engines, and the same verdicts from both graders."""
    from tests.dataset.test_real_data import dataset as real

    from errata.model.smollm2_135m import SmolLM2

    # lm-eval reads the last number, as `paper` does; `corrected` prefers the one behind ####
    benchmark = real(name, "paper" if name == "gsm8k" else "corrected")
    benchmark.limit, benchmark.max_new_tokens = 32, 96
    questions = benchmark.load("test")
    prompts = benchmark.prompts(questions)
    rows = [
        {"prompt": prompt.user, "choices": list(question.choices.values()), "gold": question.gold}
        for question, prompt in zip(questions, prompts, strict=True)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    number = {"function": "regex", "group_select": -1, "regex_pattern": r"(-?[$0-9.,]{2,})|(-?[0-9]+)"}
    label = {"function": "regex", "regex_pattern": r"(?:^|answer is:? |Answer: )\(?([A-E1-5])[.):]"}
    task = {
        "task": "same", "output_type": "generate_until", "test_split": "test", "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(tmp_path / "rows.jsonl")}}, "doc_to_text": "{{prompt}}",
        "doc_to_target": "{{gold}}",
        "generation_kwargs": {"until": ["<|im_end|>"], "max_gen_toks": 96, "do_sample": False},
        "filter_list": [{"name": "f", "filter": [number if name == "gsm8k" else label, {"function": "take_first"}]}],
        "metric_list": [{"metric": "exact_match", "regexes_to_ignore": [",", r"\$", r"\.$"], **MEANS}],
    }  # fmt: skip
    student = SmolLM2(device="cpu").load()
    plain = AutoModelForCausalLM.from_pretrained(student.weights.base)
    peer = HFLM(pretrained=plain, tokenizer=student.tokenizer, batch_size=32)
    loaded = TaskManager(include_defaults=False).load([task])
    found = {
        one["doc_id"]: one for one in harness(peer, loaded, bootstrap_iters=0, apply_chat_template=True)["samples"]["same"]
    }
    answers = dict(student.answers(prompts, benchmark.max_new_tokens))
    assert [answers[n].text for n in range(32)] == [found[n]["resps"][0][0] for n in range(32)]
    verdicts = [benchmark.grade(question, answers[n].text) for n, question in enumerate(questions)]
    assert [verdict.correct for verdict in verdicts] == [found[n]["exact_match"] == 1 for n in range(32)]
    if name == "gsm8k":  # few of these are right: what both have read must be the same as well
        theirs = [re.sub(r"[$,]|\.$", "", found[n]["filtered_resps"][0]) for n in range(32)]
        assert [(verdict.answer or "[invalid]").rstrip(".") for verdict in verdicts] == theirs
    else:
        assert any(verdict.correct for verdict in verdicts)


def test_the_wall_is_read_by_the_metric_that_was_chosen(tasks):
    """A task whose first metric is no mean (F1) can be measured by another one, and its questions walled off."""
    path = tasks / "counting.yaml"
    content = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump(content | {"metric_list": [{"metric": "f1"}, {"metric": "acc", **MEANS}]}))
    with pytest.raises(DataError, match="no mean over questions; choose acc"):
        LMEval("lm_eval", ["counting"], [str(tasks)]).wall()
    benchmark = LMEval("lm_eval", ["counting"], [str(tasks)], metric={"counting": "acc"}, limit=2)
    assert [question.id for question in benchmark.wall()][:2] == [question.id for question in benchmark.load("test")]
    assert len(benchmark.wall()) == 8


@pytest.mark.slow
def test_an_answer_that_may_be_longer_than_the_context_leaves_the_prompt_whole(tasks, tiny_model, tmp_path, monkeypatch):
    path = tasks / "saying.yaml"
    content = yaml.safe_load(path.read_text())
    content["generation_kwargs"] |= {"max_gen_toks": 512 + 9}  # of the tiny model's context of 512
    path.write_text(yaml.safe_dump(content))
    heard = []
    complete = HF.complete
    monkeypatch.setattr(HF, "complete", lambda self, ids, *rest: heard.extend(ids) or complete(self, ids, *rest))
    found = attempts(LMEval("lm_eval", ["saying"], [str(tasks)], limit=2), tiny_model, tmp_path / "run")
    student = HF(str(tiny_model))
    whole = [f"What comes after {WORDS[n]}?\nAnswer:" for n in (1, 2)]
    assert sorted(student.tokenizer.decode(ids) for ids in heard) == sorted(whole)
    assert len(found) == 2
