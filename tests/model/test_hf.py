import pytest
import torch

from errata.chat import end_token_id
from errata.dataset.arithmetic import Arithmetic
from errata.errors import ConfigError, ModelError
from errata.model.base import TOO_LONG, Weights
from errata.model.hf import HF
from errata.records import Prompt

PROMPTS = [question.text for question in Arithmetic("arithmetic").load("dev")[:12]]


@pytest.fixture(scope="module")
def student(tiny_model):
    return HF(str(tiny_model), device="cpu").load()


def ask(student, texts, max_new_tokens, stop=(), **fields):
    """The answers in the order of the questions."""
    prompts = [Prompt(str(place), text, **fields) for place, text in enumerate(texts)]
    found = list(student.answers(prompts, max_new_tokens, stop))
    assert sorted(place for place, _ in found) == list(range(len(texts)))
    return [answer for _, answer in sorted(found, key=lambda item: item[0])]


def test_a_batch_is_answered_as_its_questions_alone(student):
    together = ask(student, PROMPTS, 12)
    assert together == [ask(student, [prompt], 12)[0] for prompt in PROMPTS]
    assert {answer.tokens for answer in together} <= set(range(1, 13))


def test_a_stop_string_cuts_the_text_before_it(student):
    whole = ask(student, PROMPTS, 24)
    for text, answer in zip(PROMPTS, whole, strict=True):
        stop = answer.text[5:8]
        (cut,) = ask(student, [text], 24, [stop])
        assert cut.text == answer.text[: answer.text.index(stop)]
        assert cut.finished
        assert cut.tokens < answer.tokens
        assert cut.tokens == ask(student, [text], cut.tokens)[0].tokens
        assert cut.text + stop in ask(student, [text], cut.tokens)[0].text


def test_a_prefill_begins_the_answer_and_is_no_part_of_it(student):
    (whole,) = ask(student, PROMPTS[:1], 12)
    token = student.tokenizer(whole.text, add_special_tokens=False).input_ids[:3]
    begin = student.tokenizer.decode(token)
    if student.tokenizer(begin, add_special_tokens=False).input_ids == token:
        (rest,) = ask(student, PROMPTS[:1], 9, prefill=begin)
        assert begin + rest.text == whole.text


def test_a_prompt_that_does_not_fit_the_context_is_its_own_kind_and_nothing_is_cut(student):
    short, long, nearly = ask(student, ["hello", "word " * 600, "x " * 240], 600)
    assert (long.failure, long.text) == (TOO_LONG, "")
    assert short.failure is nearly.failure is None
    length = len(student._prompt_ids(Prompt("", "x " * 240)))
    assert nearly.tokens == 512 - length
    assert not nearly.finished


@pytest.mark.slow
def test_two_processes_give_the_answers_of_one(student, tiny_model):
    assert ask(HF(str(tiny_model), device="cpu,cpu").load(), PROMPTS, 8) == ask(student, PROMPTS, 8)


@pytest.mark.slow
def test_a_process_that_dies_is_named(tiny_model, monkeypatch):
    with pytest.raises(ModelError, match=r"cuda:7: the configuration|answers on cuda:7 died|cuda:7"):
        ask(HF(str(tiny_model), device="cpu,cuda:7"), PROMPTS, 8)


def test_a_stop_token_that_the_tokenizer_lacks_is_named(tiny_model):
    (problem,) = HF(str(tiny_model), stop_tokens=["<|end|>", "<|eot_id|>"]).problems()
    assert "no token '<|eot_id|>'; its special ones are" in problem
    assert HF(str(tiny_model), stop_tokens=["<|user|>"]).problems() == []


def test_an_answer_stops_at_the_end_token(student):
    end = end_token_id(student.tokenizer)
    head = student._model.lm_head
    bias = torch.zeros(head.weight.shape[0])
    bias[end] = 1e4
    head.bias = torch.nn.Parameter(bias)
    try:
        assert [(answer.text, answer.finished) for answer in ask(student, PROMPTS[:2], 5)] == [("", True)] * 2
    finally:
        head.bias = None
    assert not ask(student, PROMPTS[:1], 3)[0].finished


def test_lengths_are_those_of_the_template(student):
    expected = len(student.tokenizer(f"<|user|>\n{PROMPTS[0]}<|end|>\n<|assistant|>\n", add_special_tokens=False).input_ids)
    answer = len(student.tokenizer("7", add_special_tokens=False).input_ids)
    assert student.count_tokens(PROMPTS[0], "7") == expected + answer + 1


def test_the_fingerprint_follows_the_weights(student, tiny_model, tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(tiny_model, copy)
    assert HF(str(copy)).fingerprint == student.fingerprint
    content = bytearray((copy / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (copy / "model.safetensors").write_bytes(content)
    assert HF(str(copy)).fingerprint != student.fingerprint


def test_other_weights_keep_the_settings(student):
    other = HF("a/b", dtype="float32", device="cpu").with_weights(Weights("c/d", "e"))
    assert (other.path, other.adapter, other.dtype, other.device) == ("c/d", "e", "float32", "cpu")


@pytest.mark.parametrize("path", ["org/name", "meta-llama/Llama-3-8B"])
def test_hub_ids_are_taken_as_they_are(path):
    assert HF(path).problems() == []
    assert HF(path).weights == Weights(path)


def test_a_template_that_is_not_there_is_named_for_a_hub_id_too():
    (problem,) = HF("org/name", template="nowhere.jinja").problems()
    assert "'nowhere.jinja': no such file" in problem


def test_a_model_that_cannot_be_loaded_is_named(tiny_model, tmp_path):
    import shutil

    with pytest.raises(ConfigError, match="model no/such-model-anywhere cannot be loaded"):
        HF("no/such-model-anywhere").count_tokens("x", "y")
    broken = tmp_path / "broken"
    shutil.copytree(tiny_model, broken)
    (broken / "model.safetensors").write_bytes(b"")
    with pytest.raises(ConfigError, match="broken cannot be loaded"):
        HF(str(broken)).load()
