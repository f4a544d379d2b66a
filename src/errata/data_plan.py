"""`dry_run=true` for `errata revise` and `errata judge`: what is in the mixture, what would be asked, and the price."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from errata.corpus.base import Corpus
from errata.judging import expected, read_items
from errata.plan import held_in_ledger, money
from errata.records import Pair, Request
from errata.report.tables import TextTable
from errata.report.write import for_terminal
from errata.revise import objector
from errata.run_folder import Stage
from errata.setup import Setup
from errata.stage.gather import gather, make_up
from errata.stage.instruct import estimate
from errata.terminal import console


def show_revision_plan(setup: Setup) -> None:
    """The mixture's make-up (read, where it is all local), the requests and their price at most."""
    out = console()
    if not all(map(_is_here, setup.corpora.values())):
        out.print(for_terminal(TextTable(*make_up(setup.corpora, None))))
        out.print("Some of it is fetched from the hub: read, and counted, when the run begins. Nothing was sent.")
        return
    with tempfile.TemporaryDirectory() as place:
        stage = Stage(Path(place) / "corpus", "corpus", {})
        gather(stage, setup.corpora, setup.settings.mixture, setup.settings.seed, objector(setup))
        out.print(for_terminal(TextTable(*make_up(setup.corpora, stage.record.counts))))
        if setup.instructor is not None:
            requests = setup.reviser.expected(stage.read("pairs", Pair))
            _show_price(setup, requests, "at most ")
    out.print("No model was loaded and nothing was sent. Without dry_run=true the same command does it.", highlight=False)


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
        _show_price(setup, expected(setup, items), "")
    out.print("No model was loaded and nothing was sent. Without dry_run=true the same command does it.", highlight=False)


def _is_here(corpus: Corpus) -> bool:
    return not corpus.location.startswith("hub: ")


def _show_price(setup: Setup, requests: Sequence[Request], bound: str) -> None:
    paid = held_in_ledger(setup, requests) if setup.ledger.exists() else set()
    prompt, reply, usd = estimate([one for one in requests if one.id not in paid], setup.instructor)  # type: ignore[arg-type]
    known = f", {len(paid)} of them in the ledger" if paid else ""
    price = "unknown" if usd is None else f"${usd:.2f}"
    out = console()
    out.print(
        f"{bound}{len(requests)} requests{known}: {prompt:,} tokens in + {reply:,} out, price {price}", highlight=False
    )
    out.print(money(setup, usd), highlight=False)
