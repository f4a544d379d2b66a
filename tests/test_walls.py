"""The floors of the house: nothing imports upward, protocols stand apart, and training stands alone."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1] / "src" / "errata"
GROUND = {
    "records",
    "record_files",
    "errors",
    "version",
    "provenance",
    "run_folder",
    "digests",
    "identity",
    "jsonl",
    "lock",
    "processes",
    "python_code",
    "finished",
    "sweep",
    "ledger",
    "terminal",
    "chat",
    "weights",
    "bottleneck",
    "endpoint",
    "sandbox",
    "cases",
    "packed",
    "trained",
    "prompts",
    "places",
    "secrets",
}
PROTOCOLS = {
    "dataset", "strategy", "model", "gate", "instructor", "retrieval", "allocation", "tracking", "corpus", "reviser", "judge",
}  # fmt: skip
KNOWS = {"gate": {"dataset"}, "strategy": {"dataset"}, "reviser": {"model"}}
"""Protocols that work on what another one is about: gates judge rows of a dataset, a coach is a model."""
MAY_IMPORT = {
    "stage": GROUND | PROTOCOLS,
    "splits": GROUND | PROTOCOLS | {"setup"},
    "run": GROUND | PROTOCOLS | {"stage", "setup"},
    "revise": GROUND | PROTOCOLS | {"stage", "setup", "report", "run"},
    "judging": GROUND | PROTOCOLS | {"stage", "setup", "report", "run"},
    "screening": GROUND | PROTOCOLS | {"stage", "setup", "revise", "run"},
    "training_set": GROUND | PROTOCOLS | {"stage", "setup", "screening", "run"},
    "improve": GROUND | PROTOCOLS | {"stage", "setup", "splits", "screening", "training_set", "run"},
    "config": GROUND | {"tracking", "training", "corpus"},
    "smoke": GROUND | PROTOCOLS,
    "checks": GROUND | PROTOCOLS,
    "setup": GROUND | PROTOCOLS | {"config", "smoke", "checks"},
    "report": GROUND,
    "training": {"chat", "weights", "errors", "bottleneck"},
    "chat": set(),
    "weights": {"chat", "errors", "bottleneck"},
    "bottleneck": set(),
    "endpoint": {"identity"},
    "sandbox": {"errors", "sandbox_channel", "sandbox_child"},
    "sandbox_child": {"sandbox_channel", "sandbox_walls"},
    "asking": GROUND | PROTOCOLS | {"setup", "stage"},
    "plan": GROUND | PROTOCOLS | {"setup", "splits", "stage", "asking"},
    "sweep_plan": GROUND | {"asking", "plan", "report", "setup"},
    "sweep_headers": GROUND,
    "data_plan": GROUND | PROTOCOLS | {"setup", "plan", "asking", "revise", "judging", "report", "stage"},
    "command": GROUND
    | PROTOCOLS
    | {"setup", "checks", "improve", "revise", "judging", "plan", "data_plan", "report", "stage", "training", "run"},
    "ledger_tools": GROUND,
    "ledger_command": GROUND | {"ledger_tools"},
    "export": GROUND | {"report"},
    "hub": {"errors"},
    "export_command": GROUND | {"export", "hub"},
    "conversation": GROUND | {"model"},
    "chat_command": GROUND | {"model", "conversation"},
    "report_command": GROUND | {"report", "config"},
    "why_command": GROUND | {"report"},
    "reference": GROUND | {"config"},
    "rerun": GROUND | {"report", "revise"},
    "reproduce_command": GROUND | {"report", "rerun", "setup", "command", "cell"},
    "diff_command": GROUND | {"report"},
    "cell": GROUND | {"setup", "tracking"},
    "grid": GROUND | {"setup", "cell", "command", "sweep_plan", "sweep_headers"},
    "status": GROUND,
    "status_command": GROUND | {"status"},
    "explain": {"config"},
    "__main__": {"cli"},
    "cli": GROUND
    | {
        "config",
        "explain",
        "setup",
        "cell",
        "grid",
        "command",
        "report",
        "ledger_command",
        "export_command",
        "chat_command",
    },
}
EXCEPTIONS = {
    ("instructor/tutor", "dataset"),  # it plays a teacher of `arithmetic`
    ("dataset/lm_eval", "model"),  # the harness scores with the model itself
}


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "errata":
            yield from node.module.split(".")[1:2] or [alias.name for alias in node.names]


def test_nothing_imports_upward():
    for path in ROOT.rglob("*.py"):
        name = path.relative_to(ROOT).with_suffix("").as_posix()
        floor = name.split("/")[0]
        if floor in PROTOCOLS:
            allowed = GROUND | {floor} | KNOWS.get(floor, set())
        elif floor in GROUND - set(MAY_IMPORT):
            allowed = GROUND
        else:
            allowed = MAY_IMPORT.get(floor, set()) | {floor}
        for found in imports(path):
            assert found in allowed or (name, found) in EXCEPTIONS or floor == "__init__", f"{name} imports errata.{found}"


def test_only_the_command_line_and_the_config_know_hydra():
    for path in ROOT.rglob("*.py"):
        if path.stem in ("cli", "config", "explain", "setup", "grid", "sweep_headers"):
            continue
        names = {
            (node.module if isinstance(node, ast.ImportFrom) else node.names[0].name) or ""
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Import | ast.ImportFrom)
        }
        assert not any(name.split(".")[0] in ("hydra", "omegaconf") for name in names), path


def test_programs_are_parsed_one_at_a_time():
    calls = [
        path.stem
        for path in ROOT.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr == "parse" and ast.unparse(node) == "ast.parse"
    ]
    assert sorted(calls) == ["python_code", "sandbox_child"], "use errata.python_code.tree_of"
