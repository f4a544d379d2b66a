"""Mixtures: shares and counts, what is left out and why, the same result for the same seed, a stage that is done anew."""

import json
import tracemalloc
from collections import Counter
from pathlib import Path

import pytest

from errata.corpus.instruction_set import InstructionSet
from errata.corpus.mixture import Mixture
from errata.digests import digest_of_file
from errata.errors import DataError
from errata.records import Pair, Rejection
from errata.run_folder import RunFolder, Stage
from errata.stage.gather import gather, make_up

REAL = Path(__file__).parents[3] / "shared" / "data" / "coachlm"


def corpus(folder, name, records, **settings):
    """A local instruction set of (instruction, output) or (instruction, input, output) rows."""
    keys = ("instruction", "input", "output")
    objects = [dict(zip(keys, row if len(row) == 3 else (row[0], "", row[1]), strict=True)) for row in records]
    (folder / f"{name}.json").write_text(json.dumps(objects))
    return InstructionSet(path=str(folder / f"{name}.json"), **settings)


def numbered(name, count):
    return [(f"{name} question {number}", f"answer {number}") for number in range(count)]


def gathered(folder, corpora, mixture=None, seed=0, objection=None, place="run"):
    """The stage's pairs, counts and rejections."""
    stage = Stage(folder / place / "gather", "gather", {"seed": seed})
    gather(stage, corpora, mixture or Mixture(), seed, objection)
    return stage.read("pairs", Pair), stage.record.counts, stage.read("dropped", Rejection)


def test_everything_is_taken_once_and_shuffled(tmp_path):
    corpora = {"a": corpus(tmp_path, "a", numbered("a", 50)), "b": corpus(tmp_path, "b", numbered("b", 30))}
    pairs, counts, dropped = gathered(tmp_path, corpora)
    assert sorted(pair.id for pair in pairs) == sorted([f"a/{n}" for n in range(50)] + [f"b/{n}" for n in range(30)])
    assert [pair.source for pair in pairs[:30]] != ["a"] * 30
    assert dropped == []
    assert counts == {
        "read": 80, "read by corpus": {"a": 50, "b": 30}, "dropped": 0, "dropped by reason": {},
        "kept": 80, "kept by corpus": {"a": 50, "b": 30},
    }  # fmt: skip


LEFT_OUT = [
    (("", "answer"), {}, "empty"),
    (("question", " \n"), {}, "empty"),
    (("Question   one!", "", "answer one."), {}, "duplicate"),
    (("question one!", "answer", "one"), {}, "duplicate"),  # the same words, divided otherwise
    (("question one!", "another answer"), {}, None),  # the same prompt with another output
    (("3 + 4", "7"), {}, None),
    (("3 - 4", "7"), {}, None),  # a sign is no mere punctuation
    (("question", "no"), {"least_output_chars": 3}, "short_output"),
    (("question", "answers"), {"most_output_chars": 6}, "long_output"),
    (("question of many words", "answer"), {"most_prompt_chars": 20}, "long_prompt"),
    (
        ("Was ist die Hauptstadt von Frankreich?", "Die Hauptstadt von Frankreich ist natürlich Paris."),
        {"languages": ["en"]},
        "language",
    ),
    (("What is the capital of France?", "The capital of France is Paris, of course."), {"languages": ["en"]}, None),
    (("one two three four five six seven eight nine", "ten eleven twelve 14"), {"near": 0.7}, "near_duplicate"),
    (("one two three four five six seven eight nine", "ten eleven twelve 14"), {}, None),
    (("one two", "thirty things that are altogether different from it"), {"near": 0.7}, None),
    (
        ("请把下面的句子翻译成英文并且解释其中的语法结构", "今天天气很好我们一起去公园散步吧 好"),
        {"near": 0.7},
        "near_duplicate",
    ),
]
FIRST = [
    ("question one!", "answer one"),
    ("3 * 4", "7"),
    ("one two three four five six seven eight nine", "ten eleven twelve 13"),
    ("请把下面的句子翻译成英文并且解释其中的语法结构", "今天天气很好我们一起去公园散步吧"),
]


@pytest.mark.parametrize(("row", "settings", "reason"), LEFT_OUT)
def test_what_is_left_out_and_why(row, settings, reason, tmp_path):
    languages = {"languages": "en"} if settings.get("languages") else {}
    corpora = {"a": corpus(tmp_path, "a", FIRST[:3] if languages else FIRST, **languages), "b": corpus(tmp_path, "b", [row])}
    pairs, counts, dropped = gathered(tmp_path, corpora, Mixture(**settings))
    of_b = {key: number for key, number in counts["dropped by reason"].items() if key.startswith("b ")}
    assert of_b == ({f"b {reason}": 1} if reason else {})
    assert ("b/0" in {pair.id for pair in pairs}) == (reason is None)
    assert [rejection.id for rejection in dropped if rejection.dataset == "b"] == ([] if reason is None else ["b/0"])


def test_a_language_that_was_identified_is_kept_with_the_record(tmp_path):
    rows = [
        ("What is the capital of France?", "The capital of France is Paris, of course."),
        ("法国的首都是哪里？", "法国的首都是巴黎。"),
    ]
    pairs, *_ = gathered(tmp_path, {"a": corpus(tmp_path, "a", rows, languages="en,zh")}, Mixture(languages=["en", "zh"]))
    assert {pair.id: pair.language for pair in pairs} == {"a/0": "en", "a/1": "zh"}


def test_what_the_wall_objects_to_is_left_out_with_its_evidence(tmp_path):
    corpora = {"a": corpus(tmp_path, "a", numbered("a", 20))}

    def wall(pair):
        return ("leak", f"the same as test/{pair.id}") if pair.instruction.endswith("7") else None

    pairs, counts, dropped = gathered(tmp_path, corpora, objection=wall)
    assert len(pairs) == 18
    assert counts["dropped by reason"] == {"a leak": 2}
    assert [(r.id, r.reason, r.detail) for r in dropped] == [
        ("a/7", "leak", "the same as test/a/7"),
        ("a/17", "leak", "the same as test/a/17"),
    ]


SHARES = [
    ({"a": 0.5, "b": 0.5}, None, {"a": 30, "b": 30}),  # the largest of these shares: all of b
    ({"a": 0.7, "b": 0.3}, 50, {"a": 35, "b": 15}),
    ({"a": 0.9, "b": 0.1}, None, {"a": 50, "b": 5}),  # 55: of 56, a would have to give 50.4
    ({"a": 1 / 3, "b": 2 / 3}, 10, {"a": 3, "b": 7}),
    ({"a": 0.29, "b": 0.71}, 42, {"a": 12, "b": 30}),
]


@pytest.mark.parametrize(("shares", "size", "wanted"), SHARES)
def test_shares(shares, size, wanted, tmp_path):
    corpora = {"a": corpus(tmp_path, "a", numbered("a", 50)), "b": corpus(tmp_path, "b", numbered("b", 30))}
    pairs, counts, _ = gathered(tmp_path, corpora, Mixture(shares=shares, size=size))
    assert counts["kept by corpus"] == wanted == dict(Counter(pair.source for pair in pairs))
    assert len({pair.id for pair in pairs}) == len(pairs)


@pytest.mark.parametrize("share", [0.013, 0.2, 0.29, 1 / 3, 0.5, 0.87])
def test_without_a_size_the_mixture_is_the_largest_that_has_the_shares(share):
    drawn = Mixture(shares={"a": share, "b": 1 - share}).draw({"a": range(41), "b": range(97)}, 0)
    taken = {name: len(records) for name, records in drawn.items()}
    size = sum(taken.values())
    assert abs(taken["a"] - size * share) < 1
    assert taken["a"] <= 41
    assert taken["b"] <= 97
    assert (size + 1) * share > 41 or (size + 1) * (1 - share) > 97


def test_counts_and_size(tmp_path):
    corpora = {"a": corpus(tmp_path, "a", numbered("a", 50)), "b": corpus(tmp_path, "b", numbered("b", 30))}
    assert gathered(tmp_path, corpora, Mixture(counts={"a": 5}), place="1")[1]["kept by corpus"] == {"a": 5, "b": 30}
    pairs, counts, _ = gathered(tmp_path, corpora, Mixture(size=40), place="2")
    assert len({pair.id for pair in pairs}) == 40
    assert counts["kept by corpus"] == dict(Counter(pair.source for pair in pairs))
    assert 15 < counts["kept by corpus"]["a"] < 35


TOO_MANY = [
    ({"counts": {"a": 51}}, "51 records of a are wanted, 50 are left after the checks"),
    ({"size": 81}, r"81 records are wanted \(mixture.size\), 80 are left in all"),
    ({"shares": {"a": 0.5, "b": 0.5}, "size": 70}, "35 records of b are wanted, 30 are left"),
    ({"least_output_chars": 1000}, r"none of 80 records is left: a short_output \(50\), b short_output \(30\)"),
]


@pytest.mark.parametrize(("settings", "said"), TOO_MANY)
def test_more_than_there_is_says_how_many_there_are(settings, said, tmp_path):
    corpora = {"a": corpus(tmp_path, "a", numbered("a", 50)), "b": corpus(tmp_path, "b", numbered("b", 30))}
    with pytest.raises(DataError, match=said):
        gathered(tmp_path, corpora, Mixture(**settings))


PROBLEMS = [
    ({}, None),
    ({"shares": {"a": 0.7, "b": 0.3000000001}}, None),
    ({"shares": {"a": 0.7, "b": 0.2}}, "a 0.7 + b 0.2 = 0.9: they must come to 1"),
    ({"shares": {"a": 0.7, "c": 0.3}}, "mixture.shares.c: there is no such corpus in this run; there are a, b"),
    ({"shares": {"a": 1.0}}, "mixture.shares leaves out b"),
    ({"shares": {"a": 1.5, "b": -0.5}}, "mixture.shares.b is -0.5"),
    ({"counts": {"c": 3}}, "mixture.counts.c: there is no such corpus"),
    ({"counts": {"a": 0}}, "mixture.counts.a is 0"),
    ({"counts": {"a": 3}, "shares": {"a": 0.5, "b": 0.5}}, "choose one of them"),
    ({"counts": {"a": 3}, "size": 9}, "mixture.counts and mixture.size"),
    ({"size": 0}, "mixture.size is 0"),
    ({"languages": ["english"]}, "mixture.languages has 'english'"),
    ({"most_output_chars": 5, "least_output_chars": 9}, "nothing would be left"),
    ({"near": 1.0}, "mixture.near is 1.0"),
]


@pytest.mark.parametrize(("settings", "said"), PROBLEMS)
def test_problems(settings, said):
    found = Mixture(**settings).problems(["a", "b"])
    assert found == [] if said is None else any(said in problem for problem in found)


def test_the_seed_and_nothing_else_decides(tmp_path):
    a, b = corpus(tmp_path, "a", numbered("a", 50)), corpus(tmp_path, "b", numbered("b", 30))

    def ids(mixture, seed, place):
        pairs, *_ = gathered(tmp_path, {"a": a, "b": b}, mixture, seed, place=place)
        return [pair.id for pair in pairs], digest_of_file(tmp_path / place / "gather" / "pairs.jsonl")

    twenty = Mixture(counts={"a": 20, "b": 10})
    assert ids(twenty, 1, "1") == ids(twenty, 1, "2")
    assert ids(twenty, 1, "1") != ids(twenty, 2, "3")
    of_a = {name for name in ids(twenty, 1, "1")[0] if name.startswith("a")}
    assert of_a == {name for name in ids(Mixture(counts={"a": 20}), 1, "4")[0] if name.startswith("a")}  # whatever b gives


def test_a_killed_stage_is_done_anew_and_a_finished_one_is_not(tmp_path):
    class Killed(InstructionSet):
        def pairs(self, name):
            for number, pair in enumerate(super().pairs(name)):
                if number == 20:
                    raise KeyboardInterrupt
                yield pair

    whole = corpus(tmp_path, "a", numbered("a", 50))
    with RunFolder(tmp_path / "run", {}) as folder:
        with pytest.raises(KeyboardInterrupt):
            gather(folder.stage("gather", n=1), {"a": Killed(path=whole.path)}, Mixture(), 3)
        stage = folder.stage("gather", n=1)
        assert not stage.finished
        gather(stage, {"a": whole}, Mixture(), 3)
        assert folder.stage("gather", n=1).finished
        gather(folder.stage("gather", n=1), {"a": InstructionSet(path="/nowhere")}, Mixture(), 3)  # nothing is read again
        assert sorted(path.name for path in (tmp_path / "run" / "gather").iterdir()) == [
            "dropped.jsonl", "pairs.jsonl", "stage.json",
        ]  # fmt: skip
        (tmp_path / "run" / "gather" / "pairs.jsonl").write_text("{}\n")
        assert not folder.stage("gather", n=1).finished  # tampered with: done again
    assert stage.record.outputs["pairs"] == gathered_digest(tmp_path, whole)


def gathered_digest(folder, whole):
    gathered(folder, {"a": whole}, seed=3, place="other")
    return digest_of_file(folder / "other" / "gather" / "pairs.jsonl")


@pytest.mark.slow
def test_memory_holds_places_not_records(tmp_path):
    def peak(chars):
        rows = [(f"question {number}", f"{number} " + "x" * chars) for number in range(10_000)]
        corpora = {"a": corpus(tmp_path, f"a{chars}", rows)}
        tracemalloc.start()
        try:
            stage = Stage(tmp_path / f"run{chars}", "gather", {})
            gather(stage, corpora, Mixture(size=8_000), 0)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    short, long = peak(10), peak(3000)
    assert (tmp_path / "run3000" / "pairs.jsonl").stat().st_size > 24_000_000
    assert long < short + 6_000_000 < 12_000_000  # a few chunks of text, and the places


def test_the_make_up(tmp_path):
    corpora = {
        "a": corpus(tmp_path, "a", [*numbered("a", 12), ("", "x")], languages="en", licence="MIT", rows=13),
        "b": corpus(tmp_path, "b", numbered("b", 4)),
    }
    _, counts, _ = gathered(tmp_path, corpora)
    title, heads, rows = make_up(corpora, counts)
    assert title == "the mixture: 16 records"
    assert [dict(zip(heads, row, strict=True)) for row in rows] == [
        {
            "corpus": "a", "languages": "en", "licence": "MIT", "published": "13", "read": "13",
            "dropped": "1 (empty 1)", "taken": "12", "share": "75.0 %",
        },
        {
            "corpus": "b", "languages": "unknown", "licence": "unknown", "published": "unknown", "read": "4",
            "dropped": "0", "taken": "4", "share": "25.0 %",
        },
    ]  # fmt: skip
    title, heads, rows = make_up({"hc3": InstructionSet(hub="x/y", rows=37175, languages="en,zh", licence="L")}, None)
    assert (title, heads) == ("the corpora", ("corpus", "languages", "licence", "published", "where"))
    assert rows == [("hc3", "en,zh", "L", "37,175", "hub: x/y")]


@pytest.mark.skipif(not REAL.is_dir(), reason="CoachLM's real files are not beside this checkout")
def test_coachlms_experts_and_a_leak_of_its_test_set(tmp_path):
    names = {"instruction": "Raw Instruction", "input": "Raw Input", "output": "Raw Response"}
    experts = InstructionSet(path=str(REAL / "expert_revisions.json"), fields=names, languages="en")
    test = {"instruction": "instruction", "input": "input", "output": "reference response"}
    leaked = InstructionSet(path=str(REAL / "coachlm150.json"), fields=test, languages="en")
    wall = {pair.prompt for pair in leaked.pairs("test")}

    def objection(pair):
        return ("leak", "a test question") if pair.prompt in wall else None

    _, counts, _ = gathered(tmp_path, {"experts": experts, "leaked": leaked}, objection=objection)
    assert counts["read by corpus"] == {"experts": 2301, "leaked": 150}
    assert counts["dropped by reason"]["leaked leak"] == 150
    assert counts["dropped by reason"]["experts empty"] == 2
    assert "experts leak" not in counts["dropped by reason"]


def test_shares_of_a_corpus_with_nothing_left_are_no_empty_mixture(tmp_path):
    corpora = {"a": corpus(tmp_path, "a", numbered("a", 9)), "b": corpus(tmp_path, "b", [("", "no question")])}
    with pytest.raises(DataError, match="has b, of which no record is left"):
        gathered(tmp_path, corpora, Mixture(shares={"a": 0.5, "b": 0.5}))


def test_a_record_nearly_like_one_that_is_left_out_is_not_lost_with_it(tmp_path):
    words = " ".join(f"word{number}" for number in range(40))
    corpora = {"a": corpus(tmp_path, "a", [(f"{words} secret", "x"), (words, "x")])}
    pairs, counts, _ = gathered(
        tmp_path, corpora, Mixture(near=0.5), objection=lambda pair: ("leak", "") if "secret" in pair.instruction else None
    )
    assert [pair.instruction for pair in pairs] == [words]
    assert counts["dropped by reason"] == {"a leak": 1}
