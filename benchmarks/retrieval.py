"""Retrieval: Errata beside the source's procedure, on real questions; and how the index grows.

    python benchmarks/retrieval.py DATA/gsm8k/train.jsonl                 encoding and neighbours
    python benchmarks/retrieval.py --scale 10000 100000 1000000           build, query, memory, recall of each index

The source's procedure (LLMs-as-Instructors, `LEC.py`) re-enacted in our words: one text at a time through the encoder, mean
over all tokens, L2-normalised; a flat L2 index; one query at a time; all of it again for every k and iteration. BERT has the
shape of bert-base-uncased with random weights (its speed is the same, and so must the neighbours of both procedures be);
MiniLM is the real one. Two threads.
"""

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import faiss
import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel

from errata.records import Attempt, Question
from errata.retrieval.index import build, recall
from errata.retrieval.minilm import folder
from errata.retrieval.transformer import Transformer


def source(path, texts, wrong, k):
    """Neighbours as the source finds them: (errors, k) places among the right ones."""
    tokenizer, model = AutoTokenizer.from_pretrained(path), AutoModel.from_pretrained(path).eval()

    def vector(text):
        ids = tokenizer(text, truncation=True, max_length=512, return_tensors="pt")
        with torch.no_grad():
            mean = model(**ids).last_hidden_state.mean(dim=1)[0].numpy()
        return (mean / np.linalg.norm(mean)).astype(np.float32)

    pool = np.stack([vector(text) for text in texts[wrong:]])
    index = faiss.IndexFlatL2(pool.shape[1])
    index.add(pool)
    return np.stack([index.search(vector(text)[None], k)[1][0] for text in texts[:wrong]])


def attempts(texts, correct):
    return [
        Attempt(Question(f"g/train/{correct}/{n}", "g", "train", text, "1"), "", True, None, correct)
        for n, text in enumerate(texts)
    ]


def ours(path, texts, wrong, k, cache):
    errors, successes = attempts(texts[:wrong], False), attempts(texts[wrong:], True)
    places = {success.id: place for place, success in enumerate(successes)}
    found, _ = Transformer(k=k, path=path, device="cpu").neighbours(errors, successes, cache)
    return np.array([[places[success.id] for success, _ in near] for near in found])


def timed(work, *args):
    start = time.perf_counter()
    return work(*args), time.perf_counter() - start


def encoding(given, place):
    lines = [json.loads(line) for line in given.questions.read_text().split("\n") if line]
    texts = [line["question"] for line in lines[: given.n]]
    wrong = len(texts) * 4 // 7  # the share of wrong answers in the source's own GSM8K record
    bert = place / "bert"
    torch.manual_seed(0)
    BertModel(BertConfig()).save_pretrained(bert)
    AutoTokenizer.from_pretrained(folder()).save_pretrained(bert)
    times = {}
    for name, path in (("bert-base (random weights)", str(bert)), ("MiniLM", folder())):
        timed(ours, path, texts[:8], 4, 1, place / f"warm {name}.sqlite")
        theirs, slow = timed(source, path, texts, wrong, 2)
        mine, fast = timed(ours, path, texts, wrong, 2, place / f"{name}.sqlite")
        again, known = timed(ours, path, texts, wrong, 3, place / f"{name}.sqlite")
        same = (theirs == mine).all(axis=1).mean(), (again[:, :2] == mine).all(axis=1).mean()
        times[name] = slow
        print(f"{name}: {len(texts)} questions, {wrong} errors; same neighbours for {same[0]:.1%} of the errors")
        print(f"  source {slow:7.1f} s   first run {fast:7.2f} s ({slow / fast:.2f} x)")
        print(f"  k=3 next {known:.3f} s ({slow / known:.0f} x)")
    print(f"MiniLM's first run against the source's with BERT: {times['bert-base (random weights)'] / fast:.1f} x")


def scaling(sizes, kinds):
    rng = np.random.default_rng(0)
    print(f"{'vectors':>9} {'index':>6} {'build s':>9} {'1000 queries s':>15} {'peak GiB':>9} {'recall@5':>9}")
    for size in sizes:
        # clustered, as questions are: a thousand kinds with a spread within
        centres = rng.normal(size=(1000, 384)).astype(np.float32)
        vectors = centres[rng.integers(0, 1000, size)] + 0.7 * rng.normal(size=(size, 384)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        queries = vectors[rng.integers(0, size, 1000)] + 0.02 * rng.normal(size=(1000, 384)).astype(np.float32)
        queries /= np.linalg.norm(queries, axis=1, keepdims=True)
        for kind in kinds:
            index, made = timed(build, vectors, kind)
            _, asked = timed(index.search, queries, 5)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
            found = 1.0 if kind == "flat" else recall(vectors, queries[:200], 5, kind) if size <= 100_000 else float("nan")
            if size > 100_000 and kind != "flat":
                exact = build(vectors).search(queries[:200], 5)[1]
                near = index.search(queries[:200], 5)[1]
                found = float(np.mean([len(set(a) & set(b)) / 5 for a, b in zip(exact, near, strict=True)]))
            print(f"{size:>9} {kind:>6} {made:>9.2f} {asked:>15.3f} {peak:>9.2f} {found:>9.3f}", flush=True)
            del index


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("questions", type=Path, nargs="?", help="GSM8K's train.jsonl")
    parser.add_argument("--n", type=int, default=350)
    parser.add_argument("--scale", type=int, nargs="*", default=[])
    parser.add_argument("--kinds", nargs="*", default=["flat", "ivf", "hnsw"])
    given = parser.parse_args()
    torch.set_num_threads(2)
    faiss.omp_set_num_threads(2)
    if given.questions:
        with tempfile.TemporaryDirectory() as place:
            encoding(given, Path(place))
    scaling(given.scale, given.kinds)


if __name__ == "__main__":
    main()
