"""A model's own chat template, as token ids: where the prompt ends, which token ends a response, what bears loss.

The one place that knows, for asking and for training alike. Imports nothing of the rest.

A message is `{"role": "system" | "user" | "assistant", "content": str}`; a user's may carry an `input`, the text that the
instruction is about (Alpaca): a template that knows no such thing gets it as a second paragraph.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

Message = Mapping[str, str]
_MARK = "the response stands here"  # in the place of an assistant's words, where only what is around them counts
_ROLES = ("system", "user", "assistant")


class ChatTemplateError(ValueError):
    """The tokenizer has no chat template, or one that cannot show what it is asked to."""


def prompt_ids(tokenizer: Any, prompt: str, system: str | None = None, history: Sequence[tuple[str, str]] = ()) -> list[int]:
    """Token ids of a user turn and the opening of the assistant's, by the template; nothing is added or cut.

    Several turns are as in training, where the template allows them there; templates that show earlier turns otherwise once
    others follow (they drop thoughts) are rendered as they are.

    Args:
        tokenizer: of transformers.
        prompt: what the user says.
        system: the system prompt (None: the template's own, if it has one).
        history: the turns before, (user, assistant) each.

    Raises:
        ChatTemplateError: the tokenizer has no chat template, or one that takes no system prompt.
    """
    turns = [
        {"role": role, "content": text} for turn in history for role, text in zip(("user", "assistant"), turn, strict=True)
    ]
    messages = [*turns, {"role": "user", "content": prompt}]
    if history:
        try:
            ids, spans = conversation_ids(tokenizer, [*messages, {"role": "assistant", "content": "-"}], system)
            return ids[: spans[-1][0]]
        except ChatTemplateError:
            pass
    return _rendered_ids(tokenizer, _with_system(messages, system))


def response_ids(tokenizer: Any, response: str) -> list[int]:
    """Token ids of a response and its end token, to stand behind `prompt_ids`."""
    return [*_text_ids(tokenizer, response), end_token_id(tokenizer)]


def end_token_id(tokenizer: Any) -> int:
    """The token that the template puts right behind an assistant's turn (`<|im_end|>`, `</s>`, `<|eot_id|>` ...).

    Raises:
        ChatTemplateError: there is no chat template, or no special token behind the turn.
    """
    return _end(tokenizer, tokenizer.chat_template)


@lru_cache(maxsize=8)
def _end(tokenizer: Any, template: str | None) -> int:
    """Asked for each row; the answer depends on the tokenizer and its template alone."""
    messages = [{"role": "user", "content": "question"}, {"role": "assistant", "content": _MARK}]
    _, found, tail = _render(tokenizer, messages).rpartition(_MARK)
    if not found:
        raise ChatTemplateError(f"the chat template of {tokenizer.name_or_path} leaves the response out: mend it")
    for token in _text_ids(tokenizer, tail):
        if _is_special(tokenizer, token):
            return int(token)
    if tokenizer.eos_token_id is not None:
        return int(tokenizer.eos_token_id)
    raise ChatTemplateError(f"no token ends a response in the template of {tokenizer.name_or_path}")


def conversation_ids(
    tokenizer: Any, messages: Sequence[Message], system: str | None = None
) -> tuple[list[int], list[tuple[int, int]]]:
    """Token ids of a conversation, and where the assistant's turns are in it: what bears loss.

    Ids are joined, never searched for: a prompt's as `prompt_ids` has them, a turn's as `response_ids` has them, and
    between two turns those of the text that the template puts there, which is the difference of two renderings. So one
    question and its answer are `prompt_ids` + `response_ids`, and a model sees in training what it sees when it is asked.

    Args:
        tokenizer: of transformers.
        messages: maybe a system prompt, then the turns, an assistant's last.
        system: the system prompt of conversations that bring none.

    Returns:
        The ids, and a half-open span (start, end) for each assistant turn, its end token included.

    Raises:
        ChatTemplateError: the template changes earlier turns when later ones join them (Qwen3 and others drop thoughts),
            so that no single text holds all turns as the model met them; or it takes no system prompt.
        ValueError: the messages are no conversation.
    """
    _check(messages)
    given = _with_inputs(tokenizer, _with_system(messages, system))
    marked = [{**message, "content": _MARK} if message["role"] == "assistant" else message for message in given]
    ids: list[int] = []
    spans: list[tuple[int, int]] = []
    seen, tail = "", ""  # the rendering through the newest turn, and what of it stands behind the assistant's words
    for place, message in enumerate(given):
        if message["role"] != "assistant":
            continue
        alone = not ids and place + 1 == len(given)  # one question and its answer, which is what most rows are
        opened = "" if alone else _render(tokenizer, marked[:place], opening=True)
        if not ids:
            ids = _rendered_ids(tokenizer, given[:place])
        else:
            ids += _behind_end(tokenizer, tail + _rest(tokenizer, opened, seen))
        turn = response_ids(tokenizer, message["content"])
        spans.append((len(ids), len(ids) + len(turn)))
        ids += turn
        if place + 1 < len(given):
            seen = _render(tokenizer, marked[: place + 1])
            lead, mark, tail = _rest(tokenizer, seen, opened).partition(_MARK)
            if lead.strip() or not mark:
                raise _unstable(tokenizer)
    return ids, spans


def check_template(tokenizer: Any, system: str | None = None) -> None:
    """See that the template shows a question, has an end for the answer, and shows the system prompt.

    Raises:
        ChatTemplateError: it does not.
    """
    question = "Which is it?"
    end_token_id(tokenizer)
    shown = _render(tokenizer, _with_system([{"role": "user", "content": question}], system), opening=True)
    for name, text in (("question", question), ("system prompt", (system or "").strip())):
        if text not in shown:
            remedy = "leave model.system out, or set another model.template" if name != "question" else "mend it"
            raise ChatTemplateError(f"the chat template of {tokenizer.name_or_path} leaves the {name} out: {remedy}")


def _render(tokenizer: Any, messages: Sequence[Message], opening: bool = False) -> str:
    """The messages as text; `opening`: and the beginning of the assistant's turn."""
    text: str = _applied(tokenizer, messages, opening, tokenize=False)
    return text


def _applied(tokenizer: Any, messages: Sequence[Message], opening: bool, **settings: Any) -> Any:
    from jinja2 import TemplateError

    if not tokenizer.chat_template:
        raise ChatTemplateError(f"the tokenizer of {tokenizer.name_or_path} has no chat template")
    try:
        return tokenizer.apply_chat_template(list(messages), add_generation_prompt=opening, **settings)
    except (TemplateError, TypeError, ValueError) as error:
        system = any(message["role"] == "system" for message in messages)
        remedy = "; maybe it takes no system prompt: leave model.system out, or set model.template" if system else ""
        raise ChatTemplateError(
            f"the chat template of {tokenizer.name_or_path} cannot be rendered: {error}{remedy}"
        ) from error


def _rendered_ids(tokenizer: Any, messages: Sequence[Message]) -> list[int]:
    return list(_applied(tokenizer, messages, opening=True, tokenize=True, return_dict=False))


def _text_ids(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _is_special(tokenizer: Any, token: int) -> bool:
    """Whether it is a token with a meaning and no text; not all of these are among `all_special_ids`."""
    if token in tokenizer.all_special_ids:
        return True
    shown = tokenizer.decode([token]).strip()
    return bool(shown) and not tokenizer.decode([token], skip_special_tokens=True)


def _with_system(messages: Sequence[Message], system: str | None) -> Sequence[Message]:
    if system is None or messages[0]["role"] == "system":
        return messages
    return [{"role": "system", "content": system}, *messages]


def _with_inputs(tokenizer: Any, messages: Sequence[Message]) -> Sequence[Message]:
    """The messages as they are where the template has a place for their inputs, else with the inputs in their contents."""
    if not any(message.get("input") for message in messages):
        return messages
    joined = [
        {"role": message["role"], "content": "\n\n".join(filter(None, (message["content"], message.get("input"))))}
        for message in messages
    ]
    bare = [{"role": message["role"], "content": message["content"]} for message in messages]
    return joined if _render(tokenizer, messages) == _render(tokenizer, bare) else messages


def _check(messages: Sequence[Message]) -> None:
    roles = [message["role"] for message in messages]
    if unknown := set(roles) - set(_ROLES):
        raise ValueError(f"a message's role is {unknown.pop()!r}: it must be one of {', '.join(_ROLES)}")
    if "system" in roles[1:]:
        raise ValueError("a system prompt stands behind the first message: it must come first")
    if roles[-1:] != ["assistant"] or "user" not in roles[:2]:
        raise ValueError("a conversation begins with a user's turn (behind its system prompt) and ends with an assistant's")


def _rest(tokenizer: Any, text: str, beginning: str) -> str:
    """What of the longer rendering stands behind the shorter one."""
    if not text.startswith(beginning):
        raise _unstable(tokenizer)
    return text[len(beginning) :]


def _behind_end(tokenizer: Any, text: str) -> list[int]:
    """Ids of what the template puts behind an assistant's turn, without its end token, which the turn has already."""
    ids, end = _text_ids(tokenizer, text), end_token_id(tokenizer)
    return ids[ids.index(end) + 1 :] if end in ids else ids


def _unstable(tokenizer: Any) -> ChatTemplateError:
    return ChatTemplateError(
        f"the chat template of {tokenizer.name_or_path} shows a turn otherwise once others follow it, so that several turns "
        "cannot be trained on at once: set model.template (chatml, vicuna ...), or give one question and one answer a row"
    )
