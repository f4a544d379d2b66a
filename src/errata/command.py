"""What each configured command does, once its configuration has been checked: the work, or with `dry_run` the plan of it."""

import shlex
import shutil
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from errata.checks.values import rows_file
from errata.data_plan import show_judging_plan, show_revision_plan
from errata.errors import DataError
from errata.identity import result_changing
from errata.improve import improve as run_loop
from errata.judging import judge as compare_answers
from errata.model.base import Model
from errata.model.recorded import Recorded
from errata.plan import Plan, show_evaluation_plan, show_loop_plan, show_training_plan
from errata.report.write import report
from errata.revise import revise as run_reviser
from errata.reviser.expert import write_coach_data
from errata.run import under_way
from errata.setup import Setup
from errata.stage.train import job_settings, prepare, preview
from errata.stage.train import train as fine_tune
from errata.trained import COACH
from errata.training.job import file_digest


def improve(setup: Setup) -> Plan | None:
    """`errata improve`: the loop, then its report; or the plan alone."""
    if setup.settings.dry_run:
        return show_loop_plan(setup)
    report(run_loop(setup))
    return None


def evaluate(setup: Setup) -> Plan | None:
    """`errata evaluate`: attempts at one split of each dataset, then the table; or stored responses graded anew.

    Raises:
        DataError: a split cannot be read, or the run to regrade holds none of the datasets.
    """
    settings = setup.settings
    questions = {name: dataset.load(settings.split) for name, dataset in setup.datasets.items()}
    if settings.dry_run:
        return show_evaluation_plan(setup)
    students = {name: _students(setup, name) for name in setup.datasets}
    with under_way(setup) as run:
        for name, dataset in setup.datasets.items():
            for iteration, student in students[name].items():
                shared = setup.evaluations if student.trains else None
                run.attempts(f"iteration_{iteration}/{name}/{settings.split}", student, dataset, questions[name], shared)
    report(setup.folder)
    return None


def _students(setup: Setup, name: str) -> dict[int, Model]:
    """Who answers a dataset's questions, by iteration: the model, or what a former run has stored."""
    settings = setup.settings
    if settings.regrade is None:
        return {0: setup.model}
    run = Path(settings.regrade).expanduser()
    stages = {
        int(path.parts[-4].split("_")[1]): path.parent
        for path in run.glob(f"iteration_*/{name}/{settings.split}/attempts.jsonl")
    }
    if not stages:
        there = sorted({"/".join(path.parts[-3:-1]) for path in run.glob("iteration_*/*/*/attempts.jsonl")})
        raise DataError(f"{run} holds no responses to {name}/{settings.split}; it holds {', '.join(there) or 'none'}")
    return {iteration: Recorded(str(folder)) for iteration, folder in sorted(stages.items())}


def revise(setup: Setup) -> Plan | None:
    """`errata revise`: a mixture of corpora and a reviser in, a better instruction set out; or its make-up and the price."""
    if setup.settings.dry_run:
        return show_revision_plan(setup)
    report(run_reviser(setup))
    return None


def judge(setup: Setup) -> Plan | None:
    """`errata judge`: answers to test sets, compared or rated; or what would be asked."""
    if setup.settings.dry_run:
        return show_judging_plan(setup)
    report(compare_answers(setup))
    return None


def train(setup: Setup) -> Plan | None:
    """`errata train`: a file of rows, or experts' revisions, in; a model folder out."""
    settings = setup.settings
    dev = Path(settings.dev).expanduser() if settings.dev is not None else None
    cache = (Path(settings.output_dir).expanduser() / "tokens").resolve()
    job = job_settings(settings.training, settings.seed, str(dev.resolve()) if dev is not None else None, str(cache))
    if settings.dry_run or settings.preview is not None:
        with tempfile.TemporaryDirectory() as place:
            rows = _rows(settings, Path(place))
            if settings.dry_run:
                with rows.open("rb") as file:
                    return show_training_plan(setup, sum(bool(line.strip()) for line in file))
            prepare(Path(place), setup.model, rows, job)
            preview(Path(place), settings.preview)
        return None
    with under_way(setup) as run:
        rows = _rows(settings, run.folder.path)
        inputs = {
            "rows": file_digest(rows),
            "dev": file_digest(dev) if dev is not None else None,
            "model": setup.model.fingerprint,
            "training": result_changing(settings.training),
            "seed": settings.seed,
        }
        if settings.prepare:
            folder = run.folder.stage("train", **inputs).folder
            prepare(folder, setup.model, rows, job)
            _show_commands(folder)
            return None
        with run.stage("train", **inputs) as stage:
            fine_tune(stage, setup.model, rows, job, partial(run.tracker.update, stage))
        if settings.revisions is not None:  # what it was trained on goes with a coach: it will not revise that
            shutil.copyfile(run.folder.path / COACH, stage.folder / "model" / COACH)
    report(setup.folder)
    return None


def _rows(settings: Any, folder: Path) -> Path:
    """The file of rows: the user's, or a coach's, made of the experts' revisions in that folder."""
    if settings.data is not None:
        return rows_file(settings.data)
    return write_coach_data(Path(settings.revisions).expanduser(), settings.alpha, folder)


def _show_commands(folder: Path) -> None:
    place = shlex.quote(str(folder.resolve()))
    print(  # noqa: T201
        f"""\
The job lies ready. Start it on each of two machines with 8 GPUs that both see this folder:
  torchrun --nnodes=2 --nproc-per-node=8 --rdzv-backend=c10d --rdzv-endpoint=FIRST_MACHINE:29500 -m errata.training {place}
or once under Slurm:
  srun --nodes=2 --ntasks-per-node=8 --gpus-per-node=8 python -m errata.training {place}
Then the same errata command without prepare=true takes the model over and reports."""
    )
