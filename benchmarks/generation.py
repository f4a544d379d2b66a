"""Generation: Errata beside the source's way (one question at a time) and beside lm-eval's transformers backend.

    pip install lm-eval==0.4.13          the peer (the extra `lm_eval` of this project)
    python benchmarks/generation.py DATA/gsm8k/test.jsonl

SmolLM2-135M-Instruct in float32, the first 256 questions of GSM8K's test split, zero-shot in the model's chat template, at
most 256 new tokens, two threads, one process, one after the other. Wall time is counted after loading. Useful tokens are
those up to the end token. lm-eval runs at the batch size that is fastest for it, found on the first 64 questions.
"""

import argparse
import importlib.metadata
import json
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from transformers import GenerationConfig

from errata.chat import prompt_ids
from errata.dataset.gsm8k import GSM8K
from errata.model.smollm2_135m import SmolLM2
from errata.records import Prompt, Question

BATCH_SIZES = (16, 32, 64, 128)
Texts = dict[int, str]


def timed(work: Callable[[], Texts]) -> tuple[Texts, float]:
    """What the work gives, and the seconds that it took."""
    start = time.perf_counter()
    texts = work()
    return texts, time.perf_counter() - start


def one_by_one(model: SmolLM2, prompts: Sequence[Prompt], most: int) -> Texts:
    """The source's way: `generate` on each question alone."""
    texts = {}
    for place, prompt in enumerate(prompts):
        ids = torch.tensor([prompt_ids(model.tokenizer, prompt.user)])
        output = model._model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=most,
            eos_token_id=sorted(model._stops), pad_token_id=model.tokenizer.pad_token_id,
        )  # fmt: skip
        texts[place] = model.tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True)
    return texts


def with_errata(model: SmolLM2, prompts: Sequence[Prompt], most: int) -> Texts:
    """Errata's engine."""
    return {place: answer.text for place, answer in model.answers(prompts, most)}


def with_lm_eval(plain: SmolLM2, prompts: Sequence[Prompt], most: int, batch_size: int) -> Texts:
    """lm-eval's HFLM on the same model object, which nothing of Errata has touched."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    peer = HFLM(pretrained=plain._model, tokenizer=plain.tokenizer, batch_size=batch_size, device="cpu")
    stop = {"until": [plain.tokenizer.eos_token], "max_gen_toks": most, "do_sample": False}
    contexts = [
        plain.tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt.user}], tokenize=False, add_generation_prompt=True
        )
        for prompt in prompts
    ]
    asked = [Instance("generate_until", {}, (context, dict(stop)), place) for place, context in enumerate(contexts)]
    return dict(enumerate(peer.generate_until(asked, disable_tqdm=True)))


def unpacked() -> SmolLM2:
    """The same student with the linear layers that transformers gives it."""
    from errata.model import packed

    pack, packed.pack = packed.pack, lambda model: None
    try:
        plain = SmolLM2(device="cpu").load()
    finally:
        packed.pack = pack
    ends = {"eos_token_id": sorted(plain._stops), "pad_token_id": plain.tokenizer.pad_token_id}
    plain._model.generation_config = GenerationConfig(**ends)  # lm-eval leaves it to the model to end its rows
    return plain


def main() -> None:
    """Run all three and print the table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("questions", type=Path, help="GSM8K's test.jsonl")
    arguments.add_argument("--n", type=int, default=256)
    arguments.add_argument("--new-tokens", type=int, default=256)
    arguments.add_argument("--alone", type=int, default=256, help="questions that are also asked one at a time")
    arguments.add_argument("--shots", type=int, default=0, help="worked examples in front of each question")
    arguments.add_argument("--out", type=Path, help="where the table is also written, as JSON")
    given = arguments.parse_args()
    torch.set_num_threads(2)
    logging.getLogger("lm_eval").setLevel(logging.ERROR)

    dataset = GSM8K("gsm8k", path=str(given.questions.parent), splits={"test": "test", "train": "train"}, limit=given.n)
    dataset.shots = given.shots
    questions = dataset.load("test")
    prompts = dataset.prompts(questions)
    model, plain = SmolLM2(device="cpu").load(), unpacked()
    most = given.new_tokens

    runs: dict[str, tuple[Texts, float]] = {}
    name = f"one at a time ({given.alone} of {given.n})"
    runs[name] = timed(lambda: one_by_one(plain, prompts[: given.alone], most))
    tries = {size: timed(lambda size=size: with_lm_eval(plain, prompts[:64], most, size))[1] for size in BATCH_SIZES}
    best = min(tries, key=lambda size: tries[size])
    peer = f"lm-eval {importlib.metadata.version('lm-eval')}, batch {best}"
    runs[peer] = timed(lambda: with_lm_eval(plain, prompts, most, best))
    runs["errata"] = timed(lambda: with_errata(model, prompts, most))

    rows = [
        row(name, texts, seconds, runs["errata"][0], model, dataset, questions) for name, (texts, seconds) in runs.items()
    ]
    print(f"lm-eval on 64 questions, seconds by batch size: { {size: round(s, 1) for size, s in tries.items()} }")
    for line in rows:
        print(json.dumps(line))
    alone, other, ours = rows
    print(f"tokens/s against one at a time: {ours['useful_tokens_per_s'] / alone['useful_tokens_per_s']:.1f} x")
    print(f"wall time against lm-eval: {other['wall_s'] / ours['wall_s']:.2f} x")
    if given.out:
        given.out.write_text(json.dumps({"torch": torch.__version__, "lm_eval_batches": tries, "rows": rows}, indent=1))


def row(
    name: str, texts: Texts, seconds: float, ours: Texts, model: SmolLM2, dataset: GSM8K, questions: Sequence[Question]
) -> dict[str, object]:
    """One line of the table; what differs from Errata's text is counted, white space at the ends aside."""
    tokens = sum(len(model.tokenizer(text, add_special_tokens=False).input_ids) for text in texts.values())
    verdicts = [dataset.grade(questions[place], text).correct for place, text in texts.items()]
    same = [dataset.grade(questions[place], ours[place]).correct for place in texts]
    return {
        "run": name,
        "questions": len(texts),
        "wall_s": round(seconds, 1),
        "useful_tokens": tokens,
        "useful_tokens_per_s": round(tokens / seconds, 1),
        "same_text_as_errata": sum(text.strip() == ours[place].strip() for place, text in texts.items()),
        "same_verdict_as_errata": sum(one == two for one, two in zip(verdicts, same, strict=True)),
        "right": sum(verdicts),
    }


if __name__ == "__main__":
    main()
