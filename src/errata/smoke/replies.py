"""What the rehearsal replies: it looks for the form that a request asks for, and fills it by rule.

It knows the forms of our own prompts: practice in the three layouts or as JSON by their schemas, a solution for the
consensus, reflections, and the judges' verdicts. To anything else it says that it does not know the form.
"""

import hashlib
import json
import random
import re
from collections.abc import Mapping, Sequence
from typing import Any

from errata.smoke.practice import WRITERS, in_words, solved

_HOW_MANY = re.compile(r"\b(\d+)\s+(?:\w+\s+){0,2}(?:problems|questions|tasks)\b", re.IGNORECASE)
_LAYOUTS = {
    "word_problem": "Solution: the calculation",
    "multiple_choice": "Explanation: one to three",
    "code": "Tests:\n```",
}
_PART = r"<{0}>\n?(.*?)\n?</{0}>"
_SCALE = re.compile(r"from (\d+(?:\.\d+)?)[^.]*? to (\d+(?:\.\d+)?)")
_DIMENSION = re.compile(r"^- (.+?) \((\d+(?:\.\d+)?) to (\d+(?:\.\d+)?);", re.MULTILINE)
_CHINESE = re.compile(r"[\u4e00-\u9fff]")
_TOPICS = (
    "a tide table", "a sundial", "a compost heap", "a canal lock", "a bread starter", "a rain gauge", "a letter press",
    "a pendulum clock", "a greenhouse", "a lending library", "a wind pump", "a railway signal",
)  # fmt: skip
_CHINESE_TOPICS = ("日晷", "水车", "温室", "算盘", "风车", "茶园", "灯塔", "运河")
UNKNOWN = "This is a program that knows the forms of Errata's own prompts, and this is none of them."


def write_reply(messages: Sequence[Mapping[str, str]], schema: Mapping[str, Any] | None, rng: random.Random) -> str:
    """A reply in the form that was asked for; the same messages and the same random numbers give the same one."""
    system = next((one["content"] for one in messages if one["role"] == "system"), "")
    asked = messages[-1]["content"]
    if schema is not None or any(sign in system for sign in _LAYOUTS.values()):
        return _practice(system, asked, schema, rng)
    if system.startswith(("Solve this problem.", "Answer this question.")):
        return solved(asked)
    if "<better_answer>" in asked or "<new_instruction>" in asked:
        return _reflection(asked, rng)
    return _verdict(asked) or UNKNOWN


def _practice(system: str, asked: str, schema: Mapping[str, Any] | None, rng: random.Random) -> str:
    counts = _HOW_MANY.findall(asked)
    layout = next((name for name, sign in _LAYOUTS.items() if sign in system), "word_problem")
    problems = [WRITERS[layout](asked, rng) for _ in range(int(counts[-1]) if counts else 1)]
    gap = "the question takes a step that was left out."
    if schema is not None:
        said: dict[str, Any] = {"diagnosis": gap} if "diagnosis" in schema.get("properties", {}) else {}
        return json.dumps(said | {"problems": problems})
    parts = [in_words(layout, number, problem) for number, problem in enumerate(problems, 1)]
    return "\n\n".join(([f"Diagnosis: {gap}"] if "`Diagnosis:`" in asked else []) + parts)


def _reflection(asked: str, rng: random.Random) -> str:
    """A new pair, or a longer answer to the old one, in the pair's own language."""
    old = _between("answer", asked) or ""
    chinese = _CHINESE.search(_between("instruction", asked) or "") is not None
    topic, steps = rng.choice(_CHINESE_TOPICS if chinese else _TOPICS), rng.randrange(2, 9)
    lines = ["It asks for one look-up, and leaves the form open."]
    if "<new_instruction>" in asked:
        instruction = f"Describe {topic} to somebody who has never seen one: give {steps} parts and say what each is for."
        answer = (
            f"Think of {topic} as {steps} parts. One holds it, one moves, and the others keep it in order; each is needed."
        )
        if chinese:
            instruction = f"请向从未见过{topic}的人介绍它，分{steps}点说明。"
            answer = f"{topic}可以分{steps}点来看：先说用处，再说结构，最后说怎样使用。"
        lines += [f"<new_instruction>\n{instruction}\n</new_instruction>", f"<new_answer>\n{answer}\n</new_answer>"]
    else:
        more = (
            f"其中第{steps}点最要紧。" if chinese else f"To be sure, go over it {steps} times, and compare it with {topic}."
        )
        lines.append(f"<better_answer>\n{f'{old} {more}'.strip()}\n</better_answer>")
    return "\n".join(lines)


def _verdict(asked: str) -> str | None:
    """A judge's verdict, by the answers' own words, so that both orders of showing agree."""
    first, second = (_between(f"answer_{place}", asked) for place in (1, 2))
    scale = _SCALE.search(asked)
    low, high = (float(scale.group(1)), float(scale.group(2))) if scale else (0.0, 1.0)
    if first is not None and second is not None:
        marks = [low + _share(text) * (high - low) for text in (first, second)]
        if "1, 2 or Tie" in asked:
            return f"{'Tie' if marks[0] == marks[1] else 1 + (marks[1] > marks[0])}\nIt keeps closer to the task."
        return f"{marks[0]:.0f} {marks[1]:.0f}\nThe better one says more of what was asked."
    if "`Score:`" in asked:
        answer = _between("answer", asked) or ""
        return f"Score: {_half(low + _share(answer) * (high - low), high)}\nIt does most of what was asked."
    dimensions = _DIMENSION.findall(asked)
    if dimensions:
        whole = _between("response", asked) or _between("instruction", asked) or ""
        return "\n".join(
            f"{name}: {float(least) + _share(name + whole) * (float(most) - float(least)):.0f}"
            for name, least, most in dimensions
        )
    return None


def _half(mark: float, highest: float) -> str:
    """To half points, or to tenths on a scale that ends at 1."""
    return f"{mark:.1f}" if highest <= 1 else f"{round(2 * mark) / 2:g}"


def _between(tag: str, text: str) -> str | None:
    found = re.search(_PART.format(tag), text, re.DOTALL)
    return found.group(1) if found else None


def _share(text: str) -> float:
    """A number from 0 to 1 that the text alone decides."""
    return int.from_bytes(hashlib.blake2b(text.strip().encode(), digest_size=2).digest(), "big") / 0xFFFF
