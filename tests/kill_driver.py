"""Runs `errata` in this process and kills it (SIGKILL) at a chosen instant: `kill_driver.py STAGE N -- ARGUMENTS`.

STAGE is the folder of a stage. The process dies in the middle of writing its N-th piece there: records in a journal, the
final tables, a reply in the ledger (an odd N: before it is committed, an even one: right behind that), or, in training, right
behind the first checkpoint, where the training process waits for it. What was asked of the instructor and what was kept
goes to asked.log, one line each. STAGE `none` lets the run end.
"""

import os
import signal
import sys
import threading
import time
from pathlib import Path

from errata import run_folder
from errata.cli import main
from errata.instructor.tutor import Tutor
from errata.instructor.writer import Writer
from errata.ledger import Ledger
from errata.stage import evaluate, train

stage, number = sys.argv[1], int(sys.argv[2])
left = number
under_way = []


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def note(line):
    with Path("asked.log").open("a") as file:
        file.write(line + "\n")


def write_half(path, content):
    """Count down; at the chosen piece write half of it and die."""
    global left
    if path.parent.as_posix().endswith(stage):
        left -= 1
        if left == 0:
            with path.open("ab") as file:
                file.write(content[: len(content) // 2])
            die()


append, write_atomically, put, commit, reply = (
    run_folder.Journal.append, run_folder.write_atomically, Ledger.put, Writer._commit, Tutor.reply,
)  # fmt: skip


def dying_append(self, records):
    write_half(self.path, run_folder.encode_lines(records))
    append(self, records)


def dying_write(path, content):
    if path.suffix == ".jsonl":
        write_half(path.with_name(path.name + ".partial"), content)
    write_atomically(path, content)


def dying_put(self, call, stored):
    global left
    put(self, call, stored)
    under_way.append(call.key)
    if stage.endswith("instruct"):
        left -= 1
        if left == 0 and number % 2:
            die()


def dying_commit(self, ledger, batch):
    under_way.clear()
    commit(self, ledger, batch)
    for key in under_way:
        note(f"kept {key}")
    if under_way and stage.endswith("instruct") and left <= 0:
        die()


async def noted_reply(self, call):
    note(f"asked {call.key}")
    return await reply(self, call)


WAITING = """
import sys, time
from pathlib import Path
from errata.training.__main__ import main
from errata.training.checkpoint import Checkpoints
save = Checkpoints.save
Checkpoints.save = lambda *given: (save(*given), time.sleep(600))
main(Path(sys.argv[1]), None)
"""


def watch_training():
    while True:
        if any(Path().glob(f"outputs/*/{stage}/checkpoints/update_*[0-9]/state.json")):
            die()
        time.sleep(0.005)


run_folder.Journal.append, run_folder.write_atomically = dying_append, dying_write
Ledger.put, Writer._commit, Tutor.reply = dying_put, dying_commit, noted_reply
evaluate._FLUSH_S = 0.0  # each answer is a piece
if stage.endswith("_1/train") or stage.endswith("_2/train"):
    train.commands = lambda folder, launch: [sys.executable, "-c", WAITING, str(folder)]
    threading.Thread(target=watch_training, daemon=True).start()
sys.argv = ["errata", *sys.argv[4:]]
main()
