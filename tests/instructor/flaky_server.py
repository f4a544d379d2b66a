"""An OpenAI-compatible server that misbehaves on purpose: `python -m tests.instructor.flaky_server [--faults 0.2]`.

It runs in a process of its own, prints its port, and answers GET /seen with how often each request came, when it came last,
and how many are under way. What a request meets depends on its text and on how often it came.
"""

import argparse
import asyncio
import json
import random
import sys
import time
from collections import Counter

from aiohttp import web

FAULTS = (
    "429", "429 with Retry-After", "500", "503", "reset", "hang", "slow drip", "truncated JSON", "empty", "content filter",
    "length", "invalid UTF-8", "twice",
)  # fmt: skip
USAGE = {"prompt_tokens": 50, "completion_tokens": 20, "total_tokens": 70}


def body(text, content=None, finish="stop"):
    """A chat completion that depends on the question alone."""
    content = f"reply to {text}" if content is None else content
    message = {"role": "assistant", "content": content}
    choices = [{"index": 0, "finish_reason": finish, "message": message}]
    completion = {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": choices, "usage": USAGE}
    return json.dumps(completion).encode()


class Server:
    def __init__(self, faults, latency):
        self.faults, self.latency = faults, latency
        self.seen, self.last = Counter(), {}
        self.under_way = 0

    async def complete(self, request):
        asked = await request.json()
        text = asked["messages"][-1]["content"]
        self.seen[text] += 1
        self.last[text] = time.time()
        self.under_way += 1
        try:
            return await self.answer(request, text)
        finally:
            self.under_way -= 1

    async def answer(self, request, text):
        if self.latency:
            await asyncio.sleep(self.latency)
        rng = random.Random(f"{text} {self.seen[text]}")
        fault = rng.choice(FAULTS) if rng.random() < self.faults else ""
        if fault.startswith("429"):
            headers = {"Retry-After": "0.05"} if "After" in fault else {}
            return web.json_response({"error": {"message": "slow down"}}, status=429, headers=headers)
        if fault in ("500", "503"):
            return web.json_response({"error": {"message": "oh dear"}}, status=int(fault))
        if fault == "reset":
            request.transport.abort()
            return web.Response()
        if fault == "hang":
            await asyncio.sleep(30)
        if fault == "slow drip":
            response = web.StreamResponse()
            await response.prepare(request)
            for byte in body(text):
                await response.write(bytes([byte]))
                await asyncio.sleep(0.2)
            return response
        if fault == "truncated JSON":
            return web.Response(body=body(text)[:60], content_type="application/json")
        if fault == "invalid UTF-8":
            return web.Response(body=body(text)[:-40] + b"\xff\xfe" + body(text)[-40:], content_type="application/json")
        if fault == "twice":  # the answer comes a second time, unasked, on the same connection, which may spoil both
            whole = body(text)
            head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(whole)}\r\n\r\n".encode()
            request.transport.write((head + whole) * 2)
            await asyncio.sleep(0.01)
            request.transport.close()
            return web.Response()
        special = {"empty": ("", "stop"), "content filter": ("", "content_filter"), "length": ("cut o", "length")}
        return web.Response(body=body(text, *special.get(fault, (None, "stop"))), content_type="application/json")

    async def tell(self, request):
        return web.json_response({"seen": self.seen, "last": self.last, "under_way": self.under_way})


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--faults", type=float, default=0.0)
    parser.add_argument("--latency", type=float, default=0.0)
    given = parser.parse_args()
    server = Server(given.faults, given.latency)

    loop = asyncio.new_event_loop()
    app = web.Application()
    app.router.add_post("/v1/chat/completions", server.complete)
    app.router.add_get("/seen", server.tell)
    runner = web.AppRunner(app, access_log=None)
    loop.run_until_complete(runner.setup())
    loop.run_until_complete(web.TCPSite(runner, "127.0.0.1", 0).start())
    print(runner.addresses[0][1], flush=True)
    loop.run_until_complete(loop.run_in_executor(None, sys.stdin.read))  # ends with whoever started it


if __name__ == "__main__":
    main()
