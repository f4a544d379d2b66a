"""The real benchmark files, where they are at hand: their counts, their gold answers, and real models' answers."""

import json
import os
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from errata.config import config_folder, register
from errata.setup import build

REAL = Path(os.environ.get("ERRATA_DATA", Path(__file__).parents[3] / "shared" / "data"))
pytestmark = pytest.mark.skipif(
    not REAL.is_dir(), reason="the real benchmark files are not beside this checkout (ERRATA_DATA)"
)

SPLITS = [
    ("gsm8k", "train", 7473), ("gsm8k", "test", 1319), ("gsm_plus", "test", 2400), ("mmlu", "train", 1816),
    ("arc", "test", 1172), ("mbpp", "train", 462), ("mbpp", "test", 499), ("humaneval", "test", 164), ("bbh", "test", 1750),
]  # fmt: skip


def dataset(name, protocol="corrected"):
    """The benchmark as its config file has it, on the local files."""
    register()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        config = compose("evaluate", [f"dataset={name}", f"dataset.{name}.path={REAL / name}", f"protocol={protocol}"])
    return build(config.dataset[name], f"dataset.{name}")


@pytest.mark.parametrize(("name", "split", "count"), SPLITS)
def test_the_standard_splits_load_and_every_gold_answer_is_accepted(name, split, count, caplog):
    benchmark = dataset(name)
    assert benchmark.problems() == []
    questions = benchmark.load(split)  # raises where a cheap grader rejects a gold answer
    assert len(questions) == count
    assert len({question.id for question in questions}) == count
    assert "standard split" not in caplog.text
    if benchmark.cheap_to_grade:
        assert all(benchmark.grade(question, question.solution).correct for question in questions)
    prompts = benchmark.prompts(questions[:5])
    assert all(question.text.split("\n")[0] in prompt.user for question, prompt in zip(questions, prompts, strict=False))


@pytest.mark.slow
def test_all_canonical_solutions_of_humaneval_pass_under_both_protocols():
    for protocol in ("corrected", "paper"):
        benchmark = dataset("humaneval", protocol)
        wrong = [q.id for q in benchmark.load("test") if not benchmark.grade(q, q.solution).correct]
        assert wrong == [], protocol


@pytest.mark.parametrize("protocol", ["corrected", "paper"])
def test_5276_labelled_answers_of_real_models_are_graded_as_labelled(protocol):
    benchmark = dataset("gsm8k", protocol)
    questions = {question.text: question for question in benchmark.load("test")}
    lines = (REAL / "gsm8k" / "example_model_solutions.jsonl").read_text().split("\n")
    different, seen = [], 0
    for record in map(json.loads, filter(None, lines)):
        for model in ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification"):
            seen += 1
            verdict = benchmark.grade(questions[record["question"]], record[model]["solution"])
            if verdict.correct != record[model]["is_correct"]:
                different.append((record["question"], model, verdict))
    assert (seen, different) == (5276, [])


def test_what_the_source_leaves_out_or_can_never_find():
    assert len(dataset("gsm_plus", "paper").load("test")) == 2100  # no critical thinking
    arc = dataset("arc", "paper")
    lost = [q for q in arc.load("test") if not arc.grade(q, f"The answer is {q.gold}. Because A and B are so.").correct]
    assert len([q for q in lost if q.gold.isdigit()]) == 22
    assert all(q.gold.isdigit() or q.gold == "E" for q in lost)


def test_few_shot_prompts_show_the_worked_examples_and_never_the_question_itself():
    bbh = dataset("bbh")
    (question,) = [q for q in bbh.load("test") if q.id == "bbh/test/navigate/0"]
    (prompt,) = bbh.prompts([question])
    assert prompt.user.count("\nA: Let's think step by step.") == 4
    assert prompt.user.endswith(f"Q: {question.text}\nA: Let's think step by step.")
    assert "canary" not in prompt.user
    assert dataset("bbh", "paper").prompts([question])[0].prefill == "A:"
    gsm8k = dataset("gsm8k")
    gsm8k.shots = 2
    train = gsm8k.load("train")
    first, other = gsm8k.prompts([train[0], gsm8k.load("test")[0]])
    assert train[0].text in other.user
    assert first.user.count(train[0].text) == 1
