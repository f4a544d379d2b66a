import csv
import json
import logging

import pytest

from errata.dataset.gsm8k import GSM8K
from errata.dataset.mmlu import MMLU
from errata.dataset.source import local_file, read_file
from errata.errors import DataError

ROWS = [{"question": f"What is {n} + 1?\u2028", "answer": f"{n} + 1 = {n + 1}\n#### {n + 1}"} for n in range(3)]


def write(path, rows=ROWS):
    if path.suffix == ".parquet":
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif path.suffix in (".csv", ".tsv"):
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    elif "array" in path.name or path.suffix == ".json":
        path.write_text(json.dumps(rows))
    else:
        path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows))
    return path


def gsm8k(path, **settings):
    return GSM8K("gsm8k", path=str(path), splits={"train": "train", "test": "test"}, **settings)


@pytest.mark.parametrize("name", ["train.jsonl", "train.json", "array.jsonl", "train.csv", "train.tsv", "train.parquet"])
def test_every_format_gives_the_same_records(tmp_path, name):
    assert [record for _, record in read_file(write(tmp_path / name))] == ROWS


def test_a_json_object_that_holds_the_array(tmp_path):
    (tmp_path / "task.json").write_text(json.dumps({"canary": "do not train on this", "examples": ROWS}))
    assert [record for _, record in read_file(tmp_path / "task.json")] == ROWS


def test_a_split_is_found_by_its_name_in_a_folder_or_is_the_file_itself(tmp_path):
    write(tmp_path / "train.csv")
    assert len(gsm8k(tmp_path).load("train")) == 3
    assert len(gsm8k(tmp_path / "train.csv").load("train")) == 3
    with pytest.raises(DataError, match=r"holds no test .* it holds train\.csv"):
        gsm8k(tmp_path).load("test")
    assert local_file("no/such", ["train"]) is None


def test_fields_are_mapped_and_a_wrong_mapping_is_named(tmp_path):
    write(tmp_path / "train.jsonl", [{"problem": row["question"], "gold": row["answer"]} for row in ROWS])
    fields = {"question": "problem", "answer": "gold"}
    assert gsm8k(tmp_path, fields=fields).load("train")[2].gold == "3"
    with pytest.raises(DataError) as error:
        gsm8k(tmp_path, fields={"question": "problme", "answer": "gold"}).load("train")
    for said in ("line 1", "'problme' is missing", "it has problem, gold", "dataset.gsm8k.fields.question=FIELD"):
        assert said in str(error.value)
    assert "no use for 'qestion'; it maps question, answer" in " ".join(gsm8k(tmp_path, fields={"qestion": "x"}).problems())


def test_another_count_than_the_standard_one_is_a_warning_that_names_both(tmp_path, caplog):
    write(tmp_path / "train.jsonl")
    with caplog.at_level(logging.WARNING, "errata"):
        gsm8k(tmp_path, counts={"train": [7473]}, limit=1).load("train")
    assert "has 3 train records, the standard split of gsm8k has 7473" in caplog.text


def test_a_gold_answer_that_its_grader_rejects_is_named(tmp_path):
    write(tmp_path / "train.jsonl", [ROWS[0], {"question": "?", "answer": r"#### 5" + "\n#### 6 or \u0665"}])
    assert len(gsm8k(tmp_path).load("train")) == 2
    broken = GSM8K("gsm8k", path=str(tmp_path), splits={"train": "train"})
    broken.grade_corrected = lambda question, response: type(broken).grade_corrected(broken, question, "0")
    with pytest.raises(DataError, match=r"line 1 \(gsm8k/train/0\): the grader rejects the gold answer"):
        broken.load("train")


def test_repeated_ids_are_named_with_both_places(tmp_path):
    rows = [{"question": "?", "A": "1", "B": "2", "C": "3", "D": "4", "answer": "A", "id": "q7"}] * 2
    dataset = MMLU("mmlu", path=str(write(tmp_path / "test.jsonl", rows)), splits={"test": "test"})
    dataset.fields = {}
    with pytest.raises(DataError, match=r"line 2: the id 'q7' stands at .*line 1 too"):
        dataset.load("test")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"B": "  "}, "option B has no text"),
        ({"answer": "E"}, "the answer is 'E', and the options are A, B, C, D"),
        ({"D": None}, "expected the options A, B, C and D, found A, B, C"),
    ],
)
def test_a_broken_multiple_choice_record_is_named(tmp_path, change, said):
    row = {"question": "?", "A": "1", "B": "2", "C": "3", "D": "4", "answer": "A"} | change
    row = {key: value for key, value in row.items() if value is not None}
    dataset = MMLU("mmlu", path=str(write(tmp_path / "test.jsonl", [row])), splits={"test": "test"})
    with pytest.raises(DataError, match="line 1") as error:
        dataset.load("test")
    assert said in str(error.value)


def test_options_as_a_list_with_a_numbered_answer(tmp_path):
    row = {"question": "?", "choices": ["1", "2", "3", "4"], "answer": 2, "subject": "art"}
    (question,) = MMLU("mmlu", path=str(write(tmp_path / "test.jsonl", [row])), splits={"test": "test"}).load("test")
    assert (question.gold, question.choices["C"], question.skill) == ("C", "3", "art")


def test_a_hub_dataset_without_a_connection_is_one_clear_error(monkeypatch):
    import datasets

    def unreachable(*_, **__):
        raise ConnectionError("Couldn't reach the hub")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(DataError, match=r"openai/gsm8k \(main\), split train: .*local copy"):
        GSM8K("gsm8k", path="openai/gsm8k", subset="main", splits={"train": "train"}).load("train")


def test_a_hub_dataset_is_read_by_its_split_and_subset(monkeypatch):
    import datasets

    asked = []

    def load(path, subset, split):
        asked.append((path, subset, split))
        return datasets.Dataset.from_list(ROWS)

    monkeypatch.setattr(datasets, "load_dataset", load)
    dataset = GSM8K("gsm8k", path="openai/gsm8k", subset="main", splits={"train": "train"})
    assert [question.gold for question in dataset.load("train")] == ["1", "2", "3"]
    assert asked == [("openai/gsm8k", "main", "train")]
