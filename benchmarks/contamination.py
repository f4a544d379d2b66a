"""The leak gate on a million rows, and beside lm-eval's Janitor on some of them.

    python benchmarks/contamination.py --data DATA

The tests are the questions of GSM8K, ARC, MBPP, HumanEval and GSM-Plus, and copies of them with other words here and there,
up to `--tests` items. The rows are real GSM8K train questions and answers with other words here and there, made one after
the other by a seeded program and never held. One row in `--every` holds 13 to 20 words in a row of a test item; in one of
ten of these the test item is what is asked. Both look for 13 words in a row in common; the Janitor (in its plain Python
mode) takes for words what stands between blanks, with the punctuation taken out. Of three turns each the best counts.
"""

import argparse
import contextlib
import io
import json
import random
import resource
import time
from itertools import islice
from pathlib import Path

import psutil

from errata.dataset.word_problem import WordProblems
from errata.gate.base import Context, words
from errata.gate.leak import Leak
from errata.records import Example, Question

FILES = (
    ("gsm8k/test.jsonl", "question"),
    ("arc/test.json", "question"),
    ("mbpp/test.jsonl", "prompt"),
    ("humaneval/test.jsonl", "prompt"),
    ("gsm_plus/testmini.jsonl", "question"),
)
SIZE = 13


def records(file):
    text = file.read_text()
    return json.loads(text) if file.suffix == ".json" else [json.loads(line) for line in text.split("\n") if line]


def changed(text, chance, pool):
    """The words of a text, one in twelve of them another one."""
    said = text.split()
    for _ in range(1 + len(said) // 12):
        said[int(chance() * len(said))] = pool[int(chance() * len(pool))]
    return said


def tests(data, count):
    chance = random.Random(1).random
    texts = [record[field] for file, field in FILES for record in records(data / file)]
    pool = " ".join(texts).split()
    originals = len(texts)
    while len(texts) < count:
        texts.append(" ".join(changed(texts[int(chance() * originals)], chance, pool)))
    return [Question(f"test/{number}", "bench", "test", text, "") for number, text in enumerate(texts)], originals


def rows(data, count, every, known):
    """Rows one after the other, and the test item that each shares a piece with (None: nothing was planted)."""
    chance = random.Random(2).random
    train = [(record["question"], record["answer"]) for record in records(data / "gsm8k" / "train.jsonl")]
    pool = " ".join(question for question, _ in train).split()
    long = [test for test in known if len(test.text.split()) >= 3 * SIZE]
    for number in range(count):
        question, answer = train[int(chance() * len(train))]
        prompt, response, source = changed(question, chance, pool), answer, None
        if number % every == 0:
            source = long[int(chance() * len(long))]
            said = source.text.split()
            start, at = int(chance() * (len(said) - 2 * SIZE)), int(chance() * len(prompt))
            piece, least = [], SIZE + int(chance() * 8)
            while len(piece) < least or len(words(" ".join(piece))) < SIZE:
                piece = said[start : start + len(piece) + 1]
            prompt = said if number % (10 * every) == 0 else [*prompt[:at], *piece, *prompt[at:]]
        yield Example(f"1/bench/{number}", "bench", " ".join(prompt), response, "", "", "", 1), source


def resident():
    return psutil.Process().memory_info().rss / 2**20


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def opened(known):
    return Leak(ngram=SIZE).open(Context(WordProblems("bench"), [], known, [], lambda prompt, response: 0, 0))


def million(given, known):
    before = resident()
    start = time.perf_counter()
    check = opened(known)
    built = time.perf_counter() - start
    print(f"built in {built:.1f} s; resident memory {resident() - before:+.0f} MiB")
    top, settled, seconds, planted, found, others = peak(), 0.0, 0.0, 0, 0, 0
    begun = time.perf_counter()
    made = rows(given.data, given.rows, given.every, known)
    while portion := list(islice(made, 1000)):
        start = time.perf_counter()
        verdicts = [check(row) for row, _ in portion]
        seconds += time.perf_counter() - start
        settled = settled or resident()  # once the questions to make rows from are read
        for verdict, (_, source) in zip(verdicts, portion, strict=True):
            planted += source is not None
            found += source is not None and verdict is not None
            others += source is None and verdict is not None
    whole = time.perf_counter() - begun
    print(f"{given.rows} rows: {seconds:.1f} s, {given.rows / seconds:.0f} rows/s ({whole:.1f} s with making them)")
    print(f"peak memory {peak() - top:+.1f} MiB; resident memory {resident() - settled:+.1f} MiB since row 1000")
    print(f"{found} of {planted} planted leaks found; {others} other rows leak too")
    return check


def peer(given, known, check):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        from lm_eval.decontamination.janitor import Janitor, word_ngrams
    before, start = resident(), time.perf_counter()
    janitor = Janitor(ngram_n=SIZE)
    for test in known:
        janitor.register_contaminant_python(test.text)
    print(f"Janitor: built in {time.perf_counter() - start:.1f} s; resident memory {resident() - before:+.0f} MiB")
    some = list(islice(rows(given.data, given.rows, given.every, known), given.peer_rows))
    texts = [f"{row.prompt}\n{row.response}" for row, _ in some]
    ours, theirs = [], []
    for _ in range(3):
        start = time.perf_counter()
        for row, _ in some:
            check(row)
        ours.append(time.perf_counter() - start)
        start = time.perf_counter()
        for text in texts:
            janitor.clean_python(text)
        theirs.append(time.perf_counter() - start)
    print(f"{len(some)} rows: Errata {len(some) / min(ours):.0f} rows/s, Janitor {len(some) / min(theirs):.0f} rows/s")
    print(f"  {min(theirs) / min(ours):.1f} times")
    dirty = [not janitor.dirt_ngrams.isdisjoint(word_ngrams(janitor.normalize_string(text), SIZE)) for text in texts]
    leaks = [row for row, source in some if source]
    found = sum(one for one, (_, source) in zip(dirty, some, strict=True) if source)
    print(
        f"  of {len(leaks)} planted leaks Errata finds {sum(check(row) is not None for row in leaks)}, the Janitor {found}"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="holds gsm8k, arc, mbpp, humaneval, gsm_plus")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--tests", type=int, default=25_000)
    parser.add_argument("--every", type=int, default=1000, help="one row in so many holds a leak")
    parser.add_argument("--peer-rows", type=int, default=5000)
    given = parser.parse_args()
    known, originals = tests(given.data, given.tests)
    count = sum(max(0, len(words(test.text)) - SIZE + 1) for test in known)
    print(f"{len(known)} test items ({originals} of them as they are), {count} runs of {SIZE} words")
    peer(given, known, million(given, known))


if __name__ == "__main__":
    main()
