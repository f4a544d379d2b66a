"""Programs are parsed from several threads at once; what cannot be parsed is a SyntaxError, whatever the parser said."""

import gc
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from errata.python_code import is_python, tree_of

PROGRAM = "\n".join(f"def f{n}(x):\n    return [x + {n} for x in range({n}) if x > 3 and (x < 5 or x)]" for n in range(30))


def test_threads_parse_while_the_garbage_collector_runs_python() -> None:
    def lets_another_thread_run(_phase: str, _info: dict[str, Any]) -> None:
        sum(range(200))

    threshold = gc.get_threshold()
    gc.callbacks.append(lets_another_thread_run)
    gc.set_threshold(20)
    gc.freeze()
    try:
        with ThreadPoolExecutor(4) as threads:
            trees = list(threads.map(tree_of, [PROGRAM] * 150))
    finally:
        gc.unfreeze()
        gc.set_threshold(*threshold)
        gc.callbacks.remove(lets_another_thread_run)
    assert all(len(tree.body) == 30 for tree in trees)


@pytest.mark.parametrize(
    "code", ["def f(:", "x = '\0'", "(" * 5000, "-" * 100_000 + "1"], ids=["text", "null", "deep", "long"]
)
def test_what_has_no_tree_is_a_syntax_error(code: str) -> None:
    with pytest.raises(SyntaxError):
        tree_of(code)
    assert not is_python(code)
    assert is_python("x = 1")
