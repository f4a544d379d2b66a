"""The command line of `errata chat`: questions from the terminal, or one a line from a pipe."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from errata.errors import ConfigError, ErrataError
from errata.model.hf import HF
from errata.model.smollm2_135m import SmolLM2
from errata.terminal import log_to_terminal
from errata.trained import RECORD, check_base, trained_models, weights_in
from errata.weights import Weights

if TYPE_CHECKING:
    from errata.conversation import Conversation

_EMBEDDED = "smollm2_135m"
_HELP = (
    "/clear forgets the conversation, /system TEXT sets the system prompt, /exit (or Ctrl-D) ends, Ctrl-C stops an answer"
)


def run(arguments: Sequence[str]) -> int:
    """`errata chat MODEL`; 1 where a question out of a pipe could not be answered."""
    parser = argparse.ArgumentParser(
        prog="errata chat",
        description="Talk with a model by its own chat template. Answers appear as they are generated. Where standard input "
        f"is no terminal, each line is a question. {_HELP}.",
    )
    parser.add_argument(
        "model",
        metavar="MODEL",
        help=f"an export, a run folder (its last student), a model or adapter folder, a hub id, or {_EMBEDDED}",
    )
    parser.add_argument("--adapter", metavar="FOLDER", help="a PEFT adapter on top")
    parser.add_argument("--system", metavar="TEXT", help="the system prompt (that of the training, if it had one)")
    parser.add_argument("--template", metavar="NAME", help="a named chat template or a jinja file (the model's own)")
    parser.add_argument("--temperature", type=float, default=0.0, help="0, the default: the likeliest token always")
    parser.add_argument("--max-new-tokens", type=int, metavar="N", help="where an answer is cut (512)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1")
    given = parser.parse_args(arguments)
    log_to_terminal()
    problems = []
    if not 0 <= given.temperature <= 10:
        problems.append(f"--temperature is {given.temperature}: choose 0 to 10")
    if given.max_new_tokens is not None and given.max_new_tokens < 1:
        problems.append(f"--max-new-tokens is {given.max_new_tokens}: it must be at least 1")
    if "," in given.device:
        problems.append(f"--device is {given.device!r}: a conversation needs one device")
    if problems:
        raise ConfigError(problems)
    told = {name: getattr(given, name) for name in ("adapter", "system", "template") if getattr(given, name) is not None}
    model = find_model(given.model, told, given.device)
    if found := model.problems():
        raise ConfigError(found)
    model = model.on_one_device().load()
    from errata.conversation import Conversation

    return talk(Conversation(model, given.temperature, given.max_new_tokens, model.system))


def find_model(name: str, told: dict[str, Any], device: str = "auto") -> HF:
    """The model that is meant, as it was trained (template, system prompt, stop tokens), but for what is told otherwise.

    Args:
        name: see `errata chat --help`.
        told: settings of the model that the user has set: adapter, system, template.
        device: where it is to be.

    Raises:
        ErrataError: the run has no model, or an adapter does not say what its base is.
    """
    place = Path(name).expanduser()
    if name == _EMBEDDED and not place.exists():
        return SmolLM2(device=device, **told)
    weights, stop_tokens = _stored(place) if place.is_dir() else (Weights(name), ())
    if place.is_dir():
        check_base(weights)
    if weights.adapter is not None and "adapter" in told:
        raise ConfigError([f"--adapter: {name} is an adapter already; leave one of them out"])
    read = asdict(weights)
    return HF(path=read.pop("base"), device=device, stop_tokens=list(stop_tokens), **read | told)


def _stored(place: Path) -> tuple[Weights, Sequence[str]]:
    """What a folder holds: a run, a train stage, an export, an adapter, or a model."""
    if (place / "run.json").is_file():
        models = trained_models(place)
        last = models[max(models)]
        return last.weights, last.stop_tokens
    for stage in (place, place.parent):
        if (stage / "training.yaml").is_file() and (stage / "model").is_dir():
            run = stage.parent.parent if stage.parent.name.startswith("iteration_") else stage.parent
            models = trained_models(run) if (run / "run.json").is_file() else {}
            same = [model for model in models.values() if model.folder.resolve() == stage.resolve()]
            return weights_in(stage), same[0].stop_tokens if same else ()
    if (place / "model" / RECORD).is_file():
        place = place / "model"
    record = json.loads((place / RECORD).read_bytes()) if (place / RECORD).is_file() else {}
    said = {name: record[name] for name in ("revision", "gguf", "remote_code", "system") if record.get(name)}
    adapter = place / "adapter_config.json"
    if not adapter.is_file():
        return Weights(str(place), **said), record.get("stop_tokens", ())
    settings = json.loads(adapter.read_bytes())
    base = settings.get("base_model_name_or_path")
    if not base:
        raise ErrataError(f"{adapter} does not name its base model: errata chat BASE --adapter {place}")
    own = place / "chat_template.jinja"
    weights = Weights(
        base,
        str(place),
        said.get("revision") or settings.get("revision"),
        said.get("remote_code", False),
        said.get("gguf"),
        str(own) if own.is_file() else None,
        said.get("system"),
    )
    return weights, record.get("stop_tokens", ())


def talk(conversation: "Conversation") -> int:
    """Questions in, answers out, until there are no more; 1 where a question out of a pipe could not be answered."""
    terminal, code = sys.stdin.isatty(), 0
    if terminal:
        import readline  # noqa: F401  (line editing and history for input())

        _note(_HELP)
    while True:
        line = _read(terminal)
        if line is None or line == "/exit":
            return code
        try:
            _do(conversation, line)
        except ErrataError as error:
            _note(f"error: {error}")
            code = 0 if terminal else 1
        except KeyboardInterrupt:
            if not terminal:
                raise
            sys.stdout.write("\n")
            _note("stopped; what was said counts")


def _read(terminal: bool) -> str | None:
    """The next line that says something; None at the end."""
    while True:
        try:
            line = input("you> ") if terminal else sys.stdin.readline()
        except EOFError:
            sys.stdout.write("\n")
            return None
        except KeyboardInterrupt:
            if not terminal:
                raise
            sys.stdout.write("\n")
            continue
        if not terminal and not line:
            return None
        if line.strip():
            return line.strip()


def _do(conversation: "Conversation", line: str) -> None:
    """Obey a command, or answer."""
    command, _, text = line.partition(" ")
    if command == "/clear":
        conversation.clear()
        _note("the conversation is forgotten")
    elif command == "/system":
        conversation.set_system(text.strip() or None)
        _note("a new conversation with this system prompt" if text.strip() else "a new conversation without one of yours")
    elif command == "/help":
        _note(_HELP)
    elif command.startswith("/"):
        raise ErrataError(f"there is no {command}. {_HELP}")
    else:
        _answer(conversation, line)


def _answer(conversation: "Conversation", question: str) -> None:
    def heard(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    text = conversation.answer(question, heard)
    if not text.endswith("\n"):
        sys.stdout.write("\n")
    sys.stdout.flush()
    if not text:
        _note("the model ended its answer at once: nothing was said, and the question does not count")
    if conversation.dropped:
        many = "question was" if conversation.dropped == 1 else "questions were"
        _note(f"the context was full: the {conversation.dropped} oldest {many} dropped, with the answers")
    if conversation.cut:
        _note(f"cut at --max-new-tokens {conversation.max_new_tokens}")


def _note(text: str) -> None:
    """What is not the model's: on standard error."""
    sys.stdout.flush()
    sys.stderr.write(f"({text})\n")
