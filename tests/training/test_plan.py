"""Which rows an update holds, and how they are laid out."""

import random
from itertools import chain
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from errata.training.plan import Loader, lay_out, tensors, updates
from errata.training.rows import Row


class Rows(list):
    """Rows in memory, as `Rows` of the module behave."""

    def __init__(self, lengths):
        super().__init__(
            Row(np.arange(length) + 100 * place, np.arange(length) >= length // 2) for place, length in enumerate(lengths)
        )
        self.lengths = np.asarray(lengths)
        self.trained = np.asarray([row.trained.sum() for row in self])


def job(**changes):
    settings = {
        "epochs": 2, "batch_size": 6, "micro_batch_size": 2, "packing": True, "micro_tokens": 40, "group_by_length": False,
        "seed": 1,
    }  # fmt: skip
    return SimpleNamespace(**{**settings, **changes})


_DRAW = random.Random(0)
LENGTHS = [_DRAW.randrange(3, 30) for _ in range(100)]


def test_a_run_is_planned_by_its_seed_alone():
    rows = Rows(LENGTHS[:16])
    plan = updates(rows, job())
    assert plan == updates(rows, job(packing=False, micro_batch_size=1, micro_tokens=9))
    assert plan != updates(rows, job(seed=2))
    order = list(chain.from_iterable(plan))
    assert sorted(order[:16]) == sorted(order[16:]) == list(range(16))
    assert order[:16] != order[16:]
    assert [len(update) for update in plan] == [6, 6, 6, 6, 6, 2]


@pytest.mark.parametrize("group", [True, False])
def test_every_row_is_met_once_an_epoch(group):
    plan = updates(Rows(LENGTHS), job(epochs=3, batch_size=7, group_by_length=group))
    assert sorted(chain.from_iterable(plan)) == sorted(list(range(100)) * 3)
    assert {len(update) for update in plan[:-1]} == {7}


def test_rows_of_like_length_stand_together_where_asked_for():
    rows = Rows(LENGTHS)

    def spread(plan):
        return np.mean([np.ptp(rows.lengths[list(update)]) for update in plan])

    grouped, plain = (updates(rows, job(epochs=1, batch_size=5, group_by_length=group)) for group in (True, False))
    assert spread(grouped) < spread(plain) / 4
    assert [np.mean(rows.lengths[list(update)]) for update in grouped] != sorted(
        np.mean(rows.lengths[list(update)]) for update in grouped
    )


@pytest.mark.parametrize("ranks", [1, 2, 4])
@pytest.mark.parametrize("packing", [True, False])
@pytest.mark.parametrize("size", [1, 3, 6, 23])
def test_each_row_is_in_one_pass_and_ranks_have_equally_many(ranks, packing, size):
    lengths = np.asarray(LENGTHS)
    update = tuple(range(7, 7 + size))
    layout = lay_out(update, lengths, job(packing=packing), ranks)
    passes = list(chain.from_iterable(layout))
    assert sorted(chain.from_iterable(passes)) == list(update)
    assert len(layout) == ranks
    assert len({len(part) for part in layout}) == 1
    for part in passes:
        assert len(part) <= 2 if not packing else sum(lengths[list(part)]) <= 40


def test_padded_rows_are_shared_out_evenly():
    sizes = [
        [len(part) for part in rank]
        for rank in lay_out(tuple(range(8)), np.ones(8), job(packing=False, micro_batch_size=8), 2)
    ]
    assert sizes == [[4], [4]]
    sizes = [len(part) for part in lay_out(tuple(range(9)), np.ones(9), job(packing=False, micro_batch_size=4), 1)[0]]
    assert sizes == [3, 3, 3]


def test_a_row_that_is_longer_than_a_pass_stands_alone():
    (layout,) = lay_out((0, 1, 2, 3), np.asarray([5, 90, 6, 41]), job(), 1)
    assert (1,) in layout
    assert (3,) in layout
    assert sorted(chain.from_iterable(layout)) == [0, 1, 2, 3]


def test_packs_are_few_and_of_even_size():
    (layout,) = lay_out(tuple(range(8)), np.full(8, 10), job(), 1)
    assert [len(part) for part in layout] == [4, 4]


@pytest.mark.parametrize("packing", [True, False])
def test_whatever_the_layout_an_update_trains_on_the_same_tokens(packing):
    rows, plan = Rows(LENGTHS[:8]), [tuple(range(8))]

    def met(ranks, **changes):
        found, counts = [], set()
        for rank in range(ranks):
            (update,) = Loader(rows, plan, job(packing=packing, **changes), 0, rank, ranks)
            counts.add((update.trained_tokens, update.tokens, len(update.passes)))
            for one in update.passes:
                before = one["input_ids"].flatten()[one["positions"]]
                assert torch.equal(before + 1, one["targets"])  # ids count up within a row
                found += one["targets"].tolist()
        assert len(counts) == 1
        (trained, tokens, _) = counts.pop()
        assert (trained, tokens) == (rows.trained.sum(), rows.lengths.sum())
        return sorted(found)

    expected = sorted(chain.from_iterable(row.ids[row.trained].tolist() for row in rows))
    for layout in ((1, {}), (2, {}), (4, {}), (1, {"micro_tokens": 1000, "micro_batch_size": 8}), (3, {"micro_tokens": 30})):
        assert met(layout[0], **layout[1]) == expected


def test_a_rank_without_a_row_goes_through_one_token_without_loss():
    rows = Rows([5])
    first, idle = (next(iter(Loader(rows, [(0,)], job(), 99, rank, 2))) for rank in range(2))
    assert [one["input_ids"].tolist() for one in idle.passes] == [[[99]]]
    assert idle.passes[0]["positions"].tolist() == idle.passes[0]["targets"].tolist() == []
    assert (idle.trained_tokens, idle.own_tokens) == (first.trained_tokens, 0)


def test_a_loader_goes_on_in_the_middle():
    rows = Rows(LENGTHS[:9])
    plan = updates(rows, job(batch_size=2))
    whole, rest = (list(Loader(rows, plan, job(), 0, 0, 1, start)) for start in (0, 4))
    assert len(rest) == len(Loader(rows, plan, job(), 0, 0, 1, 4)) == len(whole) - 4
    for one, other in zip(whole[4:], rest, strict=True):
        assert all(torch.equal(a["input_ids"], b["input_ids"]) for a, b in zip(one.passes, other.passes, strict=True))


def test_padding_is_masked_and_bears_no_loss():
    rows = [Row(np.asarray([5, 6, 7]), np.asarray([False, False, True])), Row(np.asarray([8, 9]), np.asarray([False, True]))]
    found = tensors(rows, packed=False, pad_id=0)
    assert found["input_ids"].tolist() == [[5, 6, 7], [8, 9, 0]]
    assert found["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert (found["positions"].tolist(), found["targets"].tolist()) == ([1, 3], [7, 9])


def test_packed_rows_begin_anew():
    rows = [Row(np.asarray([5, 6, 7]), np.asarray([False, True, True])), Row(np.asarray([8, 9]), np.asarray([False, True]))]
    found = tensors(rows, packed=True, pad_id=0)
    assert found["input_ids"].tolist() == [[5, 6, 7, 8, 9]]
    assert found["position_ids"].tolist() == [[0, 1, 2, 0, 1]]
    assert found["cu_seq_lens_q"].tolist() == [0, 3, 5]
    assert (found["positions"].tolist(), found["targets"].tolist()) == ([0, 1, 3], [6, 7, 9])
