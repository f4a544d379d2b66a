"""respond: prompts in, a model's answers out, ungraded."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from errata.errors import DataError
from errata.model.base import TOO_LONG, Answer, Model
from errata.records import Prompt
from errata.run_folder import Stage, storable
from errata.terminal import bar


@dataclass(frozen=True)
class Response:
    """A model's answer to the prompt of that id, as it is stored."""

    id: str
    text: str
    finished: bool
    failure: str | None = None
    tokens: int = 0


def respond(stage: Stage, model: Model, prompts: Sequence[Prompt], max_new_tokens: int) -> list[Answer]:
    """The model's greedy answers, in the prompts' order; each is written as it is finished.

    A killed stage goes on with the prompts that have no answer. A prompt that cannot be answered (it does not fit the
    context, a server refuses it) is an answer with its failure; what a server refused is asked again after a kill.

    Raises:
        DataError: not one prompt was answered, and not for want of room; the stage stays open.
    """
    if not stage.finished:
        journal = stage.journal("responses", Response)
        done = {response.id: response for response in journal.records}
        pending = [prompt for prompt in prompts if prompt.id not in done]
        start = time.monotonic()
        if pending:
            model.load()
        with bar(stage.name, len(prompts), len(done)) as advance:
            for place, answer in model.answers(pending, max_new_tokens) if pending else ():
                name = pending[place].id
                done[name] = Response(name, storable(answer.text), answer.finished, answer.failure, answer.tokens)
                if answer.failure in (None, TOO_LONG):
                    journal.append([done[name]])
                advance(1)
        seconds = time.monotonic() - start
        failures = Counter(response.failure for response in done.values() if response.failure)
        if sum(failures.values()) == len(done) and failures.keys() - {TOO_LONG}:
            raise DataError(f"{stage.name}: not one of {len(done)} prompts was answered: {failures.most_common(1)[0][0]}")
        tokens = sum(done[prompt.id].tokens for prompt in pending)
        counts: dict[str, object] = {"prompts": len(prompts), "tokens": sum(response.tokens for response in done.values())}
        if pending:
            counts |= {
                "prompts/s": round(len(pending) / max(seconds, 0.001), 2),
                "tokens/s": round(tokens / max(seconds, 0.001), 1),
            }
        if failures:
            counts |= {"without an answer": sum(failures.values()), "reasons": dict(failures)}
        stage.finish(counts, responses=[done[prompt.id] for prompt in prompts])
    stored = stage.read("responses", Response)
    return [Answer(response.text, response.finished, response.failure, response.tokens) for response in stored]
