"""Instructor: requests per second of Errata's engine, with its ledger on, beside peers, against a server on this machine.

    python3 -m venv curator_env                                     the peer Curator, in an environment of its own
    curator_env/bin/pip install bespokelabs-curator==0.1.31
    python benchmarks/instructor.py --curator curator_env/bin/python

The server (aiohttp, a process of its own, a fresh one for each contender) answers every chat completion with the same small
reply after 0 or 1000 ms and counts what it sees. Each contender runs in a fresh process, one after the other, with 256
requests in flight (the threads: as many as ThreadPoolExecutor has by itself) and messages of about 400 characters, all
different. `requests/s` counts the contender's whole call, from having the messages to having all the replies, without the
imports; `server's` is the same between the first request's arrival and the last reply, as the server saw it.
A rate is the median of the repeats. `requests seen` beyond the number asked are requests that a contender adds. Without
latency `most in flight` tells little: the server answers a request before it looks at the next.
"""

import argparse
import asyncio
import hashlib
import importlib.metadata
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

REQUESTS = {0: 4000}
REQUESTS_LATE = 2048
THREADS_LATE = 64
TOKENS, TEMPERATURE = 256, 0.8
WORDS = "count add share buy apples trains hours workers price half twice each left total before after how many".split()
ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1700000000,
    "model": "test",
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": "Each worker earns 12 dollars an hour, so the answer is 96. " * 4},
        }
    ],
    "usage": {"prompt_tokens": 100, "completion_tokens": 60, "total_tokens": 160},
}


def texts(count):
    """Messages of about 400 characters, all different, the same every time."""
    chance = random.Random(0)
    return [f"Question {n}: {' '.join(chance.choices(WORDS, k=72))}"[:400] for n in range(count)]


def body(text):
    """What is sent for a message."""
    messages = [{"role": "user", "content": text}]
    return {"model": "test", "messages": messages, "max_tokens": TOKENS, "temperature": TEMPERATURE}


# ---- the server ----


def serve(latency):
    """Answer until the standard input ends; the port is printed first."""
    from aiohttp import web

    payload = json.dumps(ANSWER).encode()
    seen = {"requests": 0, "distinct": 0, "in flight": 0, "most in flight": 0, "first": 0.0, "last": 0.0}
    bodies = set()

    async def complete(request):
        arrived = time.perf_counter()
        seen["requests"] += 1
        seen["in flight"] += 1
        seen["most in flight"] = max(seen["most in flight"], seen["in flight"])
        try:
            sent = await request.read()
            if b"Question " in sent:  # not a contender's own probe
                seen["first"] = seen["first"] or arrived
                bodies.add(hashlib.blake2b(sent, digest_size=12).digest())
            if latency:
                await asyncio.sleep(latency / 1000)
            return web.Response(body=payload, content_type="application/json")
        finally:
            seen["in flight"] -= 1
            seen["last"] = time.perf_counter()

    async def tell(request):
        return web.json_response({**seen, "distinct": len(bodies)})

    async def run():
        application = web.Application()
        application.router.add_post("/v1/chat/completions", complete)
        application.router.add_get("/seen", tell)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, backlog=2048)
        await site.start()
        print(runner.addresses[0][1], flush=True)
        await asyncio.to_thread(sys.stdin.read)
        await runner.cleanup()

    asyncio.run(run())


@contextmanager
def server(latency):
    """The port of a server in a process of its own."""
    command = [sys.executable, __file__, "--serve", str(latency)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield int(process.stdout.readline())
    finally:
        process.stdin.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()


# ---- the contenders: each gives the seconds that it took and its replies ----


async def in_workers(work, items, count):
    """Do the work for each item, so many at a time, the outcomes in the items' order."""
    found, left = [None] * len(items), iter(list(enumerate(items)))

    async def worker():
        for place, item in left:
            found[place] = await work(item)

    await asyncio.gather(*(worker() for _ in range(count)))
    return found


def bare_aiohttp(url, asked, concurrency):
    """One session, nothing else."""
    import aiohttp

    async def run():
        connector = aiohttp.TCPConnector(limit=concurrency)
        async with aiohttp.ClientSession(connector=connector) as session:

            async def ask(text):
                headers = {"Content-Type": "application/json", "Authorization": "Bearer none"}
                data = json.dumps(body(text)).encode()
                async with session.post(f"{url}/chat/completions", data=data, headers=headers) as response:
                    return json.loads(await response.read())["choices"][0]["message"]["content"]

            return await in_workers(ask, asked, concurrency)

    start = time.perf_counter()
    replies = asyncio.run(run())
    return time.perf_counter() - start, replies


def errata(url, asked, concurrency):
    """This project's engine and its ledger, in a folder of their own."""
    from errata.instructor.openai import OpenAI
    from errata.ledger import Ledger
    from errata.records import Request
    from errata.run_folder import RunFolder
    from errata.stage.instruct import instruct

    requests = [Request(f"1/toy/{n}", "toy", f"toy/{n}", tuple(body(text)["messages"]), 2) for n, text in enumerate(asked)]
    instructor = OpenAI(
        "test", url, api_key_env=None, concurrency=concurrency, max_tokens=TOKENS, temperature=TEMPERATURE
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder, RunFolder(Path(folder, "run"), {}) as run:
        with Ledger(Path(folder, "ledger.sqlite")) as ledger:
            stage = run.stage("instruct", n=len(requests))
            start = time.perf_counter()
            replies = instruct(stage, requests, instructor, ledger)
            seconds = time.perf_counter() - start
    return seconds, [reply.text for reply in replies]


def openai_client(url, asked, concurrency, transport=None):
    """The official client with workers; `transport` names the class of another transport."""
    import openai

    async def run():
        other = {"http_client": getattr(openai, transport)()} if transport else {}
        async with openai.AsyncOpenAI(base_url=url, api_key="none", **other) as client:

            async def ask(text):
                return (await client.chat.completions.create(**body(text))).choices[0].message.content

            return await in_workers(ask, asked, concurrency)

    _load_openai(openai)
    start = time.perf_counter()
    replies = asyncio.run(run())
    return time.perf_counter() - start, replies


def openai_over_aiohttp(url, asked, concurrency):
    """The official client over aiohttp."""
    return openai_client(url, asked, concurrency, "DefaultAioHttpClient")


def threads(url, asked, concurrency):
    """The source's way: a pool of threads of the default size with the synchronous client."""
    import openai

    _load_openai(openai)
    client = openai.OpenAI(base_url=url, api_key="none")

    def ask(text):
        return client.chat.completions.create(**body(text)).choices[0].message.content

    start = time.perf_counter()
    with ThreadPoolExecutor() as pool:
        replies = list(pool.map(ask, asked))
    return time.perf_counter() - start, replies


def _load_openai(openai):
    """Import what the client would import at its first use."""
    import openai.resources.chat  # noqa: F401


CONTENDERS = {
    "aiohttp": bare_aiohttp,
    "errata": errata,
    "openai": openai_client,
    "openai-aiohttp": openai_over_aiohttp,
    "threads": threads,
}
CURATOR = '''
import json
import sys
import time

from bespokelabs import curator


class Asker(curator.LLM):
    """Sends the text as it is."""

    def prompt(self, input):
        return input["text"]

    def parse(self, input, response):
        return {"text": response}


def main():
    told = json.load(open(sys.argv[1]))
    start = time.perf_counter()
    asker = Asker(
        model_name="openai/test",
        backend="litellm",
        generation_params={"max_tokens": told["tokens"], "temperature": told["temperature"]},
        backend_params={
            "base_url": told["url"],
            "max_concurrent_requests": told["concurrency"],
            "max_requests_per_minute": 10**7,
            "max_tokens_per_minute": 10**10,
        },
    )
    answer = asker([{"text": text} for text in told["texts"]])
    seconds = time.perf_counter() - start
    replies = answer.dataset["text"]
    json.dump({"seconds": seconds, "replies": sum(bool(reply) for reply in replies)}, open(sys.argv[2], "w"))


if __name__ == "__main__":
    main()
'''


# ---- the runs ----


def child(name, url, count, concurrency):
    """A contender's own process: print what it took."""
    seconds, replies = CONTENDERS[name](url, texts(count), concurrency)
    print(json.dumps({"seconds": seconds, "replies": sum(bool(reply) for reply in replies)}))


def run_child(name, url, count, concurrency):
    """Run a contender in a fresh process of this interpreter."""
    command = [sys.executable, __file__, "--child", name, url, "--requests", str(count), "--concurrency", str(concurrency)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment())
    return json.loads(done.stdout.splitlines()[-1])


def run_curator(python, url, count, concurrency):
    """Run Curator in its own interpreter, everything it writes in a folder that goes away."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        script, told, found, log = folder / "ask.py", folder / "told.json", folder / "found.json", folder / "log"
        script.write_text(CURATOR)
        settings = {"url": url, "texts": texts(count), "concurrency": concurrency}
        told.write_text(json.dumps(settings | {"tokens": TOKENS, "temperature": TEMPERATURE}))
        quiet = {
            "CURATOR_CACHE_DIR": str(folder / "cache"), "CURATOR_DISABLE_RICH_DISPLAY": "1", "TELEMETRY_ENABLED": "0",
            "HF_HOME": str(folder / "hf"), "HF_HUB_OFFLINE": "1", "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_TELEMETRY": "False", "OPENAI_API_KEY": "none",
        }  # fmt: skip
        with log.open("w") as written:
            done = subprocess.run(
                [python, script, told, found], cwd=folder, env=environment() | quiet, stdout=written, stderr=written
            )
        if done.returncode:
            raise RuntimeError(f"Curator ended with {done.returncode}: ...{log.read_text()[-3000:]}")
        return json.loads(found.read_text())


def environment():
    """The environment, with no proxy between a contender and the server."""
    return os.environ | {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}


def measure(name, latency, count, given):
    """One contender once: its own time, and what the server saw."""
    with server(latency) as port:
        url = f"http://127.0.0.1:{port}/v1"
        if name == "curator":
            row = run_curator(given.curator, url, count, given.concurrency)
        else:
            row = run_child(name, url, count, given.concurrency)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/seen") as answer:
            seen = json.load(answer)
    row |= {"name": name, "latency": latency, "asked": count, "seen": seen["requests"], "distinct": seen["distinct"]}
    row |= {"most in flight": seen["most in flight"], "rate": count / row["seconds"]}
    return row | {"server's rate": seen["distinct"] / (seen["last"] - seen["first"])}


def how_many(name, latency, given):
    """How many requests a contender gets."""
    count = given.requests or REQUESTS.get(latency, REQUESTS_LATE)
    return min(count, THREADS_LATE) if name == "threads" and latency >= 100 else count


def table(rows, latency):
    """The contenders at a latency, beside Errata."""
    rates = {}
    for row in rows:
        if row["latency"] == latency:
            rates.setdefault(row["name"], []).append(row)
    middle = {name: statistics.median(row["rate"] for row in runs) for name, runs in rates.items()}
    lines = [
        f"latency {latency} ms",
        "| contender | asked | requests seen | most in flight | requests/s | server's | all requests/s | Errata's ratio |",
        "|---|---:|---:|---:|---:|---:|---|---:|",
    ]
    for name, runs in rates.items():
        ratio = f"{middle['errata'] / middle[name]:.2f}" if "errata" in middle else ""
        told = statistics.median(row["server's rate"] for row in runs)
        alls = ", ".join(f"{row['rate']:.1f}" for row in runs)
        last = runs[-1]
        lines.append(
            f"| {name} | {last['asked']} | {last['seen']} | {last['most in flight']} | {middle[name]:.1f} | {told:.1f} "
            f"| {alls} | {ratio} |"
        )
    return "\n".join(lines)


def parsed():
    """The command line."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--latency", type=int, action="append", help="milliseconds (repeatable; by default 0 and 1000)")
    arguments.add_argument("--requests", type=int, help="by default 4000 without latency and 2048 with")
    arguments.add_argument("--concurrency", type=int, default=256)
    arguments.add_argument("--repeats", type=int, default=1)
    arguments.add_argument("--curator", help="the Python of an environment with bespokelabs-curator")
    arguments.add_argument("--only", action="append", choices=[*CONTENDERS, "curator"], help="(repeatable)")
    arguments.add_argument("--out", type=Path, help="where all runs are also written, as JSON")
    arguments.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    arguments.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    return arguments.parse_args()


def main():
    """Compare, or be one of the processes that this starts."""
    given = parsed()
    if given.serve is not None:
        serve(given.serve)
    elif given.child:
        child(*given.child, given.requests, given.concurrency)
    else:
        compare(given)


def compare(given):
    """Run the contenders and print the tables."""
    names = given.only or [*CONTENDERS, "curator"]
    if "curator" in names and not given.curator:
        print("curator is left out: give --curator PYTHON, that of an environment with bespokelabs-curator")
        names = [name for name in names if name != "curator"]
    versions = {name: importlib.metadata.version(name) for name in ("aiohttp", "openai")}
    print(f"{versions}, {os.cpu_count()} cores, concurrency {given.concurrency}")
    rows = []
    for latency in given.latency or [0, 1000]:
        for turn in range(given.repeats):
            for name in names:
                row = measure(name, latency, how_many(name, latency, given), given)
                rows.append(row)
                short = "" if row["replies"] == row["asked"] else f", ONLY {row['replies']} replies"
                print(f"{latency} ms, run {turn + 1}, {name}: {row['rate']:.1f} requests/s{short}", file=sys.stderr)
        print(f"\n{table(rows, latency)}", flush=True)
    if given.out:
        given.out.write_text(json.dumps({"versions": versions, "runs": rows}, indent=1))


if __name__ == "__main__":
    main()
