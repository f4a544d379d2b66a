"""Python source as a tree, from any thread: what graders, gates and readers of Python files look into programs with."""

import ast
import threading

_ONE_AT_A_TIME = threading.Lock()
"""CPython 3.11 counts the depth of a tree under construction for the interpreter, not for the thread: where the garbage
collector runs Python meanwhile and another thread parses too, either ends in a SystemError."""


def tree_of(code: str) -> ast.Module:
    """The code's syntax tree; a SyntaxError for whatever has none (null bytes and nesting beyond the parser among it)."""
    try:
        with _ONE_AT_A_TIME:
            return ast.parse(code)
    except (ValueError, RecursionError, MemoryError) as error:
        raise SyntaxError(str(error) or type(error).__name__) from error


def is_python(code: str) -> bool:
    """Whether the code can be parsed."""
    try:
        tree_of(code)
    except SyntaxError:
        return False
    return True
