"""What things are known by: short hashes of values, files and model folders."""

import hashlib
import json
from pathlib import Path
from typing import Any


def digest(value: Any) -> str:
    """Short hex hash of bytes, of a text, or of anything JSON can hold (keys sorted)."""
    if not isinstance(value, bytes):
        value = value.encode() if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str).encode()
    return hashlib.sha256(value).hexdigest()[:16]


def digest_of_file(path: Path) -> str:
    """What `digest` says of the file's bytes, of which only a part is in memory at a time."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def fingerprint_folder(folder: Path) -> str:
    """Hash of a model folder: small files whole; of a weight file its size, first and last MiB.

    Of an adapter's config it does not depend on where the base model lies, nor on the order of its sets, which PEFT writes
    as Python's hash seed has it: the same training makes the same adapter in any place and process.
    """
    parts = []
    for path in sorted(folder.iterdir()):
        if not path.is_file() or path.suffix not in _HASHED_SUFFIXES:
            continue
        if path.name == "adapter_config.json":
            parts.append([path.name, 0, digest(_of_adapter(path.read_bytes()))])
            continue
        size = path.stat().st_size
        with path.open("rb") as file:
            content = file.read(1 << 20)
            if size > 2 << 20:
                file.seek(-(1 << 20), 2)
            content += file.read()
        parts.append([path.name, size, digest(content)])
    return digest(parts)


def _of_adapter(content: bytes) -> Any:
    """An adapter's config without its base's place, and with its lists of names in order."""
    try:
        config = json.loads(content)
    except ValueError:
        return content
    if not isinstance(config, dict):
        return config
    names = {key for key, value in config.items() if isinstance(value, list) and all(isinstance(one, str) for one in value)}
    ordered = {key: sorted(value) if key in names else value for key, value in config.items()}
    return {key: value for key, value in ordered.items() if key != "base_model_name_or_path"}


_HASHED_SUFFIXES = (".json", ".safetensors", ".bin", ".jinja", ".model", ".txt", ".gguf")
