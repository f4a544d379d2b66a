"""Instruction sets in, a better one out: gather, revise, hold to the wall, let people decide, hand over.

The same desk serves `errata improve`, which revises the practice of an iteration between verify and mix.
"""

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from errata.digests import digest, digest_of_file
from errata.gate.base import Context
from errata.gate.leak import Leak
from errata.identity import result_changing
from errata.jsonl import encode_lines, streamed, write_atomically
from errata.model.base import Answer, Model
from errata.records import Example, Likelihoods, Pair, Prompt, Reply, Request, Revision
from errata.report.review import decide, read_decisions, write_review
from errata.report.revisions import MAKE_UP, WHOLE
from errata.reviser.base import DROPPED, KEPT, REVISED
from errata.reviser.none import Unrevised
from errata.run import Run, digest_of, under_way
from errata.run_folder import Stage
from errata.setup import Setup
from errata.stage.gather import gather, make_up
from errata.stage.respond import respond

DECISIONS = "decisions.json"
"""In the run folder: what people decided last."""
log = logging.getLogger("errata")
Objection = Callable[[Pair], tuple[str, str] | None]


@dataclass
class StageDesk:
    """The reviser's desk: each call is a stage under `place` in the run folder. `done` names what each one left.

    Attributes:
        max_length: longest record in tokens that is scored.
    """

    run: Run
    place: str
    model: Model
    max_length: int
    done: dict[str, Any] = field(default_factory=dict)

    @property
    def seed(self) -> int:
        """The run's."""
        return int(self.run.setup.settings.seed)

    def ask(self, name: str, requests: Sequence[Request]) -> list[Reply]:
        """The instructor's replies, through the ledger and within the budget."""
        if not requests:
            return []
        instructor = self.run.setup.instructor
        if instructor is None:
            raise TypeError(
                f"{type(self.run.setup.reviser).__name__} asks, and has no instructor; setup builds one for each that does"
            )
        replies, self.done[name] = self.run.asked(f"{self.place}/{name}", requests, instructor)
        return replies

    def answer(self, name: str, model: Model, prompts: Sequence[Prompt], max_new_tokens: int) -> list[Answer]:
        """A model's greedy answers."""
        inputs = {"model": model.fingerprint, "prompts": digest_of(prompts), "max_new_tokens": max_new_tokens}
        with self.run.stage(f"{self.place}/{name}", **inputs) as stage:
            answers = respond(stage, model, prompts, max_new_tokens)
        model.unload()
        self.done[name] = stage.outputs
        return answers

    def score(self, name: str, pairs: Sequence[Pair], ifd: bool, rifd: bool) -> list[Likelihoods]:
        """The losses under the run's model."""
        from errata.stage.score import score

        inputs = {"model": self.model.fingerprint, "pairs": digest_of(pairs), "ratios": [ifd, rifd]}
        with self.run.stage(f"{self.place}/{name}", **inputs, max_length=self.max_length) as stage:
            scores = score(stage, self.model, pairs, ifd, rifd, self.max_length)
        self.done[name] = stage.outputs
        return scores

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """The vectors of the run's encoder, kept for all runs in `output_dir`."""
        retrieval = self.run.setup.retrieval
        if retrieval is None:
            raise TypeError("this reviser embeds nothing by its settings")
        self.done["encoder"] = retrieval.encoder.fingerprint
        return retrieval.vectors(texts, self.run.setup.embeddings)

    def relies_on(self, name: str, files: Sequence[Path]) -> None:
        """The files' digests, among what the revisions are known by."""
        self.done[name] = [digest_of_file(file) for file in files]


def revise(setup: Setup) -> Path:
    """Run a reviser over a mixture of corpora, or go on where it was stopped; returns the run folder.

    Raises:
        DataError: a corpus cannot be read, or has fewer records than are wanted; or the decisions are not on its records.
    """
    settings, reviser = setup.settings, setup.reviser
    objection, wall = objector(setup), digest_of(setup.wall)
    with under_way(setup) as run:
        with run.stage(
            "corpus",
            corpora={name: [result_changing(one), one.fingerprint] for name, one in setup.corpora.items()},
            mixture=result_changing(settings.mixture),
            wall=wall,
            seed=settings.seed,
        ) as corpus:
            gather(corpus, setup.corpora, settings.mixture, settings.seed, objection)
            table = make_up(setup.corpora, corpus.record.counts)
            write_atomically(corpus.folder / MAKE_UP, json.dumps(table).encode())
        if isinstance(reviser, Unrevised):
            _pass_on(run, corpus)
            run.folder.drop_unvisited()
            return setup.folder
        pairs = corpus.read("pairs", Pair)
        if settings.decisions is not None:  # a wrong file is found here, before anything is paid
            read_decisions(Path(settings.decisions).expanduser(), [Revision(one.id, one, one, KEPT) for one in pairs])
        if setup.instructor is not None and not setup.folder.joinpath("revise", "stage.json").exists():
            setup.instructor.probe()
        desk = StageDesk(run, "desk", setup.model, settings.max_length)
        revisions = [held_to(objection, revision) for revision in reviser.revise(pairs, desk)]
        inputs = {"pairs": digest_of(pairs), "reviser": result_changing(reviser), "desk": desk.done}
        with run.stage("revise", **inputs, wall=wall) as stage:
            if not stage.finished:
                write_review(stage.folder / "review.html", revisions, setup.folder.name)
                stage.finish(tally(revisions), revisions=revisions)
        _hand_over(run, revisions, settings.decisions, objection, wall)
        run.folder.drop_unvisited()
    return setup.folder


def objector(setup: Setup) -> Objection | None:
    """Whether a pair touches a test question of the run's walls; None where there are none."""
    if not setup.wall:
        return None
    check = Leak().open(Context(None, [], setup.wall, [], setup.model.count_tokens, setup.settings.max_length))  # type: ignore[arg-type]

    def objection(pair: Pair) -> tuple[str, str] | None:
        turns = [*pair.history, (pair.prompt, pair.output)]  # one by one: a turn may be a short test question, whole
        found = (check(Example(pair.id, pair.source, asked, answered, "", pair.id, "", 0)) for asked, answered in turns)
        return next(filter(None, found), None)

    return objection


def held_to(objection: Objection | None, revision: Revision) -> Revision:
    """The revision, or, where what it made is objected to, the original, kept whole for that reason."""
    if objection is None or revision.status != REVISED or revision.final is None:
        return revision
    found = objection(revision.final)
    if found is None:
        return revision
    text = f"{revision.final.prompt}\n\n{revision.final.output}"
    return replace(revision, final=revision.original, status=KEPT, reason=found[0], detail=found[1], rejected=text)


def tally(revisions: Sequence[Revision]) -> dict[str, Any]:
    """How many there are of each status, with their reasons."""
    counts: dict[str, Any] = {"pairs": len(revisions)}
    for status in (REVISED, KEPT, DROPPED):
        part = [revision for revision in revisions if revision.status == status]
        counts[status] = len(part)
        counts[f"{status} by reason"] = dict(Counter(revision.reason or WHOLE for revision in part))
    return counts


def _hand_over(
    run: Run, revisions: Sequence[Revision], decisions: str | None, objection: Objection | None, wall: str
) -> None:
    """Write the final set: what was revised or kept, as people decided where they did, and what the wall lets through."""
    remembered = run.folder.path / DECISIONS
    decided: dict[str, Any] = {}
    if decisions is not None:
        decided = read_decisions(Path(decisions).expanduser(), revisions)
        write_atomically(remembered, json.dumps(decided, indent=1).encode())
    elif remembered.is_file():
        decided = read_decisions(remembered, revisions)
        log.info("%d decisions of people stay in force (%s); decisions=FILE replaces them", len(decided), remembered)
    with run.stage("final", revisions=digest_of(revisions), decisions=digest(decided), wall=wall) as stage:
        if stage.finished:
            return
        chosen = decide(revisions, decided)
        pairs = [pair for pair in chosen if objection is None or objection(pair) is None]
        counts: dict[str, Any] = {"rows": len(pairs)}
        if decided:
            counts["decided"] = dict(Counter(value if isinstance(value, str) else "edit" for value in decided.values()))
        if len(pairs) < len(chosen):
            counts["left out: a test question in them"] = len(chosen) - len(pairs)
        write_rows(stage.folder, pairs)
        stage.finish(counts, pairs=pairs)


def _pass_on(run: Run, corpus: Stage) -> None:
    """The mixture as it is, as a stream: it may be larger than memory."""
    with run.stage("final", pairs=corpus.outputs["pairs"]) as stage:
        if stage.finished:
            return
        with (corpus.folder / "pairs.jsonl").open("rb") as lines:
            rows = write_rows(stage.folder, (msgspec.json.decode(line, type=Pair) for line in lines))
        written = {path.stem: digest_of_file(path) for path in stage.folder.glob("train.*.jsonl")}
        stage.finish({"rows": rows}, written)


def write_rows(folder: Path, pairs: Iterable[Pair]) -> int:
    """The set for `errata train` and others: chat messages, and Alpaca's form where there is one turn only; how many."""
    rows = 0
    with streamed(folder / "train.messages.jsonl") as messages, streamed(folder / "train.alpaca.jsonl") as alpaca:
        for pair in pairs:
            rows += 1
            messages.write(encode_lines([{"id": pair.id, "messages": pair.messages}]))
            if not pair.history:
                fields = {"id": pair.id, "instruction": pair.instruction, "input": pair.input, "output": pair.output}
                alpaca.write(encode_lines([fields]))
    return rows


def as_pair(row: Example) -> Pair:
    """A training row as an instruction pair."""
    return Pair(row.id, row.prompt, "", row.response, row.dataset)
