"""`arithmetic`: a TOY benchmark of this project's own, so that the whole loop can be seen on a laptop with no download.

One-step word problems over ten named skills, in GSM8K's answer format. An item: "Gita has 9 coins. Then Omar gives Gita 4
more coins. How many coins does Gita have now?" with the worked answer `9 + 4 = 13`, `#### 13`. SmolLM2-135M-Instruct
answers about one in seven at the start. A gain here shows that the loop works; it says nothing about mathematics.

Questions are drawn from a seed. The splits cannot share a question, nor a skill with the same numbers: a hash of (skill,
numbers) decides which split a pair of numbers belongs to, whatever the seed.
"""

import hashlib
import random
import re
from dataclasses import dataclass

from errata.dataset.base import SPLITS
from errata.dataset.word_problem import WordProblems
from errata.records import Question

_NAMES = (
    "Ada Ben Cleo Dev Emma Finn Gita Hugo Ines Jack Kira Liam Mona Nils Omar Pia Rosa Sam Tara Uma Vera Will Yara Zoe"
).split()
_THINGS = "apples marbles stickers books pencils shells coins cards buttons beads stamps cookies".split()


@dataclass(frozen=True)
class Skill:
    """A kind of one-step problem: an operation on `a` and `b`, and the wordings it comes in.

    Wordings name `{a}`, `{b}`, `{product}` (for division, where `product` is shared out), `{name}`, `{other}`, `{thing}`.
    """

    name: str
    operation: str
    a: range
    b: range
    wordings: tuple[str, ...]

    def solve(self, a: int, b: int) -> tuple[str, int]:
        """The worked line and the answer."""
        if self.operation == "/":
            return f"{a * b} / {b} = {a}", a
        answer = {"+": a + b, "-": a - b, "*": a * b}[self.operation]
        return f"{a} {self.operation} {b} = {answer}", answer


SKILLS = (
    Skill("total", "+", range(2, 21), range(2, 21), (
        "{name} has {a} {thing} and {other} has {b} {thing}. How many {thing} do they have together?",
        "There are {a} {thing} in one box and {b} {thing} in another box. How many {thing} are in the two boxes?",
    )),
    Skill("gain", "+", range(2, 21), range(2, 21), (
        "{name} had {a} {thing}. Then {other} gave {name} {b} more {thing}. How many {thing} does {name} have now?",
        "A jar holds {a} {thing}. {name} puts in {b} more. How many {thing} does the jar hold now?",
    )),
    Skill("loss", "-", range(12, 31), range(2, 11), (
        "{name} had {a} {thing} and lost {b} of them. How many {thing} does {name} have left?",
        "A shop had {a} {thing} and sold {b} of them. How many {thing} are still in the shop?",
    )),
    Skill("difference", "-", range(12, 31), range(2, 11), (
        "{name} has {a} {thing}. {other} has {b} {thing}. How many more {thing} does {name} have than {other}?",
    )),
    Skill("change", "-", range(12, 31), range(2, 11), (
        "{name} pays for a game that costs {b} dollars with {a} dollars. How many dollars of change does {name} get?",
    )),
    Skill("groups", "*", range(2, 11), range(2, 11), (
        "{name} has {a} bags with {b} {thing} in each bag. How many {thing} does {name} have in all?",
        "There are {a} shelves and each shelf holds {b} {thing}. How many {thing} are on the shelves?",
    )),
    Skill("times", "*", range(2, 13), range(2, 6), (
        "{name} has {a} {thing}. {other} has {b} times as many {thing} as {name}. How many {thing} does {other} have?",
    )),
    Skill("price", "*", range(2, 11), range(2, 11), (
        "One box of {thing} costs {b} dollars. {name} buys {a} boxes. How many dollars does {name} pay?",
    )),
    Skill("share", "/", range(2, 11), range(2, 11), (
        "{name} shares {product} {thing} equally among {b} friends. How many {thing} does each friend get?",
        "{product} {thing} are packed into {b} equal boxes. How many {thing} are in each box?",
    )),
    Skill("days", "*", range(2, 21), range(7, 8), (
        "{name} stays at the lake for {a} weeks. How many days does {name} stay at the lake?",
        "{name} and {other} plan a trip of {a} weeks. How many days long is the trip?",
    )),
)  # fmt: skip

_LARGEST_SPLIT = 1000
_SPLIT_OF = ("test", "test", "test", "dev", "train", "train", "train", "train", "train", "train")


def split_of(skill: Skill, a: int, b: int) -> str:
    """The one split in which this skill may use these two numbers."""
    number = int.from_bytes(hashlib.blake2b(f"{skill.name} {a} {b}".encode(), digest_size=8).digest(), "big")
    return _SPLIT_OF[number % len(_SPLIT_OF)]


def draw(skill: Skill, split: str, rng: random.Random) -> tuple[str, str, int]:
    """One problem of the skill: (question, worked line, answer), its numbers belonging to the split."""
    while True:
        a, b = rng.choice(skill.a), rng.choice(skill.b)
        if split_of(skill, a, b) == split:
            break
    name, other = rng.sample(_NAMES, 2)
    wording = rng.choice(skill.wordings)
    text = wording.format(a=a, b=b, product=a * b, name=name, other=other, thing=rng.choice(_THINGS))
    return text, *skill.solve(a, b)


def recognise(text: str) -> Skill | None:
    """The skill of the last question in a text (the one that is asked about stands behind its neighbours), or None."""
    found = _last(text)
    return found[1] if found else None


def solve(text: str) -> tuple[str, int]:
    """The worked line and the answer of the last question in a text (`recognise` must have known it)."""
    found = _last(text)
    if found is None:
        raise ValueError(f"no question of this benchmark stands in {text[:80]!r}")
    question, skill = found
    numbers = [int(number) for number in re.findall(r"\d+", question)] + [7] * (skill.name == "days")
    large, small = max(numbers[:2]), min(numbers[:2])
    if skill.operation == "/":
        return f"{large} / {small} = {large // small}", large // small
    return skill.solve(large, small)


def _last(text: str) -> tuple[str, Skill] | None:
    """The last question in a text, with its skill."""
    found = [(match, skill) for skill, pattern in _PATTERNS for match in pattern.finditer(text)]
    match, skill = max(found, key=lambda one: one[0].start(), default=(None, None))
    return None if match is None or skill is None else (match.group(), skill)


def _pattern(wording: str) -> re.Pattern[str]:
    literal = re.split(r"\{\w+\}", wording)
    return re.compile(r"\w+".join(re.escape(part) for part in literal))


_PATTERNS = [(skill, _pattern(wording)) for skill in SKILLS for wording in skill.wordings]


@dataclass
class Arithmetic(WordProblems):
    """The toy benchmark: `train`, `dev` and `test` questions, spread evenly over the ten skills.

    Attributes:
        draw_seed: which questions are drawn; the benchmark is the same in every run unless this is changed.
        train, dev, test: how many questions each split has.
    """

    draw_seed: int = 0
    train: int = 120
    dev: int = 60
    test: int = 240

    def load(self, split: str) -> list[Question]:
        """The split's questions; the skills take turns."""
        size = {"train": self.train, "dev": self.dev, "test": self.test}[split]
        rng = random.Random(f"{self.draw_seed} {split}")
        questions: dict[str, Question] = {}
        while len(questions) < min(size, self.limit or size):
            skill = SKILLS[len(questions) % len(SKILLS)]
            text, worked, answer = draw(skill, split, rng)
            if text not in questions:
                number = f"{self.name}/{split}/{len(questions)}"
                solution = f"{worked}\n#### {answer}"
                questions[text] = Question(number, self.name, split, text, str(answer), solution, skill.name)
        return list(questions.values())

    def has(self, split: str) -> bool:
        """It has all three."""
        return split in SPLITS

    def problems(self) -> list[str]:
        """What is wrong with the settings: sizes out of reach above all."""
        found = super().problems()
        for split in SPLITS:
            size = getattr(self, split)
            if not 1 <= size <= _LARGEST_SPLIT:
                found.append(f"dataset.{self.name}.{split} is {size}: choose 1 to {_LARGEST_SPLIT} questions")
        return found
