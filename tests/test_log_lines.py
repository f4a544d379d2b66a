"""What a stage says of its counts: what is nothing is left out, money is written as money."""

import pytest

from errata.run_folder import describe

ASKED = {"requests": 3, "replies": 3, "from the ledger": 0, "tokens": 900}


@pytest.mark.parametrize(
    ("counts", "line"),
    [
        (
            {**ASKED, "usd": 0.0, "paid tokens": 900, "paid usd": 0.0, "estimated usd": 0},
            "3 requests, 3 replies, 900 tokens",
        ),
        (
            {**ASKED, "from the ledger": 1, "usd": 0.25, "paid tokens": 600, "paid usd": 0.125, "estimated usd": 0.3},
            "3 requests, 3 replies, 1 from the ledger, 900 tokens, price $0.2500, 600 paid tokens, paid $0.1250, estimated $0.3000",
        ),
        (
            {**ASKED, "usd": "unknown", "paid usd": "unknown"},
            "3 requests, 3 replies, 900 tokens, price unknown, paid unknown",
        ),
        ({"questions": 5, "right": 0, "wrong": 5, "kinds": {"truncated": 5}}, "5 questions, 0 right, 5 wrong (truncated 5)"),
    ],
)
def test_a_stage_in_one_line(counts, line):
    assert describe(counts) == line
