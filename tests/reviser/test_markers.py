"""Pairs between markers: whatever they hold comes back, and what a model leaves out is found."""

import random
import time

import pytest

from errata.records import Pair
from errata.reviser.markers import Malformed, read, write

PIECES = [
    "### Input", "### End", "**### Response**", "  ### instruction: ", "\\### Input", "\\\\### End", "\\", "Input:", "###", "",
    "Response: yes", "\n", "\n\n", "\r\n", " ", "\t", "\u2028", "\x0b", "\x85", "答案是", "# End", "### End of it", "`### Input`", "a",
]  # fmt: skip


def pair(instruction, given="", output="ok"):
    return Pair("p", instruction, given, output)


def test_what_is_written():
    text = "### Instruction\nAdd up.\n### Input\n1, 2\n### Response\n3\n### End"
    assert write(pair("Add up.", "1, 2", "3")) == text
    assert write(pair("Say hi.")) == "### Instruction\nSay hi.\n### Response\nok\n### End"


def test_any_pair_comes_back_as_it_was():
    rng = random.Random(7)
    for _ in range(3000):
        texts = ["".join(rng.choices(PIECES, k=rng.randrange(6))) for _ in range(2)]
        texts.append("\n".join(rng.choices(PIECES, k=rng.randrange(6))))
        rng.shuffle(texts)
        assert read(write(pair(*texts))) == tuple(texts)
        assert read(f"{write(pair('x', '', 'y'))}\n{write(pair(*texts))}") == ("x", "", "y")  # nothing behind the end counts


@pytest.mark.parametrize(
    "text",
    [
        "Here is a better one:\n\n### Instruction\nAdd.\n### Response\n3\n### End\nI hope this helps.",
        "**### Instruction**\nAdd.\n ### Response: \n3\n### **End**",
        "###Instruction:\nAdd.\n### RESPONSE\n3\n### end",
        "`### Instruction`\nAdd.\n### Input\n\n### Response\n3\n__### End__",
    ],
)
def test_emphasis_spaces_and_talk_around_the_markers_are_overlooked(text):
    assert read(text) == ("Add.", "", "3")


A, N, R, E = "### Instruction\na\n", "### Input\nb\n", "### Response\nc\n", "### End"


@pytest.mark.parametrize(
    ("text", "finished", "reason"),
    [
        ("", True, "no_markers"),
        ("Instruction: a Response: c", True, "no_markers"),
        ("### End", True, "no_markers"),
        ("Sure, here", False, "truncated"),
        (A + E, True, "half"),
        (R + E, True, "half"),
        (A + N + E, True, "half"),
        (A, True, "half"),
        (A, False, "truncated"),
        (A + N + R, True, "truncated"),
        (A + R, False, "truncated"),
        (R + A + E, True, "disordered"),
        (A + R + R + E, True, "disordered"),
        (A + R + N + E, True, "disordered"),
        (A + R + A + R + E, True, "disordered"),
    ],
)
def test_what_is_no_whole_pair_says_why(text, finished, reason):
    found = read(text, finished)
    assert isinstance(found, Malformed)
    assert found.reason == reason
    assert found.detail


def test_a_whole_pair_behind_which_a_model_went_on_until_it_was_cut_is_whole():
    assert read(A + R + E + "\n### Instr", finished=False) == ("a", "", "c")


def test_long_runs_of_spaces_take_no_time():
    start = time.thread_time()
    for line in ("### End" + " " * 400 + "x", " " * 50_000 + "x", "### Input" + "\t" * 50_000, "\\" * 50_000 + "### End"):
        assert read(write(pair("a", line, "b"))) == ("a", line, "b")
    assert time.thread_time() - start < 2
