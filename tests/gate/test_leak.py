"""The leak gate beside a plain one that compares word by word."""

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf
from tests.gate.test_gates import context, question, row

from errata.gate import leak
from errata.gate.base import words
from errata.gate.leak import Leak
from errata.records import Example, Question

CONF = Path(__file__).parents[2] / "conf" / "gate"


def plain(gate, tests):
    """The same verdicts from lists of words; of several tests the last one is named."""
    texts = {test.id: words(test.text) for test in reversed(tests)}

    def check(candidate):
        found = words(candidate.prompt + "\n" + candidate.response)
        for name, text in texts.items():
            if text == words(candidate.prompt):
                return "leak", f"the same question as {name}"
        for run in [found[i : i + gate.ngram] for i in range(len(found) - gate.ngram + 1)]:
            for name, text in texts.items():
                if any(text[i : i + gate.ngram] == run for i in range(len(text))):
                    return "leak", f"{gate.ngram} words in a row in common with {name}: {' '.join(run)}"
        for i in range(len(found)):
            for name, text in texts.items():
                if gate.short <= len(text) < gate.ngram and found[i : i + len(text)] == text:
                    return "leak", f"all {len(text)} words of {name} in a row: {' '.join(text)}"
        return None

    return check


def random_case(seed):
    """A gate, tests and rows of few different words, so that runs are often shared; some rows hold a piece of a test."""
    random_ = random.Random(seed)
    vocabulary = ["a", "b", "c", "Σίγμα", "7", "l'eau", "x_1"][: random_.randint(2, 7)]
    gate = Leak(ngram=random_.randint(5, 13), short=random_.randint(5, 12))

    def text(longest, extra=()):
        return " ".join(random_.choices([*vocabulary, *extra], k=random_.randint(0, longest)))

    tests = [question(text(30), f"toy/test/{n}") for n in range(random_.randint(0, 12))]
    rows = []
    for n in range(40):
        prompt = text(20, ["new", "other"])
        if tests and n % 3 == 0:
            piece = random_.choice(tests).text.split()
            start = random_.randint(0, len(piece))
            prompt = " ".join([text(3, ["new"]), *piece[start : start + 14], text(3)][n % 2 :])
        rows.append(row(prompt, text(20, ["new"]), number=n))
    return gate, tests, rows


@pytest.mark.slow
@pytest.mark.parametrize("weak", [False, True], ids=["hashes", "colliding hashes"])
def test_it_agrees_with_word_by_word_comparison(weak, monkeypatch):
    if weak:  # every hash is one of eight, so that the words alone must decide
        true_hashes, true_sums = leak._hashes, leak._sums
        monkeypatch.setattr(leak, "_hashes", lambda sums, size: true_hashes(sums, size) % np.uint64(8))
        monkeypatch.setattr(leak, "_sums", lambda numbers: true_sums(np.ones_like(numbers)))
    rejected = 0
    for seed in range(40 if weak else 400):
        gate, tests, rows = random_case(seed)
        ours, naive = gate.open(context(tests=tests)), plain(gate, tests)
        for candidate in rows:
            found = ours(candidate)
            assert found == naive(candidate), (seed, candidate)
            rejected += found is not None
    assert rejected > 200


def test_a_hash_does_not_depend_on_where_the_run_stands():
    run = list(range(2, 15))
    alone = leak._hashes(leak._sums(np.array(run, np.uint64)), 13)
    behind = leak._hashes(leak._sums(np.array([5] * 3000 + run + [9], np.uint64)), 13)
    assert alone[0] == behind[3000]


@pytest.mark.parametrize(
    ("prompt", "leaks"),
    [
        ("Ann asks: how many pens does Bob have in all?", True),
        ("How many pens does Bob really have in all?", False),
        ("How many pens? How many pens?", False),
    ],
)
def test_a_short_test_question_leaks_whole(prompt, leaks):
    tests = [question("How many pens does Bob have in all?"), question("How many pens?", "toy/test/1")]
    found = Leak().open(context(tests=tests))(row(prompt))
    assert (found is not None) == leaks
    assert found is None or found[1] == "all 8 words of toy/test/0 in a row: how many pens does bob have in all"
    assert Leak(short=9).open(context(tests=tests))(row(prompt)) is None


def test_without_tests_nothing_leaks():
    assert Leak().open(context())(row("How many pens are there?")) is None
    assert Leak().open(context())(row("")) is None


def test_sizes_out_of_range_are_problems():
    assert Leak(short=2).problems() == ["gate.leak.short is 2: choose 5 words or more"]


@pytest.mark.parametrize("file", sorted(CONF.glob("*.yaml")), ids=lambda file: file.stem)
def test_every_option_builds(file):
    ((name, settings),) = OmegaConf.load(file).items()
    gate = instantiate(settings)
    assert name == file.stem
    assert gate.problems() == []
    assert (
        hasattr(gate, "verdict") or gate.open(context()) is not None
    )  # consensus asks an instructor, in a stage of its own


def test_a_paraphrase_of_a_test_question_is_a_leak_where_that_is_asked_for():
    vectors = {"test one": [1, 0], "test two": [0, 1], "near one": [0.96, 0.28], "far": [0.6, 0.8]}
    asked = [Question(f"t/test/{n}", "t", "test", f"test {word}", "1") for n, word in enumerate(("one", "two"))]
    with_vectors = replace(
        context(), tests=asked, embed=lambda texts: np.array([vectors[text] for text in texts], np.float32)
    )
    near, far = (Example("r", "t", text, "", "1", "", "", 1) for text in ("near one", "far"))
    check = Leak(similarity=0.9).open(with_vectors)
    assert check(near) == ("leak", "cosine 0.960 to t/test/0")
    assert check(far) is None
    assert Leak().open(with_vectors)(near) is None
    assert Leak(similarity=1.5).problems()
