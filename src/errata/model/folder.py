"""What a local model folder lacks, found without loading weights."""

import json
from pathlib import Path


def folder_problems(folder: Path) -> list[str]:
    """What a model folder lacks; a file is none."""
    if folder.is_file():
        hint = "; for stored answers: model=recorded" if folder.suffix in (".json", ".jsonl") else ""
        return [f"{folder} is a file; expected a model folder as save_pretrained writes it, or a hub id{hint}"]
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    found = []
    if "config.json" not in names:
        found.append(f"model folder {folder}: no config.json; expected a folder as save_pretrained writes it")
    elif not any(name.endswith((".safetensors", ".bin")) for name in names):
        found.append(f"model folder {folder}: no weights (*.safetensors or *.bin) beside its config.json")
    elif not names & {"tokenizer.json", "tokenizer.model", "vocab.json"}:
        found.append(f"model folder {folder}: no tokenizer (tokenizer.json or tokenizer.model)")
    return found


def gguf_problems(path: Path) -> list[str]:
    """Whether the GGUF file is there."""
    if path.is_file():
        return []
    there = ", ".join(sorted(file.name for file in path.parent.glob("*.gguf"))) or "none"
    return [f"model.gguf is {path.name!r}: no such file in {path.parent}; the GGUF files there: {there}"]


def has_template(folder: Path) -> bool:
    """Whether the folder's tokenizer brings a chat template, found without loading it."""
    if any((folder / name).exists() for name in ("chat_template.jinja", "chat_template.json", "additional_chat_templates")):
        return True
    settings = folder / "tokenizer_config.json"
    return not settings.is_file() or '"chat_template"' in settings.read_text(encoding="utf-8")


def code_problems(folder: Path, allowed: bool) -> list[str]:
    """Whether the folder's model is one that only its own code can load, without leave to run it."""
    try:
        settings = json.loads((folder / "config.json").read_bytes())
    except ValueError as error:
        return [f"model folder {folder}: its config.json is no JSON ({error})"]
    if allowed or "auto_map" not in settings:
        return []
    from transformers import CONFIG_MAPPING

    kind = settings.get("model_type")
    if kind in CONFIG_MAPPING:
        return []
    return [f"model folder {folder}: a model of type {kind} needs its own code; if you trust it, set model.remote_code=true"]


def attention_problems(base: str, attention: str) -> list[str]:
    """Whether the architecture can compute attention so, asked of a model that has no weights."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.from_pretrained(base)
        with torch.device("meta"):
            AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    except (ValueError, ImportError, OSError, KeyError) as error:
        return [f"model.attention is {attention!r}: {' '.join(str(error).split())[:300]}"]
    return []
