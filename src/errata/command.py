"""What each configured command does, once its configuration has been checked."""

from pathlib import Path

from errata.dataset.base import read_json_lines
from errata.errors import DataError
from errata.improve import attempt_inputs, load_splits
from errata.improve import improve as run_loop
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
    """`errata evaluate`: attempts at one split of each dataset, then the table."""
    settings = setup.settings
    splits = load_splits(setup, (settings.split,))
    if settings.dry_run:
        show_plan(setup)
        return
    with RunFolder(setup.folder, setup.plain) as folder, Tracker(settings.tracking, folder.path, setup.plain) as tracker:
        for name, dataset in setup.datasets.items():
            questions = splits[name][settings.split]
            stage = folder.stage(f"iteration_0/{name}/{settings.split}", **attempt_inputs(setup.model, dataset, questions))
            attempts = answer_and_grade(stage, setup.model, dataset, questions, settings.batch_size)
            tracker.summarise({f"{settings.split}/{name}": sum(a.correct for a in attempts) / len(attempts)})
    report(setup.folder)


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
    for number, item in read_json_lines(path, ("prompt", "response")):
        name = f"line {number}"
        if not isinstance(item["prompt"], str) or not isinstance(item["response"], str) or not item["response"].strip():
            raise DataError(f"{path}, {name}: prompt and response must be texts, the response not empty")
        rows.append(Example(str(item.get("id", name)), "pairs", item["prompt"], item["response"], "", "", "", 0))
    if not rows:
        raise DataError(f"{path}: no rows; expected one {{prompt, response}} object a line")
    return rows
