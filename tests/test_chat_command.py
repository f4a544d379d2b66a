"""errata chat: through a pipe it answers line by line, remembers, and asks in the form of the training."""

import io
import os
import pty
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from errata.chat import conversation_ids, prompt_ids
from errata.chat_command import find_model
from errata.conversation import Conversation
from errata.conversation import prompt_ids as several
from errata.errors import ErrataError
from errata.model.hf import HF
from tests.stored_run import SYSTEM, write_run
from tests.test_loop import errata

ERRATA = Path(sys.executable).with_name("errata")


@pytest.fixture(scope="module")
def run(tiny_model, tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("runs") / "small-0123abcd", tiny_model, system=SYSTEM)


def said(text, *arguments, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    return errata("chat", *map(str, arguments))


def test_a_pipe_is_answered_line_by_line_and_the_first_is_remembered(tiny_model, capsys, monkeypatch):
    told = [tiny_model, "--max-new-tokens", "8"]
    assert said("Ada has 4 shells.\n\nHow many?\n", *told, monkeypatch=monkeypatch) == 0
    both = capsys.readouterr().out
    model = HF(str(tiny_model)).load()

    def by_hand(ids):
        ((_, answer),) = model.complete([ids], 8)
        return answer.text

    first = by_hand(prompt_ids(model.tokenizer, "Ada has 4 shells."))
    turns = [{"role": "user", "content": "Ada has 4 shells."}, {"role": "assistant", "content": first}]
    asked = model.tokenizer.apply_chat_template(
        [*turns, {"role": "user", "content": "How many?"}], add_generation_prompt=True
    )
    second = by_hand(asked["input_ids"])
    assert both == f"{first}\n{second}\n"
    assert said("How many?\n", *told, monkeypatch=monkeypatch) == 0
    assert capsys.readouterr().out != f"{second}\n"  # without the first it says something else
    assert said("Ada has 4 shells.\n/clear\nHow many?\n/exit\nAnd?\n", *told, monkeypatch=monkeypatch) == 0
    alone = by_hand(prompt_ids(model.tokenizer, "How many?"))
    assert capsys.readouterr().out == f"{first}\n{alone}\n"


def test_it_asks_as_training_shows_it(tiny_model):
    tokenizer = HF(str(tiny_model)).tokenizer
    turns = [{"role": role, "content": text} for role, text in (("user", "one"), ("assistant", "two"), ("user", "three"))]
    trained, spans = conversation_ids(tokenizer, [*turns, {"role": "assistant", "content": "four"}], SYSTEM)
    assert several(tokenizer, turns, SYSTEM) == trained[: spans[-1][0]]
    assert several(tokenizer, turns[:1], SYSTEM) == prompt_ids(tokenizer, "one", SYSTEM)


def test_every_place_that_holds_a_model_is_known(run, tiny_model, tmp_path):
    last = run / "iteration_2/train/model"
    assert find_model(str(run), {}).weights == find_model(str(last), {}).weights == find_model(str(last.parent), {}).weights
    weights = find_model(str(run / "iteration_1/train/model"), {}).weights
    assert (weights.base, weights.adapter, weights.system) == (str(tiny_model), str(run / "iteration_1/train/model"), SYSTEM)
    assert find_model(str(tiny_model), {"system": "x"}).weights.system == "x"
    for options, adapter in ((["--to", "merged"], False), (["--to", "apart", "--adapter"], True)):
        options[1] = str(tmp_path / options[1])
        assert errata("export", str(run), *options) == 0
        for place in (Path(options[1]), Path(options[1]) / "model"):
            found = find_model(str(place), {}).weights
            assert found.system == SYSTEM and (found.adapter is not None) == adapter
            assert found.base == (str(tiny_model) if adapter else str(Path(options[1]) / "model"))
    with pytest.raises(ErrataError, match="is an adapter already"):
        find_model(str(last), {"adapter": str(last)})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["nowhere"], "no hub id"),
        (["--temperature", "-1"], "choose 0 to 10"),
        (["--max-new-tokens", "600"], "context holds 512 tokens"),
        (["--max-new-tokens", "0"], "must be at least 1"),
        (["--device", "cpu,cpu"], "needs one device"),
        (["--adapter", "nowhere"], "no PEFT adapter folder there"),
        (["--template", "klingon"], "none of the named ones"),
    ],
)
def test_what_cannot_be_honoured_is_an_error(options, words, tiny_model, capsys, monkeypatch):
    model = [] if options[0] == "nowhere" else [tiny_model]
    assert said("hello\n", *model, *options, monkeypatch=monkeypatch) == 2
    assert words in capsys.readouterr().err


def test_a_wrong_command_and_a_long_question_are_said_and_the_rest_goes_on(tiny_model, capsys, monkeypatch):
    lines = f"/nope\n{'long ' * 600}\nhello\n"
    assert said(lines, tiny_model, "--max-new-tokens", "4", monkeypatch=monkeypatch) == 1
    shown = capsys.readouterr()
    assert "there is no /nope" in shown.err and "Say it in fewer words" in shown.err
    assert shown.out.strip()


def test_the_oldest_turns_are_dropped_when_the_context_is_full(tiny_model):
    conversation = Conversation(HF(str(tiny_model)).load(), max_new_tokens=8)
    for number in range(6):
        conversation.answer(f"question {number} " + "word " * 60, lambda text: None)
    assert conversation.dropped > 0
    assert conversation.turns[0]["content"].startswith("question") and not conversation.turns[0]["content"].startswith(
        "question 0"
    )
    kept = list(conversation.turns)
    with pytest.raises(ErrataError, match="fewer words"):
        conversation.answer("word " * 600, lambda text: None)
    assert conversation.turns == kept


def test_an_interrupted_answer_is_kept_as_far_as_it_came(tiny_model):
    conversation = Conversation(HF(str(tiny_model)).load(), max_new_tokens=64)
    pieces = []

    def stop_soon(text):
        pieces.append(text)
        if len(pieces) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        conversation.answer("hello", stop_soon)
    assert conversation.turns[1] == {"role": "assistant", "content": "".join(pieces)}


def test_a_system_prompt_needs_a_place_in_the_template(tiny_model, tmp_path):
    template = tmp_path / "strict.jinja"
    template.write_text("{% for m in messages if m.role != 'system' %}{{ m.content }}<|end|>{% endfor %}")
    conversation = Conversation(HF(str(tiny_model), template=str(template)).load(), max_new_tokens=8)
    with pytest.raises(ErrataError, match="leaves the system prompt out"):
        conversation.set_system("Be brief.")
    assert conversation.system is None


@pytest.mark.slow
def test_a_person_at_a_terminal_can_stop_an_answer(tiny_model):
    here, there = pty.openpty()
    command = [str(ERRATA), "chat", str(tiny_model), "--max-new-tokens", "400"]
    process = subprocess.Popen(
        command, stdin=there, stdout=there, stderr=there, start_new_session=True, close_fds=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # whoever started the tests may ignore it
    )  # fmt: skip
    os.close(there)
    seen = b""

    def more():
        nonlocal seen
        assert select.select([here], [], [], 300)[0], seen
        seen += os.read(here, 4096)

    def until(*words):
        nonlocal seen
        while not (met := [word for word in words if word in seen]):
            more()
        seen = seen[seen.index(met[0]) + len(met[0]) :]
        return met[0]

    until(b"you> ")
    stopped = b"stopped; what was said counts"
    for _ in range(10):  # on a busy machine an answer may have ended before it can be stopped
        os.write(here, b"hello\n")
        until(b"hello\r\n")
        while len(seen) < 4:
            more()
        process.send_signal(signal.SIGINT)
        if until(stopped, b"you> ") == stopped:
            break
    else:
        raise AssertionError("every answer had ended before it was stopped")
    until(b"you> ")
    os.write(here, b"/nope\n")
    until(b"there is no /nope")
    until(b"you> ")
    os.write(here, b"\x04")
    assert process.wait(300) == 0


@pytest.mark.slow
def test_the_embedded_student_heeds_what_was_said_before():
    lines = "The capital of France is Paris.\nWhich city is it?\n/clear\nWhich city is it?\n"
    told = [str(ERRATA), "chat", "smollm2_135m", "--max-new-tokens", "24"]
    process = subprocess.Popen(told, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdin.write(lines.encode())
    process.stdin.close()
    pieces = []
    while piece := os.read(process.stdout.fileno(), 4096):
        pieces.append(piece)
    _, remembered, alone = b"".join(pieces).decode().split("\n", 2)
    assert process.wait() == 0, process.stderr.read()
    assert len(pieces) > 10  # they come as they are made
    assert remembered and remembered != alone.strip()
