"""What verdicts look like, and what they are read as."""

import pytest

from errata.judge.mmcu import letters, subject
from errata.judge.reading import choice, rating, scores

SCORES = [
    ("8 7\nAnswer 1 is more helpful.", (8, 7)),
    ("9 8.5\nBoth assistants gave relevant answers; Assistant 2 had 3 slips.", (9, 8.5)),
    ("10 9", (10, 9)),
    ("8.0 9.0\n\nThe second ...", (8, 9)),
    ("8, 7\nbecause", (8, 7)),
    ("8,7\n", (8, 7)),
    ("8,5 7,5\nDer erste ...", (8.5, 7.5)),
    ("8/10 7/10\n", (8, 7)),
    ("8 out of 10, 6 out of 10", (8, 6)),
    ("**8 7**\nWhy: ...", (8, 7)),
    ("`6 9`", (6, 9)),
    ("Scores: 8 7", (8, 7)),
    ("Score: 8 and 7", (8, 7)),
    ("Answer 1: 8, Answer 2: 7\nThe first ...", (8, 7)),
    ("Assistant 1: 8\nAssistant 2: 6.5\nAssistant 1 is ...", (8, 6.5)),
    ("Answer 2: 9, Answer 1: 4", (4, 9)),
    ("Assistant A: 3 | Assistant B: 9", (3, 9)),
    ("[8, 7]", (8, 7)),
    ('{"answer_1": 8, "answer_2": 7}', (8, 7)),
    ("Scores (1-10): 8 7", (8, 7)),
    ("Here is my verdict.\n7 7\nThey are alike.", (7, 7)),
    ("\n\n  5   6  \n", (5, 6)),
    ("<think>Answer 1 deserves 9 9 ... no.</think>\n4 6\nfine", (4, 6)),
    ("8 7\n回答1更详细。", (8, 7)),
    ("8分 7分\n第一个回答更好", (8, 7)),
    ("8 7", (8, 7)),
    ("8、7\n理由", (8, 7)),
    ("回答1:8分,回答2:9分", (8, 9)),
    ("8 7\u2028another way to end a line", (8, 7)),
    ("Score for Assistant 1: 8\nScore for Assistant 2: 7", (8, 7)),
    ("Assistant 1's score: 8\nAssistant 2's score: 9", (8, 9)),
    ("Answer 1: 8 (out of 10)\nAnswer 2: 10 (out of 10)", (8, 10)),
    ("1. 8\n2. 9", None),  # an enumeration; 1 and 8 are no scores
    ("11 7\nout of range", None),
    ("0 5", None),
    ("-1 -1", None),
    ("8\nonly one", None),
    ("8 7 6", None),
    ("Both answers are good, and I cannot choose.", None),
    ("The 2 answers have 3 faults.", None),
    ("Answer 1 has 3 mistakes while answer 2 has 5.", None),
    ("I cannot rate these.\nSorry.\nReally.\n8 7", None),  # too far down
    ("8x 7y", None),
    ("90% 80%", None),
    ("", None),
]


@pytest.mark.parametrize(("text", "expected"), SCORES)
def test_two_scores(text, expected):
    assert scores(text) == expected


CHOICES = [
    ("1", (1, 0)),
    ("2\nBecause it is shorter.", (0, 1)),
    ("Tie", (0.5, 0.5)),
    ("tie.\nBoth are right.", (0.5, 0.5)),
    ("**2**", (0, 1)),
    ("Answer 1", (1, 0)),
    ("Response 2 is better.", (0, 1)),
    ("[[A]]", (1, 0)),
    ("[[C]]", (0.5, 0.5)),
    ("My verdict: 2", (0, 1)),
    ("回答2更好。", (0, 1)),
    ("平局", (0.5, 0.5)),
    ("1\n\n### Reason: the first keeps to the point.", (1, 0)),
    ("<think>2 perhaps</think>1", (1, 0)),
    ("1. It is clear", None),
    ("Answer 1 is worse", None),
    ("Answer 1 is the worse one", None),
    ("Response 1 is better than Response 2", (1, 0)),
    ("Answer 1 is clearly the better one", (1, 0)),
    ("Answer 1 is not better", None),
    ("Answer 1 is not the better one", None),
    ("1 2", None),
    ("It's a tie.", (0.5, 0.5)),
    ("Neither", None),
    ("A good question", None),
    ("", None),
]


@pytest.mark.parametrize(("text", "expected"), CHOICES)
def test_a_choice(text, expected):
    assert choice(text) == expected


RATINGS = [
    ("4.5", 4.5),
    ("Score: 4.5/5\nIt is accurate.", 4.5),
    ("Score: 4", 4),
    ("**Score:** 3.5 out of 5", 3.5),
    ("4.5 - nearly perfect", 4.5),
    ("5/5", 5),
    ("4, because one fact is wrong", 4),
    ("0", 0),
    ("评分:4.5\n理由...", 4.5),
    ("得分为 3 分", 3),
    ("4.5分", 4.5),
    ("On a scale of 0 to 5, I rate this 4.5.", 4.5),
    ("The accuracy is good.\nI would give it a score of 4.", 4),
    ("<think>Score: 1</think>Score: 5", 5),
    ("Score (0-5): 2", 2),
    ("4.85", 4.85),
    ("Score: 7", None),
    ("Score: 9/10", None),
    ("4.5/10", None),
    ("Score: 4.5/10", None),  # not 4
    ("Score: 4.5 out of 10", None),
    ("Score: 4.5%", None),
    ("Score: 4.5-5", None),
    ("Score: 4,5", 4.5),
    ("4,5/5", 4.5),
    ("-1", None),
    ("90%", None),
    ("4 of the facts are wrong", None),
    ("1. Accuracy is good", None),
    ("Excellent!", None),
    ("", None),
]


@pytest.mark.parametrize(("text", "expected"), RATINGS)
def test_a_rating_from_0_to_5(text, expected):
    assert rating(text, 0, 5) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0.8", 0.8), ("Score: 0.75\n", 0.75), ("得分:1", 1), ("1/1", 1), ("85", None), ("0.8/1", 0.8), ("8/10", None)],
)
def test_a_grade_from_0_to_1(text, expected):
    assert rating(text, 0, 1) == expected


FAMILY = {"A": "家庭", "B": "大学", "C": "杂志", "D": "意识"}
LETTERS = [
    ("A、B，以及D", "ABD"),
    ("答案是A、C，和D。", "ACD"),
    ("The answers are A, B, and C.", "ABC"),
    ("A, B, and C are carriers, so it is D", None),
    ("正确选项为D", "D"),
    ("正确的是C。", "C"),
    ("不正确的是C", None),
    ("D", "D"),
    ("D.", "D"),
    ("D:意识", "D"),
    ("D 意识", "D"),
    ("答案是A、C", "AC"),
    ("答案是A、C。因为B不对。", "AC"),
    ("正确答案为:ABD", "ABD"),
    ("答案:D。解析:意识不是载体,选A是错的。", "D"),
    ("本题选择AC", "AC"),
    ("应选(B)", "B"),
    ("故选B。", "B"),
    ("A错误,选B", "B"),
    ("不选A,选B", "B"),
    ("不应选A,应选C", "C"),
    ("A和C正确", "AC"),
    ("选项A错误,选项B正确", "B"),
    ("B项正确", "B"),
    ("The answer is B.", "B"),
    ("The correct answer is A and C", "AC"),
    ("Answer: A, B, C", "ABC"),
    ("ABC", "ABC"),
    ("A B D", "ABD"),
    ("【答案】B", "B"),
    ("(C)", "C"),
    ("A、C", "AC"),
    ("<think>选A</think>选D", "D"),
    ("家庭是社会化的载体。所以答案为 D。", "D"),
    ("A公司应当赔偿", None),
    ("A dog is an animal", None),
    ("A或B", None),
    ("我不知道", None),
    ("答案不是A", None),
    ("", None),
]


@pytest.mark.parametrize(("text", "expected"), LETTERS)
def test_letters(text, expected):
    assert letters(text, FAMILY) == (None if expected is None else frozenset(expected))


@pytest.mark.parametrize(
    ("skill", "expected"),
    [("心理", "Psychology"), ("医疗/内科", "Medicine"), ("法律", "Law"), ("Education", "Education"), ("历史", "历史")],
)
def test_subject(skill, expected):
    assert subject(skill) == expected
