import json

import pytest

from errata.dataset.multiple_choice import MultipleChoice, chosen
from errata.records import Question

CITIES = {"A": "London", "B": "Paris", "C": "Rome", "D": "None of the above"}
NUMBERS = {"A": "4", "B": "6", "C": "12", "D": "24"}
GROUPS = {"A": "True, True", "B": "False, False", "C": "True, False", "D": "False, True"}
LONG = {
    "A": "on the posterior wall.", "B": "under the mucosa of the tongue.", "C": "between the folds.", "D": "at all three sites.",
}  # fmt: skip
ARTICLE = {"A": "A supporter of the king", "B": "A Progressive", "C": "A businessman", "D": "An opponent"}
FIVE = {"1": "north", "2": "south", "3": "east", "4": "west", "5": "up"}

CHOSEN = [
    ("B", CITIES, "B"),
    ("B", CITIES, "(B)"),
    ("B", CITIES, "B. Paris"),
    ("B", CITIES, " B. Paris\n\nExplanation: A is wrong, and so are C and D."),
    ("B", CITIES, "**B) Paris**"),
    ("B", CITIES, "The answer is B."),
    ("B", CITIES, "The correct answer is: B. Paris lies on the Seine."),
    ("B", CITIES, "Answer: B"),
    ("B", CITIES, "Answer: (B) Paris"),
    ("B", CITIES, "### Answer\nB"),
    ("B", CITIES, "So the final answer would be option B, since A and C are not in France."),
    ("B", CITIES, r"\boxed{B}"),
    ("B", CITIES, r"Therefore, the answer is \boxed{\text{(B)}}."),
    ("B", CITIES, "I would choose B."),
    ("B", CITIES, "Option B is the correct one."),
    ("B", CITIES, "B is correct because France has one capital."),
    ("B", CITIES, "The capital of France is Paris."),
    ("B", CITIES, "the city of lights, PARIS"),
    ("B", CITIES, "A: London is the capital of England, so it is not the answer. The correct answer for France is: B. Paris."),
    ("B", CITIES, "The function of the capital falls to B. Paris."),
    ("B", CITIES, "Let me think. London is in England. Rome is in Italy. So the capital is Paris."),
    ("B", CITIES, "It is neither A, nor C. It must be B."),
    ("B", CITIES, "The answer is not A. The answer is B."),
    ("B", CITIES, "The answer isn't A, it is clear. Hence B."),
    ("D", CITIES, "None of the above"),
    ("D", CITIES, "The answer is D. None of the above."),
    ("C", NUMBERS, "The order of an element is the least common multiple. The orders are 4 and 6, so the maximum is 12."),
    ("A", NUMBERS, "The index is 6 divided by 3. Therefore, the order is 2.\n\nSo, the answer is A."),
    ("C", GROUPS, "The answer is C. True, False.\n\nStatement 1 is true but Statement 2 is false."),
    ("C", GROUPS, "C. True, False\n\nExplanation:\nStatement 1 is a property of a group. A group has B and D."),
    ("A", GROUPS, "A. True, True.\n\nEvery domain has a field."),
    ("C", LONG, "C. between the folds.\n\nOption A is incorrect. Option B is also incorrect. Therefore, the correct answer is option C."),
    ("A", LONG, "A. on the posterior wall.\n\nThe tissue is found at the back. Therefore, the correct answer is A."),
    ("D", LONG, "Among the given options, D. at all three sites, is the most likely one."),
    ("B", ARTICLE, "The answer is A Progressive."),
    ("C", ARTICLE, "He was A businessman, not an opponent of the king."),
    ("2", FIVE, "2. south"),
    ("2", FIVE, "The answer is 2."),
    ("2", FIVE, "You would walk south."),
    (None, CITIES, ""),
    (None, CITIES, "I'm sorry, but I cannot answer this question."),
    (None, CITIES, "A city lies on a river."),
    (None, CITIES, "Both A and B are capitals."),
    (None, NUMBERS, "None of the given options is right: it is 2."),
]  # fmt: skip


@pytest.mark.parametrize(("expected", "choices", "response"), CHOSEN)
def test_the_option_that_a_response_settles_on(expected, choices, response):
    assert chosen(response, choices) == expected


def question(gold="B", choices=CITIES):
    return Question("mmlu/train/0", "mmlu", "train", "The capital of France is", gold, f"Answer: {gold}", choices=choices)


@pytest.mark.parametrize(
    ("kind", "response"),
    [
        ("no_answer", "  "),
        ("refusal", "I'm sorry, I cannot help with that."),
        ("format", "France is a country in Europe."),
        ("wrong_value", "The answer is C."),
    ],
)
def test_a_wrong_response_has_a_kind_with_evidence(kind, response):
    verdict = MultipleChoice("mmlu").grade(question(), response)
    assert (verdict.correct, verdict.kind) == (False, kind)
    assert verdict.detail


PAPER = [  # the source's rules, warts and all
    ("B", "The answer is B."),
    ("B", "I choose option B"),
    ("B", "B is the correct one"),
    ("C", "C. is first, the answer isn't given"),
    ("A", "A city: B, of course"),  # the article
    ("A", "It is neither A nor C, but rather B"),  # the first capital
    ("B", "paris"),  # no capital A to D: the most alike text
    ("D", "it is the city that is called paris, i think"),  # "None of the above" has more in common with it
    ("B", "B. Paris"),
    ("C", "The correct one is C for the first, and B for the second"),
]


@pytest.mark.parametrize(("expected", "response"), PAPER)
def test_the_rules_of_the_source(expected, response):
    assert MultipleChoice("mmlu", protocol="paper").grade(question(), response).answer == expected


def test_the_source_never_finds_a_digit_by_its_label_but_the_corrected_rules_do():
    asked = question("2", FIVE)
    assert not MultipleChoice("arc", protocol="paper").grade(asked, "The answer is 2. It is B or so").correct
    assert MultipleChoice("arc").grade(asked, "The answer is 2.").correct


REPLY = """### Problem 1
Question: Which city is the capital of Italy?
A. Milan
B. Rome
C. Turin
D. Naples
Answer: B
Explanation: Rome has been the capital since 1871.

**Question 2:** Which of these is a prime?
(A) 4
(B) 6
(C) 7
(D) 9

**Answer:** C

### Problem 3
Question: Which is red?
A. blood
B. grass
Answer: E

### Problem 4
Question: What is it?
Answer: B
"""


def test_practice_is_parsed():
    dataset = MultipleChoice("mmlu")
    rome, prime, outside, bare = dataset.parse(REPLY)
    assert rome.question.endswith("Which city is the capital of Italy?\nA. Milan\nB. Rome\nC. Turin\nD. Naples")
    assert rome.question.startswith(dataset.instructions["corrected"])
    assert rome.solution == "Rome has been the capital since 1871.\n\nAnswer: B"
    assert (prime.answer, prime.malformed) == ("C", None)
    assert "C. 7" in prime.question
    assert "the answer is E" in outside.malformed
    assert "the options are missing" in bare.malformed


@pytest.mark.parametrize(
    ("options", "answer", "reason"),
    [
        (["4", "6", "9"], "A", "3 options; expected 4"),
        (["4", "6", "7", "8", "9"], "C", "5 options; expected 4"),
        (["4", "7", "9", "7"], "B", "the options B and D are the same: 7"),
        (["New  York", "Rome", "new york", "Oslo"], "B", "the options A and C are the same: New  York"),
        (["4", "6", "7", "9"], "E", "the answer is E, which is no option"),
        (["4", "6", "", ""], "B", "option C has no text"),
    ],
)
def test_practice_needs_four_different_options_and_a_key_among_them(options, answer, reason):
    dataset = MultipleChoice("mmlu")
    lines = [f"{letter}. {option}" for letter, option in zip("ABCDE", options, strict=False)]
    plain = "\n".join(["### Problem 1", "Question: Which one?", *lines, f"Answer: {answer}", "Explanation: So it is."])
    problem = {"question": "Which one?", "options": options, "answer": answer, "explanation": "So it is."}
    for reply in (plain, json.dumps({"problems": [problem]})):
        (parsed,) = dataset.parse(reply)
        assert parsed.malformed == reason


@pytest.mark.parametrize("protocol", ["paper", "corrected"])
def test_no_answer_is_right_where_a_reviser_left_no_options(protocol):
    question = Question("1", "mmlu", "", "Which city is it? It is one in France.", "B")
    verdict = MultipleChoice("mmlu", protocol=protocol).grade(question, "The answer is B.")
    assert (verdict.correct, verdict.answer, verdict.kind) == (False, None, "format")
