"""The small files of a smoke run, each written as the file that it stands for is: same fields, our own words."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from errata.corpus.cot import PUBLISHED
from errata.errors import ConfigError
from errata.jsonl import encode_lines
from errata.judge.base import Item
from errata.judge.rating import Rating
from errata.records import Judgement, Pair, Revision, StageRecord
from errata.reviser.base import REVISED
from errata.smoke.student import DATA

Record = dict[str, Any]
CORPUS, TESTSET = 24, 12  # records
_RATINGS = (5.0, 4.5, 4.0)
_PARTS = ("instruction", "input", "output", "skill")


def instruction_set(place: Path, name: str, node: Mapping[str, Any], size: int) -> str:
    """A file for an instruction set or a test set, in the form and with the fields that its config names."""
    fields = {ours: theirs for ours, theirs in (node.get("fields") or {}).items() if theirs}
    if node.get("format") == "turns":
        return _written(place / f"{name}.json", [_question(*one, fields) for one in enumerate(_read("turns_en")[:size])])
    pool = _pool(str(node.get("languages") or "en"), fields)
    rows = [_record(pair, name, number, str(node.get("format")), fields) for number, pair in enumerate(pool[:size])]
    return _written(place / f"{name}.json", rows)


def reference_missing(node: Mapping[str, Any]) -> bool:
    """Whether a test set's config names no field for the reference answer."""
    fields = node.get("fields") or {}
    return node.get("format") == "fields" and not fields.get("output")


def answers(place: Path, testsets: Mapping[str, Mapping[str, Any]], role: str) -> str:
    """A folder of answers to the test sets, a file each, matched by the instruction's place: one way for all of them."""
    for name, node in testsets.items():
        fields = {ours: theirs for ours, theirs in (node.get("fields") or {}).items() if theirs}
        if node.get("format") == "turns":
            turns = [question["instruction"] for question in _read("turns_en")]
            said: list[Record] = [{"response": [f"{asked} Let me see. ({role})" for asked in one]} for one in turns]
        else:
            said = [{"response": f"{pair['output']} ({role})"} for pair in _pool(str(node.get("languages") or "en"), fields)]
        _written(place / role / f"{name}.json", said[:TESTSET])
    return str(place / role)


def revised_run(place: Path) -> str:
    """The folder of a revise run, as far as a judge reads it."""
    rows = []
    for number, pair in enumerate(_read("pairs_en")[:TESTSET]):
        before = Pair(f"smoke/{number}", pair["instruction"], pair["input"], _worse(pair["output"]), "smoke")
        after = Pair(before.id, before.instruction, before.input, pair["output"], "smoke")
        rows.append(Revision(before.id, before, after, REVISED))
    _put(place / "revised" / "revise" / "revisions.jsonl", encode_lines(rows))
    return str(place / "revised")


def expert_revisions(place: Path) -> str:
    """CoachLM's file: pairs before and after an expert's revision."""
    pairs = [Pair("", pair["instruction"], pair["input"], pair["output"]) for pair in _read("pairs_en")]
    return _written(place / "expert_revisions.json", [_edit(pair, _worse(pair.output)) for pair in pairs])


def revisions_of(place: Path, corpora: Iterable[str]) -> str:
    """The same of every other record in the stand-ins for these corpora."""
    return _written(place / "revisions_of_corpora.json", [_edit(pair, pair.output) for pair in _stand_ins(corpora)[::2]])


def rating_run(place: Path, corpora: Iterable[str]) -> str:
    """The folder of a judge's run that has rated the stand-ins for these corpora, as far as a reviser reads it."""
    items = [Item(pair, pair.output) for pair in _stand_ins(corpora)]
    verdicts = [
        Judgement(item.question.id, item.question.source, score=_RATINGS[number % len(_RATINGS)])
        for number, item in enumerate(items)
    ]
    judge = Rating()
    folder = place / "rated" / "judge"
    tables: dict[str, Sequence[Any]] = {"items": items, "judgements": verdicts, "summary": [judge.summary(verdicts)]}
    for name, rows in tables.items():
        _put(folder / f"{name}.jsonl", encode_lines(rows))
    _put(folder / "stage.json", encode_lines([StageRecord("judge", {}, True)]))
    return str(folder.parent)


def training_rows(place: Path, name: str) -> str:
    """Rows in Alpaca's form: for `data` the first two thirds of ours, for `dev` the rest."""
    pairs = _read("pairs_en")
    part = pairs[: len(pairs) * 2 // 3] if name == "data" else pairs[len(pairs) * 2 // 3 :]
    rows = [{part: pair[part] for part in _PARTS[:3]} for pair in part]
    _put(place / f"{name}.jsonl", encode_lines(rows))
    return str(place / f"{name}.jsonl")


def chain_of_thought(place: Path) -> str:
    """The folder of tables, question, answer and rationale parted by tabs, three rows for each set."""
    rows = [json.loads(line) for line in (DATA / "gsm8k/train.jsonl").read_text(encoding="utf-8").splitlines()]
    for number, name in enumerate(PUBLISHED):
        lines = []
        for row in rows[number : number + 3]:
            worked, _, answer = row["answer"].partition("\n#### ")
            lines.append(f"{row['question']} ({name})\t{answer}\tThe calculation is {worked.partition('<<')[0]}{answer}.\n")
        _put(place / "chain_of_thought" / f"{name}_train.tsv", "".join(lines).encode())
    return str(place / "chain_of_thought")


def recorded_verdicts(place: Path) -> str:
    """A log of comparisons in both orders, as Cherry_LLM's evaluation leaves them."""
    rows = []
    for number, pair in enumerate(_read("pairs_en")[:TESTSET]):
        first, second = 4 + number % 5, 4 + number % 3
        asked = {"Question": pair["instruction"], "Answer1": pair["output"], "Answer2": _worse(pair["output"])}
        forward = {"review": f"{first} {second}\nThe first says more.", "scores": [first, second]}
        reverse = {"review_reverse": f"{second} {first}\nThe second says more.", "scores_reverse": [second, first]}
        rows.append(asked | forward | reverse)
    return _written(place / "verdicts" / "smoke.json", rows)


def harness_tasks(place: Path, names: Sequence[str]) -> str:
    """A folder of task files for lm-eval under the tasks' own names: four options each, scored by likelihood."""
    metrics = [{"metric": metric, "aggregation": "mean", "higher_is_better": True} for metric in ("acc", "acc_norm")]
    for name in names:
        task = {
            "task": name,
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str((DATA / "lm_eval.jsonl").resolve())}},
            "output_type": "multiple_choice",
            "test_split": "test",
            "fewshot_split": "test",
            "doc_to_text": "Question: {{question}}\nAnswer:",
            "doc_to_choice": "{{choices}}",
            "doc_to_target": "{{gold}}",
            "metric_list": metrics,
        }
        _put(place / "lm_eval" / f"{name}.yaml", json.dumps(task, indent=1).encode())  # JSON is YAML
    return str(place / "lm_eval")


def _pool(languages: str, fields: Mapping[str, str]) -> list[Record]:
    """Pairs in the set's languages; with options and letters where the answer is letters."""
    if fields.get("input") == "选项":
        return _read("pairs_mmcu")
    codes = [code.strip() for code in languages.split(",")]
    return [pair for code in ("zh", "en") if code in codes for pair in _read(f"pairs_{code}")] or _read("pairs_en")


def _record(pair: Record, name: str, number: int, form: str, fields: Mapping[str, str]) -> Record:
    pair = pair | {"instruction": f"{pair['instruction']} ({name})"}  # two sets of a mixture must not say the same
    asked = "\n".join(part for part in (pair["instruction"], pair["input"]) if part)
    if form == "sharegpt":
        turns = [{"from": "human", "value": asked}, {"from": "gpt", "value": pair["output"]}]
        record: Record = {"conversations": turns}
    elif form == "messages":
        record = {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": pair["output"]}]}
    else:
        record = {} if form == "fields" else {part: pair[part] for part in _PARTS[:3]}
    values = pair | {"id": str(number), "history": [], "language": ""}
    for ours, theirs in fields.items():
        _set(record, theirs.split("."), values[ours])
    return record


def _question(number: int, question: Record, fields: Mapping[str, str]) -> Record:
    """A question of several turns; the field of references is missing where there are none, as in MT-Bench's file."""
    record: Record = {}
    values = question | {"id": number}
    for ours, theirs in fields.items():
        if values.get(ours) is not None:
            _set(record, theirs.split("."), values[ours])
    return record


def _set(record: Any, path: Sequence[str], value: Any) -> None:
    """Put a value at a dotted path; a number is a place in a list."""
    step, *rest = path
    if not rest:
        record[step] = value
        return
    if isinstance(record, list):
        record += [{}] * (int(step) + 1 - len(record))
        _set(record[int(step)], rest, value)
    else:
        _set(record.setdefault(step, [] if rest[0].isdigit() else {}), rest, value)


def _stand_ins(corpora: Iterable[str]) -> list[Pair]:
    """What stands in the stand-ins for corpora of one turn a record."""
    return [
        Pair(f"{name}/{number}", f"{pair['instruction']} ({name})", pair["input"], pair["output"], name)
        for name in corpora
        for number, pair in enumerate([*_read("pairs_en"), *_read("pairs_zh")])
    ]


def _edit(pair: Pair, before: str) -> Record:
    """A row of the experts' file; the response was `before`."""
    raw = {"Raw Instruction": pair.instruction, "Raw Input": pair.input, "Raw Response": before}
    new = {"Revised Instruction": pair.instruction, "Revised Input": pair.input}
    return raw | new | {"Revised Response": f"{pair.output} Do ask if anything is unclear."}


def _worse(text: str) -> str:
    """The text as a careless writer leaves it."""
    words = text.split()
    return " ".join(words[: max(1, len(words) // 2)]).lower()


def _read(name: str) -> list[Record]:
    return [json.loads(line) for line in (DATA / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def _written(path: Path, rows: Iterable[Record]) -> str:
    _put(path, json.dumps(list(rows), ensure_ascii=False, indent=1).encode())
    return str(path)


def _put(path: Path, content: bytes) -> None:
    """Write the file, unless it says so already: other runs may be reading it.

    Raises:
        ConfigError: it cannot be written.
    """
    try:
        if not path.is_file() or path.read_bytes() != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            own = path.with_name(f"{path.name}.{os.getpid()}")  # cells that start at once write the same file
            own.write_bytes(content)
            own.replace(path)
    except OSError as error:
        raise ConfigError([f"cannot write {path}: {error.strerror}; choose a writable output_dir"]) from error
