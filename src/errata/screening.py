"""What practice goes through between parse and mix: the gates, the solvers that must agree, and the reviser."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from errata.dataset.base import NO_ANSWER, WRONG_VALUE, Dataset
from errata.gate.base import Context
from errata.gate.consensus import Consensus, as_question
from errata.gate.leak import Leak
from errata.gate.length import Length
from errata.identity import result_changing
from errata.model.base import Model
from errata.records import Example, Pair, Question, Revision
from errata.revise import StageDesk, as_pair, tally
from errata.reviser.base import DROPPED, KEPT, REVISED
from errata.reviser.none import Unrevised
from errata.run import Run, digest_of, present
from errata.stage.agree import agree
from errata.stage.verify import rejections, verify


@dataclass(frozen=True)
class Screening:
    """The steps, for rows of any dataset of the run, each a stage whose inputs are spelt out."""

    run: Run
    splits: Mapping[str, Mapping[str, list[Question]]]

    def screened(
        self, student: Model, rows: Sequence[Example], name: str, iteration: int, earlier: list[Example], inputs: str
    ) -> list[Example]:
        """The rows that may be trained on.

        Args:
            student: who scores for a reviser.
            rows: of the dataset `name`.
            earlier: what they must not repeat.
            inputs: what the rows are known by.
        """
        return self.revised(student, self.verified(rows, name, iteration, earlier, inputs), name, iteration, earlier)

    def revised(
        self, student: Model, rows: list[Example], name: str, iteration: int, earlier: list[Example]
    ) -> list[Example]:
        """The rows as the reviser leaves them. What it changed passes the gates again, or the row stays as it was."""
        setup, step = self.run.setup, f"iteration_{iteration}/{name}/revise"
        reviser, dataset = setup.reviser, setup.datasets[name]
        if isinstance(reviser, Unrevised) or not rows:
            return rows

        scorer = student if reviser.scores else setup.model  # a coach goes on top of what it was trained on
        desk = StageDesk(self.run, step, scorer, setup.settings.training.max_length)
        revisions = reviser.revise([as_pair(row) for row in rows], desk)
        remade = [
            as_row(row, revision.final, dataset)
            for row, revision in zip(rows, revisions, strict=True)
            if revision.status == REVISED and revision.final is not None
        ]
        before = {row.id: row for row in rows}
        astray = {row.id: lost for row in remade if (lost := _answer_lost(before[row.id], row, dataset))}
        changed = [row for row in remade if row.id not in astray]
        anew = {row.id for row in changed}
        beside = [*earlier, *(row for row in rows if row.id not in anew)]  # a new question must not repeat these either
        passed = {row.id: row for row in self.verified(changed, name, iteration, beside, digest_of(changed), "revise/")}
        inputs = {"rows": digest_of(rows), "reviser": result_changing(reviser), "desk": desk.done}
        with self.run.stage(f"{step}/revised", **inputs, passed=digest_of(passed.values())) as stage:
            if not stage.finished:
                failed = {row.id: (*astray[row.id], f"{row.prompt}\n\n{row.response}") for row in remade if row.id in astray}
                failed |= {
                    row.id: (row.reason, row.detail, row.text)
                    for gates in ("agree", "verify")  # what fell in verify did not come to agree in this start
                    for row in rejections(self.run.folder.path / step / gates)
                    if row.id in anew and row.id not in passed
                }
                revisions = [_fallen_back(one, *failed[one.id]) if one.id in failed else one for one in revisions]
                left = [passed.get(row.id, row) for row, one in zip(rows, revisions, strict=True) if one.status != DROPPED]
                stage.finish(tally(revisions), revisions=revisions, examples=left)
            return stage.read("examples", Example)

    def verified(
        self, rows: Sequence[Example], name: str, iteration: int, earlier: list[Example], inputs: str, step: str = ""
    ) -> list[Example]:
        """The rows that pass the gates; of original rows, which repeat the train split by design, only leak and length."""
        setup, place = self.run.setup, f"iteration_{iteration}/{name}/{step}"
        original = bool(rows) and not any(row.request_id for row in rows)
        consensus = next((gate for gate in setup.gates.values() if isinstance(gate, Consensus)), None)
        gates = {
            key: gate
            for key, gate in setup.gates.items()
            if not isinstance(gate, Consensus) and (not original or isinstance(gate, Leak | Length))
        }
        train = [question for split in ("train", "dev") for question in self.splits[name].get(split, [])]
        with self.run.stage(
            f"{place}verify",
            examples=inputs,
            gates=result_changing(list(gates.values())),
            max_length=setup.settings.training.max_length,
            model=setup.model.fingerprint,
            train=digest_of(train),
            tests=digest_of(self._walled),
            earlier=digest_of(earlier),
            **self.run.encoder(gates.values()),
        ) as stage:
            kept, _ = verify(stage, rows, gates, self._context(name, train, earlier))
        return kept if consensus is None or original or not kept else self._agreed(kept, consensus, name, place)

    def original(self, rows: Sequence[Example], name: str) -> list[Example]:
        """Of the benchmark's own rows those that touch no test question and are not too long."""
        context = self._context(name, [], [])
        checks = [gate.open(context) for gate in self.run.setup.gates.values() if isinstance(gate, Leak | Length)]
        return [row for row in rows if not any(check(row) for check in checks)]

    def _agreed(self, rows: list[Example], gate: Consensus, name: str, place: str) -> list[Example]:
        """The rows whose answers independent solutions agree with."""
        dataset = self.run.setup.datasets[name]
        requests = [request for row in rows for request in gate.requests(row, dataset.layout)]
        solver = gate.instructor or present(self.run.setup.instructor)
        replies, left = self.run.asked(f"{place}solve", requests, solver)
        inputs = {"rows": digest_of(rows), "replies": left["replies"]}
        judges = {"gate": result_changing(gate), "dataset": result_changing(dataset)}
        with self.run.stage(f"{place}agree", **inputs, **judges) as stage:
            kept, _ = agree(stage, rows, gate, replies, dataset)
        return kept

    def _context(self, name: str, train: list[Question], earlier: list[Example]) -> Context:
        """What the gates of a dataset may look at."""
        setup = self.run.setup
        count, limit = setup.model.count_tokens, setup.settings.training.max_length
        return Context(setup.datasets[name], train, self._walled, earlier, count, limit, self.run.embed)

    @cached_property
    def _walled(self) -> list[Question]:
        """What no row may touch: every test question, and those of dev where it is only measured on."""
        learnt = "dev" in self.run.setup.settings.errors.splits
        dev = [question for splits in self.splits.values() for question in splits.get("dev", [])]
        return [*self.run.setup.wall, *([] if learnt else dev)]


def _fallen_back(revision: Revision, reason: str, detail: str, text: str) -> Revision:
    """The revision of a row that a gate then rejected: the row as it was, whole."""
    return replace(revision, final=revision.original, status=KEPT, reason=reason, detail=detail, rejected=text)


def _answer_lost(row: Example, new: Example, dataset: Dataset) -> tuple[str, str] | None:
    """The (reason, evidence) why a revised row answers its question no more; programs have their tests, at the gate."""
    if dataset.layout == "code" or not row.answer:
        return None
    if new.prompt != row.prompt:
        return None if new.answer else (NO_ANSWER, "the dataset reads no answer in what the reviser wrote")
    first, last = (dataset.grade(as_question(one, dataset.layout), one.response) for one in (row, new))
    if last.correct or not first.correct:
        return None
    return last.kind or WRONG_VALUE, f"the reviser's response answers {last.answer or 'nothing'}, the row {row.answer}"


def as_row(row: Example, pair: Pair, dataset: Dataset) -> Example:
    """A revised pair as the training row that it was made of; where the question is another one, with its own answer.

    Of a program the tests stay, whatever its question became: a revision that they do not hold for falls at the gate.
    """
    new = replace(row, prompt=pair.prompt, response=pair.output)
    if pair.prompt == row.prompt or dataset.layout == "code":
        return new
    return replace(new, answer=dataset.grade(as_question(new, dataset.layout), new.response).answer or "")
