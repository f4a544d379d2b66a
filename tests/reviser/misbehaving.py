"""An instructor for Reflection-Tuning that misbehaves on purpose, and knows how.

`reply(messages, seed)` answers a request of `errata.reviser.reflecting` in one of the KINDS, drawn by the request's own text,
so that a test can say beforehand what becomes of each. Both halves of a new pair carry the request's own mark.

    python -m tests.reviser.misbehaving --port 0 [--seed 0] [--kinds tags,prose] [--forever]

serves the same as an OpenAI-compatible endpoint and prints its address; GET /seen counts the kinds that it has answered with.
"""

import argparse
import asyncio
import hashlib
import json
import math
import random
import re
import sys
from collections import Counter

from aiohttp import web

from errata.records import Likelihoods, Reply

GOOD = ("tags", "tags unclosed", "source", "bold", "headings", "fenced", "end inside", "not applicable inside")
BAD = {
    "half without answer": "half",
    "half without instruction": "half",
    "several": "ambiguous",
    "placeholder": "placeholder",
    "cut": "truncated",
    "empty half": "empty",
    "prose": "no_markers",
    "silence": "no_reply",
    "echo": "unchanged",
    "chinese": "script",
    "label": "labels",
}
ONLY_FOR_INSTRUCTIONS = {"half without answer", "half without instruction"}
CRITIQUE = "The wording is vague, and the answer stays on the surface."


def stage_of(messages):
    return "response" if "<better_answer>" in messages[-1]["content"] else "instruction"


def mark_of(messages):
    return "Q" + hashlib.sha256(messages[-1]["content"].encode()).hexdigest()[:10]


def kind_of(messages, seed=0, kinds=(*GOOD, *BAD)):
    stage = stage_of(messages)
    drawn = [kind for kind in kinds if stage == "instruction" or kind not in ONLY_FOR_INSTRUCTIONS]
    return random.Random(f"{seed} {mark_of(messages)}").choice(drawn)


def reason_of(kind):
    """What a reviser must say of a reply of that kind; "" where it must take it."""
    return BAD.get(kind, "")


def texts_of(messages, kind):
    """The instruction and the answer that a good reply gives."""
    mark = mark_of(messages)
    instruction = f"Explain with two examples how {mark} is measured."
    answer = f"{mark} is measured by comparison.\n\n1. The first example is a scale.\n2. The second is a clock."
    if kind == "end inside":
        answer = f"I recommend Endangered Species ({mark}).\nClose the tape with [End] and rewind it.\nEnd of the list."
    if kind == "not applicable inside":
        answer += "\nFor empty fields write N/A, and N/A again."
    return instruction, answer


def reply(messages, seed=0, kinds=(*GOOD, *BAD)):
    """(text, finish reason); text is None where no reply comes."""
    kind, whole = kind_of(messages, seed, kinds), stage_of(messages) == "instruction"
    instruction, answer = texts_of(messages, kind)
    if kind == "echo":
        instruction, answer = shown(messages, "instruction"), shown(messages, "answer")
    if kind == "chinese":
        answer += "\n这是一个测试。"
    if kind == "label":
        answer = f"Improved response: {answer}"
    name = "new_answer" if whole else "better_answer"
    label = name.replace("_", " ").title()
    tags = f"<{name}>\n{answer}\n</{name}>"
    brackets = f"[{label}]\n{answer}\n[End]"
    if whole:
        given = f"<new_input>\n{old}\n</new_input>\n" if kind == "echo" and (old := shown(messages, "input")) else ""
        tags = f"<new_instruction>\n{instruction}\n</new_instruction>\n{given}{tags}"
        brackets = f"[New Instruction] {instruction} [End]\n\n2. {brackets}"
    text = {
        "tags unclosed": re.sub(r"</\w+>\n?", "", tags),
        "source": brackets,
        "end inside": brackets,
        "bold": re.sub(r"\[(New \w+|Better Answer|End)\]", r"**[\1]**", brackets),
        "headings": re.sub(
            r"<(\w+)>", lambda m: f"## {m[1].replace('_', ' ').capitalize()}:", re.sub(r"\n</\w+>", "", tags)
        ),
        "fenced": f"```\n{brackets}\n```",
        "half without answer": tags.partition("<new_answer>")[0],
        "half without instruction": tags.partition("</new_instruction>\n")[2],
        "several": f"{tags}\n\nOr, shorter:\n\n{tags}",
        "placeholder": tags.replace(answer, "the text of the answer" if whole else "[Your answer here]"),
        "cut": tags[:-30],
        "empty half": tags.replace(answer, ""),
        "prose": answer,
    }.get(kind, tags)
    if kind == "silence":
        return None, ""
    return (text if kind == "prose" else f"{CRITIQUE}\n\n{text}"), "length" if kind == "cut" else "stop"


def shown(messages, part):
    found = re.search(rf"<{part}>\n(.*?)\n</{part}>", messages[-1]["content"], re.DOTALL)
    return found[1] if found else ""


class Desk:
    """A reviser's desk with that instructor, and a student whose IFD and r-IFD are what `losses(pair)` says."""

    seed = 0
    model = None

    def __init__(self, seed=0, kinds=(*GOOD, *BAD), losses=None, replies=None):
        self.seed, self.kinds, self.losses = seed, kinds, losses
        self.replies = replies or {}  # by request id, before anything is drawn
        self.requests, self.scored, self.drawn = {}, {}, {}

    def ask(self, name, requests):
        assert name not in {*self.requests, *self.scored}, "a stage has a name of its own"
        self.requests[name] = list(requests)
        return [self._reply(request) for request in requests]

    def _reply(self, request):
        if request.id in self.replies:
            text, finish = self.replies[request.id], "stop"
        else:
            self.drawn[request.id] = kind_of(request.messages, self.seed, self.kinds)
            text, finish = reply(request.messages, self.seed, self.kinds)
        failure = None if text is not None else "HTTP 400: no"
        return Reply(request.id, request.dataset, request.error_id, request.id, text, finish, failure)

    def score(self, name, pairs, ifd, rifd):
        ids = [pair.id for pair in pairs]
        assert name not in {*self.requests, *self.scored}, "a stage has a name of its own"
        assert len(set(ids)) == len(ids), "ids of a call must be distinct"
        self.scored[name] = ids
        found = [self.losses(pair) for pair in pairs]
        return [
            Likelihoods(
                pair.id,
                response=0.0,
                response_given=None if not ifd or one["ifd"] is None else math.log(one["ifd"]),
                instruction=0.0,
                instruction_given=None if not rifd or one["rifd"] is None else math.log(one["rifd"]),
                missing=one.get("missing", ""),
            )
            for pair, one in zip(pairs, found, strict=True)
        ]


class Server:
    def __init__(self, seed, kinds):
        self.seed, self.kinds, self.seen = seed, kinds, Counter()

    async def complete(self, request):
        messages = (await request.json())["messages"]
        kind = kind_of(messages, self.seed, self.kinds)
        self.seen[f"{stage_of(messages)}: {kind}"] += 1
        text, finish = reply(messages, self.seed, self.kinds)
        if text is None:
            return web.json_response({"error": {"message": "this one I will not answer"}}, status=400)
        usage = {"prompt_tokens": len(str(messages)) // 4, "completion_tokens": len(text) // 4}
        choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text}}
        return web.json_response({"id": "x", "object": "chat.completion", "model": "m", "choices": [choice], "usage": usage})

    async def tell(self, request):
        return web.json_response(self.seen)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--forever", action="store_true", help="until it is stopped; else until standard input ends")
    parser.add_argument("--kinds", default=",".join((*GOOD, *BAD)))
    given = parser.parse_args()
    server = Server(given.seed, tuple(given.kinds.split(",")))
    loop = asyncio.new_event_loop()
    app = web.Application()
    app.router.add_post("/v1/chat/completions", server.complete)
    app.router.add_get("/seen", server.tell)
    runner = web.AppRunner(app, access_log=None)
    loop.run_until_complete(runner.setup())
    loop.run_until_complete(web.TCPSite(runner, "127.0.0.1", given.port).start())
    print(f"http://127.0.0.1:{runner.addresses[0][1]}/v1", flush=True)
    if given.forever:
        loop.run_forever()
    loop.run_until_complete(loop.run_in_executor(None, sys.stdin.read))  # ends with whoever started it
    print(json.dumps(server.seen), flush=True)


if __name__ == "__main__":
    main()
