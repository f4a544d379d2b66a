import pytest
from transformers import AutoTokenizer

from errata.chat import ChatTemplateError, end_token_id, prompt_ids, response_ids


@pytest.fixture(scope="module")
def tokenizer(tiny_model):
    return AutoTokenizer.from_pretrained(tiny_model)


def test_prompt_and_response_join_to_the_template(tokenizer):
    messages = [{"role": "user", "content": "How many?"}, {"role": "assistant", "content": "3 + 4 = 7"}]
    whole = tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False)
    joined = prompt_ids(tokenizer, "How many?") + response_ids(tokenizer, "3 + 4 = 7")
    assert joined == whole[: len(joined)]
    assert tokenizer.decode(whole[len(joined) :]).strip() == ""


def test_the_end_token_is_the_one_behind_the_assistants_turn(tokenizer):
    assert tokenizer.convert_ids_to_tokens(end_token_id(tokenizer)) == "<|end|>"


def test_a_tokenizer_without_a_template_is_refused(tiny_model):
    bare = AutoTokenizer.from_pretrained(tiny_model)
    bare.chat_template = None
    for use in (lambda: prompt_ids(bare, "x"), lambda: end_token_id(bare)):
        with pytest.raises(ChatTemplateError, match="no chat template"):
            use()
