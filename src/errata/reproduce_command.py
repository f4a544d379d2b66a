"""`errata reproduce`: a stored run once more, from its folder alone, and what differs."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from errata.errors import InstructorError, RunFolderError
from errata.finished import MARK
from errata.provenance import local_files
from errata.report.diff import environment_lines, environment_table, show
from errata.report.diff_results import result_tables
from errata.report.same import SAME, StageDifference, compare_stages, stage_table
from errata.rerun import StoredRun, settings_again
from errata.run_folder import changed_fields

_NAMES = ("stored", "again")


def run(arguments: Sequence[str]) -> int:
    """Run a stored run again and compare the two; 1 where they differ.

    Raises:
        RunFolderError: there is no run to reproduce, or it cannot be from what its folder holds.
    """
    parser = argparse.ArgumentParser(
        prog="errata reproduce",
        description=(
            "Run a stored run again from its folder: the same command and settings in another place, the instructor's "
            "replies from the run's own ledger, so that nothing is paid for. Then say, stage by stage, what differs. "
            "Killed, the same command goes on. The exit code is 0 where every stage left the same records, else 1."
        ),
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="run folder, outputs/NAME-HASH")
    parser.add_argument("--to", type=Path, metavar="FOLDER", help="where it is run (reproductions, beside the run)")
    parser.add_argument("--ledger", type=Path, metavar="FILE", help="another ledger than the run's own")
    parser.add_argument(
        "--fresh", action="store_true",
        help="ask the instructor (or a student behind an endpoint) anew: this is paid for. Replies go to a ledger in the "
        "new place, or to --ledger, whose replies are then taken and only what it lacks is asked",
    )  # fmt: skip
    parsed = parser.parse_args(arguments)
    to = parsed.to or parsed.run.resolve().parent / "reproductions"
    return reproduce(StoredRun.read(parsed.run), to, parsed.ledger, parsed.fresh)


def reproduce(stored: StoredRun, to: Path, ledger: Path | None, fresh: bool) -> int:
    """Run it again under `to`, and print what differs from the stored run.

    Raises:
        RunFolderError: `to` is where the stored run is, or the run would have to be paid for anew.
    """
    from errata import command as commands
    from errata.cell import run as run_marked
    from errata.setup import check
    from errata.terminal import log_to_terminal

    if to.resolve().is_relative_to(stored.path.resolve()):
        raise RunFolderError(f"{to} is inside the run: choose another place with --to FOLDER")
    show([], _about_files(stored))  # first: where these are missing, the check ends here
    setup = check(stored.command, settings_again(stored, to, ledger, fresh))
    setup = replace(setup, payer=f"{setup.folder.name} again")  # in a ledger of both, what the run has paid is its own
    plain = json.loads(json.dumps(setup.plain))
    if setup.folder.resolve() == stored.path.resolve():
        raise RunFolderError(f"{to} is where the run itself is: choose another place with --to FOLDER")
    lines = _about_config(changed_fields(stored.config, plain))
    stopped = not (stored.path / MARK).is_file()
    if stopped:
        lines.append(f"{stored.path} has not come to its end: this goes on as far as its ledger has replies")
    if (setup.folder / "run.json").is_file():
        lines.append(f"going on with the reproduction in {setup.folder}; to begin anew, remove that folder")
    show([], lines)
    log_to_terminal()
    ended = ""
    try:
        run_marked(setup, getattr(commands, stored.command))
    except InstructorError as error:
        if fresh:
            raise
        why = (
            "The stored run has not asked for it either"
            if stopped
            else "A request that the run did not make follows from something that came out otherwise before (see the table)"
        )
        ended = (
            f"the reproduction ends here: {str(error).rstrip('.')}. {why}, or its ledger is another "
            "one: --ledger FILE; --fresh asks, and pays"
        )
    return _compare(stored.path, setup.folder, ended)


def _about_files(stored: StoredRun) -> list[str]:
    """What has become of the local files that the run's settings name."""
    before, now = stored.made_with.get("files", {}), local_files(stored.settings)
    lines = []
    for name, digest in before.items():
        if name not in now:
            lines.append(f"{name} is not there (a relative path counts from where the run was started)")
        elif now[name] != digest:
            lines.append(f"{name} has changed since the run")
    return lines


def _about_config(changed: Sequence[str]) -> list[str]:
    if not changed:
        return []
    return [
        f"{', '.join(changed)}: run.json says otherwise than config.yaml does in this Errata (one of the files was edited, "
        "or Errata was): what follows is no rerun of the same settings"
    ]


def _compare(run: Path, again: Path, ended: str) -> int:
    found = compare_stages(run, again)
    tables = [stage_table(found)]
    if not ended:
        tables += result_tables(run, again, _NAMES)
    tables += environment_table(run, again, names=_NAMES)
    show(tables, [*environment_lines(run, again), *([ended] if ended else []), _verdict(found, again)])
    return 0 if all(each.outcome == SAME for each in found) and not ended else 1


def _verdict(found: Sequence[StageDifference], again: Path) -> str:
    other = [each for each in found if each.outcome != SAME]
    if not found:
        return "nothing to compare: neither run has a stage"
    if not other:
        return f"reproduced: {len(found)} of {len(found)} stages left the same records ({again})"
    first = other[0]
    why = "its inputs differ already" if first.inputs else "from the same inputs"
    return f"not the same: {len(other)} of {len(found)} stages differ, first {first.stage} ({first.outcome}, {why}); {again}"
