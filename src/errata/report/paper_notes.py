"""What stands below the paper's table: marks, protocol, questions, seeds, contamination, cost, the source's conditions."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from errata.report.against import against, table_lines
from errata.report.paper_parts import PaperTable, View, moment_of
from errata.report.paper_text import legend
from errata.report.pooled import PooledArm
from errata.report.shared_replies import shared_line
from errata.report.smoke_size import smoke_line
from errata.report.stored import Stored
from errata.report.tables import TextTable, dollars, held_by_the_wall


def notes_of(table: PaperTable, arms: Sequence[PooledArm], view: View) -> list[str]:
    """The lines below a table of arms of the loop."""
    lines = [smoke_line([run.name for arm in arms for run in arm.runs]), *legend(table)]
    lines += [_protocols(table), _questions(table), _seeds(arms), shared_line(arms)]
    lines += [_unfinished(arms), _contamination(arms), _rejections(arms), _cost(arms)]
    moment = moment_of("last" if view.iteration == "each" else view.iteration)
    for arm in arms:
        for row in view.rows.get(arm.name, ()):
            lines += against(arm.results(moment), row)["lines"][1:]
    if view.beside is not None:
        lines += table_lines(view.beside)[: None if view.whole or not view.rows else 1]
        left = [arm.name for arm in arms if arm.name not in view.rows]
        if left:
            lines.append(f"no row of {view.beside.name} belongs to: {', '.join(left)}")
    return list(dict.fromkeys(filter(None, lines)))


def work_table(arms: Sequence[PooledArm]) -> list[TextTable]:
    """What it took, by arm, all seeds together: errors, requests, rows, the wall's cuts, tokens, price, time."""
    rows = []
    for arm in arms:
        practice = _practice(arm)
        counts = [sum(part[key] for part in practice) for key in ("errors", "requests", "problems", "kept")]
        leaks = sum(part["rejections"].get("leak", 0) for part in practice)
        rejected = sum(sum(part["rejections"].values()) for part in practice)
        trained = sum(part["rows"] for run in arm.runs for part in run.results["training"])
        seconds = sum(sum(run.results["seconds"].values()) for run in arm.runs)
        money = [dollars(_sum(arm, name)) for name in ("usd", "paid_usd")]
        tokens = sum(run.results["cost"]["tokens"] for run in arm.runs)
        cells = (len(arm.runs), *counts[:3], rejected, leaks, counts[3], trained)
        rows.append((arm.name, *map(str, cells), f"{tokens:,}", *money, f"{seconds:.0f}"))
    heads = ("arm", "runs", "errors", "requests", "problems", "rejected", "of these leaks", "kept", "trained on", "tokens")
    return (
        [TextTable("what it took, seeds and iterations together", (*heads, "worth", "paid", "seconds"), rows)]
        if rows
        else []
    )


def _protocols(table: PaperTable) -> str:
    found = sorted({cell.protocol for row in table.rows for cell in row.cells if cell.protocol})
    return f"split {table.split}; graded by protocol={' and '.join(found)}" if found else ""


def _questions(table: PaperTable) -> str:
    counts: dict[str, set[int]] = {}
    for row in table.rows:
        for cell in row.cells:
            if cell.n is not None and not cell.column.mean_of:
                counts.setdefault(cell.column.name, set()).add(cell.n)
    told = ", ".join(f"{name} {' or '.join(f'{n:,}' for n in sorted(found))}" for name, found in counts.items())
    return f"questions: {told}" if told else ""


def _seeds(arms: Sequence[PooledArm]) -> str:
    def seeds(arm: PooledArm) -> str:
        return ", ".join(str(run.results["config"].get("seed", "none")) for run in arm.runs)

    return f"seeds: {_by_arm(arms, seeds)}"


def _unfinished(arms: Sequence[PooledArm]) -> str:
    found = [(run.name, run.results["unfinished"]) for arm in arms for run in arm.runs if run.results["unfinished"]]
    return "not finished: " + "; ".join(f"{name} ({stage})" for name, stage in found) if found else ""


def _contamination(arms: Sequence[PooledArm]) -> str:
    practice = [part for arm in arms for part in _practice(arm)]
    if not practice:
        return ""

    def cut(arm: PooledArm) -> str:
        return str(sum(part["rejections"].get("leak", 0) for part in _practice(arm)))

    return f"contamination: generated rows cut as leaked: {_by_arm(arms, cut)}; {held_by_the_wall(practice)}"


def _rejections(arms: Sequence[PooledArm]) -> str:
    def reasons(arm: PooledArm) -> str:
        counts: Counter[str] = Counter()
        for part in _practice(arm):
            counts.update(part["rejections"])
        kept = sum(part["kept"] for part in _practice(arm))
        return f"{', '.join(f'{reason} {number}' for reason, number in counts.most_common()) or 'none'} (kept {kept})"

    return f"rejected rows: {_by_arm(arms, reasons)}" if any(_practice(arm) for arm in arms) else ""


def _cost(arms: Sequence[PooledArm]) -> str:
    def price(arm: PooledArm) -> str:
        requests = sum(run.results["cost"]["requests"] for run in arm.runs)
        return f"{requests:,} requests, worth {dollars(_sum(arm, 'usd'))}, paid {dollars(_sum(arm, 'paid_usd'))}"

    return f"the instructor's price: {_by_arm(arms, price)}" if any(_practice(arm) for arm in arms) else ""


def _by_arm(arms: Sequence[PooledArm], told: Callable[[PooledArm], str]) -> str:
    """`LE 3; LEC 4`, or `3` of the only one."""
    return told(arms[0]) if len(arms) == 1 else "; ".join(f"{arm.name}: {told(arm)}" for arm in arms)


def _sum(arm: PooledArm, name: str) -> float | str:
    prices = [run.results["cost"][name] for run in arm.runs]
    return "unknown" if "unknown" in prices else round(sum(prices), 6)


def _practice(arm: PooledArm) -> list[Mapping[str, Any]]:
    return [part for run in arm.runs for part in run.results["practice"]]


def unfinished_line(run: Stored) -> str:
    """That a run has not come to its end, and where it stands."""
    stage = run.results["unfinished"]
    return f"unfinished: {stage} (killed or still running; the same command goes on)" if stage else ""
