"""respond: prompts in, a model's answers out, ungraded."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from errata.errors import DataError
from errata.jsonl import storable
from errata.model.base import TOO_LONG, Answer, Model
from errata.records import Prompt, goes_on
from errata.run_folder import Stage
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

    Of questions of several turns (`goes_on`) all first turns are asked, then all second ones with the first answers as their
    history, and so on. A killed stage goes on with the prompts that have no answer. A prompt that cannot be answered (it
    does not fit the context, a server refuses it) is an answer with its failure, and so are the turns behind it; what a
    server refused is asked again after a kill.

    Raises:
        DataError: not one prompt was answered, and not for want of room; the stage stays open.
    """
    if not stage.finished:
        journal = stage.journal("responses", Response)
        done = {response.id: response for response in journal.records}
        asked: list[Prompt] = []
        start = time.monotonic()
        with bar(stage.name, len(prompts), len(done)) as advance:
            for pending in _rounds(prompts, done):
                model.load()
                for place, answer in model.answers(pending, max_new_tokens):
                    name = pending[place].id
                    done[name] = Response(name, storable(answer.text), answer.finished, answer.failure, answer.tokens)
                    if answer.failure in (None, TOO_LONG):
                        journal.append([done[name]])
                    advance(1)
                asked += pending
        seconds = time.monotonic() - start
        failures = Counter(response.failure for response in done.values() if response.failure)
        if sum(failures.values()) == len(done) and failures.keys() - {TOO_LONG}:
            raise DataError(f"{stage.name}: not one of {len(done)} prompts was answered: {failures.most_common(1)[0][0]}")
        tokens = sum(done[prompt.id].tokens for prompt in asked)
        counts: dict[str, object] = {"prompts": len(prompts), "tokens": sum(response.tokens for response in done.values())}
        if asked:
            counts |= {
                "prompts/s": round(len(asked) / max(seconds, 0.001), 2),
                "tokens/s": round(tokens / max(seconds, 0.001), 1),
            }
        if failures:
            counts |= {"without an answer": sum(failures.values()), "reasons": dict(failures)}
        stage.finish(counts, responses=[done[prompt.id] for prompt in prompts])
    stored = stage.read("responses", Response)
    return [Answer(response.text, response.finished, response.failure, response.tokens) for response in stored]


def _rounds(prompts: Sequence[Prompt], done: dict[str, Response]) -> Iterator[list[Prompt]]:
    """What is still to be asked, turn by turn; between two rounds `done` must have got the answers to the first."""
    depths: list[int] = []
    for place, prompt in enumerate(prompts):
        before = prompts[place - 1] if place else prompt
        depths.append(depths[-1] + 1 if goes_on(prompt.history, before.history, before.user) else 0)
    whole = list(prompts)
    for turn in range(max(depths, default=-1) + 1):
        pending = []
        for place in (place for place, depth in enumerate(depths) if depth == turn):
            prompt = prompts[place]
            if turn:
                before, answer = whole[place - 1], done[prompts[place - 1].id]
                whole[place] = replace(prompt, history=(*before.history, (before.user, answer.text)))
                if answer.failure:
                    done[prompt.id] = Response(prompt.id, "", False, answer.failure)
            if prompt.id not in done:
                pending.append(whole[place])
        if pending:
            yield pending
