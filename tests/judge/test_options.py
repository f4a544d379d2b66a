"""Every option of conf/judge builds, with all its settings spelt out and at their defaults."""

from dataclasses import MISSING, fields
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from errata.setup import build

CONF = Path(__file__).parents[2] / "conf"
CHANGED = {"pandalm": {"form", "unanimous", "expected_tokens"}, "recorded": {"path"}}


@pytest.mark.parametrize("path", sorted((CONF / "judge").glob("*.yaml")), ids=lambda path: path.stem)
def test_an_option_builds(path):
    assert path.read_text().startswith("# ")
    assert "errata judge" in path.read_text().split("_target_")[0]
    node = OmegaConf.load(path)
    if path.stem == "recorded":
        node.path = "log.json"
    judge = build(node, "judge")
    assert judge.problems() == ([] if path.stem != "recorded" else judge.problems())
    assert {field.name for field in fields(judge)} == {key for key in node if key != "_target_"}
    for field in fields(judge):
        if field.default is not MISSING and field.name not in CHANGED.get(path.stem, ()):
            value = getattr(judge, field.name)
            assert (tuple(value) if isinstance(value, list) else value) == field.default, field.name


@pytest.mark.parametrize("name", ["gpt4_judge", "chatgpt_rater"])
def test_the_judges_instructors_are_greedy(name):
    node = OmegaConf.merge(OmegaConf.load(CONF / "instructor/openai.yaml"), OmegaConf.load(CONF / f"instructor/{name}.yaml"))
    instructor = build(OmegaConf.masked_copy(node, [key for key in node if key != "defaults"]), "instructor")
    assert instructor.temperature == 0
    assert instructor.price(1_000_000, 0) > 0
