"""`dry_run=true` for `errata revise` and `errata judge`: what is in the mixture, what would be asked, and the price."""

import tempfile
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from errata.asking import asking, money
from errata.corpus.base import Corpus
from errata.digests import digest
from errata.judging import expected, given, read_items
from errata.plan import NOTHING_SENT, Plan
from errata.records import Pair, Revision, goes_on
from errata.report.tables import TextTable
from errata.report.write import for_terminal
from errata.revise import held_to, objector
from errata.reviser.human import Human
from errata.reviser.rated import Rated
from errata.run_folder import Stage
from errata.setup import Setup
from errata.stage.gather import gather, make_up
from errata.terminal import console

_MIXTURE = ("name", "corpus", "mixture", "wall")
"""Settings by which other pairs are revised, and no pair otherwise."""


def show_revision_plan(setup: Setup) -> Plan:
    """The mixture's make-up (read, where it is all local), the requests and their price at most."""
    out, plan = console(), Plan(setup)
    if not all(map(_is_here, setup.corpora.values())):
        out.print(for_terminal(TextTable(*make_up(setup.corpora, None))))
        out.print("Some of it is fetched from the hub: read, and counted, when the run begins. Nothing was sent.")
        return Plan(setup, known=False)
    objection = objector(setup)
    with tempfile.TemporaryDirectory() as place:
        stage = Stage(Path(place) / "corpus", "corpus", {})
        gather(stage, setup.corpora, setup.settings.mixture, setup.settings.seed, objection)
        out.print(for_terminal(TextTable(*make_up(setup.corpora, stage.record.counts))))
        if setup.instructor is not None:
            requests = setup.reviser.expected(stage.read("pairs", Pair))
            alike = digest({name: value for name, value in setup.plain.items() if name not in _MIXTURE})
            plan.asked.append(asking("instruct", setup, requests, True, alike))
            _show_price(plan)
        elif isinstance(setup.reviser, Human | Rated):  # all is known by now: no model has a part in it
            revisions = setup.reviser.outcomes(stage.read("pairs", Pair))
            out.print(_told([held_to(objection, one) for one in revisions]), highlight=False)
    out.print(NOTHING_SENT, highlight=False)
    return plan


def show_judging_plan(setup: Setup) -> Plan:
    """How many items there are in each test set, the requests and their price."""
    items, out, plan = read_items(setup), console(), Plan(setup)
    rows = [
        (
            name, "unknown" if one.rows is None else f"{one.rows:,}",
            _items([item.question for item in items if item.question.source == name]), one.location,
        )
        for name, one in setup.testsets.items()
    ]  # fmt: skip
    if rows:
        out.print(for_terminal(TextTable(f"plan for {setup.folder}", ("test set", "published", "items", "where"), rows)))
    if setup.instructor is not None:
        alike = "" if given(setup) else digest(setup.plain)
        plan.asked.append(asking("instruct", setup, expected(setup, items), False, alike))
        _show_price(plan)
    out.print(NOTHING_SENT, highlight=False)
    return plan


def _told(revisions: Sequence[Revision]) -> str:
    """What becomes of the pairs: `of 9 pairs: 4 kept (no_revision), 5 revised`."""
    counts = Counter((revision.status, revision.reason) for revision in revisions)
    parts = [f"{number} {status}{f' ({reason})' if reason else ''}" for (status, reason), number in sorted(counts.items())]
    return f"of {len(revisions)} pairs: {', '.join(parts)}"


def _items(questions: Sequence[Pair]) -> str:
    """How many a test set has: each turn of a conversation is one."""
    turns = sum(goes_on(pair.history, before.history, before.prompt) for before, pair in pairwise(questions))
    return f"{len(questions)}, turns of {len(questions) - turns}" if turns else str(len(questions))


def _is_here(corpus: Corpus) -> bool:
    return not corpus.location.startswith("hub: ")


def _show_price(plan: Plan) -> None:
    (asked,) = plan.asked
    bill = asked.beside(())
    known = f", {asked.held} of them in the ledger" if asked.held else ""
    bound = "at most " if asked.at_most else ""
    out = console()
    out.print(
        f"{bound}{asked.requests} requests{known}: {bill.prompt:,} tokens in + {bill.completion:,} out, price {bill.price}",
        highlight=False,
    )
    out.print(money(plan.setup, bill), highlight=False)
