"""mix: how many rows or tokens of each dataset go into a training set, and in which forms it is written."""

import json
from random import Random

import pytest

from errata.records import Example
from errata.run_folder import RunFolder
from errata.stage.mix import Blend, draw, mix


@pytest.fixture
def folder(tmp_path):
    with RunFolder(tmp_path / "run", {}) as opened:
        yield opened


def row(name, words=1, dataset="toy", iteration=1):
    return Example(f"{iteration}/{name}", dataset, f"question {name}", "word " * words, "7", "e", "r", iteration)


def rows(first, count, **more):
    return [row(number, **more) for number in range(first, first + count)]


def count(prompt, response):
    return len(response.split())


def tokens(found):
    return sum(count(one.prompt, one.response) for one in found)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("budget", [700, 4001, 30011])
def test_a_token_budget_is_kept_exactly(folder, seed, budget):
    rng = Random(seed)
    pool = [row(number, rng.randrange(15, 120)) for number in range(rng.choice((40, 150, 600)))]
    examples = mix(folder.stage("m"), {"toy": Blend(pool, 5, budget, count=count)}, seed)
    assert tokens(examples) == budget
    assert folder.stage("m").record.counts["tokens"] == {"toy": budget}
    if tokens(pool) > 2 * budget:
        assert len({one.id for one in examples}) == len(examples)


def test_rows_come_again_where_the_pool_is_smaller_than_the_token_budget(folder):
    pool = [row(number, 10 + number) for number in range(8)]
    examples = mix(folder.stage("m"), {"toy": Blend(pool, 5, 10 * tokens(pool), count=count)}, 1)
    assert tokens(examples) == 10 * tokens(pool)
    assert {one.id for one in examples} == {one.id for one in pool}
    assert folder.stage("m").record.counts["of them again"] == len(examples) - 8


def test_a_token_budget_that_no_rows_give_is_missed_from_below():
    found = draw(Blend(rows(0, 9, words=7), 1, 100, count=count), Random(0))
    assert tokens(found) == 98


def test_no_rows_are_no_rows_whatever_the_budget():
    assert draw(Blend([], 5, 100, count=count), Random(0)) == []
    assert draw(Blend([], 5, again=True), Random(0)) == []


def test_a_size_bounds_the_rows_and_only_what_may_repeats():
    assert len(draw(Blend(rows(0, 30), 12), Random(0))) == 12
    assert len(draw(Blend(rows(0, 5), 12), Random(0))) == 5
    again = draw(Blend(rows(0, 5), 12, again=True), Random(0))
    ids = [one.id for one in again]
    assert len(ids) == 12
    assert all(2 <= ids.count(name) <= 3 for name in set(ids)) and len(set(ids)) == 5


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5])
def test_the_replayed_share_is_part_of_the_size(share):
    old = rows(100, 60, iteration=0)
    found = draw(Blend(rows(0, 60), 40, replayed=old, share=share), Random(0))
    assert len(found) == 40
    assert sum(one in old for one in found) == round(share * 40)


def test_too_little_to_replay_leaves_room_for_practice():
    found = draw(Blend(rows(0, 60), 40, replayed=rows(100, 3), share=0.5), Random(0))
    assert len(found) == 40
    assert sum(one.id in {"1/100", "1/101", "1/102"} for one in found) == 3


def test_the_replayed_share_is_part_of_the_token_budget():
    rng = Random(5)
    fresh, old = (
        [row(number, rng.randrange(15, 60), iteration=k) for number in range(k * 200, k * 200 + 100)] for k in (1, 0)
    )
    found = draw(Blend(fresh, 1, 2000, replayed=old, share=0.3, count=count), Random(0))
    assert tokens(found) == 2000
    assert 540 <= tokens([one for one in found if one in old]) <= 600


def test_former_rows_stay_in_and_their_prompts_do_not_come_twice():
    former = rows(0, 10, iteration=1)
    fresh = rows(5, 40, iteration=2)
    found = draw(Blend(fresh, 20, always=former, replayed=rows(0, 10, iteration=3), share=0.5), Random(0))
    assert found[:10] == former
    assert len(found) == 30
    assert len({one.prompt for one in found}) == 30


def test_former_rows_leave_new_practice_its_tokens():
    former, fresh = rows(0, 10, words=10), rows(50, 50, words=10, iteration=2)
    found = draw(Blend(fresh, 1, 100, always=former, count=count), Random(0))
    assert any(one in fresh for one in found)


def test_replayed_rows_that_are_drawn_as_practice_already_do_not_come_twice():
    same = rows(0, 10)
    found = draw(Blend(same, 10, replayed=same, share=0.5), Random(0))
    assert len({one.id for one in found}) == len(found)


def test_the_three_files_hold_the_same_rows_in_the_same_order(folder):
    stage = folder.stage("m")
    examples = mix(stage, {"a": Blend(rows(0, 20, dataset="a"), 10), "b": Blend(rows(50, 20, dataset="b"), 10)}, 3)
    text = (stage.folder / "train.messages.jsonl").read_text()
    messages = [json.loads(line) for line in text.split("\n") if line]
    alpaca = json.loads((stage.folder / "train.alpaca.json").read_text())
    assert [one["id"] for one in messages] == [one.id for one in examples]
    assert [[turn["role"] for turn in one["messages"]] for one in messages] == [["user", "assistant"]] * 20
    pairs = [(one.prompt, one.response) for one in examples]
    assert [tuple(turn["content"] for turn in one["messages"]) for one in messages] == pairs
    assert [(one["instruction"], one["output"]) for one in alpaca] == pairs
    assert {one["input"] for one in alpaca} == {""}
    assert len({one.dataset for one in examples[:10]}) == 2


def test_a_seed_decides_what_is_drawn_and_in_which_order(folder):
    blends = {"toy": Blend(rows(0, 40), 20, replayed=rows(100, 40), share=0.5)}
    first, again, other = (mix(folder.stage(name), blends, seed) for name, seed in (("m", 1), ("m", 1), ("n", 1)))
    assert first == again
    assert {one.id for one in first} != {one.id for one in other}  # another iteration draws anew
    with_tokens = Blend(rows(0, 40, words=9), 1, 90, count=count)
    assert draw(with_tokens, Random(4)) == draw(with_tokens, Random(4)) != draw(with_tokens, Random(5))
