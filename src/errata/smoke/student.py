"""The model of a smoke run: a Llama of two layers, taught a few of the smoke questions by heart.

It stands in the place of every model that is named, under that model's name, so that a sweep over models has as many. It
knows some train questions of each dataset and not others: there are errors to learn from, and right answers beside them.
"""

import json
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from errata.chat import prompt_ids, response_ids
from errata.dataset.arithmetic import Arithmetic
from errata.dataset.base import PROTOCOLS
from errata.dataset.gsm8k import GSM8K
from errata.dataset.mbpp import MBPP
from errata.dataset.mmlu import MMLU
from errata.errors import ConfigError
from errata.records import Question
from errata.weights import named_templates, template_text

DATA = Path(__file__).parent / "data"
ARITHMETIC = {"train": 20, "dev": 8, "test": 10}
_KNOWN = 7  # questions of each dataset; the widest neighbourhood of the sweeps, k=5, must find as many right answers
_OWN = ["<|pad|>", "<|begin|>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>"]
_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>\n{{ message['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
_LONGEST_NAME = 150
_BATCHES, _EPOCHS, _LEARNT = 4, 200, 0.02
log = logging.getLogger("errata")


def student(place: Path, stands_for: str) -> Path:
    """The folder of the model that stands for another one; made where it is not there.

    Args:
        place: the folder of all of them.
        stands_for: the other one's name: a hub id, or a folder.

    Raises:
        ConfigError: the folder cannot be written.
    """
    name = stands_for.strip("/").replace("/", "--")[-_LONGEST_NAME:].lstrip(".")  # `model.path=.` is a model too
    folder = place / (name or "model")
    if not (folder / "config.json").is_file():
        taught = place / "taught"
        if not (taught / "config.json").is_file():
            _made(taught, _teach)
        _made(folder, lambda partial: _copy(taught, partial, stands_for))
    return folder


def _made(folder: Path, make: Any) -> None:
    """Have a folder made under another name, and named when it is whole."""
    partial = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
    try:
        partial.mkdir(parents=True, exist_ok=True)
        make(partial)
        partial.rename(folder)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        if not (folder / "config.json").is_file():  # else another process was first
            raise ConfigError([f"cannot write {folder}: {error.strerror}; choose a writable output_dir"]) from error


def _copy(taught: Path, folder: Path, stands_for: str) -> None:
    """The same weights under another name, which the configuration holds: another model to whoever compares them."""
    shutil.copytree(taught, folder, dirs_exist_ok=True)
    config = json.loads((folder / "config.json").read_bytes())
    (folder / "config.json").write_text(json.dumps(config | {"stands_for": stands_for}, indent=1))


def lessons() -> Iterator[tuple[Question, str]]:
    """The questions that the student knows, each as either protocol shows it."""
    for protocol in PROTOCOLS:
        datasets = (
            GSM8K("gsm8k", protocol, path=str(DATA / "gsm8k"), splits={"train": "train"}),
            MMLU("mmlu", protocol, path=str(DATA / "mmlu"), splits={"train": "dev_val"}),
            MBPP("mbpp", protocol, path=str(DATA / "mbpp"), splits={"train": "train"}),
            Arithmetic("arithmetic", protocol, train=ARITHMETIC["train"]),
        )
        for dataset in datasets:
            yield from ((question, dataset.show(question)) for question in dataset.load("train")[:_KNOWN])


def _teach(folder: Path) -> None:
    """A tokenizer of the smoke texts, and a model that has learnt its lessons; a few seconds on one core."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.utils import logging as transformers_logging

    if not torch.cuda.is_available():  # saving imports deepspeed, which would look for a GPU and print that there is none
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    transformers_logging.disable_progress_bar()
    log.info("making the small model of the smoke runs once, in %s (a few seconds)", folder.parent)
    tokenizer = _tokenizer()
    rows = {(shown, question.solution) for question, shown in lessons()}
    asked = [(prompt_ids(tokenizer, shown), response_ids(tokenizer, answer)) for shown, answer in sorted(rows)]
    asked.sort(key=lambda row: len(row[0]) + len(row[1]))
    size = -(-len(asked) // _BATCHES)
    batches = [_batch(asked[start : start + size]) for start in range(0, len(asked), size)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
                num_key_value_heads=2, max_position_embeddings=4096, pad_token_id=0, bos_token_id=1, eos_token_id=2,
            )
        )  # fmt: skip
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # for so small a network more of them only wait for each other
    optimizer = torch.optim.AdamW(network.parameters(), lr=4e-3, betas=(0.9, 0.95), weight_decay=0.0)
    for _ in range(_EPOCHS):
        losses = []
        for ids, wanted in batches:
            hidden = network.model(input_ids=ids, use_cache=False).last_hidden_state  # causal: what pads comes later
            answers = wanted >= 0  # logits of the answers alone: the prompts are most of the tokens
            loss = torch.nn.functional.cross_entropy(network.lm_head(hidden[answers]), wanted[answers])
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            losses.append(loss.item())
        if max(losses) < _LEARNT:
            break
    torch.set_num_threads(threads)
    network.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _batch(rows: Sequence[tuple[list[int], list[int]]]) -> tuple[Any, Any]:
    """Rows of like length, padded on the right: ids and the next token that is wanted (-1: none), (row, token) int64."""
    import torch

    ids = torch.zeros(len(rows), max(len(prompt) + len(answer) for prompt, answer in rows), dtype=torch.long)
    wanted = torch.full_like(ids, -1)
    for number, (prompt, answer) in enumerate(rows):
        end = len(prompt) + len(answer)
        ids[number, :end] = torch.tensor(prompt + answer)
        wanted[number, len(prompt) - 1 : end - 1] = torch.tensor(answer)
    return ids, wanted


def _tokenizer() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    plain = Tokenizer(models.BPE())
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    plain.decoder = decoders.ByteLevel()
    texts = [file.read_text(encoding="utf-8").replace("\\n", "\n") for file in sorted(DATA.rglob("*.*")) if file.is_file()]
    texts += [shown for _, shown in lessons()]
    heads = (template_text(name).partition("-#}")[0] for name in named_templates())
    needed = [token for head in heads for token in head.partition("tokens:")[2].split()]
    special = list(dict.fromkeys([*_OWN, *needed]))  # any of our templates can be asked for
    trainer = trainers.BpeTrainer(
        vocab_size=1600, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    plain.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=plain, pad_token=special[0], bos_token=special[1], eos_token=special[2],
        additional_special_tokens=special[3:], chat_template=_TEMPLATE,
    )  # fmt: skip
