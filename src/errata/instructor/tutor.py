"""`tutor`: the embedded instructor. It is a PROGRAM, not a language model.

A small OpenAI-compatible chat-completions server on 127.0.0.1, started and stopped by the run and reached through the
`openai` client exactly as GPT-4 would be. It finds in a request the `arithmetic` question that the student got wrong,
recognises which skill that question needs and writes as many fresh problems of this skill as are asked for, with worked
solutions, in the requested layout. It knows no other dataset.

So that every gate and retry can be seen at work it makes mistakes on purpose: `flaw_rate` is the share of requests that
meet one of a wrong sum, a missing answer, prose instead of problems, a truncated reply, HTTP 429 or HTTP 500 (these two on
the first attempt only, as a busy server would). What it writes depends on the messages and the seed alone, never on the
order of requests.

`python -m errata.instructor.tutor --port 8000` runs it by itself, for use as `instructor=openai`.
"""

import argparse
import json
import random
import re
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from errata.dataset import arithmetic
from errata.identity import neutral
from errata.instructor.openai import OpenAI

if TYPE_CHECKING:
    from aiohttp import web

FLAWS = ("wrong_sum", "missing_answer", "prose", "truncated", "http_429", "http_500")
_HOW_MANY = re.compile(r"\b(\d+)\s+(?:\w+\s+){0,2}(?:problems|questions)\b", re.IGNORECASE)


@dataclass
class Tutor(OpenAI):
    """The embedded instructor; free, so its price is known: 0.

    Attributes:
        flaw_rate: share of requests that meet a flaw, 0 to 1.
    """

    model: str = "tutor"
    seed: int | None = 0
    flaw_rate: float = 0.2
    base_url: str = neutral("http://127.0.0.1")
    api_key_env: str | None = neutral(None)
    usd_per_million_in: float | None = neutral(0.0)
    usd_per_million_out: float | None = neutral(0.0)

    def problems(self, datasets: Sequence[str]) -> list[str]:
        """A flaw rate out of range, or a dataset that the tutor does not know."""
        found = super().problems(datasets)
        if not 0 <= self.flaw_rate <= 1:
            found.append(f"instructor.flaw_rate is {self.flaw_rate}: choose a share from 0 to 1")
        if strangers := [name for name in datasets if name != "arithmetic"]:
            found.append(
                f"instructor=tutor teaches the dataset arithmetic only, not {', '.join(strangers)}: "
                "use instructor=openai with a model that can"
            )
        return found

    def probe(self) -> None:
        """Nothing to see: the server starts with the run."""

    @property
    def _endpoint(self) -> str:
        return f"tutor(flaw_rate={self.flaw_rate:g})"  # not the port, which is another in every run

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve on a free port of 127.0.0.1, with a client connected to it."""
        from aiohttp import web

        runner = web.AppRunner(application(self.flaw_rate), access_log=None)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            port = runner.addresses[0][1]
            async with self.connected(f"http://127.0.0.1:{port}/v1", retries=0):
                yield
        finally:
            await runner.cleanup()


def application(flaw_rate: float) -> "web.Application":
    """The server: POST /v1/chat/completions."""
    from aiohttp import web

    attempts: Counter[str] = Counter()

    async def complete(request: web.Request) -> web.Response:
        body = await request.json()
        text = "\n".join(str(message.get("content")) for message in body["messages"])
        identity = json.dumps([body["messages"], body.get("seed")])
        rng = random.Random(identity)
        flaw = rng.choice(FLAWS) if rng.random() < flaw_rate else None
        attempts[identity] += 1
        if flaw in ("http_429", "http_500") and attempts[identity] == 1:
            status = int(flaw.removeprefix("http_"))
            message = {"error": {"message": f"the tutor is busy on purpose ({status})", "type": "flaw"}}
            return web.json_response(message, status=status, headers={"Retry-After": "1"} if status == 429 else {})
        reply = write_reply(text, flaw, rng)
        return web.json_response(_completion(body, reply, "length" if flaw == "truncated" else "stop"))

    app = web.Application()
    app.router.add_post("/v1/chat/completions", complete)
    return app


def write_reply(request: str, flaw: str | None, rng: random.Random) -> str:
    """The tutor's words: fresh problems of the skill that the request's question needs, flawed on demand."""
    skill = arithmetic.recognise(request)
    if skill is not None and request.startswith("Solve this problem."):
        worked, answer = arithmetic.solve(request)
        return f"{worked}\n#### {answer + 1 if flaw == 'wrong_sum' else answer}"
    asked = _HOW_MANY.findall(request)
    if skill is None or flaw == "prose":
        return "Let us look at what went wrong together. Reading the question slowly and twice is always a good start."
    count = int(asked[-1]) if asked else 1
    flawed_one = rng.randrange(count)
    parts = []
    for number in range(count):
        question, worked, answer = arithmetic.draw(skill, "train", rng)
        if flaw == "wrong_sum" and number == flawed_one:
            wrong = answer + rng.choice((-2, -1, 1, 2))
            worked, answer = f"{worked.rpartition(' ')[0]} {wrong}", wrong
        lines = [f"### Problem {number + 1}", f"Question: {question}", f"Solution: {worked}", f"#### {answer}"]
        if flaw == "missing_answer" and number == flawed_one:
            lines.pop()
        parts.append("\n".join(lines))
    if "`Diagnosis:`" in request:
        parts.insert(0, f"Diagnosis: the question takes one step of the kind {skill.name!r} ({skill.operation}).")
    reply = "\n\n".join(parts)
    return reply[: -len(parts[-1]) // 2] if flaw == "truncated" else reply


def _completion(body: dict[str, Any], text: str, finish_reason: str) -> dict[str, Any]:
    asked = sum(len(str(message.get("content")).split()) for message in body["messages"])
    said = len(text.split())  # the tutor counts words: it has no tokenizer
    return {
        "id": "tutor",
        "object": "chat.completion",
        "created": 0,
        "model": body.get("model", "tutor"),
        "choices": [
            {"index": 0, "finish_reason": finish_reason, "message": {"role": "assistant", "content": text}},
        ],
        "usage": {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said},
    }


def main() -> None:
    """Serve until stopped."""
    from aiohttp import web

    parser = argparse.ArgumentParser(prog="python -m errata.instructor.tutor", description="Serve the embedded tutor.")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--flaw-rate", type=float, default=0.2)
    arguments = parser.parse_args()
    web.run_app(application(arguments.flaw_rate), host="127.0.0.1", port=arguments.port)


if __name__ == "__main__":
    main()
