import json

import pytest
import torch
from transformers import AutoTokenizer

from errata.training.rows import IGNORED, MicroBatch, Row, collate, plan, read_rows


@pytest.fixture(scope="module")
def tokenizer(tiny_model):
    return AutoTokenizer.from_pretrained(tiny_model)


def test_labels_are_the_response_and_its_end_token_and_nothing_else(tokenizer, tmp_path):
    pairs = [("How many?", "3 + 4 = 7\n#### 7"), ("How many pens does Mia have left?", "5")]
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps({"prompt": p, "response": r}) + "\n" for p, r in pairs))
    batch = collate(MicroBatch(tuple(read_rows(path, tokenizer)), 0), pad_id=0)
    for place, (prompt, response) in enumerate(pairs):
        ids, labels = batch["input_ids"][place], batch["labels"][place]
        real = batch["attention_mask"][place].bool()
        by_hand = tokenizer(f"<|user|>\n{prompt}<|end|>\n<|assistant|>\n{response}<|end|>", add_special_tokens=False)
        assert ids[real].tolist() == by_hand["input_ids"]
        assert tokenizer.decode(labels[labels != IGNORED]) == f"{response}<|end|>"
        assert (labels[~real] == IGNORED).all()
        trained = (labels != IGNORED).nonzero().flatten()
        assert trained.tolist() == list(range(int(trained[0]), int(real.sum())))
        assert (ids[trained] == labels[trained]).all()


def test_a_run_is_planned_by_its_seed_alone():
    rows = [Row((number, number), 1) for number in range(10)]
    batches = plan(rows, epochs=2, micro_batch_size=3, accumulate=2, seed=1)
    assert batches == plan(rows, epochs=2, micro_batch_size=3, accumulate=2, seed=1)
    assert batches != plan(rows, epochs=2, micro_batch_size=3, accumulate=2, seed=2)
    order = [row for batch in batches for row in batch.rows]
    assert sorted(row.ids for row in order[:10]) == sorted(row.ids for row in order[10:]) == [row.ids for row in rows]
    assert order[:10] != order[10:]
    assert [len(batch.rows) for batch in batches] == [3, 3, 3, 3, 3, 3, 2]
    assert [batch.update_tokens for batch in batches] == [6, 6, 6, 6, 6, 6, 2]


def test_padding_is_masked():
    batch = collate(MicroBatch((Row((5, 6, 7), 1), Row((8, 9), 1)), 2), pad_id=0)
    assert batch["input_ids"].tolist() == [[5, 6, 7], [8, 9, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert batch["labels"].tolist() == [[IGNORED, IGNORED, 7], [IGNORED, 9, IGNORED]]
    assert batch["update_tokens"].dtype == torch.int64
