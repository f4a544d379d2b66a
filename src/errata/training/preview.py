"""What a job would train on and what it would take, before anything is loaded: `errata train ... preview=5`."""

from dataclasses import replace
from itertools import chain, groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text

from errata.training.estimate import USUAL_SHARE, estimate, peak_flops
from errata.training.methods import trained_parameters
from errata.training.plan import lay_out
from errata.training.run import Outlook, outlook
from errata.weights import empty_network


def show(folder: Path, count: int) -> None:
    """Print the first rows that are trained on with their trained tokens coloured, then the numbers of the job."""
    look = outlook(folder)
    console = Console(highlight=False)
    for place in islice(chain.from_iterable(look.plan), count):
        row = look.rows[place]
        text = Text()
        for trained, part in groupby(zip(row.trained.tolist(), row.ids.tolist(), strict=True), key=itemgetter(0)):
            text.append(look.tokenizer.decode([token for _, token in part]), style="bold green" if trained else "dim")
        console.print(f"[cyan]row {place + 1}[/cyan]: {len(row.ids)} tokens, {int(row.trained.sum())} trained")
        console.print(text, end="\n\n", soft_wrap=True)
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in numbers(look).items():
        table.add_row(name, value)
    console.print(table)


def numbers(look: Outlook) -> dict[str, str]:
    """The job in figures, by name."""
    job, rows, counts, where = look.job, look.rows, look.rows.counts, look.where
    tokens, trained = int(rows.lengths.sum()), int(rows.trained.sum())
    model: Any = empty_network(job.weights)
    weights = replace(job.weights, adapter=None)
    with torch.device("meta"):
        model = job.method.wrapped(model, weights, len(look.plan))
    packed = replace(job, packing=job.packing is not False)
    passes = [
        sum(rows.lengths[place] for place in part)
        if packed.packing
        else len(part) * max(rows.lengths[place] for place in part)
        for update in look.plan[:50]
        for rank in lay_out(update, rows.lengths, packed, where.ranks)
        for part in rank
        if part
    ]
    peak = peak_flops(torch.device(where.kind), job.precision)
    told = estimate(
        model, job, look.strategy, where.ranks, int(max(passes)), tokens * job.epochs, float(rows.lengths.mean()), peak
    )
    every, total = trained_parameters(model), sum(parameter.numel() for parameter in model.parameters())
    found = {
        "rows": f"{len(rows):,} of {counts['given']:,} ({counts['too_long']:,} too long and left out, {counts['cut']:,} cut)"
        + (f", and {len(look.dev):,} held out" if look.dev is not None else ""),
        "tokens": f"{tokens:,} an epoch, of which {trained:,} bear loss ({100 * trained / tokens:.1f} %)",
        "row length": f"{rows.lengths.mean():.0f} tokens on average, {rows.lengths.max()} at most",
        "updates": f"{len(look.plan):,} of {job.batch_size} rows over {job.epochs} epochs, {look.warmup_steps} warm-up"
        + (f" (asked for {job.warmup_steps})" if job.warmup_share is None and look.warmup_steps < job.warmup_steps else ""),
        "trained parameters": f"{every:,} of {total:,} ({100 * every / total:.2f} %)",
        "devices": f"{where.ranks} x {where.kind}, {look.strategy}, {job.precision}",
        "memory": f"about {told.total:.1f} GiB on each device: weights {told.weights:.1f}, gradients {told.gradients:.1f}, "
        f"optimizer {told.optimizer:.1f}, activations {told.activations:.1f}",
    }
    if told.seconds is not None:
        found["time"] = f"about {_duration(told.seconds)} at {100 * USUAL_SHARE:.0f} % of the peak ({_flops(peak)})"
    return found


def _duration(seconds: float) -> str:
    for size, name in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {name}"
    return f"{seconds:.0f} seconds"


def _flops(peak: float | None) -> str:
    value = peak or 0.0
    return f"{value / 1e12:.1f} TFLOP/s" if value >= 1e12 else f"{value / 1e9:.0f} GFLOP/s"
