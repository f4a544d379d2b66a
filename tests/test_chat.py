"""Templates as token ids, in tables of real strings; on the tiny tokenizer, and on Mistral's SentencePiece where it is installed."""

import importlib.util
import shutil
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from errata.chat import (
    ChatTemplateError,
    check_template,
    conversation_ids,
    end_token_id,
    prompt_ids,
    response_ids,
)
from errata.weights import _template, named_templates

ASKED = {"role": "user", "content": "How many?"}
ANSWERED = {"role": "assistant", "content": "3 + 4 = 7"}
TURNS = [ASKED, ANSWERED, {"role": "user", "content": "And five?"}, {"role": "assistant", "content": "It is 12."}]
SYSTEM = {"role": "system", "content": "Be brief."}
MARKS = [
    "<|im_start|>", "<|im_end|>", "<eoh>", "<eom>", "<eoa>", "[gMASK]", "sop", "<sop>", "<eop>", "<|system|>", "<s>",
]  # fmt: skip
POLITE = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, and "
    "polite answers to the user's questions."
)
BELOW = "Below is an instruction that describes a task"
WRITE = "Write a response that appropriately completes the request."
ONE = {  # one question and its answer, as the template's own rendering has them, without what stands behind the end token
    "alpaca": f"{BELOW}. {WRITE}\n\n### Instruction:\nHow many?\n\n### Response:3 + 4 = 7</s>",
    "chatglm": "How many?[gMASK]<sop>3 + 4 = 7<eop>",
    "chatglm2": "[gMASK]sop[Round 1]\n\n问：How many?\n\n答：3 + 4 = 7</s>",
    "chatglm3": "[gMASK]sop<|user|>\nHow many?<|assistant|>\n3 + 4 = 7</s>",
    "chatml": "<|im_start|>user\nHow many?<|im_end|>\n<|im_start|>assistant\n3 + 4 = 7<|im_end|>",
    "internlm": "<s><|User|>:How many?<eoh>\n<|Bot|>:3 + 4 = 7<eoa>",
    "llama2": "<s>[INST] How many? [/INST] 3 + 4 = 7</s>",
    "mistral": "<s>[INST] How many? [/INST] 3 + 4 = 7</s>",
    "moss": "<|Human|>: How many?<eoh>\n<|MOSS|>: 3 + 4 = 7<eom>",
    "plain": "How many?\n3 + 4 = 7</s>",
    "vicuna": f"<s>{POLITE} USER: How many? ASSISTANT: 3 + 4 = 7</s>",
}
TWO = {  # two, with a system prompt
    "alpaca": "Be brief.\n\n### Instruction:\nHow many?\n\n### Response:3 + 4 = 7</s>"
    "\n\n### Instruction:\nAnd five?\n\n### Response:It is 12.</s>",
    "chatglm2": "[gMASK]sopBe brief.\n\n[Round 1]\n\n问：How many?\n\n答：3 + 4 = 7</s>"
    "\n\n[Round 2]\n\n问：And five?\n\n答：It is 12.</s>",
    "chatglm3": "[gMASK]sop<|system|>\nBe brief.<|user|>\nHow many?<|assistant|>\n3 + 4 = 7</s>"
    "<|user|>\nAnd five?<|assistant|>\nIt is 12.</s>",
    "chatml": "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHow many?<|im_end|>\n<|im_start|>assistant\n"
    "3 + 4 = 7<|im_end|>\n<|im_start|>user\nAnd five?<|im_end|>\n<|im_start|>assistant\nIt is 12.<|im_end|>",
    "internlm": "<s>Be brief.\n<|User|>:How many?<eoh>\n<|Bot|>:3 + 4 = 7<eoa>\n"
    "<|User|>:And five?<eoh>\n<|Bot|>:It is 12.<eoa>",
    "llama2": "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHow many? [/INST] 3 + 4 = 7</s>"
    "<s>[INST] And five? [/INST] It is 12.</s>",
    "mistral": "<s>[INST] Be brief.\n\nHow many? [/INST] 3 + 4 = 7</s>[INST] And five? [/INST] It is 12.</s>",
    "moss": "Be brief.\n<|Human|>: How many?<eoh>\n<|MOSS|>: 3 + 4 = 7<eom>\n"
    "<|Human|>: And five?<eoh>\n<|MOSS|>: It is 12.<eom>",
    "plain": "Be brief.\nHow many?\n3 + 4 = 7</s>And five?\nIt is 12.</s>",
    "vicuna": "<s>Be brief. USER: How many? ASSISTANT: 3 + 4 = 7</s>USER: And five? ASSISTANT: It is 12.</s>",
}


@pytest.fixture(scope="module")
def tokenizer(tiny_model):
    return AutoTokenizer.from_pretrained(tiny_model)


@pytest.fixture
def marked(tiny_model):
    """The tiny tokenizer with every mark that a named template needs."""
    found = AutoTokenizer.from_pretrained(tiny_model)
    found.add_tokens(MARKS, special_tokens=True)
    found.add_special_tokens({"bos_token": "<s>", "eos_token": "</s>"})
    return found


def named(tokenizer, name):
    tokenizer.chat_template = _template(tokenizer, name)
    return tokenizer


def test_prompt_and_response_join_to_the_template(tokenizer):
    whole = tokenizer.apply_chat_template([ASKED, ANSWERED], tokenize=True, return_dict=False)
    joined = prompt_ids(tokenizer, "How many?") + response_ids(tokenizer, "3 + 4 = 7")
    assert joined == whole[: len(joined)]
    assert tokenizer.decode(whole[len(joined) :]).strip() == ""


def test_the_end_token_is_the_one_behind_the_assistants_turn(tokenizer):
    assert tokenizer.convert_ids_to_tokens(end_token_id(tokenizer)) == "<|end|>"


def test_a_special_token_that_has_no_name_ends_a_turn_too(tokenizer, tiny_model):
    other = AutoTokenizer.from_pretrained(tiny_model)
    other.add_tokens(["<|turn|>"], special_tokens=True)
    other.chat_template = tokenizer.chat_template.replace("<|end|>", " <|turn|>")
    assert other.convert_ids_to_tokens(end_token_id(other)) == "<|turn|>"


def test_a_tokenizer_without_a_template_is_refused(tiny_model):
    bare = AutoTokenizer.from_pretrained(tiny_model)
    bare.chat_template = None
    for use in (lambda: prompt_ids(bare, "x"), lambda: end_token_id(bare), lambda: conversation_ids(bare, TURNS)):
        with pytest.raises(ChatTemplateError, match="no chat template"):
            use()


def test_every_named_template_is_in_the_tables():
    assert sorted(ONE) == named_templates()
    assert {*TWO, "chatglm"} == set(ONE)


@pytest.mark.parametrize("name", ONE)
def test_one_question_and_its_answer_are_the_prompt_and_the_response(marked, name):
    tokenizer = named(marked, name)
    check_template(tokenizer, "Be brief.")
    ids, spans = conversation_ids(tokenizer, [ASKED, ANSWERED])
    prompt, response = prompt_ids(tokenizer, "How many?"), response_ids(tokenizer, "3 + 4 = 7")
    assert ids == prompt + response
    assert spans == [(len(prompt), len(ids))]
    assert tokenizer.decode(ids) == unspaced(ONE[name])
    rendered = tokenizer.apply_chat_template([ASKED, ANSWERED], tokenize=False)
    assert rendered.rstrip("\n") == ONE[name]


@pytest.mark.parametrize("name", TWO)
def test_several_turns_with_a_system_prompt(marked, name):
    tokenizer = named(marked, name)
    ids, spans = conversation_ids(tokenizer, [SYSTEM, *TURNS])
    assert (ids, spans) == conversation_ids(tokenizer, TURNS, system="Be brief.")
    assert ids[: spans[0][0]] == prompt_ids(tokenizer, "How many?", "Be brief.")
    end = end_token_id(tokenizer)
    assert [tokenizer.decode(ids[a : b - 1]) for a, b in spans] == ["3 + 4 = 7", "It is 12."]
    assert [ids[b - 1] for _, b in spans] == [end, end]
    assert tokenizer.decode(ids) == unspaced(TWO[name])
    assert tokenizer.apply_chat_template([SYSTEM, *TURNS], tokenize=False).rstrip("\n") == TWO[name]


def unspaced(text):
    """A response's tokens are those of the response alone: where a template puts a space before it, that is left out."""
    return text.replace(" 3 + 4 = 7", "3 + 4 = 7").replace(" It is 12.", "It is 12.")


def test_an_input_is_a_part_of_its_own_in_alpaca_and_a_second_paragraph_elsewhere(marked):
    row = [{**ASKED, "input": "1, 2, 3"}, ANSWERED]
    head = f"{BELOW}, paired with an input that provides further context. {WRITE}"
    ids, _ = conversation_ids(named(marked, "alpaca"), row)
    assert (
        marked.decode(ids) == f"{head}\n\n### Instruction:\nHow many?\n\n### Input:\n1, 2, 3\n\n### Response:3 + 4 = 7</s>"
    )
    ids, _ = conversation_ids(named(marked, "plain"), row)
    assert marked.decode(ids) == "How many?\n\n1, 2, 3\n3 + 4 = 7</s>"
    assert conversation_ids(marked, [{**ASKED, "input": ""}, ANSWERED]) == conversation_ids(marked, [ASKED, ANSWERED])


def test_words_of_the_template_in_a_conversation_move_no_span(marked):
    tokenizer = named(marked, "vicuna")
    odd = "the response stands here ASSISTANT: </s> USER: x"
    turns = [{"role": "user", "content": odd}, {"role": "assistant", "content": odd}, ASKED, ANSWERED]
    ids, spans = conversation_ids(tokenizer, turns)
    assert [ids[a:b] for a, b in spans] == [response_ids(tokenizer, odd), response_ids(tokenizer, "3 + 4 = 7")]


FORGETS = (
    "{% for m in messages %}{% if loop.last or m.role == 'user' %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
THINKS = (
    "{% for m in messages %}<|{{ m.role }}|>{{ '[thought]' if m.role == 'assistant' and loop.last }}{{ m.content }}<|end|>"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@pytest.mark.parametrize("template", [FORGETS, THINKS])
def test_a_template_that_changes_earlier_turns_is_refused_for_several_turns_only(tokenizer, tiny_model, template):
    other = AutoTokenizer.from_pretrained(tiny_model)
    other.chat_template = template
    assert len(conversation_ids(other, [ASKED, ANSWERED])[1]) == 1
    with pytest.raises(ChatTemplateError, match=r"once others follow it.*set model\.template"):
        conversation_ids(other, TURNS)


NO_SYSTEM = "{{ raise_exception('no system role') if messages[0].role == 'system' }}{{ messages[-1].content }}<|end|>"
DEAF = "{% for m in messages if m.role != 'system' %}{{ m.content }}<|end|>{% endfor %}"


@pytest.mark.parametrize(
    ("template", "system", "said"),
    [
        (NO_SYSTEM, "Be brief.", "no system role; maybe it takes no system prompt: leave model.system out"),
        (DEAF, "Be brief.", "leaves the system prompt out"),
        ("{% for m in messages if m.role != 'user' %}{{ m.content }}{% endfor %}<|end|>", None, "leaves the question out"),
        ("{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}<|end|>", None, "leaves the response out"),
        ("{% for m in messages %}", None, "cannot be rendered"),
        ("{{ messages[0].content + 1 }}", None, "cannot be rendered"),
    ],
)
def test_a_template_that_cannot_show_what_it_is_asked_to_is_named(tiny_model, template, system, said):
    other = AutoTokenizer.from_pretrained(tiny_model)
    other.chat_template = template
    with pytest.raises(ChatTemplateError, match=said):
        check_template(other, system)


@pytest.mark.parametrize(
    ("turns", "said"),
    [
        ([], "begins with a user's turn"),
        ([ASKED], "ends with an assistant's"),
        ([ANSWERED], "begins with a user's turn"),
        ([SYSTEM, ANSWERED], "begins with a user's turn"),
        ([ASKED, SYSTEM, ANSWERED], "it must come first"),
        ([{"role": "human", "content": "x"}, ANSWERED], "'human': it must be one of system, user, assistant"),
    ],
)
def test_messages_that_are_no_conversation_are_refused(tokenizer, turns, said):
    with pytest.raises(ValueError, match=said):
        conversation_ids(tokenizer, turns)


@pytest.mark.parametrize("name", ["vicuna", "mistral", "llama2"])
def test_on_sentencepiece_the_ids_are_those_of_the_whole_conversation(name, tmp_path):
    """A response that stands alone gets the space in front that these formats have there."""
    found = importlib.util.find_spec("mistral_common")
    if found is None or importlib.util.find_spec("sentencepiece") is None:
        pytest.skip("mistral_common and sentencepiece are not installed")
    from transformers import LlamaTokenizer

    shutil.copy(Path(found.origin).parent / "data" / "tokenizer.model.v1", tmp_path / "tokenizer.model")
    tokenizer = named(LlamaTokenizer.from_pretrained(tmp_path, add_bos_token=True), name)
    for turns in ([ASKED, ANSWERED], TURNS, [SYSTEM, *TURNS]):
        ids, spans = conversation_ids(tokenizer, turns)
        assert ids == tokenizer.apply_chat_template(turns, tokenize=True, return_dict=False)
        assert ids[0] == tokenizer.bos_token_id
        assert [tokenizer.decode(ids[a : b - 1]) for a, b in spans] == ["3 + 4 = 7", "It is 12."][: len(spans)]
