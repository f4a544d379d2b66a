"""A model's own chat template, as token ids: where the prompt ends, and which token ends a response.

The one place that knows, for asking and for training alike. Imports nothing of the rest.
"""

from collections.abc import Sequence
from typing import Any


class ChatTemplateError(ValueError):
    """The tokenizer has no chat template, or one whose end of a response cannot be found."""


def prompt_ids(tokenizer: Any, prompt: str) -> list[int]:
    """Token ids of one user turn and the opening of the assistant's, by the template; nothing is added or cut.

    Raises:
        ChatTemplateError: the tokenizer has no chat template.
    """
    if not tokenizer.chat_template:
        raise ChatTemplateError(f"the tokenizer of {tokenizer.name_or_path} has no chat template")
    messages = [{"role": "user", "content": prompt}]
    ids: Sequence[int] = tokenizer.apply_chat_template(
        messages, tokenize=True, add_generation_prompt=True, return_dict=False
    )
    return list(ids)


def end_token_id(tokenizer: Any) -> int:
    """The token that the template puts right behind an assistant's turn (`<|im_end|>`, `</s>`, `<|eot_id|>` ...).

    Raises:
        ChatTemplateError: there is no chat template, or no special token behind the turn.
    """
    mark = "the response stands here"
    messages = [{"role": "user", "content": "question"}, {"role": "assistant", "content": mark}]
    if not tokenizer.chat_template:
        raise ChatTemplateError(f"the tokenizer of {tokenizer.name_or_path} has no chat template")
    text: str = tokenizer.apply_chat_template(messages, tokenize=False)
    ids = tokenizer(text[text.rindex(mark) + len(mark) :], add_special_tokens=False)["input_ids"]
    special = set(tokenizer.all_special_ids)
    for token in ids:
        if token in special:
            return int(token)
    if tokenizer.eos_token_id is not None:
        return int(tokenizer.eos_token_id)
    raise ChatTemplateError(f"no token ends a response in the template of {tokenizer.name_or_path}")


def response_ids(tokenizer: Any, response: str) -> list[int]:
    """Token ids of a response and its end token, to stand behind `prompt_ids`."""
    return [*tokenizer(response, add_special_tokens=False)["input_ids"], end_token_id(tokenizer)]
