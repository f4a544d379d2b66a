"""Templates that a row of question, answer and rationale is filled into, one JSON file a set.

A set's file is a list of `{"question": "... {question} ...", "answer": "... {chain_of_thought} ... {answer}"}`; literal
braces are written `{{` and `}}`. Ours are in `templates/`, in our own words.

The source keeps its templates (FLAN's) in a Python file, as a dict of lists of pairs (Alpaca-CoT, data/origin_cot_data/
formating.py; FLAN, flan/v2/templates.py, with `cot_` before the sets' names). Such a file can be named as it stands: its
literals are read, nothing in it is run.
"""

import ast
import json
import string
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from errata.errors import ConfigError
from errata.python_code import tree_of

_OURS = Path(__file__).parent / "templates"
_NEEDED = {"question": ("question",), "answer": ("chain_of_thought", "answer")}


@dataclass(frozen=True)
class Template:
    """One form of a set's records. `id` is `SET/NUMBER`, counted from 0 in its file."""

    id: str
    question: str
    answer: str

    def fill(self, question: str, answer: str, chain_of_thought: str) -> tuple[str, str]:
        """The instruction and the output; braces in a row's own texts stay as they are."""
        return (
            self.question.format(question=question),
            self.answer.format(chain_of_thought=chain_of_thought, answer=answer),
        )


def load_templates(sets: Iterable[str], source: str | None = None) -> dict[str, list[Template]]:
    """Each set's templates: ours, or those of a folder of SET.json files or of a Python file like the source's.

    Raises:
        ConfigError: a file or a set that is missing, and every template that cannot be filled.
    """
    place = Path(source).expanduser() if source else _OURS
    problems: list[str] = []
    loaded: dict[str, list[Template]] = {}
    if place.is_file():
        found = _read_python(place, sets, problems)
    elif place.is_dir():
        found = {name: _read_json(place / f"{name}.json", problems) for name in sets}
    else:
        raise ConfigError([f"{place}: no such folder or file; templates are a folder of SET.json files, or a Python file"])
    for name, forms in found.items():
        where = str(place / f"{name}.json" if place.is_dir() else place)
        loaded[name] = [
            Template(f"{name}/{number}", question, answer)
            for number, (question, answer) in enumerate(forms)
            if _fillable(f"{where}, template {name}/{number}", {"question": question, "answer": answer}, problems)
        ]
    if problems:
        raise ConfigError(problems)
    return loaded


def _read_json(file: Path, problems: list[str]) -> list[tuple[Any, Any]]:
    """The pairs of a set's file; what is wrong with the file goes to `problems`."""
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        problems.append(f"{file}: no such file; every set needs its templates, or choose fewer (sets=[...])")
        return []
    except (OSError, ValueError) as error:
        problems.append(f"{file}: not a JSON file of templates ({error})")
        return []
    if not isinstance(content, list) or not content or not all(isinstance(form, dict) for form in content):
        problems.append(f'{file}: expected a list of {{"question": ..., "answer": ...}}, at least one')
        return []
    return [(form.get("question"), form.get("answer")) for form in content]


def _read_python(file: Path, sets: Iterable[str], problems: list[str]) -> dict[str, list[tuple[Any, Any]]]:
    """The pairs that stand in a Python file under each set's name (or `cot_SET`) in any dict, read as literals."""
    try:
        tree = tree_of(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, SyntaxError) as error:
        raise ConfigError([f"{file}: cannot be read as Python ({error}); a folder of SET.json files is read too"]) from error
    entries: dict[str, list[tuple[Any, Any]]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and isinstance(key.value, str) and (pairs := _pairs(value)):
                    entries.setdefault(key.value, pairs)
    chosen = {}
    for name in sets:
        if pairs := entries.get(f"cot_{name}") or entries.get(name, []):
            chosen[name] = pairs
        else:
            problems.append(f"{file}: holds no list of (question, answer) templates under {name!r} or 'cot_{name}'")
    return chosen


def _pairs(node: ast.expr) -> list[tuple[Any, Any]]:
    """A literal list of pairs; [] for anything else."""
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError):
        return []
    if not isinstance(value, list) or not all(isinstance(form, tuple | list) and len(form) == 2 for form in value):
        return []
    return [(form[0], form[1]) for form in value]


def _fillable(where: str, texts: dict[str, Any], problems: list[str]) -> bool:
    """Whether both texts hold the placeholders they need and no others; what is wrong goes to `problems`."""
    before = len(problems)
    for half, text in texts.items():
        needed = _NEEDED[half]
        if not isinstance(text, str):
            problems.append(f"{where}: its {half} is {text!r}; expected a text with {_listed(needed)}")
            continue
        try:
            parts = list(string.Formatter().parse(text))
        except ValueError as error:
            problems.append(f"{where}: its {half} cannot be filled ({error}); write literal braces as {{{{ and }}}}")
            continue
        plain = [name for _, name, form, conversion in parts if name is not None and not form and not conversion]
        odd = [f"{{{name}}}" for _, name, form, conversion in parts if name is not None and (form or conversion)]
        odd += [f"{{{name}}}" for name in plain if name not in needed]
        if odd:
            problems.append(f"{where}: its {half} has {', '.join(odd)}; it is filled with {_listed(needed)} only")
        if missing := [name for name in needed if name not in plain]:
            problems.append(f"{where}: its {half} lacks {_listed(missing)}")
    return len(problems) == before


def _listed(names: Iterable[str]) -> str:
    return " and ".join(f"{{{name}}}" for name in names)
