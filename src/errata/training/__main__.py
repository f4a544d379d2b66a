"""Train as FOLDER/training.yaml says: `python -m errata.training FOLDER [PREVIEW]`; leaves FOLDER/model and summary.json.

A job that was killed continues from its last checkpoint when it is started again, and ends with the same weights. With a
number behind the folder so many rows are shown, with what the job would take, and nothing is trained.
"""

import ctypes
import gc
import logging
import os
import signal
import sys
import warnings
from pathlib import Path

from errata.errors import ErrataError

_OUT_OF_MEMORY = (
    "out of memory. Three settings help: training.micro_tokens (packed) or training.micro_batch_size lower; "
    "training.gradient_checkpointing=true; training=lora, or strategy=zero3 on several devices"
)

_STARTER = "ERRATA_STARTER"
"""The variable by which the ranks that Lightning starts know who starts them; those of torchrun have another parent."""


def main(folder: Path, preview: int | None) -> int:
    """Run the job; a mistake ends in one message, also left in FOLDER/error.txt."""
    import torch

    from errata.training.preview import show
    from errata.training.run import train

    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)  # its own import has set the level anew
    gc.freeze()
    gc.enable()
    message = folder / "error.txt"
    message.unlink(missing_ok=True)
    try:
        if preview is None:
            train(folder)
        else:
            show(folder, preview)
    except (ErrataError, torch.OutOfMemoryError, RuntimeError, MemoryError) as error:
        exhausted = isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)
        if not exhausted and not isinstance(error, ErrataError):
            raise
        message.write_text(_OUT_OF_MEMORY if exhausted else str(error))
        print(f"error: {message.read_text()}", file=sys.stderr)  # noqa: T201
        return 2
    return 0


def die_with_parent() -> None:
    """A further rank ends with the process that started it, however and whenever that ends."""
    if "LOCAL_RANK" not in os.environ:
        os.environ[_STARTER] = str(os.getpid())
    elif sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.environ.get(_STARTER, str(os.getppid())) != str(os.getppid()):  # it was killed before the kernel was asked
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    die_with_parent()
    gc.disable()  # what the imports make stays: to look through it time and again is a quarter of the start
    for noisy in ("lightning", "transformers", "DeepSpeed", "torch.distributed", "bitsandbytes"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    place = Path(sys.argv[1])
    sys.exit(main(place, int(sys.argv[2]) if len(sys.argv) > 2 else None))
