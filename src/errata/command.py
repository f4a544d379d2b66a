"""What each configured command does, once its configuration has been checked."""

from pathlib import Path

from errata.dataset.source import read_file
from errata.errors import DataError
from errata.improve import attempt_inputs
from errata.improve import improve as run_loop
from errata.model.base import Model
from errata.model.recorded import Recorded
from errata.plan import show_plan
from errata.records import Example
from errata.report.write import report
from errata.run_folder import RunFolder, digest, encode_lines
from errata.setup import Setup, result_changing
from errata.stage.evaluate import evaluate as answer_and_grade
from errata.stage.train import job_settings, read_metrics
from errata.stage.train import train as fine_tune
from errata.tracking.tracker import Tracker


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
    with RunFolder(setup.folder, setup.plain) as folder, Tracker(settings.tracking, folder.path, setup.plain) as tracker:
        for name, dataset in setup.datasets.items():
            for iteration, student in students[name].items():
                inputs = attempt_inputs(student, dataset, questions[name])
                stage = folder.stage(f"iteration_{iteration}/{name}/{settings.split}", **inputs)
                attempts = answer_and_grade(stage, student, dataset, questions[name])
                tracker.summarise({f"{settings.split}/{name}": sum(a.value for a in attempts) / len(attempts)})
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


def train(setup: Setup) -> None:
    """`errata train`: a file of pairs in, a model folder out."""
    settings = setup.settings
    rows = read_pairs(Path(settings.data).expanduser())
    if settings.dry_run:
        show_plan(setup, rows)
        return
    too_long = [row.id for row in rows if setup.model.count_tokens(row.prompt, row.response) > settings.training.max_length]
    if too_long:
        raise DataError(
            f"{settings.data}: {len(too_long)} rows are longer than training.max_length="
            f"{settings.training.max_length} tokens, the first: {', '.join(too_long[:3])}. Raise it, or leave them out."
        )
    with RunFolder(setup.folder, setup.plain) as folder, Tracker(settings.tracking, folder.path, setup.plain) as tracker:
        stage = folder.stage(
            "train",
            rows=digest(encode_lines(rows)),
            model=setup.model.fingerprint,
            training=result_changing(settings.training),
            seed=settings.seed,
        )
        new = not stage.finished
        fine_tune(stage, setup.model, rows, job_settings(settings.training, settings.seed))
        for line in read_metrics(stage.folder) if new else []:
            tracker.log({f"train/{name}": value for name, value in line.items()})
    report(setup.folder)


def read_pairs(path: Path) -> list[Example]:
    """Training rows from a JSON Lines file of {prompt, response} objects.

    Raises:
        DataError: a line that is none, or an empty file.
    """
    rows = []
    for place, item in read_file(path):
        missing = [name for name in ("prompt", "response") if item.get(name) is None]
        if missing:
            raise DataError(f"{place}: the field {', '.join(map(repr, missing))} is missing; it has {', '.join(item)}")
        if not isinstance(item["prompt"], str) or not isinstance(item["response"], str) or not item["response"].strip():
            raise DataError(f"{place}: prompt and response must be texts, the response not empty")
        name = place.removeprefix(f"{path}, ")
        rows.append(Example(str(item.get("id", name)), "pairs", item["prompt"], item["response"], "", "", "", 0))
    if not rows:
        raise DataError(f"{path}: no rows; expected one {{prompt, response}} object a line")
    return rows
