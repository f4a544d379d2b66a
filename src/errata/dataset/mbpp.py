"""MBPP: short Python functions (Google Research, CC-BY-4.0). Tasks 511 to 974 probe the student, 11 to 510 test it.

A real item, in HumanEval's shape as the source has it: `def remove_Occ(s: str, char: str) -> str:` with the docstring
"Remove first and last occurrence of a given character from the string." and three examples, which
are the three asserts as well.
"""

import ast
import re
import textwrap
from dataclasses import dataclass

from errata.dataset.coding import Coding
from errata.errors import DataError
from errata.python_code import tree_of
from errata.record_files import Record
from errata.records import Question


@dataclass
class MBPP(Coding):
    """MBPP in HumanEval's shape (`prompt`, `test`, `entry_point`), or as the hub has it (`text`, `code`, `test_list`)."""

    @property
    def known_fields(self) -> tuple[str, ...]:
        """The required fields, and the id."""
        return (*self.required, "task_id")

    def question(self, record: Record, place: str, name: str, split: str) -> Question:
        """The gold solution is known in the hub's shape only."""
        return self._question(record, place, name, split, str(record.get("code", "")).replace("\r", ""))

    def _mapped(self, record: Record, place: str) -> Record:
        return super()._mapped(_humaneval_shape(record, place) if "test_list" in record else record, place)


def _humaneval_shape(record: Record, place: str) -> Record:
    """A record of the original MBPP as a prompt with a docstring, and a `check` function."""
    code, tests = str(record["code"]).replace("\r", ""), [str(test) for test in record["test_list"]]
    called = {match.group(1) for test in tests for match in re.finditer(r"\b([A-Za-z_]\w*)\s*\(", test)}
    try:
        functions = [node for node in tree_of(code).body if isinstance(node, ast.FunctionDef) and node.name in called]
    except SyntaxError as error:
        raise DataError(f"{place}: the solution is no Python ({error})") from error
    if not functions:
        raise DataError(f"{place}: no function of the solution is called by the tests")
    function = functions[-1]
    description = record.get("text") or record.get("prompt") or ""
    examples = textwrap.indent("\n".join(tests), "    ")
    setup = str(record.get("test_setup_code") or "\n".join(record.get("test_imports") or ())).replace("\r", "")
    prompt = f'def {function.name}({ast.unparse(function.args)}):\n    """ {description}\n{examples}\n    """\n'
    check = f"{setup}\n\ndef check(candidate):\n    global {function.name}\n    {function.name} = candidate\n{examples}\n"
    return record | {"prompt": prompt, "test": check, "entry_point": function.name}
