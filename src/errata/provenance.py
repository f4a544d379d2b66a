"""What a run was made with: versions, commit, hardware, threads, and the local files that its settings name.

No names of users or machines, no secrets; everything is read without a library being loaded for it.
"""

import hashlib
import importlib.metadata
import json
import os
import platform
import re
import subprocess
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import psutil

from errata.version import __version__

_BESIDE = ("tokenizers", "safetensors", "accelerate", "triton", "bitsandbytes", "vllm", "lm-eval", "hydra-submitit-launcher")
"""Packages whose versions count beside those that Errata requires."""
_VARIABLES = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "PYTHONHASHSEED", "CUDA_VISIBLE_DEVICES", "CUBLAS_WORKSPACE_CONFIG",
    "NVIDIA_TF32_OVERRIDE", "ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY",
)  # fmt: skip
_PATHS = ("path", "data", "dev", "adapter", "answers", "against", "revisions", "decisions", "regrade")
"""Settings that are a file or folder even where their value does not look like one."""
_NEVER = ("output_dir", "ledger", "api_key_file", "dir")
_HISTORY = ("starts", "earlier", "starts_left_out", "earlier_left_out")
_MOST_STARTS, _MOST_EARLIER = 20, 10
_MOST_FILES = 200
_LONGEST_PATH = 1000
_EDGE = 1 << 16  # bytes at either end of a file by which it is known


def provenance(former: Mapping[str, Any] | None = None, files: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The environment of this start of a run. `former` is what its earlier starts left.

    `starts` are the times of all starts; an earlier environment that was another one is kept in `earlier`, with its own. Of
    each list the first and the latest are kept, and beside it the number of those left out between them (`starts_left_out`,
    `earlier_left_out`): a run may be started hundreds of times.
    """
    former = former or {}
    now = {"starts": [datetime.now(UTC).isoformat(timespec="seconds")], **environment(), "files": dict(files or {})}
    before = {name: value for name, value in former.items() if name not in _HISTORY}
    earlier = [*former.get("earlier", [])]
    left_out = {name: former[name] for name in _HISTORY[2:] if name in former}
    if before == {name: value for name, value in now.items() if name != "starts"}:
        now["starts"] = [*former.get("starts", []), *now["starts"]]
    elif former:
        earlier.append({name: former[name] for name in former if name not in ("earlier", "earlier_left_out")})
        left_out.pop("starts_left_out", None)
    return _bounded(now | {"earlier": earlier} | left_out)


def _bounded(told: dict[str, Any]) -> dict[str, Any]:
    """The same with the middle of its two histories left out, and counted."""
    for name, most in (("starts", _MOST_STARTS), ("earlier", _MOST_EARLIER)):
        if (over := len(told[name]) - most) > 0:
            told[name] = [told[name][0], *told[name][over + 1 :]]
            told[f"{name}_left_out"] = told.get(f"{name}_left_out", 0) + over
    return told


@cache
def environment() -> dict[str, Any]:
    """Versions, commit, hardware and what sets the number of threads; missing is what cannot be found out."""
    return {
        "errata": {"version": __version__, **_commit()},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": dict(sorted(_versions())),
        "hardware": {
            "cpu": _processor(),
            "cores": os.cpu_count(),
            "cores_allowed": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
            "memory_gib": round(psutil.virtual_memory().total / (1 << 30), 1),
            "gpus": _gpus(),
            "gpu_driver": _driver(),
        },
        "variables": {name: os.environ[name] for name in _VARIABLES if name in os.environ},
    }


def local_files(settings: Any) -> dict[str, str]:
    """A digest of each local file or folder that the settings name, by its path as it stands there.

    A large file is known by its size and both ends, a folder by the names and sizes of its files and the ends of the first
    ones: a change that leaves all of these as they were is not seen. What cannot be read is not among them.
    """
    found = {given: _digest(Path(given).expanduser()) for given in sorted(set(_named(settings)))}
    return {given: known for given, known in found.items() if known is not None}


def _named(settings: Any, key: str = "") -> Iterator[str]:
    if isinstance(settings, Mapping):
        for name, value in settings.items():
            if name not in _NEVER:
                yield from _named(value, str(name))
    elif isinstance(settings, list | tuple):
        for value in settings:
            yield from _named(value, key)
    elif isinstance(settings, str) and _may_be_path(key, settings) and existing(settings) is not None:
        yield settings


def _may_be_path(key: str, value: str) -> bool:
    return key in _PATHS or "/" in value


def existing(text: str) -> Path | None:
    """The file or folder of that name, where there is one; any text may be asked about, a prompt too."""
    if not 0 < len(text) < _LONGEST_PATH or "\n" in text:
        return None
    try:
        path = Path(text).expanduser()
        return path if path.exists() else None
    except (OSError, RuntimeError, ValueError):  # a name too long, a place that is closed, a home of nobody
        return None


def _digest(place: Path) -> str | None:
    try:
        return hashlib.sha256(b"".join(_parts(place))).hexdigest()[:16]
    except (OSError, ValueError):  # it may not be read, or is neither file nor folder
        return None


def _parts(place: Path) -> list[bytes]:
    if place.is_file():
        parts = [_edges(place)]
    elif (place / "run.json").is_file():  # a run: what its stages left, whatever has been reported of it since
        stages = sorted(place.rglob("stage.json"))
        parts = [json.dumps(json.loads(path.read_bytes()).get("outputs"), sort_keys=True).encode() for path in stages]
    else:
        found = sorted(path for path in place.iterdir() if path.is_file() and not path.name.startswith("."))
        parts = [f"{path.name} {path.stat().st_size}\n".encode() for path in found]
        parts += [_edges(path) for path in found[:_MOST_FILES]]
    return parts


def _edges(path: Path) -> bytes:
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(_EDGE)
        file.seek(max(len(start), size - _EDGE))
        return f"{size} ".encode() + start + file.read()


def _versions() -> Iterator[tuple[str, str]]:
    try:
        required = importlib.metadata.requires("errata") or []
    except importlib.metadata.PackageNotFoundError:
        required = ["torch", "transformers", "peft", "numpy", "hydra-core", "pytorch-lightning"]
    needed = (line for line in required if 'extra == "dev"' not in line)
    for name in {re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in needed} | set(_BESIDE):
        try:
            yield name, importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue


def _commit() -> dict[str, Any]:
    """Commit of the checkout that Errata runs from, and how many of its files are changed; nothing where it is installed."""
    checkout = Path(__file__).resolve().parents[2]
    if not (checkout / ".git").exists():
        return {}
    words = ["git", "-C", str(checkout), "status", "--porcelain=v2", "--branch", "--untracked-files=no"]
    try:
        lines = subprocess.run(words, capture_output=True, text=True, timeout=5, check=True).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        return {}
    commit = next((line.rpartition(" ")[2] for line in lines if line.startswith("# branch.oid")), None)
    return {"commit": commit, "changed_files": sum(not line.startswith("#") for line in lines)}


def _processor() -> str | None:
    for line in _read("/proc/cpuinfo").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or None


def _gpus() -> list[str]:
    """The models of the machine's NVIDIA GPUs as the driver lists them, which takes no time; all, whichever are used."""
    found = [_read(str(path)) for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))]
    return [model.group(1).strip() for text in found if (model := re.search(r"Model:\s*(.+)", text))]


def _driver() -> str | None:
    found = re.search(r"Kernel Module\D*([\d.]+)", _read("/proc/driver/nvidia/version"))
    return found.group(1) if found else None


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
