"""The chain-of-thought corpus: rows read both ways, templates, settings, and the real tables where they are at hand."""

import json
import os
import tracemalloc
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from errata.corpus.cot import PUBLISHED, CoT
from errata.corpus.cot_table import read_rows
from errata.corpus.cot_templates import Template, load_templates
from errata.errors import ConfigError, DataError
from errata.setup import build, result_changing

REAL = Path(os.environ.get("ERRATA_DATA", Path(__file__).parents[3] / "shared" / "data")) / "alpaca_cot"
CONF = Path(__file__).parents[2] / "conf" / "corpus"
real = pytest.mark.skipif(not REAL.is_dir(), reason="the real tables are not beside this checkout (ERRATA_DATA)")

QASC = r"What comes from reproduction?\nOptions:\n- (A) babies\n- (B) protein" + "\t(A)\tLiving things reproduce."
CREAK = r'"Marlboro used iconic imagery to promote its brand."\nIs the above claim true?' + "\tyes\tIt used cowboys."
SENSE = r'Which is odd?\nOptions:\n- Sentence A: "He drinks milk."\n- Sentence B: "He drinks."\n' + "\tSentence A\tOdd."


def table(folder, name, *lines, end="\n"):
    file = folder / f"{name}_train.tsv"
    file.write_bytes("".join(line + end for line in lines).encode())
    return file


def pairs(path, **settings):
    corpus = CoT(path=str(path), **settings)
    assert corpus.problems("corpus.cot") == []
    return list(corpus.pairs("cot"))


@pytest.mark.parametrize(
    ("line", "clean", "legacy"),
    [
        (QASC, "What comes from reproduction?\nOptions:\n- (A) babies\n- (B) protein", QASC.split("\t")[0]),
        # csv takes a field's leading quotation mark for a quote: both marks are lost there
        (
            CREAK,
            '"Marlboro used iconic imagery to promote its brand."\nIs the above claim true?',
            r"Marlboro used iconic imagery to promote its brand.\nIs the above claim true?",
        ),
        # ... but not where other text comes first
        ('Claim: "Ice is wet."\tno\tIt is dry.', 'Claim: "Ice is wet."', 'Claim: "Ice is wet."'),
        # the empty line at the end goes
        (SENSE, SENSE.split("\t")[0].removesuffix(r"\n").replace(r"\n", "\n"), SENSE.split("\t")[0]),
        # no escape but \n is one: LaTeX and lone backslashes stay, and so does a backslash before a line break
        (r"so\n\therefore x = \70\\nand \ y" + "\t1\tr", "so\n\\therefore x = \\70\\\nand \\ y", r"so\n\therefore x = \70\\nand \ y"),
        ("Total = {M} + {N} - {}{{x}\t{A}\t{answer} {question}", "Total = {M} + {N} - {}{{x}", "Total = {M} + {N} - {}{{x}"),
        ("a\u2028b\u0085c\td\te", "a\u2028b\u0085c", "a\u2028b\u0085c"),
        (" padded \t (A) \t r ", "padded", " padded "),
    ],
)  # fmt: skip
def test_a_row_is_read_clean_or_as_the_source_reads_it(tmp_path, line, clean, legacy):
    file = table(tmp_path, "qasc", line)
    assert [row[0] for row in read_rows(file, legacy=False)] == [clean]
    assert [row[0] for row in read_rows(file, legacy=True)] == [legacy]


def test_a_record_is_its_row_in_one_of_the_templates_braces_and_all(tmp_path):
    table(tmp_path, "aqua", r"Total = {M} + {N}?\nOptions:\n(A) {x}" + "\t(A)\t{Total} = {chain_of_thought}")
    (pair,) = pairs(tmp_path)
    number = int(pair.template.removeprefix("aqua/"))
    form = json.loads((Path(__file__).parents[2] / "src/errata/corpus/templates/aqua.json").read_text())[number]
    assert pair.instruction == form["question"].replace("{question}", "Total = {M} + {N}?\nOptions:\n(A) {x}")
    before, _, rest = form["answer"].partition("{chain_of_thought}")
    assert pair.output == before + "{Total} = {chain_of_thought}" + rest.replace("{answer}", "(A)")
    assert (pair.id, pair.input, pair.skill, pair.source, pair.language) == ("cot/aqua/0", "", "aqua", "cot", "en")
    assert pair.licence.startswith("ODC-By")


def test_the_template_depends_on_seed_set_and_row_alone(tmp_path):
    rows = [f"question {n}\tyes\treason {n}" for n in range(400)]
    for name in ("creak", "strategyqa"):
        table(tmp_path, name, *rows)
    whole = {pair.id: pair for pair in pairs(tmp_path)}
    assert list(whole)[:2] == ["cot/creak/0", "cot/creak/1"] and len(whole) == 800
    alike = sum(whole[f"cot/creak/{n}"].template[-1] == whole[f"cot/strategyqa/{n}"].template[-1] for n in range(400))
    assert 0.05 < alike / 400 < 0.2  # one set's draw says nothing of another's
    cut = pairs(tmp_path, sets=["strategyqa", "creak"], limit_per_set=7)
    assert [pair.id for pair in cut][6:8] == ["cot/strategyqa/6", "cot/creak/0"] and len(cut) == 14
    assert all(whole[pair.id] == pair for pair in cut)
    alone = pairs(tmp_path / "strategyqa_train.tsv")
    assert all(whole[pair.id] == pair for pair in alone)
    other = {pair.id: pair.template for pair in pairs(tmp_path, seed=1)}
    assert 0.05 < sum(other[name] == pair.template for name, pair in whole.items()) / 800 < 0.2  # one in ten by chance
    drawn = Counter(pair.template for pair in whole.values())
    assert len(drawn) == 20 and min(drawn.values()) > 15


def test_a_row_that_lacks_a_text_is_an_empty_record_in_clean_mode(tmp_path):
    table(tmp_path, "creak", "\tyes\tr", "q\t \tr", r"q" + "\tyes\t" + r"\n", "", "q\tyes\tr")
    made = pairs(tmp_path)
    assert [(bool(pair.instruction), bool(pair.output)) for pair in made] == [
        (False, True), (True, False), (True, False), (True, True),
    ]  # fmt: skip
    assert made[-1].id == "cot/creak/3"  # an empty line is no row


def test_windows_line_ends_and_a_byte_order_mark_are_no_text(tmp_path):
    file = table(tmp_path, "creak", "\ufeffq\tno\tr", "q2\tyes\tr2", end="\r\n")
    for legacy in (False, True):
        assert list(read_rows(file, legacy)) == [("q", "no", "r"), ("q2", "yes", "r2")]
    file.write_bytes(b"q\r1\tno\tr\n")  # within a line it is text
    assert list(read_rows(file, legacy=False)) == [("q\r1", "no", "r")]


@pytest.mark.parametrize(
    ("lines", "mode", "said"),
    [
        (["q\ta\tr", "q\ta"], "clean", ["creak_train.tsv, line 2", "three columns", "found 2: 'q\\ta'", "leave it out."]),
        (["q\ta\tr\tx"], "clean", ["line 1", "found 4"]),
        (["q\ta\tr", '"q\ta\tr', "q\ta\tr"], "legacy", ["line 3", "found 1", "mode=clean"]),  # the quote never closes
        (['"' + "x" * 140_000], "legacy", ["behind line 0", "field limit", "mode=clean"]),
    ],
)
def test_a_line_without_three_columns_is_named(tmp_path, lines, mode, said):
    table(tmp_path, "creak", *lines)
    with pytest.raises(DataError) as caught:
        pairs(tmp_path, mode=mode)
    for words in said:
        assert words in str(caught.value)


def test_a_table_that_is_not_utf8_is_named(tmp_path):
    (tmp_path / "creak_train.tsv").write_bytes(b"q\ta\tr\n\xff\ta\tr\n")
    for mode in ("clean", "legacy"):
        with pytest.raises(DataError, match=r"creak_train\.tsv: not UTF-8"):
            pairs(tmp_path, mode=mode)


def test_rows_are_not_held_in_memory(tmp_path):
    table(tmp_path, "creak", *(f"question {n} {'x' * 400}\tyes\treason" for n in range(6_000)))
    corpus = CoT(path=str(tmp_path), limit_per_set=6_000)
    for mode in ("clean", "legacy"):
        corpus.mode = mode
        list(islice(corpus.pairs("cot"), 5))
        tracemalloc.start()
        assert sum(1 for _ in corpus.pairs("cot")) == 6_000
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 500_000  # the table has 2.6 MB


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"path": None}, "corpus.cot.path is not set"),
        ({"path": "/nowhere"}, "/nowhere: no such file or folder"),
        ({"path": "."}, "holds no SET_train.tsv; SET is one of aqua, creak"),
        ({"sets": ["gms8k"]}, "Did you mean gsm8k?"),
        ({"sets": ["qasc", "esnli"]}, "holds no esnli_train.tsv; choose among qasc"),
        ({"mode": "raw"}, "corpus.cot.mode is 'raw': choose clean or legacy"),
        ({"limit_per_set": 0}, "limit_per_set is 0"),
        ({"templates": "/nowhere"}, "/nowhere: no such folder or file"),
        ({"templates": "."}, "qasc.json: no such file"),
    ],
)
def test_wrong_settings_are_problems_with_the_remedy(tmp_path, monkeypatch, settings, said):
    monkeypatch.chdir(tmp_path / ".." if settings.get("path") == "." else tmp_path)
    table(tmp_path, "qasc", QASC)
    problems = CoT(**{"path": str(tmp_path), **settings}).problems("corpus.cot")
    assert len(problems) == 1 and said in problems[0]


def test_one_table_needs_to_say_which_set_it_is(tmp_path):
    table(tmp_path, "qasc", QASC).rename(tmp_path / "mine.tsv")
    assert "say which set it is with sets=[SET]" in CoT(path=str(tmp_path / "mine.tsv")).problems("corpus.cot")[0]
    assert [pair.skill for pair in pairs(tmp_path / "mine.tsv", sets=["qasc"])] == ["qasc"]
    table(tmp_path, "qasc", QASC)
    assert CoT(path=str(tmp_path / "qasc_train.tsv"), sets=["aqua"]).problems("corpus.cot")  # its name says otherwise


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"question": "Q?", "answer": "{chain_of_thought} {answer}"}, "question lacks {question}"),
        ({"question": "{question}", "answer": "{answer}"}, "answer lacks {chain_of_thought}"),
        ({"question": "{question} {answer}", "answer": "{chain_of_thought} {answer}"}, "question has {answer}"),
        ({"question": "{question} {hint}", "answer": "{chain_of_thought} {answer}"}, "has {hint}; it is filled with {question} only"),
        ({"question": "{question.__class__}", "answer": "{chain_of_thought} {answer}"}, "has {question.__class__}"),
        ({"question": "{question} {question:>9}", "answer": "{chain_of_thought} {answer}"}, "has {question};"),
        ({"question": "{question} {", "answer": "{chain_of_thought} {answer}"}, "write literal braces as {{ and }}"),
        ({"question": "{question}"}, "its answer is None"),
    ],
)  # fmt: skip
def test_a_template_that_cannot_be_filled_is_named_by_file_and_number(tmp_path, form, said):
    good = {"question": "{question}", "answer": "{chain_of_thought} {answer}"}
    (tmp_path / "qasc.json").write_text(json.dumps([good, form]))
    with pytest.raises(ConfigError) as caught:
        load_templates(["qasc"], str(tmp_path))
    assert "qasc.json, template qasc/1: " in str(caught.value) and said in str(caught.value)


@pytest.mark.parametrize("content", ["{}", "[]", "[1]", "nonsense", '["{question}"]'])
def test_a_template_file_of_another_shape_is_refused(tmp_path, content):
    (tmp_path / "qasc.json").write_text(content)
    with pytest.raises(ConfigError, match=r"qasc\.json: (expected a list|not a JSON file)"):
        load_templates(["qasc"], str(tmp_path))


def test_the_users_templates_keep_literal_braces(tmp_path):
    table(tmp_path, "qasc", QASC)
    (tmp_path / "qasc.json").write_text(
        '[{"question": "{{q}} {question}", "answer": "{chain_of_thought} \\\\boxed{{{answer}}}"}]'
    )
    (pair,) = pairs(tmp_path, templates=str(tmp_path))
    assert pair.instruction.startswith("{q} What comes") and pair.output == r"Living things reproduce. \boxed{(A)}"
    assert pair.template == "qasc/0"


PYTHON = """
import json
COUNTS = {"qasc": 10, "creak": [1, 2]}
patterns = {
    "qasc": [("{question} So:", "{chain_of_thought}\\nIt is "
              "{answer}."), ("Task: {question}", "{chain_of_thought} {answer}")],
    "other": make(),
    "cot_creak": [("C {question}", "{chain_of_thought} {answer}")],
    "creak": [("{premise}", "{answer}")],
}
raise SystemExit("this file was run")
"""


def test_a_python_file_like_the_sources_is_read_without_being_run(tmp_path):
    file = tmp_path / "formating.py"
    file.write_text(PYTHON)
    loaded = load_templates(["creak", "qasc"], str(file))
    assert loaded["qasc"][0] == Template("qasc/0", "{question} So:", "{chain_of_thought}\nIt is {answer}.")
    assert [form.question for form in loaded["creak"]] == ["C {question}"]  # FLAN's names come first
    with pytest.raises(ConfigError, match=r"formating\.py: holds no list .* under 'aqua' or 'cot_aqua'"):
        load_templates(["aqua", "qasc"], str(file))
    file.write_text("templates = {")
    with pytest.raises(ConfigError, match="cannot be read as Python"):
        load_templates(["qasc"], str(file))


def test_every_set_has_templates_of_ours_in_which_the_rationale_comes_first():
    for name, forms in load_templates(PUBLISHED).items():
        assert len(forms) >= 8 and len({form.question for form in forms}) == len({form.answer for form in forms}) == len(
            forms
        )
        for form in forms:
            assert form.answer.index("{chain_of_thought}") < form.answer.index("{answer}"), name
            assert form.question == form.question.strip() and form.answer == form.answer.strip()


def test_the_fingerprint_names_tables_and_templates(tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    for folder in (first, second):
        folder.mkdir()
        table(folder, "qasc", QASC)
        (folder / "qasc.json").write_text('[{"question": "{question}", "answer": "{chain_of_thought} {answer}"}]')
    mine = CoT(path=str(first), templates=str(first))
    before = mine.fingerprint
    assert CoT(path=str(second), templates=str(second)).fingerprint == before
    assert CoT(path=str(first)).fingerprint != before
    (first / "qasc.json").write_text('[{"question": "Q {question}", "answer": "{chain_of_thought} {answer}"}]')
    changed = mine.fingerprint
    table(first, "qasc", QASC, QASC)
    assert len({before, changed, mine.fingerprint}) == 3


def test_the_published_counts_add_up():
    assert sum(PUBLISHED.values()) == CoT().rows == 74_771
    assert CoT(sets=["aqua", "qasc"]).rows == 3_812
    assert result_changing(CoT(sets=["aqua"])) == result_changing(CoT(sets=["aqua"], rows=5))


def test_another_number_of_rows_than_published_is_said_once(tmp_path, caplog):
    table(tmp_path, "qasc", QASC)
    pairs(tmp_path, limit_per_set=1)
    assert "published" not in caplog.text
    pairs(tmp_path)
    assert caplog.text.count("has 1 rows, the published qasc has 1084") == 1


@pytest.mark.parametrize("option", ["cot", "cot_legacy"])
def test_the_options_name_every_setting_with_its_default(option):
    node = OmegaConf.load(CONF / f"{option}.yaml")[option]
    assert set(node) - {"_target_"} == set(CoT.__dataclass_fields__)
    built = build(node, f"corpus.{option}")
    assert built == CoT(mode="legacy" if option == "cot_legacy" else "clean") and built.rows == 74_771
    assert "path is not set" in built.problems(f"corpus.{option}")[0]


@real
@pytest.mark.parametrize(("name", "count"), [("aqua", 2728), ("creak", 6915), ("gsm8k", 7473), ("qasc", 1084)])
def test_the_real_tables_have_their_counts_in_both_modes(name, count):
    for mode in ("clean", "legacy"):
        ids = {pair.id for pair in pairs(REAL, sets=[name], mode=mode)}
        assert len(ids) == count == PUBLISHED[name]


@real
@pytest.mark.parametrize(("name", "altered"), [("aqua", 0), ("creak", 975), ("gsm8k", 0), ("qasc", 0)])
def test_the_sources_quoting_alters_as_many_real_rows_as_were_counted(name, altered):
    file = REAL / f"{name}_train.tsv"
    plain = [tuple(line.split("\t")) for line in file.read_text().split("\n") if line]
    quoted = list(read_rows(file, legacy=True))
    changed = [(a, b) for a, b in zip(plain, quoted, strict=True) if a != b]
    assert len(changed) == altered
    assert all(a[0].replace('"', "") == b[0].replace('"', "") and a[1:] == b[1:] for a, b in changed)


@real
@pytest.mark.parametrize(
    ("name", "prompts", "outputs"), [("aqua", 2728, 1668), ("creak", 6915, 0), ("gsm8k", 0, 0), ("qasc", 1084, 0)]
)
def test_literal_line_breaks_are_the_legacy_modes_only(name, prompts, outputs):
    legacy = pairs(REAL, sets=[name], mode="legacy")
    assert (sum(r"\n" in pair.instruction for pair in legacy), sum(r"\n" in pair.output for pair in legacy)) == (
        prompts,
        outputs,
    )
    clean = pairs(REAL, sets=[name])
    assert not any(r"\n" in pair.instruction + pair.output for pair in clean)
    assert all(pair.instruction and pair.output for pair in clean)
    assert [pair.template for pair in clean] == [pair.template for pair in legacy]


@real
@pytest.mark.parametrize("mode", ["clean", "legacy"])
def test_every_real_record_is_its_row_in_the_template_it_names(mode):
    forms = {form.id: form for name in ("aqua", "qasc") for form in load_templates([name])[name]}
    for name in ("aqua", "qasc"):
        rows = read_rows(REAL / f"{name}_train.tsv", mode == "legacy")
        for row, pair in zip(rows, pairs(REAL, sets=[name], mode=mode), strict=True):
            assert forms[pair.template].fill(*row) == (pair.instruction, pair.output)
