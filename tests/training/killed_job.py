"""Trains FOLDER and is killed (SIGKILL) behind its N-th update: `python -m tests.training.killed_job FOLDER N`.

Its further ranks are started by the same command, as in a real job.
"""

import os
import signal
import sys
from pathlib import Path

from errata.training.__main__ import die_with_parent, main
from errata.training.watch import Metrics


def end_of_update(self, trainer, module, *given):
    """Write the line of the update; the last thing that is done at the chosen one."""
    write(self, trainer, module, *given)
    if trainer.is_global_zero and module.updates_done == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)


write = Metrics.on_train_batch_end
if __name__ == "__main__":
    die_with_parent()
    Metrics.on_train_batch_end = end_of_update
    sys.exit(main(Path(sys.argv[1]), None))
