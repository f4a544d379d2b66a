"""A run's model and training set as a folder that others can use.

FOLDER/model and FOLDER/dataset are each what a hub repository holds, card included. They are made beside the place and moved
there in one step.
"""

import json
import logging
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from errata.errors import ConfigError, ErrataError
from errata.jsonl import decode_lines, encode_lines, write_atomically
from errata.records import Example
from errata.report.cards import Facts, dataset_card, model_card
from errata.report.origin import Origin, origin
from errata.report.results import best_by_dev, collect
from errata.trained import COACH, RECORD, Trained, check_base, trained_models
from errata.version import __version__
from errata.weights import Weights, apply_adapter, load_network, load_tokenizer, unmergeable

DTYPES = ("float32", "bfloat16", "float16")
MERGED, ADAPTER, WHOLE = "merged", "adapter", "whole"
log = logging.getLogger("errata")


@dataclass(frozen=True)
class Export:
    """What is asked for; the fields are the options of `errata export`."""

    run: Path
    iteration: str | None = None
    to: Path | None = None
    adapter: bool = False
    dtype: str | None = None
    licence: str | None = None
    base_model: str | None = None
    push: str | None = None
    force: bool = False


@dataclass(frozen=True)
class Exported:
    """What was made: where, in which form (merged, adapter, whole), how many rows; and what there is to say about it."""

    folder: Path
    form: str
    dtype: str
    rows: int
    said: tuple[str, ...]


def export(wanted: Export) -> Exported:
    """Write the folder.

    Raises:
        ErrataError: there is no such run or iteration, or the folder is taken.
        ConfigError: an option that this model cannot honour.
    """
    results = collect(wanted.run)
    trained, chosen, said = _chosen(wanted, results)
    came_from = origin(results["config"], wanted.base_model)
    form, why = _form(wanted, trained.weights.adapter)
    if form == ADAPTER:
        _check_adapter(wanted, came_from)
    folder = wanted.to or wanted.run / "export" / (f"iteration_{trained.iteration}" if trained.iteration else "train")
    _check_free(folder, wanted.force)
    check_base(trained.weights)
    rows = _rows(wanted.run, trained.iteration, results["config"])
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    (partial / "model").mkdir(parents=True)
    try:
        dtype = _save_merged(trained, partial / "model", wanted.dtype) if form != ADAPTER else None
        if form != ADAPTER and dtype is None:
            form, why = ADAPTER, "this kind of adapter cannot be merged: it is exported by itself"
        if form == ADAPTER:
            _copy_adapter(trained, partial / "model", wanted, came_from)
        if (taught := trained.folder / "model" / COACH).is_file():
            shutil.copyfile(taught, partial / "model" / COACH)
        facts = Facts(results, trained, came_from, form, dtype, chosen, wanted.licence, wanted.push, tuple(rows))
        _write_cards(partial, facts)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    _move(partial, folder)
    return Exported(folder, form, dtype or "as trained", len(rows), tuple([*said, why] if why else said))


def _chosen(wanted: Export, results: dict[str, Any]) -> tuple[Trained, str, list[str]]:
    """The model, how it was chosen (last, best, named), and what there is to say about the choice."""
    models = trained_models(wanted.run)
    best = best_by_dev(results)
    if 0 in models:
        if wanted.iteration is not None:
            raise ConfigError([f"--iteration: {wanted.run} is a run of errata train, with one model: leave it out"])
        return models[0], "only", []
    last = max(models)
    if wanted.iteration in (None, "last"):
        other = best is not None and best != last
        better = f"iteration {best}" if best else "the start"
        return models[last], "last", [f"note: by dev {better} is best, not the last iteration ({last})"] if other else []
    if wanted.iteration == "best":
        if best is None:
            raise ConfigError(
                ["--iteration best: this run measured no dev (policy.patience=N does); name an iteration. The test split "
                 "is no way to choose one"]
            )  # fmt: skip
        if best not in models:
            raise ErrataError(
                f"--iteration best: by dev the start is best, and no iteration ({', '.join(map(str, models))}) is better. "
                "There is nothing to export, unless you name an iteration"
                if best == 0
                else f"--iteration best: the model of iteration {best} is not there; there are {', '.join(map(str, models))}"
            )
        return models[best], "best", []
    number = int(str(wanted.iteration))
    if number not in models:
        raise ErrataError(
            f"{wanted.run} has no trained model of iteration {number}; there are {', '.join(map(str, models))}"
        )
    return models[number], "named", []


def _form(wanted: Export, adapter: str | None) -> tuple[str, str]:
    """How the model can be exported, and what to say where that is not what was asked for."""
    if adapter is not None:
        if wanted.adapter:
            return ADAPTER, ""
        if kind := unmergeable(adapter):
            return ADAPTER, f"{kind} cannot be merged into weights: the adapter is exported by itself"
        return MERGED, ""
    if wanted.adapter:
        raise ConfigError(["--adapter: all weights were trained, there is no adapter; leave it out"])
    return WHOLE, ""


def _check_adapter(wanted: Export, came_from: Origin) -> None:
    """See that an adapter's export can be what is asked for.

    Raises:
        ConfigError: it cannot.
    """
    problems = []
    if wanted.dtype is not None:
        problems.append(f"--dtype {wanted.dtype}: this is exported as an adapter, as it was trained; leave --dtype out")
    if wanted.push is not None and came_from.hub_id is None:
        problems.append("--push of an adapter: its base is a local folder, where nobody finds it; say --base-model ORG/NAME")
    if problems:
        raise ConfigError(problems)


def _check_free(folder: Path, force: bool) -> None:
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not (folder / "model" / RECORD).is_file():
        raise ErrataError(f"{folder} is not empty, and is no former export: choose another place with --to")
    if not force:
        raise ErrataError(f"{folder} holds an export already: --force replaces it, --to puts this one elsewhere")


def _rows(run: Path, iteration: int, config: dict[str, Any]) -> list[tuple[int, Example]]:
    """What the weights were trained on: (iteration whose training set it is, row), in the order of training."""
    if not iteration:
        return []
    first = 1 if (config.get("policy") or {}).get("start") == "last" else iteration
    rows = []
    for number in range(first, iteration + 1):
        path = run / f"iteration_{number}" / "mix" / "train.jsonl"
        if not path.is_file():
            raise ErrataError(f"{path} is not there, and the model was trained on it: is the run folder complete?")
        rows += [(number, row) for row in decode_lines(path.read_bytes(), Example)]
    return rows


def _save_merged(trained: Trained, folder: Path, wanted: str | None) -> str | None:
    """Save the whole model and its tokenizer; returns the dtype, or None where the adapter cannot be merged."""
    import torch
    from transformers import GenerationConfig
    from transformers.utils import logging as transformers_logging

    from errata.chat import end_token_id

    if not torch.cuda.is_available():  # saving imports deepspeed, which would look for a GPU and print that there is none
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    transformers_logging.disable_progress_bar()
    weights = replace(trained.weights, attention=None)  # how attention is computed is nothing to save
    tokenizer = load_tokenizer(weights)
    dtype = wanted or _own_dtype(weights)
    log.info("merging in float32, to be saved as %s", dtype)
    network = load_network(weights, torch.float32)
    if weights.adapter is not None:
        network = apply_adapter(network, weights.adapter)
        if hasattr(network, "peft_config"):
            return None
    network = network.to(getattr(torch, dtype))
    network.config.use_cache = True
    ends = {end_token_id(tokenizer), tokenizer.eos_token_id} - {None}
    ends |= {tokenizer.convert_tokens_to_ids(token) for token in trained.stop_tokens}
    network.generation_config = GenerationConfig(
        do_sample=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=sorted(ends),
        pad_token_id=tokenizer.pad_token_id,
    )
    network.save_pretrained(folder, max_shard_size="5GB")
    tokenizer.save_pretrained(folder)
    return dtype


def _own_dtype(weights: Weights) -> str:
    """What the base's weights are stored in; float32 where that is not said, or is none that can be saved."""
    from transformers import AutoConfig

    from errata.weights import naming

    if weights.gguf is not None:
        return "float32"
    told = {"revision": weights.revision, "trust_remote_code": weights.remote_code or None}
    with naming(weights):
        config = AutoConfig.from_pretrained(weights.base, **{key: value for key, value in told.items() if value is not None})
    name = str(config.dtype).removeprefix("torch.")
    return name if name in DTYPES else "float32"


def _copy_adapter(trained: Trained, folder: Path, wanted: Export, came_from: Origin) -> None:
    """The adapter's files as training left them, without peft's card; sent away, it names its base by the hub id."""
    _check_adapter(wanted, came_from)
    for path in Path(str(trained.weights.adapter)).iterdir():
        if path.is_file() and path.name != "README.md":
            shutil.copyfile(path, folder / path.name)
    if wanted.push or wanted.base_model:
        settings = json.loads((folder / "adapter_config.json").read_bytes())
        settings["base_model_name_or_path"] = came_from.hub_id
        write_atomically(folder / "adapter_config.json", json.dumps(settings, indent=2).encode())


def _write_cards(partial: Path, facts: Facts) -> None:
    weights, rows = facts.trained.weights, facts.rows
    record = {
        "version": __version__,
        "run": facts.results["run"],
        "iteration": facts.trained.iteration,
        "form": facts.form,
        "dtype": facts.dtype,
        "system": weights.system,
        "stop_tokens": list(facts.trained.stop_tokens),
        "remote_code": weights.remote_code,
        "revision": weights.revision if facts.form == ADAPTER else None,
        "gguf": weights.gguf if facts.form == ADAPTER else None,
    }
    (partial / "model" / RECORD).write_text(json.dumps(record, indent=1) + "\n")
    (partial / "model" / "README.md").write_text(model_card(facts), encoding="utf-8")
    if rows:
        (partial / "dataset").mkdir()
        (partial / "dataset" / "train.jsonl").write_bytes(encode_lines(_messages(rows)))
        (partial / "dataset" / "README.md").write_text(dataset_card(facts), encoding="utf-8")


def _messages(rows: Sequence[tuple[int, Example]]) -> list[dict[str, Any]]:
    """Rows in the form of the loop's `train.messages.jsonl`, with the ids that lead back to where each came from."""
    return [
        {
            "id": row.id,
            "messages": [{"role": "user", "content": row.prompt}, {"role": "assistant", "content": row.response}],
            "benchmark": row.dataset,
            "error_id": row.error_id,
            "request_id": row.request_id,
            "made_in": row.iteration,
            "trained_in": number,
        }
        for number, row in rows
    ]


def _move(partial: Path, folder: Path) -> None:
    """Put the new folder in place; a former one is deleted only once the new one is there."""
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    partial.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
