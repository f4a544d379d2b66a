"""From stored answers to a training set on the real benchmarks: the paper's record counts, without a model or a GPU."""

import ast
import json
import os
import random
import re
import threading
from collections import Counter
from pathlib import Path

import pytest
from aiohttp import web

from errata.cli import main
from errata.jsonl import decode_lines
from errata.records import Request

SHARED = Path(os.environ.get("ERRATA_DATA", Path(__file__).parents[2] / "shared" / "data"))
pytestmark = pytest.mark.skipif(not (SHARED / "gsm8k" / "train.jsonl").is_file(), reason=f"no real data in {SHARED}")
RIGHT = {"gsm8k": 3170, "mmlu": 1092, "mbpp": 215}  # of 7,473, 1,816 and 462: the paper's own records
EACH = {"gsm8k": 2, "mmlu": 6, "mbpp": 14}


def lookup(item):
    """A program that passes a task's tests by knowing them; None where they are not plain comparisons."""
    pairs = []
    for node in ast.walk(ast.parse(item["test"])):
        if isinstance(node, ast.Assert):
            test = node.test
            if not (isinstance(test, ast.Compare) and isinstance(test.ops[0], ast.Eq) and isinstance(test.left, ast.Call)):
                return None
            given = [ast.unparse(arg) for arg in test.left.args]
            pairs.append(f"(({', '.join(given)},), {ast.unparse(test.comparators[0])})")
    table = f"    for given, value in [{', '.join(pairs)}]:\n        if given == args:\n            return value"
    return f"def {item['entry_point']}(*args):\n{table}" if pairs else None


def passes(program, item):
    """Whether it passes here; the benchmark's own tests, so no sandbox."""
    namespace = {}
    try:
        exec(program, namespace)
        exec(item["test"], namespace)
        namespace["check"](namespace[item["entry_point"]])
    except Exception:  # noqa: BLE001  whatever the benchmark raises
        return False
    return True


def records(folder):
    """Stored answers with exactly the paper's numbers of right ones."""
    rng = random.Random(0)
    gsm8k = [json.loads(line) for line in (SHARED / "gsm8k" / "train.jsonl").read_text().split("\n") if line]
    mmlu = json.loads((SHARED / "mmlu" / "dev_val.json").read_text())
    mbpp = [json.loads(line) for line in (SHARED / "mbpp" / "train.jsonl").read_text().split("\n") if line]
    lines = []
    for place in (rights := set(rng.sample(range(len(gsm8k)), RIGHT["gsm8k"]))) and range(len(gsm8k)):
        answer = gsm8k[place]["answer"] if place in rights else "I add it all up.\n#### 987654321"
        lines.append({"id": f"gsm8k/train/{place}", "response": answer})
    rights = set(rng.sample(range(len(mmlu)), RIGHT["mmlu"]))
    for place, item in enumerate(mmlu):
        other = "ABCD"[("ABCD".index(item["answer"]) + 1) % 4]
        lines.append({"id": f"mmlu/train/{place}", "response": f"Answer: {item['answer'] if place in rights else other}"})
    known = {place: program for place, item in enumerate(mbpp) if (program := lookup(item)) and passes(program, item)}
    rights = set(rng.sample(sorted(known), RIGHT["mbpp"]))
    for place, item in enumerate(mbpp):
        code = known[place] if place in rights else f"def {item['entry_point']}(*args):\n    return 'wrong'"
        lines.append({"id": f"mbpp/train/{place}", "response": f"```python\n{code}\n```"})
    file = folder / "answers.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def write(text):
    """Practice in the layout that the request asks for."""
    rng = random.Random(text)
    count = int(re.findall(r"\b(\d+) new", text)[-1])
    problems = []
    for number in range(1, count + 1):
        a, b, name = rng.randrange(2, 9999), rng.randrange(2, 9999), "".join(rng.choices("bcdfglmnprst", k=9))
        if "```python" in text:
            body = f"def {name}(x: int) -> int:\n"
            asserts = "\n".join(f"assert {name}({x}) == {x * a + b}" for x in (1, 2, 7))
            problems.append(
                f'### Problem {number}\nTask:\n```python\n{body}    """Give {a} times x, and {b} more, to {name}."""\n```\n'
                f"Solution:\n```python\n{body}    return x * {a} + {b}\n```\nTests:\n```python\n{asserts}\n```"
            )
        elif "A. the first option" in text:
            problems.append(
                f"### Problem {number}\nQuestion: Which number is called {name} by {a} of {b} people?\nA. {a}\nB. {a + 1}\n"
                f"C. {a + 2}\nD. {a + 3}\nAnswer: B\nExplanation: It is {a + 1}."
            )
        else:
            problems.append(
                f"### Problem {number}\nQuestion: {name} keeps {a} jars and finds {b} others. How many has {name} now?\n"
                f"Solution: {a} + {b} = {a + b}\n#### {a + b}"
            )
    return "\n\n".join(problems)


@pytest.fixture
def endpoint():
    """An instructor on loopback that knows all three layouts."""
    import asyncio

    async def complete(request):
        body = await request.json()
        text = "\n".join(message["content"] for message in body["messages"])
        reply = {"role": "assistant", "content": write(text)}
        usage = {"prompt_tokens": 10, "completion_tokens": 10, "total_tokens": 20}
        choices = [{"index": 0, "finish_reason": "stop", "message": reply}]
        return web.json_response(
            {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": choices, "usage": usage}
        )

    loop, ready, port = asyncio.new_event_loop(), threading.Event(), []

    def serve():
        async def start():
            app = web.Application()
            app.router.add_post("/v1/chat/completions", complete)
            app.router.add_get("/v1/models", lambda request: web.json_response({"data": [{"id": "m"}]}))
            runner = web.AppRunner(app, access_log=None)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            port.append(runner.addresses[0][1])
            ready.set()

        loop.run_until_complete(start())
        loop.run_forever()

    threading.Thread(target=serve, daemon=True).start()
    assert ready.wait(60)
    yield f"http://127.0.0.1:{port[0]}/v1"
    loop.call_soon_threadsafe(loop.stop)


@pytest.mark.slow
def test_from_stored_answers_to_a_training_set_for_all_three_benchmarks(tmp_path, endpoint, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-none")
    options = [
        "improve", "model=recorded", f"model.path={records(tmp_path)}", "dataset=[gsm8k,mmlu,mbpp]", "iterations=1",
        f"dataset.gsm8k.path={SHARED}/gsm8k", f"dataset.mmlu.path={SHARED}/mmlu", f"dataset.mbpp.path={SHARED}/mbpp",
        "instructor=openai", "instructor.model=m", "tracking=off",
        f"instructor.base_url={endpoint}", "instructor.concurrency=64", "sample_size=3000", "allocation=paper", "strategy=lec", "retrieval=k2",
        "training.max_length=1024", f"output_dir={tmp_path}", "name=recorded",
    ]  # fmt: skip
    monkeypatch.setattr("sys.argv", ["errata", *options])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    (run,) = (path for path in tmp_path.iterdir() if path.name.startswith("recorded-"))
    for name in RIGHT:
        counts = json.loads((run / f"iteration_1/{name}/train/stage.json").read_text())["counts"]
        assert counts["right"] == RIGHT[name], (name, counts)
        requests = decode_lines((run / f"iteration_1/{name}/instruct/requests.jsonl").read_bytes(), Request)
        assert {request.problems for request in requests} == {EACH[name]}
        assert len(requests) == counts["wrong"]
        near = json.loads((run / f"iteration_1/{name}/retrieve/stage.json").read_text())["counts"]
        assert (near["errors"], near["pool"]) == (counts["wrong"], RIGHT[name])
        assert "with fewer neighbours than k" not in near
    mixed = json.loads((run / "iteration_1/mix/stage.json").read_text())["counts"]
    assert mixed["by dataset"] == dict.fromkeys(sorted(RIGHT), 3000)
    rows = [json.loads(line) for line in (run / "iteration_1/mix/train.messages.jsonl").read_text().split("\n") if line]
    assert len(rows) == 9000 == len({row["messages"][0]["content"] for row in rows})
    assert Counter(row["id"].split("/")[1] for row in rows) == dict.fromkeys(RIGHT, 3000)
    assert not (run / "iteration_1/train").exists()
