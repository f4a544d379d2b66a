"""Any causal language model that transformers can load: a local folder or a hub id, with or without a LoRA adapter."""

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from safetensors import SafetensorError

from errata.chat import ChatTemplateError, end_token_id, prompt_ids, response_ids
from errata.errors import ConfigError
from errata.model.base import Answer, Weights, fingerprint_folder


@dataclass
class HF:
    """A transformers model.

    Attributes:
        path: a folder with weights, tokenizer and chat template, or a hub id (`org/name`).
        adapter: a PEFT adapter folder on top of it.
        dtype: `auto` takes bfloat16 on a GPU that has it and float32 elsewhere.
        device: `auto` takes a GPU where there is one.
    """

    path: str = "???"
    adapter: str | None = None
    dtype: str = field(default="auto")
    device: str = field(default="auto", metadata={"neutral": True})

    def __post_init__(self) -> None:
        self._model: Any = None

    @property
    def weights(self) -> Weights:
        """Base and adapter."""
        return Weights(str(Path(self.path).expanduser()) if self._is_local else self.path, self._adapter)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the folder's files (for a hub id: the id), and of the adapter's."""
        base = fingerprint_folder(Path(self.weights.base)) if self._is_local else self.path
        return base if self._adapter is None else f"{base}+{fingerprint_folder(Path(self._adapter))}"

    def problems(self) -> list[str]:
        """What is wrong with the folder: absent, without weights, without a tokenizer."""
        found = self._adapter_problems()
        if self.dtype not in ("auto", "float32", "bfloat16", "float16"):
            found.append(f"model.dtype is {self.dtype!r}: choose auto, float32, bfloat16 or float16")
        if self._is_local:
            found += folder_problems(Path(self.path).expanduser())
        elif self.path.count("/") != 1:
            found.append(f"model.path is {self.path!r}: no such folder, and no hub id (org/name) either")
        return found

    def with_weights(self, weights: Weights) -> "HF":
        """A model of the same settings on other weights."""
        return replace(HF(dtype=self.dtype, device=self.device), path=weights.base, adapter=weights.adapter)

    def count_tokens(self, prompt: str, response: str) -> int:
        """Length of a training row."""
        return len(prompt_ids(self.tokenizer, prompt)) + len(response_ids(self.tokenizer, response))

    def prompt_lengths(self, prompts: Sequence[str]) -> list[int]:
        """Length of each prompt in the template."""
        return [len(prompt_ids(self.tokenizer, prompt)) for prompt in prompts]

    @cached_property
    def tokenizer(self) -> Any:
        """The model's own tokenizer, padding on the left.

        Raises:
            ConfigError: it has no chat template.
        """
        from transformers import AutoTokenizer

        with _naming(self.path):
            tokenizer = AutoTokenizer.from_pretrained(self.weights.base)
        tokenizer.padding_side = "left"
        try:
            end = end_token_id(tokenizer)
        except ChatTemplateError as error:
            raise ConfigError([f"model: {error}; use a chat model, or put a chat_template.jinja into its folder"]) from None
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token_id = end
        return tokenizer

    def load(self) -> Self:
        """Put weights and adapter in memory, on the device."""
        import torch
        from transformers import AutoModelForCausalLM, GenerationConfig
        from transformers.utils import logging

        logging.disable_progress_bar()
        if self._model is not None:
            return self
        device = self.device if self.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
        fast = device.startswith("cuda") and torch.cuda.is_bf16_supported()
        dtype = getattr(torch, self.dtype) if self.dtype != "auto" else torch.bfloat16 if fast else torch.float32
        with _naming(self.path):
            model: Any = AutoModelForCausalLM.from_pretrained(self.weights.base, dtype=dtype)
            if self._adapter is not None:
                from peft import PeftModel

                model = PeftModel.from_pretrained(model, self._adapter).merge_and_unload()
        self._model = model.to(device).eval()
        self._model.generation_config = GenerationConfig()  # greedy means greedy: no penalties of the model's own
        return self

    def answer(self, prompts: Sequence[str], max_new_tokens: int) -> list[Answer]:
        """Greedy answers to one batch, stopped at the template's end token."""
        import torch
        from transformers import GenerationConfig

        tokenizer, end = self.tokenizer, end_token_id(self.tokenizer)
        ids = [prompt_ids(tokenizer, prompt) for prompt in prompts]
        batch = tokenizer.pad({"input_ids": ids}, return_tensors="pt").to(self._model.device)
        greedy = GenerationConfig(
            do_sample=False,
            max_new_tokens=max_new_tokens,
            eos_token_id=self._stops(end),
            pad_token_id=tokenizer.pad_token_id,
        )
        with torch.inference_mode():
            output = self._model.generate(**batch, generation_config=greedy)
        answers = []
        for row in output[:, batch["input_ids"].shape[1] :].tolist():
            stop = next((place for place, token in enumerate(row) if token in self._stops(end)), None)
            text = tokenizer.decode(row[:stop], skip_special_tokens=True).strip()
            answers.append(Answer(text, finished=stop is not None))
        return answers

    def unload(self) -> None:
        """Drop the weights."""
        if self._model is None:
            return
        import torch

        self._model = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()  # the training process needs it

    def _stops(self, end: int) -> list[int]:
        return sorted({end} | ({self.tokenizer.eos_token_id} - {None}))

    @property
    def _adapter(self) -> str | None:
        return None if self.adapter is None else str(Path(self.adapter).expanduser())

    def _adapter_problems(self) -> list[str]:
        if self.adapter is None or (Path(self.adapter).expanduser() / "adapter_config.json").is_file():
            return []
        return [f"model.adapter is {self.adapter!r}: no PEFT adapter folder there (it holds an adapter_config.json)"]

    @property
    def _is_local(self) -> bool:
        return Path(self.path).expanduser().exists()


@contextmanager
def _naming(path: str) -> Iterator[None]:
    """A library's refusal to load something, as one message that names the model."""
    try:
        yield
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ConfigError([f"model {path} cannot be loaded: {' '.join(str(error).split())[:300]}"]) from error


def folder_problems(folder: Path) -> list[str]:
    """What a model folder lacks."""
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    found = []
    if "config.json" not in names:
        found.append(f"model folder {folder}: no config.json; expected a folder as save_pretrained writes it")
    elif not any(name.endswith((".safetensors", ".bin")) for name in names):
        found.append(f"model folder {folder}: no weights (*.safetensors or *.bin) beside its config.json")
    elif not names & {"tokenizer.json", "tokenizer.model", "vocab.json"}:
        found.append(f"model folder {folder}: no tokenizer (tokenizer.json or tokenizer.model)")
    return found
