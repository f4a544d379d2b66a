"""train: a training set and a model in, a better model out, made by a process of its own."""

import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from errata.digests import fingerprint_folder
from errata.errors import TrainingError
from errata.jsonl import encode_lines, write_atomically
from errata.model.base import Model
from errata.records import Example
from errata.run_folder import Stage
from errata.terminal import Lines

_LIBC = ctypes.CDLL(None)  # loaded here: between fork and exec there is no time for it


def train(
    stage: Stage,
    model: Model,
    rows: Sequence[Example] | Path,
    settings: dict[str, Any],
    heard: Callable[[dict[str, Any]], Any] = lambda line: None,
) -> Model:
    """Fine-tune the model on the rows, in `python -m errata.training FOLDER`.

    Args:
        stage: where the job, its log and the model go.
        model: what to start from; its memory is given back first.
        rows: the training set, or a file of it.
        settings: everything in `Job` but the weights, the data and the device (`job_settings`).
        heard: told each line of metrics as it is written.

    Raises:
        TrainingError: the process ended without a model; its last words are in the message.
    """
    if not stage.finished:
        model.unload()
        prepare(stage.folder, model, rows, settings)
        if not (stage.folder / "summary.json").exists():  # it may have been killed between the model and the seal
            _run(stage.folder, settings["launch"], heard)
        summary = json.loads((stage.folder / "summary.json").read_bytes())
        stage.finish(
            {
                "rows": summary["rows"],
                "updates": summary["steps"],
                "tokens": summary["tokens"],
                "tokens/s": summary["tokens_per_s"],
                "first loss": round(summary["first_loss"], 4),
                "last loss": round(summary["last_loss"], 4),
            },
            outputs={"model": fingerprint_folder(stage.folder / "model")},
        )
    return model.with_weights(model.weights.after_training(stage.folder / "model"))


def prepare(folder: Path, model: Model, rows: Sequence[Example] | Path, settings: dict[str, Any]) -> None:
    """Write what the training process reads: training.yaml, and the rows where they are not a file already."""
    data = "train.jsonl"
    if isinstance(rows, Path):
        data = str(rows.resolve())
    else:
        lines = [{"id": row.id, "prompt": row.prompt, "response": row.response} for row in rows]
        write_atomically(folder / data, encode_lines(lines))
    job = {"weights": asdict(model.weights), "data": data, "device": model.device, **settings}
    write_atomically(folder / "training.yaml", yaml.safe_dump(job, sort_keys=False).encode())


def job_settings(training: Any, seed: int, dev: str | None = None, cache: str | None = None) -> dict[str, Any]:
    """The training config as plain values for training.yaml."""
    method = {"kind": type(training.method).__name__, **asdict(training.method)}
    return asdict(training) | {"method": method, "seed": seed, "dev": dev, "cache": cache}


def commands(folder: Path, launch: Sequence[str]) -> list[str]:
    """The words that start a job."""
    torchrun = [sys.executable, "-m", "torch.distributed.run"]
    launched = [part for word in launch for part in (torchrun if word == "torchrun" else [word])]
    python = [] if "torchrun" in launch else [sys.executable]
    return [*launched, *python, "-m", "errata.training", str(folder)]


def _die_with(parent: int) -> None:
    """Have the kernel stop the training process, from its first instant, should this one be killed.

    Otherwise it would train on unseen, and the same command, run again, would start a second one beside it.
    """
    _LIBC.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:  # killed before the kernel was asked: its signal does not come any more
        os.kill(os.getpid(), signal.SIGKILL)


def preview(folder: Path, count: int) -> None:
    """Show rows and figures of a prepared job.

    Raises:
        TrainingError: what is wrong with the job.
    """
    done = subprocess.run([*commands(folder, []), str(count)], stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise TrainingError(_complaint(folder) or f"the preview of {folder} failed\n{done.stderr[-2000:]}")
    sys.stderr.write(done.stderr)


def _run(folder: Path, launch: Sequence[str], heard: Callable[[dict[str, Any]], Any]) -> None:
    words: list[str] = []
    process = subprocess.Popen(
        commands(folder, launch),
        stderr=None if sys.stderr.isatty() else subprocess.PIPE,
        text=True,
        preexec_fn=partial(_die_with, os.getpid()) if sys.platform == "linux" else None,
    )
    ended, lines = threading.Event(), Lines()

    def told(line: dict[str, Any]) -> None:
        heard(line)
        if process.stderr is not None:  # else the job draws its own bar
            loss = "no finite loss" if line["loss"] is None else f"loss {line['loss']:.4f}"
            lines.say(
                f"{'/'.join(folder.parts[-2:]):<30} update {line['update']}, {loss}, {line['tokens_per_s']:.0f} tokens/s"
            )

    listener = threading.Thread(target=_listen, args=(folder / "metrics.jsonl", told, ended))
    listener.start()
    try:
        if process.stderr is not None:
            words = [line.rstrip() for line in process.stderr]
        code = process.wait()
    finally:
        ended.set()
        listener.join()
    if words:
        write_atomically(folder / "training.log", ("\n".join(words) + "\n").encode())
    if code and (complaint := _complaint(folder)) is not None:
        raise TrainingError(f"training in {folder}: {complaint}")
    if code:
        tail = "\n".join(line for line in words if line.strip())[-2000:]
        how = f"ended with code {code}" if code > 0 else f"was killed by {_signal(-code)}"
        raise TrainingError(f"training in {folder} {how}; run the command again to continue it.\n{tail}".rstrip())


def _signal(number: int) -> str:
    """A signal's name, and of the one that comes without a word its usual sender."""
    name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    return f"{name}, as a machine short of memory does" if name == "SIGKILL" else name


def _complaint(folder: Path) -> str | None:
    path = folder / "error.txt"
    return path.read_text() if path.exists() else None


def _listen(path: Path, heard: Callable[[dict[str, Any]], Any], ended: threading.Event) -> None:
    """Pass on each line of the metrics once, as it appears; of a job that goes on those that are new."""
    place = path.stat().st_size if path.exists() else 0
    while True:
        last = ended.wait(0.5)
        if path.exists():
            place = min(place, path.stat().st_size)  # a job that goes on makes its last updates again
            with path.open("rb") as file:
                file.seek(place)
                for line in file:
                    if not line.endswith(b"\n"):
                        break
                    heard(json.loads(line))
                    place += len(line)
        if last:
            return
