"""A composed config at its smoke size: the same experiment with small real parts in the place of the large ones.

What makes it that experiment stays: strategy, allocation, gates, retrieval, reviser, judge, policy, protocol, the training
method with its optimiser, schedule and way of sharing, the budget and the tracking. Replaced are models, encoders, data,
instructors and files of the user's; sizes are lowered, unless the command line sets them. What cannot run on a CPU is left
out, and said.
"""

import copy
import logging
from collections.abc import Collection
from pathlib import Path
from typing import Any

from errata.retrieval import minilm
from errata.smoke import files
from errata.smoke.rehearsal import Rehearsal
from errata.smoke.student import ARITHMETIC, DATA, student

log = logging.getLogger("errata")
PREFIX = "smoke_"
_MISSING = "???"
_TOKENS = 48
_ENOUGH, _DIVISOR, _LEAST = 60, 250, 8
_CAPS = {
    "iterations": 1,
    "training.epochs": 1,
    "training.batch_size": 4,
    "training.warmup_steps": 1,
    "max_new_tokens": _TOKENS,
    "reviser.max_new_tokens": _TOKENS,
    "allocation.clusters": 3,
    "allocation.nearest": 3,
    "equalise.requests": 4,
    "equalise.train_tokens": 600,
}
_SPLITS = {
    "gsm8k": {"train": "train", "test": "test"},
    "gsm_plus": {"test": "testmini"},
    "mmlu": {"train": "dev_val", "dev": "validation", "test": "test"},
    "arc": {"test": "test"},
    "mbpp": {"train": "train", "test": "test"},
    "humaneval": {"test": "test"},
    "bbh": {"test": "test"},
}
"""The names of our files, by the module of the dataset."""
_KEPT = ("template", "system")  # of a model: how it is asked
_ASKING = (
    "temperature", "max_tokens", "seed", "extra_body", "concurrency",
    "usd_per_million_in", "usd_per_million_out", "usd_per_million_cached",
)  # fmt: skip


def shrink(command: str, config: dict[str, Any], chosen: Collection[str] = ()) -> dict[str, Any]:
    """The config at its smoke size, which stands for itself: run again, it is run as it is.

    Args:
        command: `improve`, `evaluate` ...
        config: every setting as a plain value; "???" where one is missing.
        chosen: settings that the command line sets: their numbers stay; what is replaced all the same is told.

    Raises:
        ConfigError: the small parts cannot be written into `output_dir`.
    """
    given, config = config, copy.deepcopy(config)
    place = Path(config["output_dir"]).expanduser() / "smoke"
    config |= {"smoke": False, "name": PREFIX + config["name"]}
    if "ledger" in config:
        config["ledger"] = str(place / "ledger.sqlite")  # never beside replies that were paid for
    for path, most in _CAPS.items():
        _cap(config, path, most, chosen)
    for parent, name in ((config, "sample_size"), (config.get("mixture") or {}, "size")):
        if isinstance(parent.get(name), int):
            parent[name] = _few(parent[name])
    for sizes in (config.get("sizes") or {}, (config.get("mixture") or {}).get("counts") or {}):
        sizes |= {name: _few(size) for name, size in sizes.items()}
    _models(config, place)
    for group in ("dataset", "tests", "wall"):
        for name, node in (config.get(group) or {}).items():
            _dataset(node, place, f"{group}.{name}", chosen)
    _instructors(config)
    if config.get("retrieval") and "path" in config["retrieval"]:
        config["retrieval"] |= {"path": minilm.folder(), "device": "cpu"}
    if config.get("training"):
        _training(config["training"])
    for group, size in (("corpus", files.CORPUS), ("testset", files.TESTSET)):
        for name, node in (config.get(group) or {}).items():
            _instructions(node, place / group, name, size)
    if config.get("reviser"):
        _reviser_files(config["reviser"], place, config.get("corpus") or {})
    if command == "train":
        _training_files(config, place)
    if command == "judge":
        _judging(config, place)
    if config.get("decisions"):
        config["decisions"] = None
    if (config.get("tracking") or {}).get("mode") == "online":
        config["tracking"]["mode"] = "offline"
    log.info("smoke size: small stand-ins for models, data and instructors (%s); its numbers mean nothing", place)
    if replaced := [told for name in sorted(chosen) if (told := _replaced(name, given, config))]:
        log.info("smoke: in the place of what was given: %s", ", ".join(replaced))
    return config


def _replaced(name: str, given: dict[str, Any], config: dict[str, Any]) -> str:
    """What stands now for a single value that the command line sets; empty where that stays, or is a group."""
    before, now = _at(given, name), _at(config, name)
    if name == "smoke" or before == now or isinstance(before, dict):
        return ""
    return f"no {name}" if now is None else f"{name}={now}"


def _at(config: Any, path: str) -> Any:
    for name in path.split("."):
        config = config.get(name) if isinstance(config, dict) else None
    return config


def _cap(config: dict[str, Any], path: str, most: int, chosen: Collection[str]) -> None:
    *parents, last = path.split(".")
    node: Any = config
    for name in parents:
        node = node.get(name) if isinstance(node, dict) else None
    if isinstance(node, dict) and isinstance(node.get(last), int) and path not in chosen:
        node[last] = min(node[last], most)


def _few(size: int) -> int:
    """A size as it is where it is small; else one that still grows with it, for sweeps over sizes."""
    return size if size <= _ENOUGH else min(max(size // _DIVISOR, _LEAST), _ENOUGH)


def _models(config: dict[str, Any], place: Path) -> None:
    """The student, and a coach's own model, as the small one that stands for it."""
    config["model"] = _model(config.get("model"), place)
    reviser = config.get("reviser") or {}
    if str(reviser.get("_target_", "")).endswith(".Coach"):
        own = reviser.get("model") or config["model"]  # the folder of a coach is the user's: a model that is one already
        reviser |= {"model": _model(own, place), "folder": None, "keep_trained": False}


def _model(node: Any, place: Path) -> dict[str, Any]:
    node = node or {}
    target = str(node.get("_target_", "errata.model.model"))
    name = str(node.get("path") or node.get("model") or target.split(".")[-2])
    if Path(name).expanduser().is_dir() and Path(name).parent == place / "models":
        folder = Path(name)
    else:
        folder = student(place / "models", name if name != _MISSING else "model")
    kept = {key: node[key] for key in _KEPT if key in node}
    return {"_target_": "errata.model.hf.HF", "path": str(folder), "device": "cpu", **kept}


def _dataset(node: dict[str, Any], place: Path, where: str, chosen: Collection[str]) -> None:
    """A benchmark as its small file; `arithmetic` with fewer questions; lm-eval's tasks under their names."""
    kind = str(node.get("_target_", "")).split(".")[-2:-1]
    if "max_new_tokens" in node and f"{where}.max_new_tokens" not in chosen:
        node["max_new_tokens"] = min(node["max_new_tokens"], _TOKENS)
    if kind == ["arithmetic"]:
        node |= {name: min(node[name], size) for name, size in ARITHMETIC.items() if f"{where}.{name}" not in chosen}
    elif kind == ["lm_eval"]:
        shots = {name: min(number, 2) for name, number in (node.get("num_fewshot") or {}).items()}
        tasks = [Path(task).stem for task in node["tasks"]]
        node |= {"tasks": tasks, "include_path": [files.harness_tasks(place, tasks)], "num_fewshot": shots}
    elif kind and kind[0] in _SPLITS:
        named = {**(node.get("splits") or {}), **(node.get("files") or {})}
        splits = {split: name for split, name in _SPLITS[kind[0]].items() if split in named}
        fields = {name: name for name in node.get("fields") or {}}
        node |= {"path": str(DATA / kind[0]), "splits": splits, "files": {}, "fields": fields, "counts": {}}
        if kind == ["bbh"]:
            node |= {"prompts_folder": None, "tasks": []}
    elif "limit" in node and f"{where}.limit" not in chosen:
        log.info("smoke: %s has no small file: its first %d questions are taken", where, _LEAST)
        node["limit"] = min(node["limit"] or _LEAST, _LEAST)


def _instructors(config: dict[str, Any]) -> None:
    """Whoever is paid, or needs a GPU, as the rehearsal; the tutor stays: it is one of our own."""
    if config.get("instructor"):
        config["instructor"] = _instructor(config["instructor"])
    for gate in (config.get("gate") or {}).values():
        if gate.get("instructor"):
            gate["instructor"] = _instructor(gate["instructor"])


def _instructor(node: dict[str, Any]) -> dict[str, Any]:
    if str(node.get("_target_")).endswith((".Tutor", ".Replay", ".Rehearsal")):
        return node
    name = next((str(node[key]) for key in ("model", "path") if node.get(key) not in (None, _MISSING, "auto")), "rehearsal")
    if node.get("mode") == "batch":
        log.info("smoke: the rehearsal knows no batches: requests are sent one by one (instructor.mode=now)")
    target = f"{Rehearsal.__module__}.{Rehearsal.__qualname__}"
    return {"_target_": target, "model": name} | {key: node[key] for key in _ASKING if key in node}


def _training(training: dict[str, Any]) -> None:
    """One device, a CPU; what needs a GPU is left out."""
    training |= {"devices": 1, "launch": []}
    if training.get("precision") == "16-mixed":
        log.info("smoke: training.precision=16-mixed needs a GPU: 32-true")
        training["precision"] = "32-true"
    method = training.get("method") or {}
    if method.get("bits") is not None:
        log.info("smoke: training.method.bits=%s needs a GPU: the weights are not quantised", method["bits"])
        method["bits"] = None
    if method.get("targets") and not set(method["targets"]) <= {"all-linear", "auto", *_LAYERS}:
        log.info("smoke: the small model has no layers %s: every linear one is adapted", ", ".join(method["targets"]))
        method["targets"] = ["all-linear"]


_LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def _instructions(node: dict[str, Any], place: Path, name: str, size: int) -> None:
    """An instruction set as a small file of its form."""
    if "sets" in node:  # chain of thought
        node |= {"path": files.chain_of_thought(place), "limit_per_set": 3}
        return
    node |= {"path": files.instruction_set(place, name, node, size), "rows": None}
    if node.get("limit") is not None:
        node["limit"] = min(node["limit"], size)


def _reviser_files(reviser: dict[str, Any], place: Path, corpora: Collection[str]) -> None:
    """Experts' revisions of the corpora's small files, and a judge's ratings of them."""
    if "revisions" in reviser:
        reviser["revisions"] = files.revisions_of(place, corpora)
    if "ratings" in reviser:
        reviser["ratings"] = files.rating_run(place, corpora)


def _training_files(config: dict[str, Any], place: Path) -> None:
    """Rows for `data`, or experts' revisions where those are named (`revisions: ???` counts)."""
    if config.get("revisions") is not None:
        config |= {"revisions": files.expert_revisions(place), "data": None}
    else:
        config["data"] = files.training_rows(place, "data")
    if config.get("dev") is not None:
        config["dev"] = files.training_rows(place, "dev")


def _judging(config: dict[str, Any], place: Path) -> None:
    """Verdicts, answers, and what they are compared with; without test sets a revise run is judged."""
    testsets = config.get("testset") or {}
    judge = config.get("judge") or {}
    if str(judge.get("_target_", "")).endswith(".Recorded"):
        judge["path"] = files.recorded_verdicts(place)
        return
    if not testsets:
        config["answers"] = files.revised_run(place)
    elif config.get("answers") not in (None, "reference"):
        config["answers"] = files.answers(place, testsets, "answers")
    without = any(files.reference_missing(node) for node in testsets.values())
    compares = str(judge.get("_target_", "")).endswith(".Pairwise") or config.get("against") is not None
    if testsets and compares and (config.get("against") != "reference" or without):
        config["against"] = files.answers(place, testsets, "against")
