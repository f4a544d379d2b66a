"""IFD and reversed IFD: Errata's scoring beside the source's way, on the same weights, token ids, precision and threads.

    python benchmarks/ifd.py DATA/coachlm/expert_revisions.json --out benchmarks/results/ifd.json

SmolLM2-135M-Instruct in float32 on a CPU, the raw (Alpaca) side of the first records of CoachLM's expert revisions, four
losses a record. The source's way (Reflection-Tuning's data_analysis, in our own code): one record after the other, four
forward passes, logits of every token, transformers' own loss by labels. One process; the source takes the records in
portions, and Errata scores all of them after each portion, so that both meet the same weather on the machine: the source's
time is the sum, Errata's the median. On a machine with other work, `--threads 1` and the CPU seconds
say more than the wall's: two threads wait for each other. Token ids are made inside the time, loading is not.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from errata.model.likelihood import Scorer, Span
from errata.model.smollm2_135m import SmolLM2
from errata.records import Likelihoods, Pair
from errata.stage.score import likelihoods, spans_of
from errata.weights import load_network

NAMES = ("response", "response_given", "instruction", "instruction_given")
MAX_LENGTH = 2048


def read(path: Path, count: int) -> list[Pair]:
    """The raw side of the first records."""
    sides = [[one[f"Raw {name}"] for name in ("Instruction", "Input", "Response")] for one in json.loads(path.read_text())]
    return [Pair(f"raw/{number}", *side) for number, side in enumerate(sides[:count])]


@torch.no_grad()
def by_labels(network: Any, span: Span) -> float:
    """One sequence, all its logits, transformers' loss."""
    ids = torch.tensor([span.ids])
    labels = ids.clone()
    labels[0, : span.start] = -100
    return float(network(input_ids=ids, labels=labels).loss)


def source(model: SmolLM2, network: Any, pairs: list[Pair]) -> list[Likelihoods]:
    """One record at a time, four passes each."""
    found = []
    for pair in pairs:
        spans = [span for target in ("response", "instruction") for span in spans_of(model, pair, target, MAX_LENGTH)]
        losses = [by_labels(network, span) for span in spans if isinstance(span, Span)]
        found.append(Likelihoods(pair.id, *losses))
    return found


def errata(model: SmolLM2, scorer: Scorer, pairs: list[Pair]) -> list[Likelihoods]:
    """As the stage scores them."""
    return [one for portion in likelihoods(model, scorer, pairs, True, True, MAX_LENGTH) for one in portion]


def peak() -> float:
    """GFLOP/s of a large float32 product by oneDNN."""
    one, two = torch.randn(3072, 3072), torch.randn(3072, 3072)
    seconds = []
    for _ in range(6):
        start = time.perf_counter()
        torch.ops.mkldnn._linear_pointwise(one, two, None, "none", [], "")
        seconds.append(time.perf_counter() - start)
    return 2 * 3072**3 / min(seconds) / 1e9


def needed(network: Any, tokens: int, scored: int) -> float:
    """GFLOP of the linear layers' products; the head on scored tokens only; attention is not counted."""
    head = network.get_output_embeddings().weight.numel()
    words = network.get_input_embeddings().weight.numel()
    body = sum(parameter.numel() for parameter in network.parameters()) - words  # the head's weight is the words'
    return 2 * (body * tokens + head * scored) / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("path", type=Path, help="coachlm/expert_revisions.json")
    parser.add_argument("--records", type=int, default=64)
    parser.add_argument("--portions", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--token-budget", type=int)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)

    model, pairs = SmolLM2(device="cpu"), read(given.path, given.records)
    plain = load_network(model.weights, torch.float32).eval()
    scorer = Scorer(model.load().network, given.token_budget)
    errata(model, scorer, pairs[:4])
    source(model, plain, pairs[:1])  # neither is timed while it is cold

    step = -(-len(pairs) // given.portions)
    theirs: list[Likelihoods] = []
    seconds: dict[str, list[float]] = {"source": [], "errata": []}
    cpu_seconds: dict[str, list[float]] = {"source": [], "errata": []}
    best = peak()
    for begin in range(0, len(pairs), step):
        start = time.perf_counter(), time.process_time()
        theirs += source(model, plain, pairs[begin : begin + step])
        middle = time.perf_counter(), time.process_time()
        scorer.tokens = scorer.padded = 0
        ours = errata(model, scorer, pairs)
        end = time.perf_counter(), time.process_time()
        for name, one, two in (("source", start, middle), ("errata", middle, end)):
            seconds[name].append(round(two[0] - one[0], 2))
            cpu_seconds[name].append(round(two[1] - one[1], 2))
        best = max(best, peak())

    targets = [(pair, target) for pair in pairs for target in ("response", "instruction")]
    spans = [one for asked in targets for one in spans_of(model, *asked, MAX_LENGTH) if isinstance(one, Span)]
    scored = sum(len(span.ids) - span.start for span in spans)
    took = {"source": sum(seconds["source"]), "errata": statistics.median(seconds["errata"])}
    spent = {"source": sum(cpu_seconds["source"]), "errata": statistics.median(cpu_seconds["errata"])}
    work = needed(plain, sum(len(span.ids) for span in spans), scored)
    losses = [abs(getattr(one, name) - getattr(two, name)) for one, two in zip(ours, theirs, strict=True) for name in NAMES]
    ratios = [abs(one.ifd - two.ifd) for one, two in zip(ours, theirs, strict=True) if one.ifd and two.ifd]
    result = {
        "records": len(pairs),
        "threads": given.threads,
        "tokens": sum(len(span.ids) for span in spans),
        "scored_tokens": scored,
        "seconds": seconds,
        "seconds_in_all": took,
        "pairs_per_s": {name: round(len(pairs) / value, 2) for name, value in took.items()},
        "errata_times_as_fast": round(took["source"] / took["errata"], 2),
        "cpu_seconds": cpu_seconds,
        "cpu_seconds_in_all": spent,
        "errata_times_as_cheap": round(spent["source"] / spent["errata"], 2),
        "losses_apart_at_most": max(losses),
        "ifd_apart_at_most": max(ratios),
        "token_budget": scorer.token_budget,
        "padding_share": round(scorer.padded / scorer.tokens, 3),
        "shared_share": round(1 - (scorer.tokens - scorer.padded) / sum(len(span.ids) for span in spans), 3),
        "peak_gflops_onednn": round(best, 1),
        "needed_gflop": round(work, 1),
        "share_of_peak": {name: round(work / value / best, 3) for name, value in took.items()},
        "versions": {"torch": torch.__version__, "transformers": __import__("transformers").__version__},
    }
    print(json.dumps(result, indent=1))
    if given.out:
        given.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
