"""What stands at the end of a page: figures that sum a report up, settings, seeds, versions."""

from collections.abc import Mapping, Sequence
from typing import Any

from errata.report.arms import Arm
from errata.report.results import manifest
from errata.report.tables import TextTable, dollars

_ALIKE = 400


def key_figures(arms: Sequence[Arm]) -> list[tuple[str, str]]:
    """Runs, questions, errors, training rows, requests, price: name and figure each, sums over all runs."""
    results = [run.results for arm in arms for run in arm.runs]
    questions = _questions(arms)
    practice = [part for run in results for part in run["practice"]]
    figures = [("runs", len(results)), ("arms", len(arms))] if len(results) > 1 else []
    figures += [("test questions", sum(questions.values()))] + ([("datasets", len(questions))] if len(questions) > 1 else [])
    if practice:
        rows = sum(part["rows"] for run in results for part in run["training"])
        figures += [("errors", sum(part["errors"] for part in practice)), ("training rows", rows)]
        figures += [("requests", sum(part["requests"] for part in practice))]
        figures += [("instructor's tokens", sum(part["tokens"] for part in practice))]
    told = [(name, f"{number:,}") for name, number in figures if number or name == "training rows"]
    if practice:
        told += [("worth", _money([run["cost"]["usd"] for run in results]))]
        told += [("paid", _money([run["cost"]["paid_usd"] for run in results]))]
    seconds = sum(sum(run["seconds"].values()) for run in results)
    time = f"{seconds / 60:.0f} min" if seconds >= 60 else f"{seconds:.0f} s"
    return [*told, ("time in all stages", f"{seconds / 3600:.1f} h" if seconds >= 3600 else time)]


def _questions(arms: Sequence[Arm]) -> dict[str, int]:
    """How many questions all runs together were measured on, by dataset: arms may have been asked different ones."""
    asked: dict[str, set[tuple[str, int]]] = {}
    for run in (run for arm in arms for run in arm.runs):
        for name in run.results["datasets"]:
            asked.setdefault(name, set()).update(run.questions[name].items())
    return {name: len(found) for name, found in asked.items()}


def fact_tables(arms: Sequence[Arm]) -> list[TextTable]:
    """The runs, the settings in which they differ, those that all have, and what they ran with."""
    runs = [run for arm in arms for run in arm.runs]
    named = {run.name: arm.name for arm in arms for run in arm.runs}
    rows = [
        (run.name, named[run.name], str(run.results["config"].get("seed", "")), str(run.results["version"]),
         ", ".join(sorted({part["protocol"] for parts in run.results["datasets"].values() for part in parts})),
         run.results["split"], _state(run.results))
        for run in runs
    ]  # fmt: skip
    tables = [TextTable("runs", ("run", "arm", "seed", "version of Errata", "protocol", "split", "state"), rows)]
    flat = [_flat(run.results["config"]) for run in runs]
    tables += _settings([run.name for run in runs], flat)
    with_it = [(run.name, _flat(found)) for run in runs if (found := manifest(run.path).get("provenance"))]
    if with_it:
        keys = dict.fromkeys(key for _, facts in with_it for key in facts)
        said = [(key, "; ".join(dict.fromkeys(_text(facts[key]) for _, facts in with_it if key in facts))) for key in keys]
        tables.append(TextTable("versions and hardware", ("what", "value"), said[:_ALIKE]))
    return tables


def _settings(names: Sequence[str], flat: Sequence[Mapping[str, Any]]) -> list[TextTable]:
    keys = dict.fromkeys(key for one in flat for key in one)
    differ = [key for key in keys if len({repr(one.get(key)) for one in flat}) > 1]
    alike = [(key, _text(flat[0].get(key))) for key in keys if key not in differ]
    tables = []
    if differ:
        rows = [(name, *(_text(one.get(key, "")) for key in differ)) for name, one in zip(names, flat, strict=True)]
        tables.append(TextTable("settings in which the runs differ", ("run", *differ), rows))
    return [*tables, TextTable("settings" if len(flat) == 1 else "settings that all runs have", ("setting", "value"), alike)]


def _state(results: Mapping[str, Any]) -> str:
    return f"unfinished: {results['unfinished']}" if results.get("unfinished") else "finished"


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, part in value.items():
        if key == "kind" and isinstance(part, str) and part.startswith("errata."):
            if part.startswith("errata.config."):  # says no more than the group's own name
                continue
            part = part.rpartition(".")[2]
        found |= _flat(part, f"{prefix}{key}.") if isinstance(part, Mapping) and part else {f"{prefix}{key}": part}
    return found


def _text(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, list | tuple):
        return "; ".join(_text(part) for part in value) or "none"
    if isinstance(value, Mapping):
        return " ".join(f"{key} {_text(part)}" for key, part in _flat(value).items()) or "none"
    return str(value)


def _money(parts: Sequence[float | str]) -> str:
    known = [part for part in parts if not isinstance(part, str)]
    if len(known) < len(parts):
        return "unknown"
    return dollars(sum(known)) if sum(known) else "$0"
