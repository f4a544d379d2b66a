"""`rehearsal`: who answers in a smoke run in the place of a paid model, or of one that needs a GPU. It is a PROGRAM.

A chat-completions server on 127.0.0.1, started and stopped by the run and reached through the same client, engine and ledger
as the endpoint that it stands for, whose name, temperature, limits and prices it keeps. Its replies have the form that was
asked for (`replies.py`) and no more sense than that; they depend on the messages and the seed alone.
"""

import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from errata.identity import neutral
from errata.instructor.openai import OpenAI
from errata.smoke.replies import write_reply

if TYPE_CHECKING:
    from aiohttp import web


@dataclass
class Rehearsal(OpenAI):
    """An endpoint that costs nothing and knows nothing; what it would have cost at the given prices is counted."""

    base_url: str = neutral("http://127.0.0.1")
    api_key_env: str | None = neutral(None)

    def probe(self) -> None:
        """Nothing to see: the server starts with the run."""

    @property
    def _endpoint(self) -> str:
        return "rehearsal"  # not the port, which is another in every run

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve on a free port of 127.0.0.1, with a client connected to it."""
        from aiohttp import web

        runner = web.AppRunner(application(), access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            async with self.connected(f"http://127.0.0.1:{runner.addresses[0][1]}/v1", retries=0):
                yield
        finally:
            await runner.cleanup()


def application() -> "web.Application":
    """The server: POST /v1/chat/completions."""
    from aiohttp import web

    async def complete(request: web.Request) -> web.Response:
        body = await request.json()
        rng = random.Random(json.dumps([body["messages"], body.get("seed")]))
        schema = (body.get("response_format") or {}).get("json_schema", {}).get("schema")
        return web.json_response(_completion(body, write_reply(body["messages"], schema, rng)))

    app = web.Application()
    app.router.add_post("/v1/chat/completions", complete)
    return app


def _completion(body: dict[str, Any], text: str) -> dict[str, Any]:
    asked = sum(len(str(one.get("content")).split()) for one in body["messages"])
    said = len(text.split())  # words: it has no tokenizer
    return {
        "id": "rehearsal",
        "object": "chat.completion",
        "created": 0,
        "model": body.get("model", "rehearsal"),
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
        "usage": {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said},
    }
