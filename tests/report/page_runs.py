"""Small run folders for figures and pages: answers whose texts and outcomes are known."""

import json
from dataclasses import asdict

from errata.jsonl import encode_lines
from errata.records import Attempt, Case, Example, Question, Rejection, Reply, Request, StageRecord

EVIL = '</script><script>alert(1)</script><img src=x onerror="alert(2)"> \u2028 {{ 7 * 7 }}'


def made_run(place, name="toy-0a", right=(2, 6), seed=0, protocol="corrected", n=10, answer="ten", usd=0.5, **config):
    """A run whose last iteration is len(right) - 1; `right` says how many of n questions are right after each."""
    run = place / name
    settings = {"seed": seed, "iterations": len(right) - 1, "strategy": {"kind": "errata.strategy.le.LE", "name": "le"}}
    run.mkdir(parents=True)
    (run / "run.json").write_text(json.dumps({"version": "0.1.0", "config": settings | config}))
    for iteration, number in enumerate(right):
        questions = [Question(f"toy/test/{q}", "toy", "test", f"Question {q}?", "10", skill="ab"[q % 2]) for q in range(n)]
        stage(run / f"iteration_{iteration}/toy/test", {}, attempts=[
            Attempt(question, f"{answer} {iteration}", True, "10", q < number, None if q < number else "wrong_value", "", protocol)
            for q, question in enumerate(questions)
        ])  # fmt: skip
        if iteration:
            practise(run, iteration, answer, usd)
    return run


def practise(run, iteration, answer, usd):
    """Three errors, three requests of which one failed, four problems, one of them rejected, three rows."""
    place = run / f"iteration_{iteration}/toy"
    errors = [
        Attempt(Question(f"toy/train/{q}", "toy", "train", f"What is {q}?", "1"), answer, True, "2", False, "wrong_value")
        for q in range(3)
    ]
    requests = [Request(f"{iteration}/{e.id}", "toy", e.id, ({"role": "user", "content": answer},), 2) for e in errors]
    rows = [
        Example(f"{r.id}/1", "toy", f"practice {answer}", "1", "1", r.error_id, r.id, iteration) for r in requests
    ]  # fmt: skip
    told = {"requests": 3, "failed": 1, "tokens": 900, "usd": usd, "paid usd": usd}
    stage(place / "train", {"wrong": 3}, attempts=errors)
    stage(place / "allocate", {}, cases=[Case(r.id, e) for r, e in zip(requests, errors, strict=True)])
    stage(
        place / "instruct", told, requests=requests, replies=[Reply(r.id, "toy", r.error_id, "k", answer) for r in requests]
    )
    stage(place / "parse", {"rows": 4, "rejected": 0})
    bad = Rejection(f"{requests[0].id}/2", "toy", "leak", "", answer, requests[0].id, iteration)
    stage(place / "verify", {"kept": 3, "rejected": 1, "wall": {}}, examples=rows, rejections=[bad])
    stage(run / f"iteration_{iteration}/mix", {"rows": 3}, train=rows)


def stage(folder, counts, **tables):
    folder.mkdir(parents=True, exist_ok=True)
    for name, records in tables.items():
        (folder / f"{name}.jsonl").write_bytes(encode_lines(records))
    (folder / "stage.json").write_text(json.dumps(asdict(StageRecord(folder.name, {}, True, {}, counts, 1.0))))
