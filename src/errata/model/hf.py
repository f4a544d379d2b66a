"""Any causal language model that transformers can load: a local folder or a hub id, with or without a LoRA adapter."""

import gc
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from safetensors import SafetensorError

from errata.chat import ChatTemplateError, end_token_id, prompt_ids, response_ids
from errata.errors import ConfigError
from errata.model.base import TOO_LONG, Answer, Weights
from errata.records import Prompt
from errata.run_folder import fingerprint_folder

_CACHE_SHARE = {"cpu": 0.25, "cuda": 0.6}  # of the free memory, for keys and values
_MOST_TOKENS = {"cpu": 1 << 17, "cuda": 1 << 21}
log = logging.getLogger("errata")


@dataclass
class HF:
    """A transformers model.

    Attributes:
        path: a folder with weights, tokenizer and chat template, or a hub id (`org/name`).
        adapter: a PEFT adapter folder on top of it.
        dtype: `auto` takes bfloat16 on a GPU that has it and float32 elsewhere.
        device: `auto` takes every GPU there is, or the CPU; or one (`cuda:1`), or several (`cuda:0,cuda:1`), each of which
            then answers its share of the questions in a process of its own.
        stop_tokens: tokens that end a response, beside the end token of the chat template and the tokenizer's own.
        token_budget: how many tokens the cache of keys and values may hold (None: as many as a share of the free memory).
    """

    path: str = "???"
    adapter: str | None = None
    dtype: str = field(default="auto")
    device: str = field(default="auto", metadata={"neutral": True})
    token_budget: int | None = field(default=None, metadata={"neutral": True})
    stop_tokens: list[str] = field(default_factory=list)

    trains = True

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
        if self.token_budget is not None and self.token_budget < 1:
            found.append(
                f"model.token_budget is {self.token_budget}: it must be at least 1, or null for a share of the memory"
            )
        if self._is_local:
            broken = folder_problems(Path(self.path).expanduser())
            found += broken or self._stop_problems()
        elif self.path.count("/") != 1:
            found.append(f"model.path is {self.path!r}: no such folder, and no hub id (org/name) either")
        return found

    def on_one_device(self) -> "HF":
        """The same model where there is one device; else one of its own on the first of them."""
        if len(self._devices) == 1:
            return self
        return HF(self.path, self.adapter, self.dtype, self._devices[0], self.token_budget, self.stop_tokens)

    def with_weights(self, weights: Weights) -> "HF":
        """A model of the same settings on other weights."""
        return HF(weights.base, weights.adapter, self.dtype, self.device, self.token_budget, self.stop_tokens)

    def count_tokens(self, prompt: str, response: str) -> int:
        """Length of a training row."""
        return len(prompt_ids(self.tokenizer, prompt)) + len(response_ids(self.tokenizer, response))

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

    @property
    def network(self) -> Any:
        """The transformers model, once it is loaded."""
        return self._model

    def load(self) -> Self:
        """Put weights and adapter in memory, on the device."""
        import torch
        from transformers import AutoModelForCausalLM, GenerationConfig
        from transformers.utils import logging as transformers_logging

        from errata.packed import pack

        transformers_logging.disable_progress_bar()
        if self._model is not None or len(self._devices) > 1:
            return self
        (device,) = self._devices
        fast = device.startswith("cuda") and torch.cuda.is_bf16_supported()
        dtype = getattr(torch, self.dtype) if self.dtype != "auto" else torch.bfloat16 if fast else torch.float32
        with _naming(self.path):
            model: Any = AutoModelForCausalLM.from_pretrained(self.weights.base, dtype=dtype)
            if self._adapter is not None:
                from peft import PeftModel

                model = PeftModel.from_pretrained(model, self._adapter).merge_and_unload()
        self._model = model.to(device).eval()
        self._model.generation_config = GenerationConfig()  # greedy means greedy: no penalties of the model's own
        pack(self._model)
        return self

    def answers(
        self, prompts: Sequence[Prompt], max_new_tokens: int, stop: Sequence[str] = ()
    ) -> Iterator[tuple[int, Answer]]:
        """Greedy answers as they are finished; a prompt that leaves no room for a token in the context is TOO_LONG."""
        if len(self._devices) > 1:
            from errata.model.parallel import answer_on

            yield from answer_on(self, self._devices, prompts, max_new_tokens, stop)
            return
        yield from self.complete([self._prompt_ids(prompt) for prompt in prompts], max_new_tokens, stop)

    def complete(
        self, ids: Sequence[Sequence[int]], max_new_tokens: int, stop: Sequence[str] = ()
    ) -> Iterator[tuple[int, Answer]]:
        """Like `answers`, from token ids as they are, without a chat template; on one device."""
        context = self._context
        fitting = [place for place, prompt in enumerate(ids) if context is None or len(prompt) < context]
        for place in sorted(set(range(len(ids))) - set(fitting)):
            yield place, Answer("", False, TOO_LONG)
        for tokens, place, stopped in self._generated(ids, fitting, max_new_tokens, stop):
            yield place, self._answer(tokens, stopped, stop)

    def _generated(
        self, ids: Sequence[Sequence[int]], places: Sequence[int], max_new_tokens: int, stop: Sequence[str]
    ) -> Iterator[tuple[list[int], int, bool]]:
        """(Tokens, place, whether it was stopped) of each prompt; a GPU out of memory is asked for less at once."""
        import torch

        from errata.model.decoding import decode, generate_plainly, supported

        ends = self._ends(stop) if stop else None
        budget, pending = self.token_budget or self._affordable(), list(places)
        while pending:
            try:
                waiting = [ids[place] for place in pending]
                done: set[int] = set()
                generate = decode if supported(self._model) else generate_plainly
                for row in generate(self._model, waiting, max_new_tokens, self._stops, budget, ends):
                    done.add(pending[row.place])
                    yield row.tokens, pending[row.place], row.stopped
                return
            except torch.OutOfMemoryError:
                pending = [place for place in pending if place not in done]
                budget //= 2
                if budget < len(min(waiting, key=len)):
                    raise ConfigError(
                        [f"model {self.path}: not enough memory on {self._devices[0]} for one question at a time"]
                    ) from None
                log.warning("out of memory on %s: going on with token_budget=%d", self._devices[0], budget)
            torch.cuda.empty_cache()

    def _prompt_ids(self, prompt: Prompt) -> list[int]:
        prefill = self.tokenizer(prompt.prefill, add_special_tokens=False)["input_ids"] if prompt.prefill else []
        return [*prompt_ids(self.tokenizer, prompt.user), *prefill]

    def _answer(self, tokens: list[int], stopped: bool, stop: Sequence[str]) -> Answer:
        text: str = self.tokenizer.decode(tokens, skip_special_tokens=True)
        cuts = [text.index(word) for word in stop if word in text]
        return Answer(text[: min(cuts)] if cuts else text, stopped, tokens=len(tokens) + (stopped and not cuts))

    def _ends(self, stop: Sequence[str]) -> Callable[[list[int]], bool]:
        """Whether a row's newest tokens complete a stop string; a token is at least a byte, so few need be decoded."""
        tail = max(len(word.encode()) for word in stop) + 4

        def ends(tokens: list[int]) -> bool:
            text = self.tokenizer.decode(tokens[-tail:], skip_special_tokens=True)
            return any(word in text for word in stop)

        return ends

    @property
    def _context(self) -> int | None:
        context: int | None = getattr(self._model.config.get_text_config(), "max_position_embeddings", None)
        return context

    def _affordable(self) -> int:
        """Tokens whose keys and values take a share of the available memory (the system's file cache gives way)."""
        import psutil
        import torch

        from errata.model.decoding import bytes_per_token

        device = self._model.device
        kind = device.type
        free = torch.cuda.mem_get_info(device)[0] if kind == "cuda" else psutil.virtual_memory().available
        tokens = int(_CACHE_SHARE.get(kind, 0.25) * free) // bytes_per_token(self._model)
        return max(1024, min(tokens, _MOST_TOKENS.get(kind, 1 << 17)))

    @cached_property
    def _devices(self) -> list[str]:
        import torch

        if self.device != "auto":
            return [name.strip() for name in self.device.split(",")]
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        return [f"cuda:{number}" for number in range(count)] if count > 1 else ["cuda" if count else "cpu"]

    def unload(self) -> None:
        """Drop the weights."""
        if self._model is None:
            return
        import torch

        self._model = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()  # the training process needs it

    @cached_property
    def _stops(self) -> set[int]:
        extra = {self.tokenizer.convert_tokens_to_ids(token) for token in self.stop_tokens}
        return {end_token_id(self.tokenizer)} | ({self.tokenizer.eos_token_id} - {None}) | extra

    def _stop_problems(self) -> list[str]:
        if not self.stop_tokens:
            return []
        known = self.tokenizer.get_vocab()
        lacking = [token for token in self.stop_tokens if token not in known]
        special = ", ".join(self.tokenizer.all_special_tokens)
        return [
            f"model.stop_tokens: the tokenizer has no token {token!r}; its special ones are {special}" for token in lacking
        ]

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
