"""A student behind any OpenAI-compatible server: vLLM, SGLang, `transformers serve`, or a paid one."""

import asyncio
import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from errata.endpoint import Endpoint
from errata.errors import ModelError
from errata.jsonl import storable
from errata.model.base import TOO_LONG, Answer, AnswersOnly
from errata.records import Prompt

_IN_A_ROW = 5


@dataclass
class EndpointStudent(Endpoint, AnswersOnly):
    """A student that a server answers for, greedily (temperature 0).

    Attributes:
        system: the system prompt (None: the server's own, if it has one).
        extra_body: what is sent beside the usual fields (`{chat_template_kwargs: {enable_thinking: false}}`, say).
    """

    system: str | None = None
    extra_body: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._answered, self._failed_in_a_row = False, 0

    @property
    def fingerprint(self) -> str:
        """The address and the model's name: what is behind them cannot be known."""
        return f"{self.base_url.rstrip('/')} {self.model}"

    def problems(self) -> list[str]:
        """No key, a malformed address, impossible numbers."""
        return self.address_problems("model") + self.body_problems("model", self.extra_body)

    def answers(
        self, prompts: Sequence[Prompt], max_new_tokens: int, stop: Sequence[str] = ()
    ) -> Iterator[tuple[int, Answer]]:
        """Answers as they come in, `concurrency` of them under way.

        A prompt that the server finds too long is answered with TOO_LONG, another failure of one request with its words.

        Raises:
            ModelError: the server refuses the key or does not know the model, or fails for several requests in a row, each
                of which was tried again `max_retries` times.
        """
        done: queue.SimpleQueue[tuple[int, Answer] | BaseException | None] = queue.SimpleQueue()
        stopped = threading.Event()

        def work() -> None:
            try:
                asyncio.run(self._ask_all(prompts, max_new_tokens, stop, done, stopped))
                done.put(None)
            except BaseException as error:  # noqa: BLE001 - handed to the caller's thread, which raises it
                done.put(error)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        try:
            while (item := done.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            stopped.set()
            thread.join(timeout=5)

    async def _ask_all(
        self, prompts: Sequence[Prompt], max_new_tokens: int, stop: Sequence[str], done: Any, stopped: threading.Event
    ) -> None:
        waiting = iter(enumerate(prompts))

        async def worker() -> None:
            for place, prompt in waiting:
                if stopped.is_set():
                    return
                done.put((place, await self._ask(prompt, max_new_tokens, stop)))

        async with self.connected(self.base_url):
            tasks = [asyncio.create_task(worker()) for _ in range(min(self.concurrency, len(prompts)))]
            try:
                await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()

    async def _ask(self, prompt: Prompt, max_new_tokens: int, stop: Sequence[str]) -> Answer:
        import openai

        refusals = (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError)
        trouble = (openai.APIConnectionError, openai.RateLimitError, openai.InternalServerError)
        messages = [] if self.system is None else [{"role": "system", "content": self.system}]
        for asked, said in prompt.history:
            messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]
        messages.append({"role": "user", "content": prompt.user})
        body = dict(self.extra_body)
        if prompt.prefill:  # as vLLM and SGLang have it
            messages.append({"role": "assistant", "content": prompt.prefill})
            body |= {"add_generation_prompt": False, "continue_final_message": True}
        try:
            completion = await self._client.chat.completions.create(
                model=self.model,
                messages=messages,
                max_tokens=max_new_tokens,
                temperature=0,
                stop=list(stop) or openai.omit,
                extra_body=body or None,
            )
            choice = completion.choices[0]
            tokens = completion.usage.completion_tokens if completion.usage else 0
            self._answered, self._failed_in_a_row = True, 0
            return Answer(storable(choice.message.content or ""), choice.finish_reason != "length", tokens=tokens)
        except (*refusals, *trouble) as error:
            self._failed_in_a_row += 1
            if isinstance(error, refusals) or not self._answered or self._failed_in_a_row >= _IN_A_ROW:
                raise ModelError(
                    f"model.base_url={self.base_url} gives no answers for model {self.model}: {self.say(error)}. "
                    "What was answered is kept; the same command goes on from there."
                ) from None
            return Answer("", False, failure=self.say(error))
        except (openai.OpenAIError, ValueError, AttributeError, TypeError, IndexError) as error:
            said = self.say(error)
            too_long = "context" in said.lower() and ("length" in said.lower() or "long" in said.lower())
            return Answer("", False, failure=TOO_LONG if too_long else said)
