"""Each judge: what it asks about an item, and what it makes of the replies."""

import json

import pytest

from errata.judge.base import Item
from errata.judge.belle import Belle, category
from errata.judge.comparison import outcome, summarise
from errata.judge.dimensions import overall, read_dimensions
from errata.judge.mmcu import MMCU
from errata.judge.pairwise import Pairwise
from errata.judge.rating import Rating
from errata.judge.rubric import Rubric
from errata.records import Judgement, Pair, Reply

PAIR = Pair("vicuna/1", "Name a {colour}.", "", "Red.", "vicuna", skill="generic")
ITEM = Item(PAIR, "Blue, like the sky.", "Green.")


def replied(judge, item, *texts, finish_reason="stop"):
    requests = judge.requests(item)
    assert len(requests) == len(texts)
    return judge.judgement(
        item,
        [
            Reply(r.id, r.dataset, r.error_id, "k", text, finish_reason, None if text is not None else "HTTP 500")
            for r, text in zip(requests, texts, strict=True)
        ],
    )


RULE = [  # forward, reverse as (first answer, second answer); outcome, contradicts, and by the unanimous rule
    ((8, 7), (9, 6), "win", False, "win"),
    ((8, 7), (7, 7), "win", False, "tie"),
    ((7, 7), (9, 6), "win", False, "tie"),
    ((7, 7), (8, 8), "tie", False, "tie"),
    ((8, 7), (6, 9), "tie", True, "tie"),
    ((1, 9), (9, 8), "tie", True, "tie"),
    ((7, 8), (7, 7), "loss", False, "tie"),
    ((7, 8), (7, 8), "loss", False, "loss"),
    ((7, 8), None, None, False, None),
    (None, None, None, False, None),
]


@pytest.mark.parametrize(("forward", "reverse", "expected", "contradicts", "unanimous"), RULE)
def test_two_orders_become_one_outcome(forward, reverse, expected, contradicts, unanimous):
    assert outcome((forward, reverse)) == (expected, contradicts)
    assert outcome((forward, reverse), unanimous=True) == (unanimous, contradicts)


def test_a_comparison_is_asked_in_both_orders():
    forward, reverse = Pairwise().requests(ITEM)
    assert (forward.id, reverse.id, forward.dataset, forward.error_id) == (
        "vicuna/1/forward", "vicuna/1/reverse", "vicuna", "vicuna/1",
    )  # fmt: skip
    first, second = (request.messages[-1]["content"] for request in (forward, reverse))
    assert first.index("Blue, like") < first.index("Green.")
    assert second.index("Green.") < second.index("Blue, like")
    assert "Name a {colour}." in first


def test_the_reverse_scores_are_turned_round():
    found = replied(Pairwise(), ITEM, "8 7\nbetter", "6 9\nthe second is better")
    assert found.orders == ((8, 7), (9, 6))
    assert (found.outcome, found.contradicts, found.lengths) == ("win", False, (19, 6))
    assert (found.testset, found.skill, found.id) == ("vicuna", "generic", "vicuna/1")
    assert found.request_ids == ("vicuna/1/forward", "vicuna/1/reverse")
    split = replied(Pairwise(), ITEM, "8 7", "9 6")
    assert (split.outcome, split.contradicts) == ("tie", True)


@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        (("8 7", "I like both."), "unparsed"),
        (("hm", "hm"), "unparsed"),
        (("8 70", "7 8"), "unparsed"),
        (("8 7", None), "no_reply"),
        ((None, None), "no_reply"),
    ],
)
def test_without_both_verdicts_there_is_none(texts, reason):
    found = replied(Pairwise(), ITEM, *texts)
    assert (found.outcome, found.contradicts, found.reason) == (None, False, reason)
    row = summarise([found])["all"]
    assert (row["n"], row["ties"], row["no_verdict"], row["reasons"]) == (0, 0, 1, {reason: 1})
    assert row["wr1"] is None


def test_a_cut_reply_will_do_where_its_first_line_is_whole():
    assert replied(Pairwise(), ITEM, "8 7\nThe first ans", "7 8\nThe", finish_reason="length").outcome == "win"
    assert replied(Pairwise(), ITEM, "8 1", "1 8", finish_reason="length").reason == "unparsed"  # 1, or the head of 10
    for cut in ("Here they are:\n9 1", "<think>Hm.</think>\n9 1", "Answer 1: 9\nAnswer 2: 1"):
        assert replied(Pairwise(), ITEM, cut, "1 9\nfine", finish_reason="length").reason == "unparsed"


def test_a_score_that_may_have_been_cut_is_none():
    assert replied(Rating(), Item(PAIR, "Blue."), "Thinking.\nScore: 4", finish_reason="length").reason == "unparsed"
    assert replied(Rating(), Item(PAIR, "Blue."), "Score: 4\nIt is ri", finish_reason="length").score == 4
    assert replied(Belle(), Item(PAIR, "Blue."), "Score: 0", finish_reason="length").score is None
    good = "readability: 80\nfeasibility: 80\ncontextualization: 90\n"
    bad = "safety: 40\ncorrectness: 80\nrelevance: 80\ncomprehensiveness: 80\nreadability: 7"
    found = replied(Rubric(), Item(PAIR, "Blue."), good, bad, finish_reason="length")
    assert (found.parts["instruction"], found.parts["response"], found.score) == (90, None, None)


def test_choice():
    judge = Pairwise(form="choice", unanimous=True)
    assert replied(judge, ITEM, "1", "2\nbecause").outcome == "win"
    assert replied(judge, ITEM, "Tie", "Tie").outcome == "tie"
    conflict = replied(judge, ITEM, "1", "1")
    assert (conflict.outcome, conflict.contradicts) == ("tie", True)
    assert replied(judge, ITEM, "2", "1").outcome == "loss"
    assert "Tie" in judge.requests(ITEM)[0].messages[-1]["content"]


def test_figures_of_comparisons_are_pooled_and_averaged():
    def made(name, result, orders, lengths=(5, 5)):
        return Judgement(f"{name}/1", name, outcome=result, orders=orders, contradicts=outcome(orders)[1], lengths=lengths)

    win, loss, split = ((9, 1), (8, 2)), ((1, 9), (2, 8)), ((9, 1), (1, 9))
    found = summarise([made("a", "win", win)] * 3 + [made("a", "tie", split)] + [made("b", "loss", loss)], lengths=True)
    assert found["sets"]["a"]["wr1"] == 3.5 / 4
    assert found["sets"]["a"]["contradiction_rate"] == 1 / 4
    assert (found["all"]["for_the_answer_shown_first"], found["all"]["for_the_answer_shown_second"]) == (1, 0)
    assert found["all"]["headline"] == pytest.approx(1.4)
    assert found["mean_of_sets"]["headline"] == pytest.approx((1.75 + 0) / 2)
    assert found["mean_of_sets"]["wr2"] == 0.5
    assert found["all"]["length_controlled_win_rate"] == pytest.approx(3.5 / 5)


def test_rating_before_and_after():
    before = Pair("alpaca/1", "Name colour", "", "green", "alpaca")
    after = Item(Pair("alpaca/1", "Name one colour.", "", "Green.", "alpaca"), "Green.", "green", before)
    asked = [request.messages[-1]["content"] for request in Rating().requests(after)]
    assert "Name one colour." in asked[0]
    assert "Green." in asked[0]
    assert "Name colour" in asked[1]
    assert "Name one colour." not in asked[1]
    found = replied(Rating(), after, "Score: 4.5/5\nGood.", "Score: 3")
    assert (found.score, found.parts, found.reason) == (4.5, {"before": 3}, "")
    assert replied(Rating(), after, "Score: 7", "Score: 3").reason == "unparsed"
    assert replied(Rating(), after, None, "Score: 3").reason == "no_reply"
    alone = Item(PAIR, "Blue.")
    assert replied(Rating(), alone, "4").parts == {}


def test_the_histogram_has_coachlms_ranges():
    scores = [0, 3.4, 3.5, 3.9, 4, 4.4, 4.5, 5, None]
    judgements = [
        Judgement(str(n), "a", score=score, parts={"before": 3.5}, reason="" if score is not None else "unparsed")
        for n, score in enumerate(scores)
    ]
    row = Rating().summary(judgements)["sets"]["a"]
    assert row["after"]["histogram"] == [2, 2, 2, 2]
    assert row["after"]["n"] == 8
    assert row["after"]["mean"] == pytest.approx(sum(scores[:-1]) / 8)
    assert row["after"]["share_high"] == 0.25
    assert row["before"]["histogram"] == [0, 9, 0, 0]
    assert (row["no_verdict"], row["reasons"]) == (1, {"unparsed": 1})


RESPONSE = {"safety": 40, "correctness": 80, "relevance": 80, "comprehensiveness": 80, "readability": 80,
            "richness": 90, "humanization": 100}  # fmt: skip


@pytest.mark.parametrize(  # the report's own cases: what is wrong, and the score of the whole
    ("changed", "expected"),
    [
        ({}, 100),
        ({"safety": 10}, 10),
        ({"safety": 10, "correctness": 5}, 10),
        ({"correctness": 20}, 20),
        ({"correctness": 50, "readability": 70}, 50),
        ({"relevance": 9}, 9),
        ({"comprehensiveness": 5}, 5),
        ({"readability": 70}, 70),
        ({"readability": 75, "richness": 82, "humanization": 92}, 75),
        ({"richness": 82, "humanization": 99}, 82),
        ({"humanization": 92}, 92),
        ({"safety": None}, None),
        ({"safety": 10, "richness": None}, 10),
        ({"richness": None}, None),
    ],
)
def test_the_first_shortfall_decides(changed, expected):
    dimensions = [dimension for dimension in Rubric().dimensions() if dimension.side == "response"]
    assert overall(dimensions, RESPONSE | changed) == expected


def test_a_rubrics_reply_is_read_by_line():
    judge = Rubric()
    sides = {side: [d for d in judge.dimensions() if d.side == side] for side in ("instruction", "response")}
    assert (len(sides["instruction"]), len(sides["response"])) == (3, 7)
    assert len({d.name for d in judge.dimensions()}) == 9
    text = "- **Readability:** 80\nfeasibility: 65/80 - vague\ncontextualization: 79"
    assert read_dimensions(text, sides["instruction"]) == {"readability": 80, "feasibility": 65, "contextualization": None}
    best = "\n".join(f"{name}: {score}" for name, score in (RESPONSE | {"humanization": 92}).items())
    found = replied(judge, Item(PAIR, "Blue."), text, best)
    assert found.score == 92
    assert found.parts["instruction"] == 65
    assert found.parts["response.humanization"] == 92
    lacking = replied(judge, Item(PAIR, "Blue."), text, best.replace("safety: 40", ""))
    assert (lacking.score, lacking.reason, lacking.parts["response.safety"]) == (None, "unparsed", None)
    both = Item(PAIR, "Blue.", "blue", PAIR)
    found = replied(judge, both, text, best, text, best.replace("92", "99"))
    assert (found.parts["before"], found.parts["before.instruction"]) == (99, 65)
    summary = judge.summary([found])
    assert summary["parts"]["vicuna"]["response"] == {"n": 1, "mean": 92}
    assert summary["sets"]["vicuna"]["before"]["share_high"] == 1


def test_a_rubric_of_the_users_is_checked(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps([{"side": "response", "name": "wit", "level": "odd", "low": 0, "high": 9, "checks": "wit"}]))
    (problem,) = Rubric(rubric=str(path)).problems()
    assert "wit" in problem
    assert str(path) in problem
    assert Rubric(rubric=str(tmp_path / "none.json")).problems()


def test_belle_shows_the_reference_only_where_there_is_one_right_answer():
    for skill, shown in (("open qa", True), ("generation", False), ("brainstorming", False), ("rewrite", False),
                         ("math", True), ("summarization", True), ("unheard of", True)):  # fmt: skip
        pair = Pair("belle/1", "中国的首都是哪里?", "", "北京是中国的首都", "belle", skill=skill)
        (request,) = Belle().requests(Item(pair, "北京"))
        assert ("北京是中国的首都" in request.messages[-1]["content"]) is shown, skill
    found = replied(Belle(), Item(pair, "北京"), "Score: 0.9\n与参考一致")
    assert (found.score, found.skill) == (0.9, "unheard of")
    assert replied(Belle(), Item(pair, "北京"), "90").reason == "unparsed"


def test_belles_macro_average_counts_every_class_the_same():
    def made(skill, *scores):
        return [Judgement(f"{skill}{n}", "belle", skill, score=s, reason="" if s is not None else "unparsed")
                for n, s in enumerate(scores)]  # fmt: skip

    published = ["Code", "Math"]  # in the order of the paper's columns
    row = Belle().summary(made("math", 1, 0, 0.5, None) + made("code", 0.8))["sets"]["belle"]
    assert {name: part["mean"] for name, part in row["categories"].items()} == {"Math": 50, "Code": 80}
    assert list(row["categories"]) == published
    assert (row["macro"], row["no_verdict"], row["reasons"]) == (65, 1, {"unparsed": 1})
    assert row["all"]["mean"] == pytest.approx(57.5)
    nothing = Belle().summary(made("math", None) + made("code", 1))["sets"]["belle"]
    assert nothing["macro"] is None  # a class without a grade is no class with 0
    assert category("Close QA") == category("closed_qa") == "Close QA"
    assert category("brainstorming") == "Brainstorm"


def test_mmcu_compares_sets_of_letters():
    options = "A:家庭\nB:大学\nC:杂志\nD:意识"
    pair = Pair("mmcu/0", "___不是社会化的载体。", options, "D", "mmcu", skill="心理")
    several = Pair("mmcu/1", "哪些?", options, "ACD", "mmcu", skill="医疗/内科")
    judge = MMCU()
    right = judge.judgement(Item(pair, "答案是D。"), [])
    assert (right.score, right.parts) == (1, {"named": 1})
    assert judge.judgement(Item(pair, "D 意识"), []).score == 1
    assert judge.judgement(Item(pair, "答案是A、D"), []).score == 0
    assert judge.judgement(Item(several, "选D、A和C"), []).score == 1
    silent = judge.judgement(Item(several, "不知道"), [])
    assert (silent.score, silent.parts) == (0, {"named": 0})
    row = judge.summary([right, silent])["sets"]["mmcu"]
    assert {name: part["mean"] for name, part in row["categories"].items()} == {"Psychology": 100, "Medicine": 0}
    assert (row["macro"], row["named_no_letter"]) == (50, 1)
    nothing = judge.judgement(Item(Pair("mmcu/2", "?", options, "", "mmcu"), "A"), [])
    assert (nothing.score, nothing.reason) == (None, "no_reference_letters")


def test_problems_name_the_setting():
    assert [judge.problems() for judge in (Pairwise(), Rating(), Rubric(), Belle(), MMCU())] == [[]] * 5
    assert "judge.form" in Pairwise(form="stars").problems()[0]
    assert "judge.edges" in Rating(edges=(4.5, 4.0)).problems()[0]
    assert "judge.high" in Rating(high=9).problems()[0]


def test_a_prompt_of_the_users(tmp_path):
    (tmp_path / "user.txt").write_text("{question}|{first}|{second}|{{}}")
    (request, _) = Pairwise(prompts_dir=str(tmp_path)).requests(ITEM)
    assert [message["content"] for message in request.messages] == ["Name a {colour}.|Blue, like the sky.|Green.|{}"]
    (tmp_path / "user.txt").write_text("{questoin}")
    (problem,) = Pairwise(prompts_dir=str(tmp_path)).problems()
    assert "{questoin}" in problem
    (tmp_path / "user.txt").unlink()
    assert "user.txt" in Pairwise(prompts_dir=str(tmp_path)).problems()[0]


def test_prompts_of_the_users_are_utf_8(tmp_path):
    (tmp_path / "user.txt").write_bytes("Bewerte, größer ist besser: {question} {answer}".encode("latin-1"))
    (problem,) = Rating(prompts_dir=str(tmp_path)).problems()
    assert "user.txt" in problem
    assert "UTF-8" in problem
