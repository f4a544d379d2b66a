"""The errors a user meets: each says what is wrong, where, and the remedy."""

from collections.abc import Sequence


class ErrataError(Exception):
    """Something the user can mend. The command line prints it as one message, without a traceback."""


class ConfigError(ErrataError):
    """Every problem that was found in the configuration, reported together before anything is loaded or paid."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        lines = [f"  {number}. {problem}" for number, problem in enumerate(self.problems, 1)]
        head = "the configuration has a problem:" if len(lines) == 1 else f"the configuration has {len(lines)} problems:"
        super().__init__("\n".join([head, *lines]))


class DataError(ErrataError):
    """A dataset or corpus file that cannot be used: names the file, the line and what was expected."""


class RunFolderError(ErrataError):
    """A run folder that cannot be continued: in use, unwritable, or written by another version."""


class InstructorError(ErrataError):
    """The instructor cannot be used at all (refused key, unknown model, endpoint down); what was received is kept."""


class BudgetError(ErrataError):
    """The budget is used up; what was received is kept, and a higher one goes on from there."""


class TrainingError(ErrataError):
    """The training process ended without a model."""


class ModelError(ErrataError):
    """The student cannot answer at all (server down, key refused, a worker lost); what was answered is kept."""


class SweepError(ErrataError):
    """Cells of a sweep that did not come to their end; the others are finished and stay so."""
