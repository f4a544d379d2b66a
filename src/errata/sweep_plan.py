"""`dry_run=true` of a sweep: one table of what its cells would ask and cost, equal requests counted once."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

from errata.asking import TOO_LITTLE, Bill, budget, in_all, prices_of
from errata.errors import ErrataError
from errata.finished import unfinished
from errata.plan import NOTHING_SENT, Plan
from errata.report.tables import TextTable, narrow
from errata.report.write import for_terminal
from errata.setup import Setup
from errata.sweep import Planned, described
from errata.terminal import console, muted, said_once

_ASKED = ("requests", "tokens in", "tokens out")
"""Columns that are there wherever a cell asks; the others where a number is in them."""
_COLUMNS = ("questions", "requests", "in ledger", "shared", "to send", "tokens in", "tokens out", "updates")
_ABOUT = {"tokens in": "tokens\nin, about", "tokens out": "tokens\nout, about", "updates": "updates,\nat most"}


def show_sweep_plan(
    name: str, cells: Sequence[Planned], setups: Sequence[Setup], command: Callable[[Setup], Plan | None], each: bool = False
) -> None:
    """Print a row a cell and the total.

    Args:
        name: of the sweep.
        command: what shows the plan of one cell.
        each: print these as well.

    Raises:
        ErrataError: some cells have no plan; those of the others are shown.
    """
    rows: list[Row] = []
    failures: list[str] = []
    seen: dict[str, int] = {}
    with said_once():
        for cell, setup in zip(cells, setups, strict=True):
            if cell.run in seen:
                rows.append(Row(cell, same=seen[cell.run]))
                continue
            seen[cell.run] = cell.number
            try:
                with nullcontext() if each else muted():
                    plan = command(setup)
            except ErrataError as error:
                failures.append(f"cell {described(cell.number, cell.overrides)}: {error}")
                rows.append(Row(cell))
            else:
                rows.append(Row(cell, plan))
    _count_once(rows)
    out = console()
    title = f"plan for {name}: {len(cells)} cells"
    for part in narrow(_table(title, rows), out.width):
        out.print(for_terminal(part))
    for line in _lines(rows, each):
        out.print(line, style="bold yellow" if line.endswith(TOO_LITTLE) else None, highlight=False, markup=False)
    if failures:
        raise ErrataError("\n".join([f"{len(failures)} of {len(cells)} cells have no plan:", *failures]))


def show_sampler_plan(
    setup: Setup, command: Callable[[Setup], Plan | None], chosen: Sequence[str], trials: int | None
) -> None:
    """Print the plan of one cell of a sweep whose sampler chooses as it goes, and how often that may come."""
    command(setup)
    times = f", for up to {trials} cells" if trials is not None else ""
    which = ", ".join(chosen) or "other values"
    said = f"This is one cell. A sampler chooses {which} as it goes{times}; what cells have in common is sent once."
    console().print(said, highlight=False)


@dataclass
class Row:
    """A cell, its plan (None: it has none) or the cell whose run it shares, and what is left for it to send."""

    cell: Planned
    plan: Plan | None = None
    same: int | None = None
    bill: Bill = field(default_factory=Bill)

    def numbers(self) -> dict[str, int | None]:
        """What stands in its columns; None is unknown."""
        plan = self.plan
        if plan is None or not plan.known:
            return dict.fromkeys(_COLUMNS, 0 if self.same is not None else None)
        requests, held = (sum(getattr(one, name) for one in plan.asked) for name in ("requests", "held"))
        sent = self.bill
        shared = requests - held - sent.requests
        return dict(
            zip(
                _COLUMNS,
                (plan.questions, requests, held, shared, sent.requests, sent.prompt, sent.completion, plan.updates),
                strict=True,
            )
        )


def _count_once(rows: Sequence[Row]) -> None:
    """Each request is the first cell's that has it."""
    sent: set[str] = set()
    for row in rows:
        bills = []
        for asked in row.plan.asked if row.plan is not None else ():
            bills.append(asked.beside(sent))
            sent.update(asked.unpaid)
        known = row.same is not None or (row.plan is not None and row.plan.known)
        row.bill = in_all(bills) if known else Bill(usd=None)


def _table(title: str, rows: Sequence[Row]) -> TextTable:
    columns = {"cell": [*map(_cell, rows), "all"]}
    for name in dict.fromkeys(name for row in rows for name in row.cell.overrides):
        columns[name] = [*(row.cell.overrides.get(name, "") for row in rows), ""]
    asks = any(row.plan is not None and (row.plan.asked or not row.plan.known) for row in rows)
    bounds = any(one.at_most for row in rows if row.plan is not None for one in row.plan.asked)
    spared = any(row.numbers()[head] for row in rows for head in ("in ledger", "shared"))
    for head in _COLUMNS:
        numbers = [row.numbers()[head] for row in rows]
        if spared if head == "to send" else any(numbers) or (asks and head in _ASKED):
            shown = ["" if row.same is not None else _number(number) for row, number in zip(rows, numbers, strict=True)]
            name = f"{head},\nat most" if bounds and head in ("requests", "to send") else _ABOUT.get(head, head)
            columns[name] = [*shown, _number(None if None in numbers else sum(filter(None, numbers)))]
    if asks:
        prices = ["" if row.same is not None else row.bill.price for row in rows]
        columns["price"] = [*prices, in_all(row.bill for row in rows).price]
    return TextTable(title, tuple(columns), list(zip(*columns.values(), strict=True)))


def _number(number: int | None) -> str:
    return "unknown" if number is None else f"{number:,}"


def _cell(row: Row) -> str:
    if row.same is not None:
        return f"{row.cell.number} (as {row.same})"
    done = row.plan is not None and unfinished(row.plan.setup.folder) is None
    return f"{row.cell.number} (finished)" if done else str(row.cell.number)


def _lines(rows: Sequence[Row], each: bool) -> Iterator[str]:
    """What the numbers mean, and what the budgets leave."""
    plans = [row.plan for row in rows if row.plan is not None]
    asked = [one for plan in plans for one in plan.asked]
    if any(row.numbers()["shared"] for row in rows):
        yield "shared: a cell above sends these too; they are sent once, and stand in its row."
    if any(one.at_most for one in asked):
        yield (
            "The requests are bounds: every answer is taken for wrong where none is stored, and what later iterations and "
            "stages ask is taken to be each cell's own. What gates and revisers ask is bounded as long as the instructor "
            "writes no more problems than it is asked for, and no iteration has more errors than the first."
        )
    yield from dict.fromkeys(prices_of(plan.setup) for plan in plans if plan.asked and plan.setup.instructor is not None)
    accounts: dict[str, list[Row]] = {}
    for row in rows:
        if row.plan is not None and row.plan.setup.instructor is not None:
            limit = row.plan.setup.settings.budget
            name = f"{row.plan.setup.ledger} {row.plan.setup.purse('').account} {limit.usd} {limit.tokens}"
            accounts.setdefault(name if limit.usd is not None or limit.tokens is not None else "", []).append(row)
    for payers in accounts.values():
        plan = payers[0].plan
        if plan is not None:
            yield budget(plan.setup, in_all(row.bill for row in payers))
    yield NOTHING_SENT + ("" if each else " The plan of each cell, stage by stage: hydra.verbose=true.")
