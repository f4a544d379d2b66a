"""run.json stays small however often a run is started."""

import json

from errata import provenance as module
from errata.provenance import provenance


def test_five_hundred_starts_leave_the_first_the_latest_and_a_count(monkeypatch):
    told = first = provenance(files={"a": "1"})
    for _ in range(499):
        told = provenance(json.loads(json.dumps(told)), {"a": "1"})
    assert len(told["starts"]) == 20
    assert told["starts"][0] == first["starts"][0]
    assert told["starts_left_out"] == 480
    assert told["earlier"] == []


def test_environments_that_take_turns_are_bounded_each_with_its_own_starts():
    told = provenance(files={"a": "0"})
    told = provenance(told, {"a": "0"})
    for number in range(1, 500):
        told = provenance(json.loads(json.dumps(told)), {"a": str(number)})
    assert [part["files"]["a"] for part in told["earlier"]] == ["0", *map(str, range(490, 499))]
    assert len(told["earlier"][0]["starts"]) == 2
    assert told["earlier_left_out"] == 489
    assert "starts_left_out" not in told and len(told["starts"]) == 1
    assert not any("earlier" in part for part in told["earlier"])


def test_the_starts_left_out_stay_with_their_environment(monkeypatch):
    monkeypatch.setattr(module, "_MOST_STARTS", 3)
    told = None
    for _ in range(5):
        told = provenance(told, {"a": "0"})
    told = provenance(told, {"a": "1"})
    assert told["earlier"][0]["starts_left_out"] == 2
    assert len(told["starts"]) == 1 and "starts_left_out" not in told
