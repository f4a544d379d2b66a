"""Several runs in one report: what may stand together does, the rest stands apart, and each is said."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from errata.digests import digest
from errata.errors import RunFolderError
from errata.report.beside import Beside, views
from errata.report.chosen import Chosen, Place
from errata.report.compare import comparison_tables
from errata.report.judged_table import judged_tables
from errata.report.paper_notes import notes_of, work_table
from errata.report.paper_parts import PaperCell, PaperRow, PaperTable, moment_of
from errata.report.paper_table import paper_table
from errata.report.paper_text import lettered, text_table
from errata.report.pooled import PooledArm, arms_of, common_start, separate
from errata.report.results import read
from errata.report.smoke_size import smoke_line
from errata.report.stored import Stored
from errata.report.tables import TextTable
from errata.report.verdicts import collect_verdicts
from errata.report.write import Report, write_out
from errata.sweep import FAILED, RUNNING, STOPPED

_MOST_COMPARISONS = 4
"""More tables of pairs than these are in report.md only."""


@dataclass
class _Draft:
    """A report as it grows."""

    tables: list[TextTable] = field(default_factory=list)
    more: list[TextTable] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    papers: list[PaperTable] = field(default_factory=list)
    spread: list[PaperTable] = field(default_factory=list)
    arms: dict[str, list[str]] = field(default_factory=dict)
    work: list[PooledArm] = field(default_factory=list)


def report_several(chosen: Chosen, beside: Beside, iteration: str = "last", to: Path | None = None) -> Path:
    """The tables of several runs, and the files in a folder of their own, which is returned.

    Args:
        chosen: the runs.
        beside: published numbers to set beside them.
        iteration: which of each run's iterations is compared: last, best (by dev), each or a number.
        to: the folder; by default the sweep's own, or `reports/NAME-HASH` beside the runs.

    Raises:
        RunFolderError: none of the runs has measured anything, or the folder cannot be written.
        DataError: an experiment names a published row that there is not.
    """
    draft = _Draft(lines=[*filter(None, [smoke_line([place.name for place in chosen.runs])]), *chosen.lines])
    loops, judged = _read(chosen.runs, draft.lines)
    groups, apart = separate(loops)
    draft.lines += apart
    if groups and judged:
        draft.lines.append(
            f"runs of the loop and judgings cannot be compared; apart stand {', '.join(each['run'] for each in judged)}"
        )
    for number, group in enumerate(groups, 1):
        _add_group(draft, group, f"table {number}: " * (len(groups) > 1), beside, iteration, chosen)
    draft.tables += work_table(draft.work)
    if judged:
        tables, papers, lines = judged_tables(judged, beside)
        draft.tables += tables
        draft.papers += papers
        draft.spread += papers
        draft.lines += lines
    draft.lines += [f"{each.label}: no run ({each.reason})" for each in chosen.absent]
    if not draft.tables:
        raise RunFolderError("none of these runs has measured anything: " + "; ".join(draft.lines))
    runs = [*(run.results for run in loops), *judged]
    folder = to or chosen.sweep or _folder(chosen.runs)
    results = {
        "runs": runs,
        "arms": draft.arms,
        "tables": [asdict(replace(table, beside=None)) for table in draft.papers],
        "absent": [asdict(each) for each in chosen.absent],
        "lines": draft.lines,
    }
    title = f"{folder.resolve().name}: {len(runs)} runs" + (f" in {len(draft.arms)} arms" if draft.arms else "")
    write_out(
        Report(
            folder, title, results, draft.tables, list(dict.fromkeys(draft.lines)), draft.more, draft.papers, draft.spread,
            loops, draft.arms,
        )
    )  # fmt: skip
    return folder


def _read(places: Sequence[Place], lines: list[str]) -> tuple[list[Stored], list[dict[str, Any]]]:
    """Runs of the loop that have measured something, and judgings; what neither is goes into the lines."""
    loops: list[Stored] = []
    judged: list[dict[str, Any]] = []
    for place in places:
        if (place.path / "judge").is_dir():
            try:
                judged.append(collect_verdicts(place.path) | {"run": place.name})
            except RunFolderError as error:
                lines.append(f"left out: {error}")
            continue
        if (place.path / "corpus").is_dir():
            lines.append(
                f"left out: {place.name} is a run of errata revise, which measures nothing (errata report {place.path})"
            )
            continue
        try:
            run = read(place.path)
        except RunFolderError as error:
            lines.append(f"left out: {place.name}: {error}")
            continue
        run.name = place.name
        run.results["run"] = place.name
        if place.state.startswith((FAILED, STOPPED, RUNNING)):
            run.results["state"] = place.state
        if run.results["datasets"]:
            loops.append(run)
        else:
            stage = run.results["unfinished"]
            why = f"not finished: {run.results.get('state', stage)}" if stage else "trains only"
            lines.append(f"left out: {place.name} has no measured dataset ({why})")
    return loops, judged


def _add_group(draft: _Draft, group: Sequence[Stored], named: str, beside: Beside, iteration: str, chosen: Chosen) -> None:
    """The tables of runs that may stand together."""
    arms, lines = arms_of(group)
    draft.lines += lines
    for arm in arms:
        arm.name = next(name for name in _candidates(arm) if name not in draft.arms)
        draft.arms[arm.name] = [run.name for run in arm.runs]
    draft.work += arms
    wanted, lines = views(beside, arms, iteration)
    draft.lines += lines
    for view in wanted:
        held = [arm for arm in arms if not view.rows or view.whole or arm.name in view.rows or view is wanted[0]]
        what = "by iteration" if len(held) == 1 or iteration == "each" else f"after the {iteration} iteration"
        what = f"after iteration {iteration}" if iteration.isdigit() else what
        title = f"{named}accuracy {what}" + (f", beside {view.beside.name}" if view.beside is not None else "")
        paper, spread = (paper_table(title, held, each) for each in (view, replace(view, iteration="each", whole=False)))
        if not draft.papers:
            _note_absent(paper, chosen)
            _note_absent(spread, chosen)
        paper.notes += notes_of(paper, held, view)
        draft.papers.append(paper)
        draft.spread.append(spread)
        draft.tables.append(text_table(paper))
        which = f"beside {view.beside.name}: " if view.beside is not None and len(wanted) > 1 else ""
        draft.lines += [f"{named}{which}{line}" for line in lettered(paper).lines]
        draft.lines += [f"{named}{line}" for line in paper.notes]
    compared = comparison_tables(arms, moment_of("last" if iteration == "each" else iteration))
    compared = [replace(table, title=f"{named}{table.title}") for table in compared]
    if len(compared) > _MOST_COMPARISONS:
        draft.more += compared
    else:
        draft.tables += compared


def _candidates(arm: PooledArm) -> list[str]:
    """Names for an arm, should another group have an arm of the same."""
    return [arm.name, f"{arm.name} ({arm.runs[0].name})", f"{arm.name} ({arm.runs[0].path})"]


def _note_absent(table: PaperTable, chosen: Chosen) -> None:
    """Cells of a sweep without a run: missing in their arm's row, or, where no arm is theirs yet, a row of dashes."""
    for each in chosen.absent:
        alike = {place.name for place in chosen.runs if _without_seed(place.overrides) == _without_seed(each.overrides)}
        rows = [row for row in table.rows if row.part == "arm" and alike & set(row.runs)]
        for cell in (cell for row in rows for cell in row.cells):
            cell.missing = "; ".join(filter(None, [cell.missing, f"{each.label}: {each.reason}"]))
        if not rows:
            cells = [PaperCell(column, missing=each.reason) for column in table.columns]
            table.rows.append(PaperRow(each.label, "absent", cells=cells))


def _without_seed(overrides: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in overrides.items() if name != "seed"}


def _folder(places: Sequence[Place]) -> Path:
    """`reports/NAME-HASH` beside the first run."""
    names = [place.path.resolve().name.rpartition("-")[0] for place in places]
    stem = common_start(names).rstrip("_-") or "runs"
    home = places[0].path.resolve().parent
    return _shown(home / "reports" / f"{stem}-{digest(sorted(str(place.path.resolve()) for place in places))[:8]}")


def _shown(path: Path) -> Path:
    """The path from here, where it is below."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
