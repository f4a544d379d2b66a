"""What each configured command does, once its configuration has been checked."""

import shlex
import shutil
import tempfile
from pathlib import Path
from typing import Any

from errata.checks.values import rows_file
from errata.data_plan import show_judging_plan, show_revision_plan
from errata.errors import DataError
from errata.improve import attempt_inputs
from errata.improve import improve as run_loop
from errata.judging import judge as compare_answers
from errata.model.base import Model
from errata.model.recorded import Recorded
from errata.plan import show_plan
from errata.report.write import report
from errata.revise import revise as run_reviser
from errata.reviser.expert import write_coach_data
from errata.run_folder import RunFolder
from errata.setup import Setup, result_changing
from errata.stage.evaluate import evaluate as answer_and_grade
from errata.stage.train import job_settings, prepare, preview
from errata.stage.train import train as fine_tune
from errata.tracking.tracker import Tracker
from errata.trained import COACH
from errata.training.job import file_digest


def improve(setup: Setup) -> None:
    """`errata improve`: the loop, then its report; or the plan alone."""
    if setup.settings.dry_run:
        show_plan(setup)
        return
    report(run_loop(setup))


def evaluate(setup: Setup) -> None:
    """`errata evaluate`: attempts at one split of each dataset, then the table; or stored responses graded anew.

    Raises:
        DataError: a split cannot be read, or the run to regrade holds none of the datasets.
    """
    settings = setup.settings
    questions = {name: dataset.load(settings.split) for name, dataset in setup.datasets.items()}
    if settings.dry_run:
        show_plan(setup)
        return
    students = {name: _students(setup, name) for name in setup.datasets}
    with (
        RunFolder(setup.folder, setup.plain, setup.command, setup.resolved) as folder,
        Tracker(settings.tracking, folder.path, setup.plain, setup.command) as tracker,
    ):
        for name, dataset in setup.datasets.items():
            for iteration, student in students[name].items():
                inputs = attempt_inputs(student, dataset, questions[name])
                stage = folder.stage(f"iteration_{iteration}/{name}/{settings.split}", **inputs)
                answer_and_grade(stage, student, dataset, questions[name], setup.evaluations if student.trains else None)
                tracker.stage(stage)
    report(setup.folder)


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


def revise(setup: Setup) -> None:
    """`errata revise`: a mixture of corpora and a reviser in, a better instruction set out; or its make-up and the price."""
    if setup.settings.dry_run:
        show_revision_plan(setup)
        return
    report(run_reviser(setup))


def judge(setup: Setup) -> None:
    """`errata judge`: answers to test sets, compared or rated; or what would be asked."""
    if setup.settings.dry_run:
        show_judging_plan(setup)
        return
    report(compare_answers(setup))


def train(setup: Setup) -> None:
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
                    show_plan(setup, sum(bool(line.strip()) for line in file))
            else:
                prepare(Path(place), setup.model, rows, job)
                preview(Path(place), settings.preview)
        return
    with (
        RunFolder(setup.folder, setup.plain, setup.command, setup.resolved) as folder,
        Tracker(settings.tracking, folder.path, setup.plain, setup.command) as tracker,
    ):
        rows = _rows(settings, folder.path)
        stage = folder.stage(
            "train",
            rows=file_digest(rows),
            dev=file_digest(dev) if dev is not None else None,
            model=setup.model.fingerprint,
            training=result_changing(settings.training),
            seed=settings.seed,
        )
        if settings.prepare:
            prepare(stage.folder, setup.model, rows, job)
            _show_commands(stage.folder)
            return

        def heard(line: dict[str, Any]) -> None:
            tracker.update(stage, line)

        fine_tune(stage, setup.model, rows, job, heard)
        tracker.stage(stage)
        if settings.revisions is not None:  # what it was trained on goes with a coach: it will not revise that
            shutil.copyfile(folder.path / COACH, stage.folder / "model" / COACH)
    report(setup.folder)


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
