import random

import pytest
from tests.gate.test_gates import LAKE, context, question, row

from errata.dataset.mmlu import MMLU
from errata.gate.base import words
from errata.gate.rouge import Rouge


def rouge_l(one, other):
    """The F-measure by the textbook's table."""
    one, other = words(one), words(other)
    table = [[0] * (len(other) + 1) for _ in range(len(one) + 1)]
    for i, word in enumerate(one):
        for j, twin in enumerate(other):
            table[i + 1][j + 1] = table[i][j] + 1 if word == twin else max(table[i][j + 1], table[i + 1][j])
    return 2 * table[-1][-1] / (len(one) + len(other)) if one or other else 0.0


@pytest.mark.slow
def test_it_agrees_with_the_textbook():
    rejected = 0
    for seed in range(60):
        random_ = random.Random(seed)
        most = random_.choice([0.5, 0.6, 0.7, 0.8, 0.95])
        vocabulary = [f"w{n}" for n in range(random_.randint(3, 30))]

        def text(longest, random_=random_, vocabulary=vocabulary):
            return " ".join(random_.choices(vocabulary, k=random_.randint(0, longest)))

        train = [question(text(100), f"t/{n}", "train") for n in range(10)]
        earlier = [row(text(20), number=100 + n) for n in range(5)]
        rows = [row(text(20), number=n) for n in range(25)]
        rows += [row(random_.choice(train).text + " end", number=50 + n) for n in range(5)]
        check = Rouge(most).open(context(train=train, earlier=earlier))
        known = {**{q.id: q.text for q in train}, **{e.id: e.prompt for e in earlier}}
        for candidate in rows:
            scores = {name: rouge_l(candidate.prompt, other) for name, other in known.items()}
            highest = max(scores.values())
            found = check(candidate)
            if highest > most + 1e-9:
                rejected += 1
                score, name = found[1].removeprefix("ROUGE-L ").split(",")[0].split(" with ")
                assert (found[0], float(score)) == ("similar", round(highest, 3))
                assert scores[name] == pytest.approx(highest)
            else:
                assert found is None
                known[candidate.id] = candidate.prompt
    assert rejected > 300


def test_what_it_has_let_through_counts_too():
    check = Rouge(0.7).open(context())
    assert check(row(LAKE)) is None
    again = check(row(LAKE.replace("in all", "altogether"), number=2))
    assert again == ("similar", "ROUGE-L 0.939 with 1/toy/train/0/1, at most 0.7 allowed")
    assert check(row("Zoe shares 12 coins among 4 friends.", number=3)) is None


def test_the_instruction_before_every_question_does_not_count():
    dataset = MMLU("mmlu")
    train = [question("Which city is the capital of Italy?", "mmlu/train/0", "train")]
    check = Rouge(0.5).open(context(dataset=dataset, train=train))
    assert check(row(dataset.show(question("Name one prime between 20 and 28.")))) is None
    assert check(row(dataset.show(question("Which city is the capital of Spain?")))) is not None


@pytest.mark.parametrize("most", [0.0, 1.0, 95])
def test_a_limit_out_of_range_is_a_problem(most):
    assert len(Rouge(most).problems()) == 1
