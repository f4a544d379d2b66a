"""Instruction sets: every form and file format, real files, wrong files, and memory that does not grow with the file."""

import gzip
import json
import logging
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pytest
from omegaconf import OmegaConf
from pyarrow import parquet

from errata.config import config_folder
from errata.corpus.forms import turns_in
from errata.corpus.instruction_set import InstructionSet
from errata.errors import DataError
from errata.record_files import _CHUNK, read
from errata.setup import build

REAL = Path(__file__).parents[3] / "shared" / "data" / "coachlm"
real = pytest.mark.skipif(not REAL.is_dir(), reason="CoachLM's real files are not beside this checkout")
ROWS = [
    {"instruction": "Name a colour.", "input": "", "output": "Blue."},
    {"instruction": "翻译", "input": "Good\u2028night", "output": "晚安"},
    {"instruction": "Add.", "input": None, "output": 7},
]
WANTED = [("Name a colour.", "", "Blue."), ("翻译", "Good\u2028night", "晚安"), ("Add.", "", "7")]


def texts(corpus):
    return [(pair.instruction, pair.input, pair.output) for pair in corpus.pairs("x")]


def written(folder, name, content):
    file = folder / name
    data = content.encode() if isinstance(content, str) else content
    file.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return file


LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
TABLE = 'instruction,input,output\n"Name a colour.",,Blue.\n翻译,Good\u2028night,晚安\nAdd.,,7\n'
FILES = {
    "array.json": json.dumps(ROWS),
    "indented.json": json.dumps(ROWS, indent=4, ensure_ascii=False),
    "bom.json": "\ufeff" + json.dumps(ROWS),
    "array.json.gz": json.dumps(ROWS),
    "lines.jsonl": LINES + "\n",
    "lines.jsonl.gz": LINES,
    "lines.json": LINES,  # lines under the other name
    "array.jsonl": json.dumps(ROWS, indent=1),  # and the other way round
    "nan.jsonl": LINES.replace("null", "NaN"),
    "nan.json": json.dumps(ROWS).replace("null", "NaN"),
    "table.csv": TABLE,
    "table.tsv": TABLE.replace(",", "\t"),
}


@pytest.mark.parametrize("name", FILES)
def test_every_file_format_gives_the_same_pairs(name, tmp_path):
    corpus = InstructionSet(path=str(written(tmp_path, name, FILES[name])))
    assert corpus.problems("corpus.x") == []
    assert texts(corpus) == WANTED


def test_parquet_and_folders_are_read_in_the_order_of_their_names(tmp_path):
    rows = [{**row, "output": str(row["output"])} for row in ROWS]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "b.parquet")
    (tmp_path / "sub").mkdir()
    written(tmp_path / "sub", "c.jsonl", LINES)
    written(tmp_path, "a.json", json.dumps(ROWS[:1]))
    written(tmp_path, "notes.txt", "none of it")
    pairs = list(InstructionSet(path=str(tmp_path)).pairs("x"))
    assert [pair.id for pair in pairs] == [f"x/{number}" for number in range(7)]
    assert [(pair.instruction, pair.input, pair.output) for pair in pairs] == WANTED[:1] + WANTED + WANTED


def test_the_fingerprint_follows_the_bytes(tmp_path):
    file = written(tmp_path, "a.json", json.dumps(ROWS))
    first = InstructionSet(path=str(file)).fingerprint
    assert InstructionSet(path=str(tmp_path)).fingerprint == first
    written(tmp_path, "a.json", json.dumps(ROWS[:2]))
    assert InstructionSet(path=str(file)).fingerprint != first
    assert InstructionSet(hub="a/b").fingerprint != InstructionSet(hub="a/b", revision="c1").fingerprint


RECORDS = [
    (
        {},
        {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]},
        ((), "Hi", "", "Hello"),
    ),
    (
        {},
        {
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "1+1?"},
                {"role": "assistant", "content": "2"},
                {"role": "user", "content": "And"},
                {"role": "user", "content": "2+2?"},
                {"role": "assistant", "content": "4"},
                {"role": "user", "content": "Thanks"},
            ]
        },
        ((("Be brief.\n\n1+1?", "2"),), "And\n\n2+2?", "", "4"),
    ),
    ({}, {"conversations": [{"from": "gpt", "value": "I was here first"}]}, ((), "", "", "")),
    (
        {"fields": {"instruction": "q", "input": "instances.0.input", "output": "instances.0.output", "skill": "a.b"}},
        {"q": "Sum up.", "instances": [{"input": "Text", "output": "T"}], "a.b": "sums"},
        ((), "Sum up.", "Text", "T"),
    ),
    (
        {"fields": {"instruction": "q", "output": "a", "history": "before"}},
        {"q": "And now?", "a": "Now.", "before": [["Then?", "Then."]]},
        ((("Then?", "Then."),), "And now?", "", "Now."),
    ),
    ({"fields": {"skill": "class"}}, {"instruction": "a", "output": "b", "class": "code"}, ((), "a", "", "b")),
    (
        {},
        {"instruction": "Human:你好\nAssistant:您好！\nHuman: 再见\nAssistant:", "input": "", "output": "再见。"},
        ((("你好", "您好！"),), "再见", "", "再见。"),
    ),
]


@pytest.mark.parametrize(("settings", "record", "wanted"), RECORDS)
def test_every_form_of_record(settings, record, wanted, tmp_path):
    corpus = InstructionSet(path=str(written(tmp_path, "a.json", json.dumps([record]))), **settings)
    (pair,) = corpus.pairs("x")
    assert (pair.history, pair.instruction, pair.input, pair.output) == wanted
    if "skill" in settings.get("fields", {}):
        assert pair.skill in ("sums", "code")


TURNS = [
    ("Human: a\nAssistant: b\nHuman: c\n", ((("a", "b"),), "c")),
    ("Human:a\nAssistant:b\nHuman:c\nAssistant:", ((("a", "b"),), "c")),
    ("Human: a\nmore of a\n\nAssistant: b\n  Human: c\nAssistant: ", ((("a\nmore of a", "b"),), "c")),
    ("Human: a\nAssistant:", ((), "a")),
    ("Is a Human: or an Assistant: meant?", None),  # no line begins with them
    ("Write a dialogue.\nHuman: a\nAssistant: b\nHuman: c", None),  # words before the first turn
    ("Human: a\nHuman: b\nAssistant: c\nHuman: d", None),  # do not alternate
    ("Human: a\nAssistant: b", None),  # no open turn
    ("Assistant: a\nHuman: b", None),
    ("Human: only", None),
]


@pytest.mark.parametrize(("text", "wanted"), TURNS)
def test_turns_are_seen_only_where_both_roles_begin_lines_and_alternate(text, wanted):
    assert turns_in(text) == wanted


def test_ids_language_source_and_licence(tmp_path):
    rows = [
        {"instruction": "a", "output": "b", "n": 5, "lang": "zh-CN"},
        {"instruction": "c", "output": "d", "n": 9, "lang": ""},
    ]
    path = str(written(tmp_path, "a.json", json.dumps(rows)))
    corpus = InstructionSet(path=path, fields={"id": "n", "language": "lang"}, languages="en", licence="MIT")
    assert [(p.id, p.language, p.source, p.licence) for p in corpus.pairs("x")] == [
        ("x/5", "zh", "x", "MIT"),
        ("x/9", "en", "x", "MIT"),
    ]
    assert [pair.language for pair in InstructionSet(path=path, languages="en,zh").pairs("x")] == ["", ""]
    written(tmp_path, "a.json", json.dumps([rows[0], rows[0]]))
    with pytest.raises(DataError, match="record 1: the id '5' has come before"):
        list(corpus.pairs("x"))


def test_limit_and_the_published_number(tmp_path, caplog):
    path = str(written(tmp_path, "a.jsonl", LINES))
    with caplog.at_level(logging.WARNING, "errata"):
        assert len(list(InstructionSet(path=path, rows=5, limit=2).pairs("x"))) == 2
        assert len(list(InstructionSet(path=path, rows=3).pairs("x"))) == 3
        assert caplog.text == ""
        assert len(list(InstructionSet(path=path, rows=5).pairs("x"))) == 3
    assert "holds 3 records, 5 are published" in caplog.text


WRONG = [
    ("a.json", '[{"instruction": "a", "output": "b"}, {"instruction": "a"}]', "record 1: no field 'output'"),
    ("a.json", '[{"instruction": "a", "output": "b"}, 3]', "record 1: expected one JSON object, got '3]'"),
    ("a.json", '[{"instruction": "a", "output": "b"}, {"instruction": "a', "record 1: the file ends within it"),
    ("a.json", '[{"instruction": "a", "output": "b"},', "record 1: the file ends before its array does"),
    ("a.json", '[{"instruction": "a" "output": "b"}' + " " * 99, "record 0: Expecting ',' delimiter, near"),
    ("a.json", '[{"instruction": "a", "output": {"x": 1}}]', "record 0: field 'output' is no text but a dict"),
    ("a.json", '[{"q": "a", "a": "b"}]', "neither instruction, nor conversations, nor messages, but q, a"),
    ("a.json", '[{"conversations": [{"from": "crowd", "value": "b"}]}]', "the role 'crowd' is unknown"),
    ("a.jsonl", '{"instruction": "a", "output": "b"}\n{"instruction"\n', "line 2: expected one JSON object"),
    ("a.jsonl", '{"instruction": "a", "output": "b"}\n\n"text"\n', "line 3: expected one JSON object, got"),
    ("a.json", b'[{"instruction": "\xff", "output": "b"}]', "not UTF-8 text"),
    ("a.csv", "instruction,output\na,b,c\n", "line 2: the row has not as many fields"),
    ("a.parquet", "no parquet", "no parquet file"),
    ("b.json.gz", b"", ""),
]


@pytest.mark.parametrize(("name", "content", "said"), WRONG)
def test_a_wrong_file_names_the_record(name, content, said, tmp_path):
    file = written(tmp_path, name, content)
    if not said:
        file.write_bytes(b"not gzip")
    with pytest.raises(DataError, match=str(file)) as error:
        list(InstructionSet(path=str(file)).pairs("x"))
    assert said in str(error.value)


def test_a_damaged_archive_names_the_file(tmp_path):
    content = bytearray(gzip.compress(b'{"instruction": "Name birds.", "output": "Crow."}\n' * 200))
    content[14:20] = bytes(255 - byte for byte in content[14:20])
    file = tmp_path / "a.jsonl.gz"
    file.write_bytes(bytes(content))
    with pytest.raises(DataError, match=str(file)):
        list(InstructionSet(path=str(file)).pairs("x"))


def test_half_a_surrogate_can_be_written_again(tmp_path):
    for name in ("a.json", "a.jsonl"):
        file = written(tmp_path, name, '{"instruction": "a\\ud83d", "output": "\\ud83d\\ude00 ü"}')
        assert texts(InstructionSet(path=str(file))) == [("a?", "", "😀 ü")]


def test_records_across_the_borders_of_chunks(tmp_path):
    rows = [{"instruction": f"é{'x' * (number * 997 % 5000)}", "output": str(number)} for number in range(1500)]
    rows.insert(3, {"instruction": "long " * _CHUNK, "output": "longer than two chunks"})
    file = written(tmp_path, "a.json", json.dumps(rows, ensure_ascii=False))
    assert file.stat().st_size > 4 * _CHUNK
    assert [record for _, record in read(file)] == rows


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_memory_does_not_grow_with_the_file(name, tmp_path):
    def peak(count):
        with (tmp_path / name).open("w") as file:
            for number in range(count):
                row = json.dumps({"instruction": f"question {number}", "output": "answer " * 100})
                file.write(f"{'[' if number == 0 else ','}{row}\n" if name == "a.json" else f"{row}\n")
            file.write("]" if name == "a.json" else "")
        tracemalloc.start()
        try:
            assert sum(1 for _ in InstructionSet(path=str(tmp_path / name)).pairs("x")) == count
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    small, large = peak(4_000), peak(20_000)
    assert (tmp_path / name).stat().st_size > 14 << 20
    assert large < small + (1 << 20) < 10 << 20


PROBLEMS = [
    ({}, "corpus.x is not at hand: set corpus.x.path=FILE_OR_FOLDER, or corpus.x.hub=ID"),
    ({"path": "/nowhere/a.json"}, "no such file"),
    ({"hub": "a/b", "format": "alpacca"}, "choose auto, alpaca, sharegpt, messages, fields"),
    ({"hub": "a/b", "fields": {"question": "q"}}, "names question: it may name id, instruction"),
    ({"hub": "a/b", "format": "fields"}, "set corpus.x.fields.instruction=FIELD"),
    ({"hub": "a/b", "limit": 0}, "corpus.x.limit is 0"),
]


@pytest.mark.parametrize(("settings", "said"), PROBLEMS)
def test_problems_say_the_remedy(settings, said):
    (problem,) = InstructionSet(**settings).problems("corpus.x")
    assert said in problem


def test_a_first_record_of_another_form_is_a_problem(tmp_path):
    path = str(written(tmp_path, "a.json", json.dumps([{"text": "a"}])))
    (problem,) = InstructionSet(path=path, fields={"instruction": "question"}).problems("corpus.x")
    assert "corpus.x: " in problem
    assert "no field 'question'; the record has text" in problem


def test_the_hub_is_read_as_local_files_are(tmp_path, monkeypatch):
    from fsspec.implementations.dirfs import DirFileSystem

    folder = tmp_path / "datasets" / "me" / "set@v1" / "part"
    folder.mkdir(parents=True)
    written(folder, "b.jsonl", LINES)
    written(folder, "a.json", json.dumps(ROWS))
    written(folder, "readme.md", "no data")
    monkeypatch.setattr("huggingface_hub.HfFileSystem", lambda: DirFileSystem(str(tmp_path)))
    corpus = InstructionSet(hub="me/set", hub_files="part/*", revision="v1")
    assert texts(corpus) == WANTED + WANTED
    assert corpus.location == "hub: me/set, part/*"
    with pytest.raises(DataError, match="the hub has no such"):
        list(InstructionSet(hub="me/set", hub_files="other/*", revision="v1").pairs("x"))


def test_a_set_as_the_hub_declares_it(monkeypatch):
    def load_dataset(name, **settings):
        assert (name, settings) == ("me/set", {"split": "train_sft", "revision": None, "streaming": True})
        return iter(ROWS)

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    assert texts(InstructionSet(hub="me/set", hub_split="train_sft")) == WANTED


def built(file):
    (name,) = OmegaConf.load(file)
    assert name == file.stem
    return build(OmegaConf.load(file)[name], f"{file.parent.name}.{name}")


OPTIONS = sorted([*(config_folder() / "corpus").glob("*.yaml"), *(config_folder() / "testset").glob("*.yaml")])
NO_COUNT = {
    "file", "hub", "stack_llama", "alpaca_cleaned", "belle", "belle_1_5m", "multiturn_chat", "cot_chinese",
    "alpaca_belle", "alpaca_cot", "alpaca_belle_cot",
}  # fmt: skip
NOT_TO_BE_HAD = {
    "file", "hub", "expert_revisions", "expert_revisions_revised", "coachlm150", "vicuna80", "koala180", "wizardlm218",
    "self_instruct252", "lima300", "pandalm170", "belle_eval", "mmcu",
}  # fmt: skip


@pytest.mark.parametrize("file", OPTIONS, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_every_option_builds_and_says_what_it_is(file):
    corpus, name = built(file), f"{file.parent.name}.{file.stem}"
    if not isinstance(corpus, InstructionSet):
        pytest.skip("another corpus, tested with it")
    assert (corpus.rows is None) == (file.stem in NO_COUNT)
    assert corpus.licence or file.stem in ("file", "hub")
    assert corpus.languages or file.stem in ("file", "hub")
    assert (corpus.location == "not at hand") == (file.stem in NOT_TO_BE_HAD)
    assert all("is not at hand" in problem for problem in corpus.problems(name))
    assert file.read_text().startswith("# ")
    assert "\n#   errata " in file.read_text()
    assert f"{int(corpus.rows or 0):,}" in file.read_text() or corpus.rows is None or "ecycled" in file.stem
    settings = OmegaConf.load(file)[file.stem]
    assert set(settings) - {"_target_"} == set(InstructionSet.__dataclass_fields__)


@real
def test_coachlms_pairs_before_and_after():
    raw = InstructionSet(**settings("corpus", "expert_revisions"), path=str(REAL / "expert_revisions.json"))
    revised = InstructionSet(**settings("corpus", "expert_revisions_revised"), path=str(REAL / "expert_revisions.json"))
    before, after = list(raw.pairs("raw")), list(revised.pairs("revised"))
    assert len(before) == len(after) == 2301
    assert sum(b.output != a.output for b, a in zip(before, after, strict=True)) == 2278  # counted on the source's file
    changed = sum((b.instruction, b.input) != (a.instruction, a.input) for b, a in zip(before, after, strict=True))
    assert changed == 671
    assert sum(not pair.instruction for pair in before) == 2


@real
def test_coachlm150_has_its_references(caplog):
    testset = InstructionSet(**settings("testset", "coachlm150"), path=str(REAL / "coachlm150.json"))
    assert testset.problems("testset.coachlm150") == []
    pairs = list(testset.pairs("coachlm150"))
    assert len(pairs) == 150
    assert all(pair.instruction and pair.output for pair in pairs)
    assert sum(not pair.input for pair in pairs) == 64
    assert caplog.text == ""


def settings(group, name):
    node = OmegaConf.load(config_folder() / group / f"{name}.yaml")[name]
    return {key: OmegaConf.to_container(node)[key] for key in node if key not in ("_target_", "path")}


ITEMS = {
    "mmcu": ({"类别": "心理", "题目": "哪一项？", "选项": "A:家庭\nB:大学", "答案": "B"}, ("心理", "哪一项？", "A:家庭\nB:大学", "B")),
    "belle_eval": ({"question": "写诗", "std_answer": "", "class": "generation"}, ("generation", "写诗", "", "")),
    "vicuna80": ({"question_id": 1, "text": "Why?", "category": "generic"}, ("generic", "Why?", "", "")),
    "koala180": ({"id": "koala_1", "prompt": "Why?"}, ("", "Why?", "", "")),
    "wizardlm218": ({"idx": 1, "Instruction": "Why?"}, ("", "Why?", "", "")),
    "lima300": ({"conversations": "Why?"}, ("", "Why?", "", "")),
    "pandalm170": ({"motivation_app": "Jira", "instruction": "Why?", "input": float("nan")}, ("Jira", "Why?", "", "")),
    "alpaca_eval805": ({"instruction": "Why?", "output": "So.", "generator": "g", "dataset": "koala"}, ("koala", "Why?", "", "So.")),
    "self_instruct252": (
        {"id": "t_0", "motivation_app": "Gmail", "instruction": "Write.", "instances": [{"input": "to Bo", "output": "Hi"}]},
        ("Gmail", "Write.", "to Bo", "Hi"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ITEMS)
def test_each_test_set_reads_an_item_of_its_form(name, tmp_path):
    record, wanted = ITEMS[name]
    testset = InstructionSet(**{**settings("testset", name), "path": str(written(tmp_path, "a.json", json.dumps([record])))})
    (pair,) = testset.pairs(name)
    assert (pair.skill, pair.instruction, pair.input, pair.output) == wanted
