"""What a run is known by: neutral settings are no part of it, all others are."""

from dataclasses import dataclass, field

import pytest

from errata.identity import neutral, result_changing
from errata.setup import build


@dataclass
class Part:
    size: int = 1
    names: list[str] = field(default_factory=list)
    device: str = neutral("cpu")
    headers: dict[str, str] = neutral(factory=dict)


def test_neutral_settings_are_left_out_at_any_depth():
    plain = {"kind": f"{__name__}.Part", "size": 1, "names": []}
    part = Part(device="cuda:1", headers={"a": "b"})
    assert result_changing(part) == plain
    assert result_changing({"one": part, "more": [part, None]}) == {"one": plain, "more": [plain, None]}
    assert result_changing(Part(size=2)) != plain


def test_a_neutral_list_or_mapping_is_each_parts_own():
    Part().headers["a"] = "b"
    assert Part().headers == {}


def test_a_neutral_setting_without_a_default_must_be_given():
    @dataclass
    class Named:
        name: str = neutral()

    with pytest.raises(TypeError, match="name"):
        Named()
    assert result_changing(Named("a")) == result_changing(Named("b"))


def test_a_neutral_setting_is_typed_as_any_other():
    from omegaconf import OmegaConf

    made = build(OmegaConf.create({"_target_": f"{__name__}.Part", "headers": {"a": "b"}, "device": "cuda"}), "part")
    assert (made.headers, made.device) == ({"a": "b"}, "cuda")
