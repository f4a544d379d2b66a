"""Every command in README.md, docs/ and benchmarks/ is one: it composes, or its arguments are accepted; pages link to each other."""

import argparse
import importlib
import re
from functools import cache
from itertools import zip_longest

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from errata import cli, reference
from errata.config import config_folder, register
from tests.docs_blocks import PAGES, ROOT, commands, mentions

LINES = {page: [*commands(page), *mentions(page)] for page in PAGES}
ALL = [line for lines in LINES.values() for line in lines]
OWN_FOLDER = "--config-dir"  # parts of the reader's own: tests/test_docs_extending.py runs these


@pytest.fixture(scope="module", autouse=True)
def hydra_ready():
    register()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        yield


class Accepted(Exception):  # noqa: N818
    """The arguments were read; the command itself is not to be run."""


def cells(overrides):
    """Overrides of single runs that between them have every value of a sweep."""
    parsed = OverridesParser.create().parse_overrides(overrides)
    values = [
        [f"{one.get_key_element()}={value}" for value in one.sweep_string_iterator()] if one.is_sweep_override() else [text]
        for one, text in zip(parsed, overrides, strict=True)
    ]
    return [
        [cell or options[0] for cell, options in zip(chosen, values, strict=True)] for chosen in zip_longest(*values)
    ] or [[]]


def fault(line):
    """What is wrong with a command, or None."""
    program, *words = line.words
    if program == "make":
        targets = re.findall(r"^(\w[\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        return next((f"make has no target {word}" for word in words if "=" not in word and word not in targets), None)
    if not words or words[0].startswith("-") or words[0] == "COMMAND" or OWN_FOLDER in words:
        return None
    command, *rest = words
    if command not in cli._COMMANDS:
        return f"there is no command {command}"
    found = (fault_of_configured if command in cli._CONFIGURED else fault_of_stored)(command, tuple(rest))
    return None if line.in_passing and found and ("are required" in found or "..." in line.text) else found


@cache
def fault_of_configured(command, words):
    if "--help" in words:
        return None
    groups = {path.name for path in config_folder().iterdir() if path.is_dir()}
    overrides = [
        cli._opened(word)
        for word in words
        if "=" in word and not (word.partition("=")[0] in groups and word.partition("=")[2].isupper())  # strategy=NAME
    ]
    strange = [word for word in words if "=" not in word and word not in ("-m", "--multirun", "--cfg", "job")]
    if strange:
        return f"{strange[0]!r} is no override"
    sweep = "-m" in words or "--multirun" in words
    try:
        for cell in cells(overrides) if sweep else [overrides]:
            compose(command, overrides=cell)
    except (HydraException, OmegaConfBaseException) as error:
        return " ".join(str(error).split())[:300]
    return None


def fault_of_stored(command, words):
    parse = argparse.ArgumentParser.parse_args

    def accept(self, arguments=None, namespace=None):
        parse(self, arguments, namespace)
        raise Accepted

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", accept)
        patch.setattr(argparse.ArgumentParser, "error", lambda self, message: (_ for _ in ()).throw(ValueError(message)))
        try:
            importlib.import_module(f"errata.{command}_command").run(words)
        except Accepted:
            return None
        except ValueError as error:
            return str(error)
        except SystemExit:  # --help
            return None
    return "it read no arguments"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_command_that_is_shown_is_one(page):
    faults = [f"{line.place}: {line.text}\n    {found}" for line in LINES[page] if (found := fault(line))]
    assert not faults, "\n".join(["", *faults])


def test_the_commands_are_found():
    shown = {line.words[1] for line in ALL if len(line.words) > 1}
    assert set(cli._COMMANDS) <= shown, "a command that no page shows"
    assert len(ALL) > 150


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("errata improve dataset.arithmetic.tain=3", "tain"), ("errata improve strategy=lee", "lee"), ("errata imprve", "imprve"),
        ("errata improve -m seed=0,1 polcy=restart", "polcy"), ("errata report --agianst x outputs/RUN", "agianst"),
        ("make dmo", "dmo"), ("errata train data rows.jsonl", "data"), ("errata ledger shw", "shw"),
        ("errata improve seed=0,1", "seed"), ("errata improve training.launch=[srun,--nodes=2]", "--nodes"),
    ],
)  # fmt: skip
def test_a_command_that_is_wrong_is_noticed(command, said, tmp_path, monkeypatch):
    page = tmp_path / "docs" / "wrong.md"
    page.parent.mkdir()
    page.write_text(f"# Wrong\n\n```\n{command}      # a wrong one\n```\n")
    monkeypatch.setattr("tests.docs_blocks.ROOT", tmp_path)
    (line,) = commands(page)
    assert line.place == "docs/wrong.md:4"
    assert said in (fault(line) or "")


def test_the_configuration_reference_is_up_to_date():
    assert reference.unexplained() == [], "settings without a line in the Attributes of their docstrings"
    written = ROOT / "docs" / "configuration.md"
    assert written.is_file() and written.read_text() == reference.reference(), "run `python -m errata.reference`"


@pytest.mark.parametrize(
    "row",
    [
        "| `iterations` | integer | 2 |  | rounds of the loop |",  # the command's file says 2, the class 1
        "| `training.micro_batch_size` | integer | 8 | yes | most rows in one forward pass, where rows are padded |",
        "| `training.learning_rate` | number | required |",
        "| `instructor.flaw_rate` | number | 0.2 |  | share of requests that meet a flaw, 0 to 1 |",
        "| `reviser.filters.labels` | true or false | true |",
        "| `k1` | MiniLM, 1 neighbour of each error. | `k=1`",
    ],
)
def test_the_configuration_reference_says(row):
    assert row in (ROOT / "docs" / "configuration.md").read_text()


def test_a_meaning_is_found_in_a_class_and_its_bases():
    class Base:
        """A base.

        Attributes:
            a, b: two things,
                on two lines.
            c: a third: with None.
        """

    class Derived(Base):
        """A class.

        Attributes:
            b: its own.
        """

    said = {"a": "two things, on two lines", "b": "its own", "c": "a third: with null"}
    assert reference.meanings(Derived) == said
    assert reference.meanings(Base)["b"] == "see `a`"


def anchors(page):
    """The headings of a page as GitHub links to them."""
    heads = re.findall(
        r"^#+ (.+)$", re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL), re.MULTILINE
    )
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    broken = []
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", text):
        name, _, anchor = target.partition("#")
        there = (page.parent / name) if name else page
        if not there.exists() or (anchor and anchor not in anchors(there)):
            broken.append(target)
    assert not broken


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_table_has_a_head_and_rows_of_one_length(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        head, *rows = table.rstrip("\n").split("\n")
        assert rows and re.fullmatch(r"\|( ?:?-+:? ?\|)+", rows[0]), head
        assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {head.count("|")}, head


def test_every_option_is_on_a_page_that_explains():
    listed = {"configuration.md", "experiments.md"}
    text = "".join(page.read_text() for page in PAGES if page.name not in listed)
    missing = [
        f"{option.parent.name}={option.stem}"
        for option in (ROOT / "conf").glob("*/*.yaml")
        if option.parent.name not in ("corpus", "experiments", "sweeps") and not re.search(rf"\b{option.stem}\b", text)
    ]
    assert not missing


def test_the_readme_lists_every_page():
    readme = (ROOT / "README.md").read_text()
    assert [page.name for page in (ROOT / "docs").glob("*.md") if f"docs/{page.name}" not in readme] == []
