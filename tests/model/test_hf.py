import pytest
import torch

from errata.chat import end_token_id
from errata.dataset.arithmetic import Arithmetic
from errata.errors import ConfigError
from errata.model.base import Weights
from errata.model.hf import HF

PROMPTS = [question.text for question in Arithmetic("arithmetic").load("dev")[:12]]


@pytest.fixture(scope="module")
def student(tiny_model):
    return HF(str(tiny_model), device="cpu").load()


def test_a_batch_is_answered_as_its_questions_alone(student):
    together = student.answer(PROMPTS, 12)
    alone = [student.answer([prompt], 12)[0] for prompt in PROMPTS]
    assert together == alone


def test_an_answer_stops_at_the_end_token(student):
    end = end_token_id(student.tokenizer)
    head = student._model.lm_head
    bias = torch.zeros(head.out_features)
    bias[end] = 1e4
    head.bias = torch.nn.Parameter(bias)
    try:
        assert [(answer.text, answer.finished) for answer in student.answer(PROMPTS[:2], 5)] == [("", True)] * 2
    finally:
        head.bias = None
    assert not student.answer(PROMPTS[:1], 3)[0].finished


def test_lengths_are_those_of_the_template(student):
    expected = len(student.tokenizer(f"<|user|>\n{PROMPTS[0]}<|end|>\n<|assistant|>\n", add_special_tokens=False).input_ids)
    assert student.prompt_lengths(PROMPTS[:1]) == [expected]
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


def test_a_model_that_cannot_be_loaded_is_named(tiny_model, tmp_path):
    import shutil

    with pytest.raises(ConfigError, match="model no/such-model-anywhere cannot be loaded"):
        HF("no/such-model-anywhere").prompt_lengths(["x"])
    broken = tmp_path / "broken"
    shutil.copytree(tiny_model, broken)
    (broken / "model.safetensors").write_bytes(b"")
    with pytest.raises(ConfigError, match="broken cannot be loaded"):
        HF(str(broken)).load()
