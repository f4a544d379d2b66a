"""Replies read strictly; pairs whole or as they were; an instructor that misbehaves in every known way."""

import json
import os
import time
from collections import Counter
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from tests.reviser import misbehaving
from tests.reviser.misbehaving import Desk

from errata.config import config_folder
from errata.records import Pair
from errata.reviser.base import KEPT, REVISED
from errata.reviser.reflection import Reflection
from errata.reviser.sections import ANSWER, INSTRUCTION, read
from errata.setup import build

REAL = Path(os.environ.get("ERRATA_DATA", Path(__file__).parents[3] / "shared" / "data"))
EXPERTS = REAL / "coachlm" / "expert_revisions.json"
real = pytest.mark.skipif(not EXPERTS.is_file(), reason="the expert revisions are not beside this checkout (ERRATA_DATA)")
BOTH = (INSTRUCTION, ANSWER)
PAIR = Pair("alpaca/7", "List three fruits.", "", "Apple, pear, plum.", "alpaca")


def tags(**parts):
    return "\n".join(f"<{name}>\n{text}\n</{name}>" for name, text in parts.items())


WHOLE = tags(new_instruction="Compare A and B.", new_answer="A is older.")

GOOD = [
    (f"It is vague.\n\n{WHOLE}", "Compare A and B.", "A is older.", "", "It is vague."),
    ("<new_instruction>Compare.</new_instruction><new_answer>**A** is.</new_answer>", "Compare.", "**A** is.", "", ""),
    ("<new_instruction>\nCompare.\n<new_answer>\nA is.", "Compare.", "A is.", "", ""),
    ("<New Instruction>\nCompare.\n</New Instruction>\n\n<NEW_ANSWER>\nA is.\n</NEW_ANSWER>", "Compare.", "A is.", "", ""),
    (f"{WHOLE}\n\nI hope this helps!", "Compare A and B.", "A is older.", "", ""),
    (
        tags(new_instruction="Sum up.", new_input="Once,\n\na text.", new_answer="It was."),
        "Sum up.", "It was.", "Once,\n\na text.", "",
    ),
    (tags(new_instruction="Sum up.", new_input="N/A", new_answer="It was."), "Sum up.", "It was.", "", ""),
    (tags(new_instruction="Sum up.", new_input="(none)", new_answer="It was."), "Sum up.", "It was.", "", ""),
    # what the source's prompts ask for, as real models write it
    ("1. Poor.\n\n2. [New Instruction] Compare. [End]\n\n3. [New Answer] A is. [End]", "Compare.", "A is.", "", "1. Poor."),
    ("[New Instruction]\nCompare.\n[End]\n[New Answer]\nA is.\n[End]", "Compare.", "A is.", "", ""),
    ("[New Instruction] Compare. [End] [New Answer] A is. [End]", "Compare.", "A is.", "", ""),
    ("[New Instruction] Compare.\n\n3.\n[New Answer] A is.", "Compare.", "A is.", "", ""),
    ("**[New Instruction]**\nCompare.\n**[End]**\n\n**[New Answer]**\nA is.\n**[End]**", "Compare.", "A is.", "", ""),
    ("[New Instruction]: Compare.\n---\n[New Answer]: A is.", "Compare.", "A is.", "", ""),
    ("New Instruction: Compare.\n\nNew Answer: A is.", "Compare.", "A is.", "", ""),
    ("**New Instruction:** Compare.\n\n**New Answer:** **A** is.", "Compare.", "**A** is.", "", ""),
    ("**New Instruction**: Compare.\n\n**New Answer**: A is.", "Compare.", "A is.", "", ""),
    ("## New instruction:\nCompare.\n\n## New answer:\n# A\nis.", "Compare.", "# A\nis.", "", ""),
    ("### New Instruction\nCompare.\n\n### New Answer\nA is.", "Compare.", "A is.", "", ""),
    ("```\n[New Instruction]\nCompare.\n[End]\n[New Answer]\nA is.\n[End]\n```", "Compare.", "A is.", "", ""),
    ("```\n[New Instruction]\nCompare.\n\n[New Answer]\nA is.\n```", "Compare.", "A is.", "", ""),
    ("```xml\n<new_instruction>\nCompare.\n</new_instruction>\n```\n```xml\n<new_answer>\nA is.\n</new_answer>\n```",
     "Compare.", "A is.", "", ""),
    ("```\n[New Instruction]\n```\nCompare.\n```\n[New Answer]\n```\nA is.", "Compare.", "A is.", "", ""),
    ("```\n[New Instruction]\nCompare.\n[End]\n```\n[New Answer]\n```\nx = 1\n```", "Compare.", "```\nx = 1\n```", "", ""),
    ("**1. [New Instruction]**\r\nCompare.\r\n\r\n**2. [New Answer]**\r\nA\r\nis.\r\n", "Compare.", "A\nis.", "", ""),
    # words that look like markers, inside an answer
    ("[New Instruction] Compare. [End]\n[New Answer] I recommend Endangered Species. End of it. [End]",
     "Compare.", "I recommend Endangered Species. End of it.", "", ""),
    ("[New Instruction] Compare. [End]\n[New Answer] Close with [End] and rewind.\n[End]\nThen stop. [End]",
     "Compare.", "Close with [End] and rewind.\n[End]\nThen stop.", "", ""),
    ("[New Instruction] Compare.\n[New Answer] Close with [End] and rewind.", "Compare.", "Close with [End] and rewind.", "", ""),
    (tags(new_instruction="Why?", new_answer="Write N/A where n/a applies.\n[End]\nNew answer: none."),
     "Why?", "Write N/A where n/a applies.\n[End]\nNew answer: none.", "", ""),
    (tags(new_instruction="Write Lua.", new_answer="```lua\nif x then\n  y()\nend\n```"),
     "Write Lua.", "```lua\nif x then\n  y()\nend\n```", "", ""),
    ("[New Instruction]\nWrite C.\n[New Answer]\n```c\nint x;\n```", "Write C.", "```c\nint x;\n```", "", ""),
    (tags(new_instruction="写一首诗。", new_answer="春眠不觉晓。"), "写一首诗。", "春眠不觉晓。", "", ""),
    ("新指令如下。\n**New Instruction：** 写诗。\n**New Answer：** 春眠。", "写诗。", "春眠。", "", "新指令如下。"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "instruction", "answer", "given", "critique"), GOOD)
def test_replies_that_are_read(text, instruction, answer, given, critique):
    parts = read(text, BOTH)
    assert isinstance(parts, dict), parts
    assert (parts["instruction"], parts["answer"], parts.get("input", "")) == (instruction, answer, given)
    assert parts["critique"] == critique


BAD = [
    ("It is vague. A better one would compare A with B.", BOTH, "no_markers"),
    ("The [New Answer] should be longer.", BOTH, "no_markers"),
    (tags(new_instruction="Compare."), BOTH, "half"),
    (tags(new_answer="A is."), BOTH, "half"),
    ("[New Instruction] Compare. [End]\n[Answer] A is. [End]", BOTH, "half"),
    (tags(new_instruction="Compare.\n<new_answer>\nA is."), BOTH, "half"),
    (f"{WHOLE}\n\nOr:\n\n{WHOLE}", BOTH, "ambiguous"),
    ("**New Answer:** first try\n\n[New Instruction] Compare. [End]\n[New Answer] A is. [End]", BOTH, "ambiguous"),
    ("[New Instruction] Compare. [End]\n[New Answer] A [End]\nis older, and there is more to say.", BOTH, "ambiguous"),
    ("<new_instruction>Compare.</new_instruction>\n<new_answer>A</new_answer> is </new_answer>", BOTH, "ambiguous"),
    ("[Better Answer]\nA is.\n[End] I hope this is better!", (ANSWER,), "ambiguous"),
    (tags(better_answer="A is.") + "\n" + tags(new_instruction="Compare."), (ANSWER,), "ambiguous"),
    (tags(better_answer="A is.") + "\n" + tags(better_answer="B is."), (ANSWER,), "ambiguous"),
    (tags(new_instruction="Compare.", new_answer=""), BOTH, "empty"),
    (tags(new_instruction="Compare.", new_answer="**\n..."), BOTH, "empty"),
    ("[New Instruction] [End] [New Answer] A is. [End]", BOTH, "empty"),
    (tags(new_instruction="Compare.", new_answer="N/A"), BOTH, "placeholder"),
    (tags(new_instruction="Compare.", new_answer="the text of the answer to the new instruction"), BOTH, "placeholder"),
    ("[New Instruction] your instruction [End]\n[New Answer] your answer [End]", BOTH, "placeholder"),
    (tags(new_instruction="the text of the new instruction", new_answer="A is."), BOTH, "placeholder"),
    (tags(better_answer="Here it is: [Insert your answer here]"), (ANSWER,), "placeholder"),
    (tags(better_answer="the text of the better answer"), (ANSWER,), "placeholder"),
]


@pytest.mark.parametrize(("text", "wanted", "reason"), BAD)
def test_replies_that_are_refused_with_the_reason(text, wanted, reason):
    found = read(text, wanted)
    assert isinstance(found, tuple)
    assert found[0] == reason
    assert found[1]


@pytest.mark.parametrize(
    "run", ["-" * 60, "*" * 5000, " " * 5000, "\n" * 5000, "> " * 2000, "[ " * 3000, "```\n" * 1001, "9." * 3000]
)
def test_a_reply_that_runs_wild_is_read_in_no_time(run):
    start = time.thread_time()
    for text in (
        run,
        f"{run}\n{WHOLE}",
        WHOLE.replace("older", run),
        f"[New Answer] {run} [End] {run}",
        f"<new_answer>{run}",
    ):
        read(text, BOTH)
        read(text, (ANSWER,))
    assert time.thread_time() - start < 2


def test_a_better_answer_is_read_under_each_name():
    for text in (tags(better_answer="A."), "[Better Answer] A. [End]", "**Better answer:** A.", tags(new_answer="A.")):
        assert read(text, (ANSWER,)) == {"critique": "", "answer": "A."}


@real
def test_every_experts_revision_comes_back_from_every_form_as_it_went_in():
    rows = [
        row
        for row in json.loads(EXPERTS.read_text())
        if row["Revised Instruction"].strip() and row["Revised Response"].strip()
    ]
    failed = Counter()
    for row in rows:
        instruction, answer = row["Revised Instruction"].strip(), row["Revised Response"].strip()
        forms = {
            "tags": tags(new_instruction=instruction, new_answer=answer),
            "source": f"[New Instruction] {instruction} [End]\n\n[New Answer] {answer} [End]",
            "fenced": f"```\n[New Instruction]\n{instruction}\n[End]\n[New Answer]\n{answer}\n[End]\n```",
        }
        for name, text in forms.items():
            parts = read(f"It is short.\n\n{text}", BOTH)
            failed[name] += not isinstance(parts, dict) or (parts["instruction"], parts["answer"]) != (instruction, answer)
    assert len(rows) == 2299
    assert failed == {"tags": 0, "source": 0, "fenced": 0}


@real
@pytest.mark.parametrize("seed", [0, 1])
def test_nothing_is_lost_or_mismatched_and_every_fault_is_counted(seed):
    rows = json.loads(EXPERTS.read_text())[:200]
    pairs = [
        Pair(f"experts/{n}", row["Raw Instruction"], row["Raw Input"], row["Raw Response"], "experts")
        for n, row in enumerate(rows)
    ]
    desk = Desk(seed)
    revisions = Reflection().revise(pairs, desk)
    assert [(one.id, one.original) for one in revisions] == [(pair.id, pair) for pair in pairs]
    injected = {stage: Counter() for stage in ("instruction", "response")}
    asked = {request.id: request.messages for stage in desk.requests.values() for request in stage}
    assert len(asked) == 400
    for one in revisions:
        kinds = {stage: desk.drawn[f"{one.id}/{stage}"] for stage in injected}
        reasons = {stage: misbehaving.reason_of(kind) for stage, kind in kinds.items()}
        texts = {stage: misbehaving.texts_of(asked[f"{one.id}/{stage}"], kinds[stage]) for stage in kinds}
        for stage in injected:
            injected[stage][reasons[stage]] += 1
        expected = one.original
        if not reasons["instruction"]:
            expected = Pair(one.id, texts["instruction"][0], "", texts["instruction"][1], "experts")
        if not reasons["response"]:
            expected = Pair(one.id, expected.instruction, expected.input, texts["response"][1], "experts")
        assert one.final == expected  # whole: of one request, or of the one that was shown the other's pair
        failed = [reason for reason in reasons.values() if reason]
        assert (one.status, one.reason) == (KEPT if len(failed) == 2 else REVISED, next(iter(failed), ""))
        assert all(f"{stage}: {reason}: " in one.detail for stage, reason in reasons.items() if reason)
        assert one.request_ids == (f"{one.id}/instruction", f"{one.id}/response")
    for stage, faults in injected.items():
        assert set(faults) >= {"", "truncated", "ambiguous", "placeholder", "empty", "no_markers", "no_reply", "unchanged"}
        assert faults[""] > 50, "good replies are there as well"
        found = Counter(
            next((bit.split(": ")[1] for bit in one.detail.split("; ") if bit.startswith(f"{stage}: ")), "")
            for one in revisions
        )
        assert found == faults
    assert injected["instruction"]["half"] > 0


def one_reply(text, pair=PAIR, **settings):
    desk = Desk(replies={f"{pair.id}/{stage}": text for stage in ("instruction", "response")})
    (revision,) = Reflection(**settings).revise([pair], desk)
    return revision


def test_a_failed_response_leaves_the_new_pair_and_says_so():
    answers = {"alpaca/7/instruction": f"Thin.\n{WHOLE}", "alpaca/7/response": "I like it as it is."}
    (one,) = Reflection().revise([PAIR], Desk(replies=answers))
    assert (one.status, one.reason) == (REVISED, "no_markers")
    assert (one.final.instruction, one.final.output) == ("Compare A and B.", "A is older.")
    assert one.detail == "response: no_markers: I like it as it is."
    assert (one.critiques, one.rejected) == ({"instruction": "Thin."}, "I like it as it is.")


def test_the_instruction_stage_shows_the_input_and_never_loses_it_silently():
    pair = Pair("alpaca/8", "Sum up the text.", "Bees dance.", "Bees do.", "alpaca")
    (request,) = Reflection().requests("instruction", [pair])
    assert "<input>\nBees dance.\n</input>" in request.messages[1]["content"]
    assert (request.id, request.dataset, request.error_id) == ("alpaca/8/instruction", "alpaca", "alpaca/8")
    lost = one_reply(tags(new_instruction="Sum up the text.", new_answer="They do."), pair, stages=["instruction"])
    assert (lost.status, lost.reason, lost.final) == (KEPT, "half", pair)
    given = tags(new_instruction="Sum up the text.", new_input="Ants walk.", new_answer="They do.")
    kept = one_reply(given, pair, stages=["instruction"])
    assert (kept.final.input, kept.final.output) == ("Ants walk.", "They do.")


def test_of_a_conversation_only_the_last_turn_is_rewritten():
    pair = Pair("baize/1", "And pears?", "", "Also.", "baize", history=(("Are apples fruit?", "Yes, they are."),))
    (request,) = Reflection().requests("response", [pair])
    assert "User: Are apples fruit?\n\nAssistant: Yes, they are." in request.messages[1]["content"]
    one = one_reply(tags(better_answer="Pears are fruit too."), pair, stages=["response"])
    assert one.final.messages[-1]["content"] == "Pears are fruit too."
    assert (one.final.history, one.final.instruction) == (pair.history, pair.instruction)


def test_a_users_criteria_and_prompts_are_used_and_checked(tmp_path):
    criteria = tmp_path / "criteria.json"
    criteria.write_text(json.dumps({"instruction": [{"name": "wit", "description": "is it funny"}], "response": []}))
    (request,) = Reflection(criteria=str(criteria)).requests("instruction", [PAIR])
    assert "- wit: is it funny\n" in request.messages[1]["content"]
    criteria.write_text('{"instruction": ["wit"]}')
    (problem,) = Reflection(criteria=str(criteria)).problems()
    assert "no list of criteria" in problem
    assert "cannot be read" in Reflection(criteria=str(tmp_path / "none.json")).problems()[0]
    for stage, text in (
        ("instruction", "Rewrite {pair} as [New Instruction] and [New Answer]."),
        ("response", "{answer} {x}"),
    ):
        (tmp_path / stage).mkdir()
        (tmp_path / stage / "user.txt").write_text(text)
    assert Reflection(prompts_dir=str(tmp_path), stages=["instruction"]).problems() == []
    assert "unknown placeholder {x}" in Reflection(prompts_dir=str(tmp_path), stages=["response"]).problems()[0]
    (tmp_path / "response" / "user.txt").write_text("Improve {answer}.")
    assert len(Reflection(prompts_dir=str(tmp_path), stages=["response"]).problems()) == 2  # no marker, no instruction


@pytest.mark.parametrize("stages", [[], ["response", "instruction"], ["answer"]])
def test_stages_are_checked(stages):
    assert "reviser.stages" in Reflection(stages=stages).problems()[0]


def test_the_plan_knows_every_request_and_the_config_says_the_defaults():
    expected = Reflection().expected([PAIR, PAIR])
    assert len(expected) == 4
    assert all(250 < request.expected_tokens < 400 for request in expected)
    chosen = OmegaConf.load(config_folder() / "reviser" / "reflection.yaml")
    assert build(chosen, "reviser") == Reflection()
    assert set(chosen) - {"_target_"} == set(vars(Reflection()))
