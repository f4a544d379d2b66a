"""`dry_run=true` for `errata revise` and `errata judge`: what is in the mixture, what would be asked, and the price."""

import tempfile
from pathlib import Path

from errata.asking import Asking, asking, money
from errata.corpus.base import Corpus
from errata.digests import digest
from errata.judging import expected, given, read_items
from errata.plan import NOTHING_SENT, Plan, note
from errata.records import Pair
from errata.report.tables import TextTable
from errata.report.write import for_terminal
from errata.revise import objector
from errata.run_folder import Stage
from errata.setup import Setup
from errata.stage.gather import gather, make_up
from errata.terminal import console

_MIXTURE = ("name", "corpus", "mixture", "wall")
"""Settings by which other pairs are revised, and no pair otherwise."""


def show_revision_plan(setup: Setup) -> None:
    """The mixture's make-up (read, where it is all local), the requests and their price at most."""
    out = console()
    if not all(map(_is_here, setup.corpora.values())):
        out.print(for_terminal(TextTable(*make_up(setup.corpora, None))))
        out.print("Some of it is fetched from the hub: read, and counted, when the run begins. Nothing was sent.")
        note(Plan(setup, known=False))
        return
    with tempfile.TemporaryDirectory() as place:
        stage = Stage(Path(place) / "corpus", "corpus", {})
        gather(stage, setup.corpora, setup.settings.mixture, setup.settings.seed, objector(setup))
        out.print(for_terminal(TextTable(*make_up(setup.corpora, stage.record.counts))))
        if setup.instructor is not None:
            requests = setup.reviser.expected(stage.read("pairs", Pair))
            alike = digest({name: value for name, value in setup.plain.items() if name not in _MIXTURE})
            _show_price(setup, asking("instruct", setup, requests, True, alike))
    out.print(NOTHING_SENT, highlight=False)


def show_judging_plan(setup: Setup) -> None:
    """How many items there are in each test set, the requests and their price."""
    items, out = read_items(setup), console()
    rows = [
        (
            name, "unknown" if one.rows is None else f"{one.rows:,}",
            str(sum(item.question.source == name for item in items)), one.location,
        )
        for name, one in setup.testsets.items()
    ]  # fmt: skip
    if rows:
        out.print(for_terminal(TextTable(f"plan for {setup.folder}", ("test set", "published", "items", "where"), rows)))
    if setup.instructor is not None:
        alike = "" if given(setup) else digest(setup.plain)
        _show_price(setup, asking("instruct", setup, expected(setup, items), False, alike))
    out.print(NOTHING_SENT, highlight=False)


def _is_here(corpus: Corpus) -> bool:
    return not corpus.location.startswith("hub: ")


def _show_price(setup: Setup, asked: Asking) -> None:
    plan, bill = Plan(setup, [asked]), asked.beside(())
    known = f", {asked.held} of them in the ledger" if asked.held else ""
    bound = "at most " if asked.at_most else ""
    out = console()
    out.print(
        f"{bound}{asked.requests} requests{known}: {bill.prompt:,} tokens in + {bill.completion:,} out, price {bill.price}",
        highlight=False,
    )
    out.print(money(setup, bill), highlight=False)
    note(plan)
