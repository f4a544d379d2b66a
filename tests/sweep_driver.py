"""Runs `errata` and kills it (SIGKILL) at a chosen instant of a sweep: `sweep_driver.py MOMENT N -- ARGUMENTS`.

MOMENT is `answers` (behind the N-th portion of answers that was written), `replies` (behind the N-th reply that was kept),
`training` (at the first checkpoint of the N-th training) or `none`. Training is the real job, in this process, which spares
its start. Each request that is sent to the tutor is a line of asked.log.
"""

import os
import signal
import sys
from pathlib import Path

from errata import run_folder
from errata.cli import main
from errata.instructor.tutor import Tutor
from errata.instructor.writer import Writer
from errata.ledger import Ledger
from errata.stage import train
from errata.training.__main__ import main as train_here
from errata.training.checkpoint import Checkpoints

moment, left = sys.argv[1], int(sys.argv[2])
append, put, commit, reply = run_folder.Journal.append, Ledger.put, Writer._commit, Tutor.reply
save = Checkpoints.save


def count(what, number=1):
    """Die at the chosen one."""
    global left
    if what == moment:
        left -= number
        if left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)


def counted_append(self, records):
    append(self, records)
    if self.path.stem == "attempts":
        count("answers")


def counted_commit(self, ledger, batch):
    commit(self, ledger, batch)
    count("replies", len(batch))


async def noted_reply(self, call):
    with Path("asked.log").open("a") as file:
        file.write(f"{call.key}\n")
    return await reply(self, call)


def save_and_die(self, trainer, module):
    save(self, trainer, module)
    os.kill(os.getpid(), signal.SIGKILL)


def train_in_this_process(folder, launch, heard):
    global left
    if moment == "training":
        left -= 1
        if left == 0:
            Checkpoints.save = save_and_die
    assert train_here(folder, None) == 0


run_folder.Journal.append, Writer._commit, Tutor.reply = counted_append, counted_commit, noted_reply
train._run = train_in_this_process
sys.argv = ["errata", *sys.argv[4:]]
main()
