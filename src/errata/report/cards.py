"""The model card and the dataset card of an export: a run's records in words, for people who were not there.

The words are the templates in `errata/cards`; here is what fills them. No path of this machine gets into a card.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import yaml
from jinja2 import Environment, StrictUndefined

from errata.records import Example
from errata.report.origin import Origin, as_hub_id
from errata.report.results import ALL
from errata.report.strategy_name import strategy_name
from errata.report.tables import p_value, percent
from errata.trained import Trained

_FREE = ("kind", "name", "path", "model", "prompts_dir", "base_url", "seed")  # told elsewhere, or of this machine only
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


@dataclass(frozen=True)
class Facts:
    """What the cards are made of.

    Attributes:
        results: what `collect` gathers from the run.
        trained: the exported model.
        base: what it was trained on top of.
        form: merged, adapter or whole.
        dtype: of the saved weights (None: an adapter, as it was trained).
        chosen: how this model was chosen: last, best (by dev), named, or only.
        licence: as the user says; None: the user said nothing.
        repository: the hub repository it is to go to, if any.
        rows: (iteration whose training set it is, row): all that the weights were trained on.
    """

    results: dict[str, Any]
    trained: Trained
    base: Origin
    form: str
    dtype: str | None
    chosen: str
    licence: str | None
    repository: str | None
    rows: Sequence[tuple[int, Example]]


def model_card(facts: Facts) -> str:
    """README.md of the model."""
    run, iteration, weights = facts.results["run"], facts.trained.iteration, facts.trained.weights
    config = facts.results["config"]
    scores = _scores(facts)
    method = config["training"]["method"]
    front: dict[str, Any] = {
        "library_name": "peft" if facts.form == "adapter" else "transformers",
        "pipeline_tag": "text-generation",
        "base_model": facts.base.hub_id,
        "base_model_relation": facts.base.hub_id and ("adapter" if facts.form == "adapter" else "finetune"),
        "license": facts.licence,
        "datasets": ([facts.repository] if facts.repository and facts.rows else []) + _hub_datasets(config),
        "tags": ["errata", "learning-from-errors", _kind(method).lower()]
        if iteration
        else ["errata", _kind(method).lower()],
        "model-index": [{"name": _name(facts), "results": [_indexed(config, score) for score in scores]}]
        if scores
        else None,
    }
    return _filled(
        "model",
        front,
        facts=facts,
        name=_name(facts),
        run=run,
        version=facts.results["version"],
        iteration=iteration,
        config=config,
        weights=weights,
        method=f"{_kind(method)} ({_settings(method)})" if _settings(method) else _kind(method),
        scores=scores,
        steps=[part for part in facts.results["training"] if part["iteration"] in (_through(facts) or [0])],
        practice=_practice(facts),
        adapted="adapter" if facts.form == "adapter" else "model",
        bottleneck=facts.form == "adapter" and _kind(method) == "Bottleneck",
        template=_template_name(weights.template),
        dev=[(part["iteration"] or "start", percent(part["accuracy"])) for part in facts.results["dev"]],
        place=facts.repository or "FOLDER/model",
        base_place=facts.base.hub_id or "BASE",
        tested=sorted(facts.results["datasets"]),
        instructor=_instructor(config),
    )


def dataset_card(facts: Facts) -> str:
    """README.md of the dataset."""
    config, practice = facts.results["config"], _practice(facts)
    asked = sum(bool(row.request_id) for _, row in facts.rows)
    reasons: Counter[str] = Counter()
    wall: dict[str, int] = {}
    for part in practice:
        reasons.update(part["rejections"])
        wall |= part["wall"]
    strategy = config.get("strategy") or {}
    front = {
        "license": facts.licence,
        "task_categories": ["text-generation"],
        "tags": ["errata", "learning-from-errors"] + (["synthetic"] if asked else []),
        "size_categories": [next((name for limit, name in _SIZES if len(facts.rows) < limit), "n>1M")],
        "configs": [{"config_name": "default", "data_files": "train.jsonl"}],
    }
    gates = {_kind(gate).lower(): _settings(gate) for gate in config.get("gate") or []}
    errors = config["errors"]
    return _filled(
        "dataset",
        front,
        facts=facts,
        name=f"{_name(facts)}: training set",
        run=facts.results["run"],
        version=facts.results["version"],
        rows=len(facts.rows),
        distinct=len({row.id for _, row in facts.rows}),
        asked=asked,
        by_benchmark=Counter(row.dataset for _, row in facts.rows),
        by_iteration=Counter(number for number, _ in facts.rows),
        strategy=strategy_name(config) + (f" ({_settings(strategy)})" if _settings(strategy) else ""),
        own_prompts=bool(strategy.get("prompts_dir")),
        instructor=_instructor(config),
        gates=[name + (f" ({settings})" if settings else "") for name, settings in gates.items()],
        gate_names=set(gates),
        leak=next((gate for gate in config.get("gate") or [] if _kind(gate) == "Leak"), None),
        reasons=dict(sorted(reasons.items())),
        total={key: sum(part[key] for part in practice) for key in ("errors", "requests", "problems", "kept")},
        wall=dict(sorted(wall.items())),
        splits=" and ".join(errors["splits"]),
        left_out=errors["leave_out"],
        seed=config["seed"],
        policy=config["policy"],
        datasets={name: as_hub_id(part.get("path")) for name, part in config["dataset"].items()},
    )


def _filled(card: str, front: dict[str, Any], **values: Any) -> str:
    """The front matter, without what is not known, and the text."""
    known = {key: value for key, value in front.items() if value}
    head = yaml.safe_dump(known, sort_keys=False, allow_unicode=True)
    text = files("errata").joinpath("cards", f"{card}.jinja").read_text(encoding="utf-8")
    pages = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False)
    pages.filters |= {"percent": percent, "p_value": p_value}
    return f"---\n{head}---\n\n{pages.from_string(text).render(**values)}\n"


def _name(facts: Facts) -> str:
    if facts.repository:
        return facts.repository.rpartition("/")[2]
    iteration = facts.trained.iteration
    return f"{facts.results['run']}, iteration {iteration}" if iteration else str(facts.results["run"])


def _scores(facts: Facts) -> list[dict[str, Any]]:
    """Of each test set: the start's score and this model's; nothing for those that were not measured after it."""
    found = []
    for name, measured in facts.results["datasets"].items():
        by_iteration = {part["iteration"]: part for part in measured}
        after = by_iteration.get(facts.trained.iteration)
        if facts.trained.iteration and after is not None:
            start = by_iteration[0]["scores"][ALL] if 0 in by_iteration else None
            part = {"dataset": name, "protocol": after["protocol"], "start": start, **after["scores"][ALL]}
            found.append(part | {"split": facts.results["split"]})
    return found


def _indexed(config: dict[str, Any], score: dict[str, Any]) -> dict[str, Any]:
    """A score as the hub's model index holds it: the interval and n stand in the metric's name and in its `args`."""
    settings = (config["dataset"] | (config.get("tests") or {})).get(score["dataset"], {})
    interval = f"95 % interval {percent(score['low'])} to {percent(score['high'])} %"
    return {
        "task": {"type": "text-generation", "name": "question answering"},
        "dataset": {
            "name": score["dataset"],
            "type": as_hub_id(settings.get("path")) or score["dataset"],
            "split": score["split"],
        },
        "metrics": [
            {
                "type": "accuracy",
                "value": round(score["accuracy"], 6),
                "name": f"accuracy ({score['protocol']} protocol, n = {score['n']}, {interval})",
                "args": {
                    "n": score["n"],
                    "low": round(score["low"], 6),
                    "high": round(score["high"], 6),
                    "protocol": score["protocol"],
                },
            }
        ],
    }


def _through(facts: Facts) -> list[int]:
    """The iterations whose training sets the weights have seen."""
    return sorted({number for number, _ in facts.rows})


def _practice(facts: Facts) -> list[dict[str, Any]]:
    """The practice records of every iteration in which a row was made or trained on."""
    made = {row.iteration for _, row in facts.rows} | set(_through(facts))
    return [part for part in facts.results["practice"] if part["iteration"] in made]


def _hub_datasets(config: dict[str, Any]) -> list[str]:
    """Hub ids of the benchmarks that were learnt from."""
    learnt = (config.get("dataset") or {}).values()
    return [found for part in learnt if (found := as_hub_id(part.get("path")))]


def _instructor(config: dict[str, Any]) -> str:
    """Who wrote the practice."""
    instructor = config.get("instructor")
    if not instructor:
        return ""
    if _kind(instructor) == "Tutor":
        return "`tutor`, a program that comes with Errata (no language model)"
    model = str(instructor.get("model") or _kind(instructor))
    name = model if as_hub_id(model) else model.rstrip("/").rpartition("/")[2]  # of a folder its name only
    temperature = instructor.get("temperature")
    told = "the endpoint's own temperature" if temperature is None else f"temperature {temperature}"
    return f"`{name}` ({told})"


def _template_name(template: str | None) -> str:
    """A named template's name; of a file its name only."""
    return "" if template is None else template.rpartition("/")[2]


def _kind(part: dict[str, Any]) -> str:
    return str(part["kind"]).rpartition(".")[2]


def _settings(part: dict[str, Any]) -> str:
    """A component's settings in a line; what is not set, or tells of this machine, is left out."""
    shown = []
    for key, value in part.items():
        if key in _FREE or value is None or value is False or value in ([], {}) or isinstance(value, dict):
            continue
        shown.append(f"{key} {', '.join(map(str, value)) if isinstance(value, list) else value}")
    return ", ".join(shown)
