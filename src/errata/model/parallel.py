"""One student on several devices: a process for each, which answers its share of the questions."""

import queue
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from errata.errors import ErrataError, ModelError
from errata.model.base import Answer
from errata.records import Prompt

_LOOK_S = 1.0


def answer_on(
    model: Any, devices: Sequence[str], prompts: Sequence[Prompt], max_new_tokens: int, stop: Sequence[str]
) -> Iterator[tuple[int, Answer]]:
    """Answers as they are finished, from all devices.

    Args:
        model: an `HF` dataclass; each process loads one like it on its own device.
        devices: one process for each.
        prompts: dealt out by length, so that every device gets as much to do.
        max_new_tokens: as for `Model.answers`.
        stop: as for `Model.answers`.

    Raises:
        ModelError: a process died, or its model could not be loaded.
    """
    import torch.multiprocessing as processes

    context = processes.get_context("spawn")
    answers: Any = context.Queue()
    order = sorted(range(len(prompts)), key=lambda place: -len(prompts[place].user))
    workers = []
    for number, device in enumerate(devices):
        share = [(place, prompts[place]) for place in order[number :: len(devices)]]
        alone = replace(model, device=device)
        worker = context.Process(target=_work, args=(alone, share, max_new_tokens, list(stop), answers), daemon=True)
        worker.start()
        workers.append(worker)
    try:
        for _ in prompts:
            item = _next(answers, workers, devices)
            if isinstance(item, str):
                raise ModelError(item)
            yield item
    finally:
        for worker in workers:
            worker.terminate()
            worker.join()


def _next(answers: Any, workers: Sequence[Any], devices: Sequence[str]) -> Any:
    """The next answer of any worker; an empty queue behind a dead one is an error."""
    while True:
        try:
            return answers.get(timeout=_LOOK_S)
        except queue.Empty:
            for worker, device in zip(workers, devices, strict=True):
                if worker.exitcode not in (None, 0):
                    raise ModelError(
                        f"the process that answers on {device} died (exit code {worker.exitcode}). What was answered is "
                        "kept; the same command goes on from there."
                    ) from None


def _work(model: Any, share: Sequence[tuple[int, Prompt]], max_new_tokens: int, stop: list[str], answers: Any) -> None:
    try:
        model.load()
        for place, answer in model.answers([prompt for _, prompt in share], max_new_tokens, stop):
            answers.put((share[place][0], answer))
    except ErrataError as error:
        answers.put(f"{model.device}: {error}")
