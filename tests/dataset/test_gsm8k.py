import json
from pathlib import Path

import pytest

from errata.dataset.gsm8k import GSM8K
from errata.errors import DataError

REAL = Path(__file__).parents[3] / "shared" / "data" / "gsm8k"
SPLITS = {"train": "train", "test": "test"}


def write(folder, *lines):
    (folder / "train.jsonl").write_text("\n".join(lines))
    return GSM8K("gsm8k", path=str(folder), splits=SPLITS)


GOOD = json.dumps({"question": "How many\u2028pens?", "answer": "3+4 = <<3+4=7>>7\n#### 7"}, ensure_ascii=False)


def test_lines_are_split_at_line_feeds_only(tmp_path):
    (question,) = write(tmp_path, GOOD).load("train")
    assert (question.id, question.gold, question.text) == ("gsm8k/train/0", "7", "How many\u2028pens?")


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ((GOOD, "{broken"), "line 2: expected one JSON object"),
        ((GOOD, "[1, 2]"), "line 2: expected one JSON object"),
        ((GOOD, '{"question": "?"}'), "line 2: the field 'answer' is missing; it has question"),
        (('{"question": "?", "answer": "seven"}',), "line 1: the answer has no final '#### N' line"),
        (("",), "the train split is empty"),
    ],
)
def test_a_broken_file_is_named_with_its_line(tmp_path, lines, said):
    with pytest.raises(DataError, match=r"train\.jsonl") as error:
        write(tmp_path, *lines).load("train")
    assert said in str(error.value)


@pytest.mark.skipif(not REAL.is_dir(), reason="the real GSM8K files are not beside this checkout")
def test_the_real_gold_answers_are_accepted():
    dataset = GSM8K("gsm8k", path=str(REAL), splits=SPLITS)
    for split, count in (("train", 7473), ("test", 1319)):
        questions = dataset.load(split)
        assert len(questions) == count
        assert all(dataset.grade(question, question.solution).correct for question in questions)
    assert len(GSM8K("gsm8k", path=str(REAL), splits=SPLITS, limit=5).wall()) == 1319
    assert GSM8K("gsm8k", path=str(REAL), splits=SPLITS, limit=5).load("test")[-1].id == "gsm8k/test/4"
