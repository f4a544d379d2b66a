"""The coach: every outcome has its reason, no pair is ever half revised, and a folder that holds no coach says so."""

import json
from dataclasses import dataclass, fields, replace
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from tests.scripted import Scripted

from errata.errors import ConfigError
from errata.model.base import TOO_LONG, Answer, AnswersOnly, Weights
from errata.records import Pair
from errata.reviser.coach import Coach
from errata.reviser.expert import REQUEST, coach_prompt, fingerprint
from errata.reviser.filters import Filters
from errata.reviser.markers import read, write
from errata.setup import build

PAIR = Pair("alpaca/1", "Name a planet.", "", "Mars", "alpaca", "en", skill="facts")
BETTER = replace(PAIR, instruction="Name one planet of the solar system.", output="Mars, the fourth planet.")


@dataclass
class FakeDesk:
    """Answers by the model itself; keeps what it was asked."""

    model: object
    seed: int = 0
    asked: tuple = ()

    def answer(self, name, model, prompts, max_new_tokens):
        self.asked += (name, model, [prompt.id for prompt in prompts])
        answers = dict(model.load().answers(prompts, max_new_tokens))
        return [answers[place] for place in range(len(prompts))]


def test_whole_revisions_go_on_and_each_pair_keeps_its_place_and_its_origin():
    pairs = [replace(PAIR, id=f"alpaca/{number}", output=f"Mars{number}") for number in range(5)]

    def rule(prompt):
        assert prompt.startswith(REQUEST)
        texts = read(prompt)
        return "no pair" if texts[2] == "Mars3" else write(Pair("", "Name one planet.", "", f"{texts[2]}, a planet."))

    desk = FakeDesk(Scripted(rule))
    revisions = Coach(model=desk.model, keep_trained=False).revise(pairs, desk)
    assert [revision.id for revision in revisions] == [pair.id for pair in pairs]
    assert [revision.status for revision in revisions] == ["revised", "revised", "revised", "kept", "revised"]
    assert revisions[3].final is pairs[3] and revisions[3].reason == "no_markers" and revisions[3].rejected == "no pair"
    assert revisions[4].final == replace(pairs[4], instruction="Name one planet.", output="Mars4, a planet.")
    assert desk.asked[0] == "coach"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer(write(BETTER), True), ""),
        (Answer(write(BETTER) + "\nmore", False), ""),  # it went on behind the end; the pair is whole
        (Answer(write(PAIR), True), "unchanged"),
        (Answer("Mars, the fourth planet.", True), "no_markers"),
        (Answer("### Instruction\nName one.\n### End", True), "half"),
        (Answer(write(BETTER).removesuffix("\n### End"), False), "truncated"),
        (Answer("### Response\na\n### Instruction\nb\n### End", True), "disordered"),
        (Answer(write(replace(BETTER, output=" \n")), True), "empty"),
        (Answer(write(replace(BETTER, output="火星")), True), "script"),
        (Answer(write(replace(BETTER, output="Mars is a planet of the sun. " * 20)), True), "repetition"),
        (Answer(write(replace(BETTER, output=" ".join(map(str, range(900))))), True), "over_length"),
        (Answer(write(replace(BETTER, output="Response: Mars")), True), "labels"),
        (Answer("", False, TOO_LONG), "too_long"),
        (Answer("", False, "server error 500"), "no_answer"),
    ],
)
def test_every_answer_is_a_whole_revision_or_the_whole_original_with_a_reason(answer, reason):
    revision = Coach().revision(PAIR, answer)
    if reason:
        assert (revision.status, revision.reason, revision.final) == ("kept", reason, PAIR)
        assert revision.rejected == answer.text
    else:
        assert (revision.status, revision.reason, revision.final) == ("revised", "", BETTER)


def test_limits_of_its_own_are_heeded():
    answer = Answer(write(replace(BETTER, output="火星")), True)
    assert Coach(filters=Filters(most_foreign=None)).revision(PAIR, answer).status == "revised"


def adapter(folder, base="models/tiny", trained_on=()):
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}))
    (folder / "adapter_model.safetensors").write_bytes(b"x")
    (folder / "coach.json").write_text(json.dumps({"trained_on": [fingerprint(pair) for pair in trained_on]}))
    return folder


def test_pairs_it_was_trained_on_and_conversations_are_not_asked_about(tmp_path):
    other = replace(PAIR, id="alpaca/2", output="Venus")
    talk = replace(PAIR, id="alpaca/3", output="Saturn", history=(("Hi", "Hello"),))
    desk = FakeDesk(Scripted(lambda prompt: write(BETTER), "elsewhere/tiny"))
    coach = Coach(str(adapter(tmp_path / "coach", trained_on=[replace(PAIR, id="experts/9", source="")])))
    revisions = coach.revise([PAIR, other, talk], desk)
    assert [(revision.status, revision.reason) for revision in revisions] == [
        ("kept", "trained_on"), ("revised", ""), ("kept", "history"),
    ]  # fmt: skip
    assert desk.asked[2] == ["alpaca/2"]
    assert [r.reason for r in replace(coach, keep_trained=False).revise([PAIR], desk)] == [""]
    assert coach.revise([], desk) == []


def test_the_adapter_goes_on_top_of_the_runs_model_or_of_its_own(tmp_path):
    class Keeps(Scripted):
        def with_weights(self, weights):
            return weights

    folder = adapter(tmp_path / "coach")
    coach = Coach(str(folder))
    found = coach.coach(Keeps(str, "store/tiny"))
    assert found == Weights("store/tiny", str(folder.resolve()))
    assert Coach(str(folder), Keeps(str, "own/tiny")).coach(Keeps(str, "store/other")).base == "own/tiny"
    assert Coach(model="itself").coach(Keeps(str)) == "itself"
    with pytest.raises(ConfigError, match="is an adapter for models/tiny, the model is store/other"):
        coach.coach(Keeps(str, "store/other"))
    with pytest.raises(ConfigError, match="weights are at hand"):
        coach.coach(AnswersOnly())


def test_a_run_folder_serves_as_well(tmp_path):
    adapter(tmp_path / "train" / "model")
    (tmp_path / "run.json").write_text("{}")
    coach = Coach(str(tmp_path))
    assert coach.problems() == []
    assert coach.coach(Scripted(str, "tiny")).name == "tiny"


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (None, "is not there"),
        ({}, "no adapter_config.json or config.json; there is nothing"),
        ({"train.jsonl": "", "training.yaml": ""}, "there is train.jsonl, training.yaml"),
        ({"adapter_config.json": "{}"}, "no weights"),
        ({"adapter_config.json": "{}", "adapter_model.safetensors": ""}, "no coach.json in"),
        ({"adapter_config.json": "{}", "adapter_model.safetensors": "", "coach.json": "[]"}, "does not say which pairs"),
    ],
)
def test_a_folder_without_a_coach_says_what_is_there_and_what_to_do(files, said, tmp_path):
    folder = tmp_path / "deep" / "coach"
    if files is not None:
        folder.mkdir(parents=True)
    for name, text in (files or {}).items():
        (folder / name).write_text(text)
    (problem,) = Coach(str(folder)).problems()
    assert said in problem
    if "adapter_model.safetensors" in (files or {}):
        assert "keep_trained=false" in problem
        assert Coach(str(folder), keep_trained=False).problems() == []


def test_settings_that_cannot_be_are_found_together():
    found = Coach(max_new_tokens=0, filters=Filters(most_ratio=0)).problems()
    assert [problem.split(" is ")[0] for problem in found] == [
        "reviser.filters.most_ratio", "reviser.max_new_tokens", "reviser.folder",
    ]  # fmt: skip
    assert "keep_trained=false" in Coach(model=Scripted(str)).problems()[0]


def test_the_config_file_holds_every_setting_with_the_same_values():
    node = OmegaConf.load(Path(__file__).parents[2] / "conf" / "reviser" / "coach.yaml")
    assert build(node, "reviser") == Coach()
    assert set(node) == {"_target_", *(setting.name for setting in fields(Coach))}
    assert set(node.filters) == {setting.name for setting in fields(Filters)}


def test_a_real_adapter_revises_and_what_a_random_model_says_is_no_pair(tiny_model, tmp_path):
    from peft import LoraConfig, get_peft_model

    from errata.model.hf import HF
    from errata.weights import load_network

    model = HF(str(tiny_model), device="cpu")
    network = get_peft_model(load_network(model.weights, None), LoraConfig(r=2, target_modules=["q_proj"]))
    network.save_pretrained(tmp_path / "coach")
    coach = Coach(str(tmp_path / "coach"), keep_trained=False, max_new_tokens=4)
    assert coach.problems() + coach.base_problems(model) == []
    desk = FakeDesk(model)
    pairs = [PAIR, replace(PAIR, id="alpaca/2", instruction="Name a moon. " * 400)]
    revisions = coach.revise(pairs, desk)
    assert [revision.status for revision in revisions] == ["kept", "kept"]
    assert revisions[0].reason in ("truncated", "no_markers")
    assert desk.asked[1].weights.adapter == str((tmp_path / "coach").resolve())
    assert desk.asked[1].count_tokens(coach_prompt(PAIR), "") > 0


def test_another_runs_model_folder_is_another_base(tmp_path):
    places = [tmp_path / name / "train" / "model" for name in ("one", "other", "copy")]
    for place, size in zip(places, (8, 16, 8), strict=True):
        place.mkdir(parents=True)
        (place / "config.json").write_text(json.dumps({"hidden_size": size}))
    adapter = tmp_path / "coach"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(places[0])}))
    coach = Coach(folder=str(adapter))
    problems = [coach.base_problems(Scripted(str.upper, str(place))) for place in places]
    assert [bool(found) for found in problems] == [False, True, False]
