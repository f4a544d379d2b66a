"""Each published row that Errata can express has its experiment: its head prints the row, and its command composes.

A head's `# Row: TABLE/ROW` is what a run of the experiment stands beside. `# Rows: TABLE` begins a list of rows that differ
in a few settings: `#   ROW: VALUES | OVERRIDES`.
"""

import json
import re
from collections import Counter
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from errata.config import config_folder, register
from errata.report.published import row, tables
from errata.setup import check
from errata.smoke.files import rating_run, revisions_of

ROOT = Path(__file__).parents[1]
HEADS = {
    file.stem: [line[2:] for line in file.read_text().split("\n") if line.startswith("# ")]
    for file in sorted((ROOT / "experiments").glob("*.yaml"))
}
DOCS = (ROOT / "docs/experiments.md").read_text()
NUMBER = re.compile(r"(?<![\w.+-])\d+(?:\.\d+)?(?!\w|\.\d)")
NEEDS = {  # what each command's user has to give, as the placeholders of the fixture
    "alpaca_cot_without_cn": ["corpus.cot.path=cot"],
    "alpaca_cot": ["corpus.cot.path=cot"],
    "coachlm_coach": ["revisions=pairs.jsonl"],
    "coachlm_revise": ["reviser.folder=coach"],
    "coachlm_quality": ["answers=revised"],
    "coachlm_human": ["reviser.revisions=revisions_of_corpora.json"],
    "coachlm_alpagasus": ["reviser.ratings=rated"],
    "coachlm_table": ["instructor.model=m"],
    "lai_others": ["model.path=org/name"],
    "reflection_pairwise": ["against=answers"],
}
FAST = ("alpaca_cot_belle", "lai_others")  # lists whose every row is composed among the fast tests
OTHERS = {  # rows that no experiment reaches: docs/experiments.md says why
    "alpaca_cot/table_2": {"Ours"},
    "alpaca_cot/table_3": {"Ours"},
    "alpaca_cot/table_6": {"base"},  # Bloom of tables 2 and 3
    "alpaca_cot/table_7": {"base"},
    "alpaca_cot/figure_3": {"llama", "extended/0B", "extended/20B", "extended/100B"},
    "llms_as_instructors/merge": {"Mistral-7b-Instruct-v0.2/LE", "Mistral-7b-Instruct-v0.2/LEC"},  # of the main table
    "reflection_tuning/alpaca_eval": {
        "GPT4", "Claude 2", "ChatGPT", "Evo v2 7B", "XwinLM 7B V0.1", "OpenChat V2 13B", "Humpback LLaMA 65B", "UltraLM 13B V2",
        "GPT-3.5", "UltraLM 13B", "Claude2 Alpaca 13B", "WizardLM 13B", "Guanaco 65B", "Vicuna 7B", "Davinci003", "LIMA 7B",
    },
    "reflection_tuning/human_study": {"sRecycled WizardLM 7B"},
    "reflection_tuning/data_statistics": set(tables()["reflection_tuning/data_statistics"].rows),
}  # fmt: skip


def listed():
    """(experiment, row, the text that prints it, overrides) of every row that a head names."""
    found = []
    for name, head in HEADS.items():
        text, place = " ".join(head), ""
        for line in head:
            if line.startswith("Row: "):
                found.append((name, line.removeprefix("Row: "), text, ""))
            if line.startswith("Rows: "):
                place = line.removeprefix("Rows: ")
            elif place and (one := re.fullmatch(r"  (.+?): ([\d. /]+?)(?: \| (.+))?", line)):
                found.append((name, f"{place}/{one[1]}", one[2], one[3] or ""))
            elif not line.startswith("  "):
                place = ""
    return found


ROWS = listed()


@pytest.fixture(scope="module", autouse=True)
def place(tmp_path_factory):
    """A folder with a placeholder of everything that a command asks for."""
    folder = tmp_path_factory.mktemp("place")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("OPENAI_API_KEY", "sk-test")
        patch.setenv("VLLM_API_KEY", "sk-test")
        patch.setattr("errata.dataset.lm_eval.LMEval.problems", lambda _: [])  # reads thousands of the harness's task files
        for name in ("prompts", "cot", "answers", "revised/revise", "coach"):
            (folder / name).mkdir(parents=True)
        (folder / "cot/aqua_train.tsv").write_text("q\t(A)\tr\n")
        (folder / "pairs.jsonl").write_text('{"prompt": "a", "response": "b"}\n')
        (folder / "template.jinja").write_text((ROOT / "src/errata/templates/alpaca.jinja").read_text())
        item = {
            **dict.fromkeys(("instruction", "Instruction", "text", "question", "题目"), "a"),
            **dict.fromkeys(("input", "选项", "output", "std_answer", "答案", "reference response"), "b"),
            **dict.fromkeys(("category", "class", "类别", "motivation_app", "dataset"), "c"),
            "instances": [{"input": "", "output": "b"}],
            **{"question_id": 1, "turns": ["a", "b"]},
        }
        (folder / "items.json").write_text(json.dumps([item]))
        (folder / "revised/revise/revisions.jsonl").write_text("{}\n")
        for name in ("adapter_model.safetensors", "adapter_config.json"):
            (folder / "coach" / name).write_text("{}")
        (folder / "coach/coach.json").write_text('{"trained_on": []}')
        revisions_of(folder, ["a"])
        rating_run(folder, ["a"])
        register()
        GlobalHydra.instance().clear()
        with initialize_config_dir(str(config_folder()), version_base="1.3"):
            yield folder


def command_of(name):
    (found,) = re.findall(rf"^Command: errata (\w+) experiments={name}\b", "\n".join(HEADS[name]), re.MULTILINE)
    return found


def checked(name, overrides=""):
    """The experiment with these settings, composed and checked with placeholders for the user's files."""
    command = command_of(name)
    given = overrides.replace("template=FILE", "template=template.jinja").replace("path=FILE", "path=items.json")
    given = given.replace("against=FOLDER", "against=answers").replace("path=FOLDER", "path=org/name")
    needs = [] if overrides and name == "lai_others" else NEEDS.get(name, [])
    config = compose(command, overrides=[f"experiments={name}", *given.split(), *needs])
    for one in (config.get("testset") or {}).values():
        one.path = "items.json"
    for group in ("dataset", "tests"):
        if "bbh" in (config.get(group) or {}):
            config[group].bbh.prompts_folder = "prompts"
    if command == "train" and config.revisions is None:
        config.data = "pairs.jsonl"
    return check(command, config)


@pytest.mark.parametrize("name", HEADS)
def test_every_experiment_composes_and_is_checked(name):
    setup = checked(name)
    assert setup.settings.name == name or name == "demo_strategies"


@pytest.mark.parametrize("name", HEADS)
def test_every_head_has_its_lines(name):
    for line in ("Claim: ", "Source: ", "Cost: "):
        assert any(one.startswith(line) for one in HEADS[name]), line
    assert command_of(name) in ("improve", "evaluate", "train", "revise", "judge")
    assert re.search(rf"^\| `{name}` \|", DOCS, re.MULTILINE), "docs/experiments.md"


@pytest.mark.parametrize(("name", "published", "text", "overrides"), ROWS, ids=[f"{one[0]}-{one[1]}" for one in ROWS])
def test_heads_and_docs_print_the_row(name, published, text, overrides):
    found = row(published)
    columns = [column.name for column in found.table.columns if column.measure or column.mean_of] or list(found.values)
    values = [found.values[column] for column in columns if found.values[column] is not None]
    printed = [float(one) for one in NUMBER.findall(text)]
    assert follow(values, printed)
    if not published.startswith("llms_as_instructors/iterations/"):  # the figure stands in the heads alone
        lines = [line for line in DOCS.split("\n") if line.startswith((f"| `{name}` |", f"| {found.own_name} |"))]
        assert any(follow(values, list(map(float, NUMBER.findall(line)))) for line in lines), values


def follow(values, printed):
    """Whether the values stand in the text one behind the other."""
    return any(printed[at : at + len(values)] == values for at in range(len(printed)))


def test_every_published_row_has_an_experiment_or_a_reason():
    missing = {}
    for name, table in tables().items():
        reached = {published.removeprefix(f"{name}/") for _, published, _, _ in ROWS if published.startswith(f"{name}/")}
        assert not reached & OTHERS.get(name, set())
        if left := set(table.rows) - reached - OTHERS.get(name, set()):
            missing[name] = left
    assert not missing
    assert not [one for one, number in Counter((name, published) for name, published, _, _ in ROWS).items() if number > 1]


def settings_of(name):
    """The groups that an experiment, or one that it is built on, sets values in."""
    content = yaml.safe_load((ROOT / f"experiments/{name}.yaml").read_text())
    bases = [one for one in content.get("defaults", ()) if isinstance(one, str) and one != "_self_"]
    return set(content).union(*map(settings_of, bases))


def test_a_row_that_chooses_an_option_gets_it_as_it_is():
    """What an experiment sets in a group would stay in the option: `model=vicuna_7b` would ask another model."""
    chosen = {(name, word.partition("=")[0]) for name, _, _, overrides in ROWS for word in overrides.split()}
    assert ("reflection_mt_bench", "model") in chosen
    assert not [f"{name}: {group}" for name, group in chosen if group in settings_of(name)]
    assert not [name for name in HEADS if "instructor" in settings_of(name)], (
        "instructor=NAME would ask, and pay, another one"
    )


LISTS = sorted({name for name, _, _, overrides in ROWS if overrides})


@pytest.mark.parametrize("name", [one if one in FAST else pytest.param(one, marks=pytest.mark.slow) for one in LISTS])
def test_every_row_of_a_list_composes_and_is_checked(name):
    lists = {overrides for experiment, _, _, overrides in ROWS if experiment == name}
    settings = {overrides for overrides in lists if overrides and "FOLDER" not in overrides and "FILE" not in overrides}
    assert len({checked(name, overrides).folder for overrides in settings}) == len(settings)
