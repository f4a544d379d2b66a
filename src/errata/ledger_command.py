"""The command line of `errata ledger`."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from errata import ledger_tools as tools
from errata.errors import ErrataError
from errata.terminal import console

_DEFAULT = Path("outputs/ledger.sqlite")


def run(arguments: Sequence[str]) -> int:
    """`errata ledger show|verify|export|merge|prune`; 1 where `verify` finds something wrong."""
    parser = argparse.ArgumentParser(prog="errata ledger", description="Every reply an instructor ever gave, once.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="show|verify|export|merge|prune")
    texts = {
        "show": "replies, failures, tokens and money by model; what each account and run has paid; batches that wait",
        "verify": "read and check every reply",
        "export": "write every reply as a line of JSON, to read or to ship",
        "merge": "take in the replies of other ledgers or exported files",
        "prune": "delete replies or failures, or give up batches",
    }
    parts = {name: commands.add_parser(name, help=text, description=text) for name, text in texts.items()}
    for name, part in parts.items():
        optional = {} if name in ("export", "merge") else {"nargs": "?", "default": _DEFAULT}
        part.add_argument("ledger", type=Path, help=f"the ledger (default: {_DEFAULT})", **optional)  # type: ignore[arg-type]
    parts["verify"].add_argument("--repair", action="store_true", help="keep what is sound in a new file; the old one stays")
    parts["export"].add_argument("to", type=Path, help="the file to write, JSON lines")
    parts["merge"].add_argument("others", type=Path, nargs="+", help="ledgers, or exported files")
    parts["prune"].add_argument("--model", help="replies of this model")
    parts["prune"].add_argument("--older-than", type=float, metavar="DAYS", help="replies that are older")
    parts["prune"].add_argument("--failures", action="store_true", help="recorded failures")
    parts["prune"].add_argument("--batches", action="store_true", help="give up the batches that wait")
    given = parser.parse_args(arguments)
    return {"show": _show, "verify": _verify, "export": _export, "merge": _merge, "prune": _prune}[given.command](given)


def _show(given: argparse.Namespace) -> int:
    tables = (
        ("replies", ("endpoint", "model", "replies", "failed", "tokens in", "tokens out", "paid"), tools.show),
        ("accounts", ("account", "spent", "tokens", "set aside", "tokens set aside"), tools.show_accounts),
        ("payments", ("run", "account", "calls", "tokens", "paid", "answers lost"), tools.show_runs),
        ("batches", ("batch", "endpoint", "id there", "calls", "made"), tools.show_batches),
    )
    for title, heads, read in tables:
        rows = read(given.ledger)
        if not rows and title != "replies":
            continue
        table = Table(*heads, title=f"{title} in {given.ledger}", title_justify="left")
        for row in rows:
            table.add_row(*row)
        console().print(table)
    return 0


def _verify(given: argparse.Namespace) -> int:
    found = tools.repair(given.ledger) if given.repair else tools.verify(given.ledger)
    say = console().print
    say(f"{given.ledger}: {found.replies} replies are sound")
    for line in found.said:
        say(f"  SQLite: {line}")
    if found.damaged:
        say(f"  {len(found.damaged)} replies are not what was stored: {', '.join(found.damaged[:5])}")
    if found.unreadable:
        say(f"  {found.unreadable} rows cannot be read")
    if found.sound:
        return 0
    if given.repair:
        say("The sound ones are in a new file in its place; the old one is beside it (*.broken-N).")
        if found.lost:
            say(f"Not all of these tables could be read: {', '.join(found.lost)}.")
        if "account" in found.lost and "payment" not in found.lost:
            say("Budgets count all that was paid before: it was added up again from the payments.")
        elif "account" in found.lost:
            say("So budgets do not count all that was paid before: lower budget.usd and budget.tokens by it.")
        elif "payment" in found.lost:
            say("Budgets still count all that was paid before; which run and stage has paid it is not all known any more.")
        return 0
    say(f"`errata ledger verify {given.ledger} --repair` keeps the sound ones in a new file.")
    return 1


def _export(given: argparse.Namespace) -> int:
    console().print(f"{tools.export(given.ledger, given.to)} replies are in {given.to}")
    return 0


def _merge(given: argparse.Namespace) -> int:
    new, old = tools.merge(given.ledger, given.others)
    console().print(f"{given.ledger}: {new} replies are new, {old} were there already")
    return 0


def _prune(given: argparse.Namespace) -> int:
    if given.model is None and given.older_than is None and not given.failures and not given.batches:
        raise ErrataError("nothing to prune: say --model NAME, --older-than DAYS, --failures or --batches")
    batches = tools.give_up_batches(given.ledger) if given.batches else 0
    replies, failed = tools.prune(given.ledger, given.model, given.older_than, given.failures)
    console().print(f"{given.ledger}: {replies} replies, {failed} failures and {batches} batches are gone")
    return 0
