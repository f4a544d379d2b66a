"""`local_server`: an instructor on this machine, for people with a GPU and no API key.

Starts `vllm serve` or `transformers serve` on a model folder or hub id, on a free port of 127.0.0.1, for as long as the run
asks it, and stops it afterwards, however the run ends. The server gets no API key out of the environment.
"""

import asyncio
import contextlib
import importlib.util
import json
import logging
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import aiohttp

from errata.digests import fingerprint_folder
from errata.errors import InstructorError
from errata.identity import neutral
from errata.instructor.base import PassingTrouble
from errata.instructor.openai import OpenAI
from errata.ledger import Call, Stored
from errata.places import no_hub_id

_STOP_S = 10.0
_SECRET = re.compile(r"KEY|TOKEN|SECRET", re.IGNORECASE)
_GUARD = """
import os, signal, subprocess, sys, time
server = subprocess.Popen(sys.argv[2:], stdin=subprocess.DEVNULL)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
while server.poll() is None:
    if os.getppid() != int(sys.argv[1]):
        os.killpg(0, signal.SIGKILL)
    time.sleep(0.2)
sys.exit(server.returncode if server.returncode >= 0 else 128 - server.returncode)
"""
"""The server's parent and the head of its process group: it kills the group, workers included, should we be killed."""
log = logging.getLogger("errata")


@dataclass
class LocalServer(OpenAI):
    """A model served by this machine; free, so its price is known: 0.

    Attributes:
        path: a folder with weights, tokenizer and chat template, or a hub id (`org/name`).
        model: its name in the ledger; `auto`: the last part of the path.
        server: `vllm`, `transformers`, or `auto`: vllm where it is installed and there is a GPU.
        device: `auto`, `cpu`, `cuda`, `cuda:1` ...
        dtype: `auto` takes the type in which the weights are stored.
        start_s: seconds until the server must answer.
        extra_args: further arguments of the server's command.
    """

    path: str = "???"
    model: str = "auto"
    server: str = neutral("auto")
    device: str = neutral("auto")
    dtype: str = "auto"
    start_s: float = neutral(600.0)
    extra_args: list[str] = field(default_factory=list)
    base_url: str = neutral("http://127.0.0.1")
    api_key_env: str | None = neutral(None)
    usd_per_million_in: float | None = neutral(0.0)
    usd_per_million_out: float | None = neutral(0.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.model == "auto":
            self.model = Path(self.path).name
        self._process: subprocess.Popen[bytes] | None = None

    def problems(self, datasets: Sequence[str]) -> list[str]:
        """No such folder, no command for the server, impossible settings."""
        found = super().problems(datasets)
        if not self.sends:
            return found
        if not self._is_local and (why := no_hub_id(self.path)):
            found.append(f"instructor.path is {self.path!r}: no such folder, {why}")
        elif self._is_local and not (Path(self._served) / "config.json").is_file():
            found.append(f"instructor.path is {self.path!r}: the folder has no config.json, so it holds no model")
        if self.start_s < 1:
            found.append(f"instructor.start_s is {self.start_s:g}: it must be 1 or more")
        if self.mode == "batch":
            found.append("instructor.mode is batch: a local server has no Batch API, choose now")
        for name, pattern, choices in (
            ("server", "auto|transformers|vllm", "auto, transformers or vllm"),
            ("device", r"auto|cpu|mps|cuda(:\d+)?", "auto, cpu, mps, cuda or cuda:N"),
            ("dtype", "auto|float32|bfloat16|float16", "auto, float32, bfloat16 or float16"),
        ):
            if not re.fullmatch(pattern, getattr(self, name)):
                found.append(f"instructor.{name} is {getattr(self, name)!r}: choose {choices}")
        return found + self._server_problems()

    def probe(self) -> None:
        """Nothing to see: the server starts with the run."""

    def body(self, call: Call) -> dict[str, Any]:
        """What is sent: the model under the server's name for it, which the ledger does not keep."""
        body = super().body(call) | {"model": self._served}
        if self._kind == "transformers" and body.get("temperature") and "generation_config" not in body:
            body["generation_config"] = self._sampling
        return body

    async def reply(self, call: Call) -> Stored:
        """One attempt at a chat completion.

        Raises:
            InstructorError: the server has ended.
        """
        try:
            return await super().reply(call)
        except PassingTrouble:
            if self._process is not None and (code := self._process.poll()) is not None:
                raise self._trouble(f"ended with code {code} while it was asked") from None
            raise

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve on a free port of 127.0.0.1, with a client connected to it.

        Raises:
            InstructorError: the server ended, or did not answer in time.
        """
        with tempfile.TemporaryDirectory(prefix="errata-server-") as folder:
            port = _free_port()
            self._words, self._log = self._command(port), Path(folder) / "server.log"
            log.info("starting %s (its log: %s)", shlex.join(self._words), self._log)
            try:
                self._process = self._start()
                await self._answers(f"http://127.0.0.1:{port}/health")
                async with self.connected(f"http://127.0.0.1:{port}/v1", retries=0):
                    yield
            finally:
                self._stop()

    def _command(self, port: int) -> list[str]:
        """The server's command.

        Raises:
            InstructorError: it is not installed.
        """
        program = _program(self._kind)
        if program is None:
            raise InstructorError("; ".join(self._server_problems()))
        words = [program, "serve", self._served, "--host", "127.0.0.1", "--port", str(port), "--dtype", self.dtype]
        if self._kind == "transformers":
            words += ["--device", self.device, "--continuous-batching"]
            if self.device == "cpu" or (self.device == "auto" and not _has_gpu()):
                words += ["--cb-max-memory-percent", "0.1"]  # its cache would take nearly all memory, and be slower for it
        return words + self.extra_args

    def _start(self) -> "subprocess.Popen[bytes]":
        environment = {name: value for name, value in os.environ.items() if not _SECRET.search(name)}
        environment |= {"HF_HUB_DISABLE_UPDATE_CHECK": "1"} | ({"HF_HUB_OFFLINE": "1"} if self._is_local else {})
        if self._kind == "vllm" and self.device.startswith("cuda:"):  # vllm has no --device
            number = int(self.device.removeprefix("cuda:"))
            visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
            environment["CUDA_VISIBLE_DEVICES"] = visible[number] if number < len(visible) else str(number)
        with self._log.open("wb") as output:
            return subprocess.Popen(
                [sys.executable, "-I", "-c", _GUARD, str(os.getpid()), *self._words],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment, start_new_session=True,
            )  # fmt: skip

    async def _answers(self, url: str) -> None:
        """Wait until the server answers; it does so once the weights are loaded."""
        assert self._process is not None
        end = time.monotonic() + self.start_s
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
            while True:
                if (code := self._process.poll()) is not None:
                    raise self._trouble(f"ended with code {code} before it answered")
                with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                    async with session.get(url) as response:
                        if response.status == 200 and self._process.poll() is None:
                            return
                if time.monotonic() > end:
                    raise self._trouble(f"did not answer within instructor.start_s={self.start_s:g} s")
                await asyncio.sleep(0.2)

    def _stop(self) -> None:
        """End the whole process group: asked first, then killed."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            log.warning("the instructor's server did not stop within %g s: it is killed", _STOP_S)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _trouble(self, what: str) -> InstructorError:
        lines = [line for line in self._log.read_text(errors="replace").splitlines() if line.strip()][-5:]
        said = "\n".join(f"  {line[:300]}" for line in lines) or "  (nothing)"
        return InstructorError(
            f"the instructor's server {what}: {shlex.join(self._words)}\nThe last lines of its log:\n{said}\n"
            "Run that command by itself to see it all. Out of memory: choose a smaller model, or let the server take less "
            "with instructor.extra_args. Too slow to load: raise instructor.start_s."
        )

    def _server_problems(self) -> list[str]:
        if self._kind == "vllm":
            found = [] if _program("vllm") else ["instructor.server=vllm needs the command vllm: pip install vllm"]
            if self.device in ("cpu", "mps"):
                found.append(f"instructor.device={self.device}: use instructor.server=transformers there")
            return found
        found = []
        if _program("transformers") is None or any(
            importlib.util.find_spec(name) is None for name in ("fastapi", "uvicorn")
        ):
            found.append("instructor=local_server needs `transformers serve`: pip install 'errata[serving]' (or vllm)")
        if "@" in self._served:
            found.append(f"instructor.path is {self._served!r}: `transformers serve` takes what follows @ for a revision")
        return found

    @property
    def _endpoint(self) -> str:
        """The weights and what changes how they are served: not the port, not the place."""
        served = [] if self.dtype == "auto" else [f"dtype={self.dtype}"]
        return f"local({' '.join([self._fingerprint, *served, *self.extra_args])})"

    @cached_property
    def _kind(self) -> str:
        if self.server != "auto":
            return self.server
        wanted = self.device not in ("cpu", "mps") and _program("vllm") is not None and _has_gpu()
        return "vllm" if wanted else "transformers"

    @property
    def _is_local(self) -> bool:
        return Path(self.path).expanduser().is_dir()

    @property
    def _served(self) -> str:
        return str(Path(self.path).expanduser().resolve()) if self._is_local else self.path

    @cached_property
    def _fingerprint(self) -> str:
        """Hash of a folder's files; for a hub id: the id."""
        return fingerprint_folder(Path(self._served)) if self._is_local else self.path

    @cached_property
    def _sampling(self) -> str:
        """The model's own generation settings, as JSON, with sampling switched on.

        `transformers serve` heeds a temperature only where the model's own settings switch sampling on; many do not, and
        every draw would then be the same.
        """
        from transformers import AutoConfig, GenerationConfig

        try:
            settings = GenerationConfig.from_pretrained(self._served)
        except OSError:  # it has none
            settings = GenerationConfig.from_model_config(AutoConfig.from_pretrained(self._served))
        own: dict[str, Any] = settings.to_diff_dict()
        return json.dumps({"max_new_tokens": 1024} | own | {"do_sample": True})


def _program(name: str) -> str | None:
    """A command's path: beside our Python first, then wherever the shell would find it."""
    places = [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]
    return shutil.which(name, path=os.pathsep.join(places))


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
