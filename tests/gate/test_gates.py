import pytest

from errata.dataset.word_problem import WordProblems
from errata.gate.answer import Answer
from errata.gate.base import Context
from errata.gate.duplicate import Duplicate
from errata.gate.leak import Leak
from errata.gate.length import Length
from errata.records import Example, Question

LAKE = "Vera stays at the lake for 4 weeks and then for 2 days more. How many days does Vera stay at the lake in all?"


def row(prompt, response="3 + 4 = 7\n#### 7", answer="7", number=1):
    return Example(f"1/toy/train/0/{number}", "toy", prompt, response, answer, "toy/train/0", "1/toy/train/0", 1)


def question(text, name="toy/test/0", split="test"):
    return Question(name, "toy", split, text, "7")


def context(**changes):
    values = {
        "dataset": WordProblems("toy"), "train": [], "tests": [], "earlier": [], "max_length": 50,
        "count_tokens": lambda prompt, response: len((prompt + " " + response).split()),
    }  # fmt: skip
    return Context(**(values | changes))


def test_answer_recomputes_the_worked_line():
    check = Answer().open(context())
    assert check(row("How many?")) is None
    assert check(row("How many?", "3 + 4 = 8\n#### 8", "8")) == ("wrong_sum", "3 + 4 = 8, but it is 7")
    assert check(row("How many?", "3 + 4 = 7\n#### 9", "9"))[0] == "answer_mismatch"


def test_length_counts_the_students_tokens():
    check = Length().open(context(max_length=9))
    assert check(row("How many?")) is None
    assert check(row("How many " * 9))[0] == "too_long"


def test_duplicate_compares_with_train_earlier_rows_and_itself():
    train, earlier = [question("What is 3 + 4?", "toy/train/5", "train")], [row("A jar holds 3 pens. How many?", number=9)]
    check = Duplicate().open(context(train=train, earlier=earlier))
    assert check(row("what is 3 + 4")) == ("duplicate", "the same question as toy/train/5")
    assert check(row("A jar holds 3 pens! How many?"))[0] == "duplicate"
    assert check(row(LAKE)) is None
    assert check(row(LAKE, number=2)) == ("duplicate", "the same question as 1/toy/train/0/1")
    assert check(row(LAKE.replace("in all", "altogether"), number=3))[0] == "near_duplicate"
    assert check(row("Zoe shares 12 coins among 4 friends. How many does each friend get?", number=4)) is None


@pytest.mark.parametrize(
    ("prompt", "leaks"),
    [
        (LAKE, True),
        (LAKE.upper().replace(".", " !"), True),
        ("Long before that, " + LAKE.removeprefix("Vera stays "), True),
        ("Vera stays at the lake for 5 weeks and then for 3 days. How many days is that?", False),
        ("How many?", True),
        ("How many pens?", False),
    ],
)
def test_leak_finds_test_questions_whole_or_in_part(prompt, leaks):
    check = Leak().open(context(tests=[question(LAKE), question("How many?", "toy/test/1")]))
    found = check(row(prompt))
    assert (found is not None) == leaks
    if found:
        assert found[0] == "leak"
        assert "toy/test/" in found[1]


def test_leak_reads_the_response_too():
    check = Leak().open(context(tests=[question(LAKE)]))
    assert check(row("How many pens?", f"As in: {LAKE}\n3 + 4 = 7\n#### 7"))[0] == "leak"


@pytest.mark.parametrize("gate", [Leak(ngram=3), Duplicate(similarity=0.0), Duplicate(similarity=1.5)])
def test_settings_out_of_range_are_problems(gate):
    assert len(gate.problems()) == 1
