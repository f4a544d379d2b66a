"""parse: replies in, training rows and rejections out."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from errata.dataset.base import Dataset
from errata.dataset.reply import diagnosis
from errata.records import Diagnosis, Example, Rejection, Reply
from errata.run_folder import Stage


def parse(stage: Stage, replies: Sequence[Reply], dataset: Dataset, iteration: int) -> tuple[list[Example], list[Rejection]]:
    """Read the problems in every reply; what cannot be read is rejected with its reason, never dropped.

    Reasons: `no_reply` (the request failed), `no_problem` (prose), `truncated` (the last problem of a reply that was cut),
    `malformed` (a problem that lacks a part). What the instructor said went wrong, where it was asked, is kept beside them
    (`diagnoses.jsonl`).
    """
    if stage.finished:
        return stage.read("examples", Example), stage.read("rejections", Rejection)
    examples: list[Example] = []
    rejections: list[Rejection] = []
    for reply in replies:

        def reject(suffix: str, reason: str, detail: str, text: str, reply: Reply = reply) -> None:
            rejections.append(
                Rejection(reply.request_id + suffix, dataset.name, reason, detail, text, reply.request_id, iteration)
            )

        if reply.text is None:
            reject("", "no_reply", reply.failure or "", "")
            continue
        found = dataset.parse(reply.text)
        if not found:
            reject(
                "",
                "no_problem",
                f"no problem in the requested layout (finish_reason {reply.finish_reason or 'unknown'})",
                reply.text,
            )
        for number, problem in enumerate(found, 1):
            cut = reply.finish_reason == "length" and number == len(found)
            if cut or problem.malformed:  # even a last number that looks whole may have lost digits
                detail = problem.malformed or "the reply was cut at the token limit"
                reject(f"/{number}", "truncated" if cut else "malformed", detail, problem.text)
                continue
            examples.append(
                Example(
                    f"{reply.request_id}/{number}",
                    dataset.name,
                    problem.question,
                    problem.solution,
                    problem.answer,
                    reply.error_id,
                    reply.request_id,
                    iteration,
                )
            )
    said = [(reply, diagnosis(reply.text)) for reply in replies if reply.text is not None]
    diagnoses = [Diagnosis(reply.request_id, reply.error_id, text) for reply, text in said if text]
    reasons = Counter(rejection.reason for rejection in rejections)
    counts: dict[str, Any] = {"rows": len(examples), "rejected": len(rejections), "reasons": dict(reasons)}
    counts |= {"diagnoses": len(diagnoses)} if diagnoses else {}
    stage.finish(counts, examples=examples, rejections=rejections, diagnoses=diagnoses)
    return examples, rejections
