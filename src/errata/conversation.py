"""A conversation with a model in memory, by its own chat template, answered token by token."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from errata import chat
from errata.chat import ChatTemplateError, check_template, end_token_id
from errata.errors import ErrataError
from errata.model.decoding import context_of
from errata.model.hf import HF

DEFAULT_NEW_TOKENS = 512


@dataclass
class Conversation:
    """What was said so far, and how it goes on.

    Attributes:
        model: loaded, on one device.
        temperature: 0: the likeliest token always.
        max_new_tokens: where an answer is cut (None: 512, or half of a smaller context).
        system: the system prompt; None: the template's own, if it has one.
        turns: the messages, user and assistant by turns.
        dropped: how many of the oldest questions, with their answers, the newest answer had no room for.
        cut: whether the newest answer was cut for length.
    """

    model: HF
    temperature: float = 0.0
    max_new_tokens: int | None = None
    system: str | None = None
    turns: list[dict[str, str]] = field(default_factory=list)
    dropped: int = 0
    cut: bool = False

    def __post_init__(self) -> None:
        self._context = context_of(self.model.network)
        if self.max_new_tokens is None:
            self.max_new_tokens = min(DEFAULT_NEW_TOKENS, (self._context or 2 * DEFAULT_NEW_TOKENS) // 2)
        if self._context is not None and self.max_new_tokens >= self._context:
            raise ErrataError(
                f"--max-new-tokens is {self.max_new_tokens}: the model's context holds {self._context} tokens, question "
                "included; ask for fewer"
            )
        tokenizer = self.model.tokenizer
        more = {tokenizer.convert_tokens_to_ids(token) for token in self.model.stop_tokens}
        self._stops = sorted(({end_token_id(tokenizer), tokenizer.eos_token_id} | more) - {None})

    def clear(self) -> None:
        """Forget what was said; the system prompt stays."""
        self.turns.clear()

    def set_system(self, text: str | None) -> None:
        """Another system prompt, and with it a new conversation.

        Raises:
            ErrataError: the template has no place for one.
        """
        try:
            check_template(self.model.tokenizer, text)
        except ChatTemplateError as error:
            raise ErrataError(str(error)) from error
        self.system = text
        self.clear()

    def answer(self, question: str, heard: Callable[[str], None]) -> str:
        """Ask, and pass on the answer in pieces as they are generated; KeyboardInterrupt keeps what was said so far.

        The oldest questions are dropped, with their answers, while they leave no room for `max_new_tokens`.

        Raises:
            ErrataError: the question alone leaves no room; it is forgotten again.
        """
        self.cut = False
        self.turns.append({"role": "user", "content": question})
        said: list[str] = []

        def pass_on(text: str) -> None:
            if text:
                said.append(text)
                heard(text)

        try:
            self._generate(self._prompt(), pass_on)
        finally:
            text = "".join(said)
            if text:
                self.turns.append({"role": "assistant", "content": text})
            else:
                self.turns.pop()  # a question without an answer is no turn
        return text

    def _prompt(self) -> list[int]:
        """The token ids of what is kept."""
        wanted, context = self.max_new_tokens or 0, self._context or math.inf
        self.dropped, kept = 0, self.turns
        ids = prompt_ids(self.model.tokenizer, kept, self.system)
        while len(ids) + wanted > context and len(kept) > 1:
            kept = kept[2:]
            self.dropped += 1
            ids = prompt_ids(self.model.tokenizer, kept, self.system)
        if len(ids) + wanted > context:
            raise ErrataError(
                f"the question has {len(ids)} tokens with its template: with --max-new-tokens {wanted} that is more than "
                f"the {self._context} of the model's context. Say it in fewer words, or ask for fewer new tokens"
            )
        self.turns = kept
        return ids

    def _generate(self, prompt: list[int], heard: Callable[[str], None]) -> None:
        import torch

        sampling: dict[str, Any] = {"do_sample": False}
        if self.temperature:
            sampling = {"do_sample": True, "temperature": self.temperature, "top_k": 0, "top_p": 1.0}
        ids = torch.tensor([prompt], device=self.model.network.device)
        with torch.inference_mode():
            made = self.model.network.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=self.max_new_tokens,
                eos_token_id=self._stops,
                pad_token_id=self._stops[0],
                streamer=_streamer(self.model.tokenizer, heard),
                **sampling,
            )
        self.cut = int(made[0, -1]) not in self._stops


def prompt_ids(tokenizer: Any, turns: list[dict[str, str]], system: str | None) -> list[int]:
    """Ids of a conversation and the opening of the answer."""
    said = [turn["content"] for turn in turns]
    return chat.prompt_ids(tokenizer, said[-1], system, list(zip(said[:-1:2], said[1::2], strict=True)))


def _streamer(tokenizer: Any, heard: Callable[[str], None]) -> Any:
    """Passes on text as its words are complete."""
    from transformers import TextStreamer

    class Pieces(TextStreamer):
        def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
            heard(text)

    return Pieces(tokenizer, skip_prompt=True, skip_special_tokens=True)
