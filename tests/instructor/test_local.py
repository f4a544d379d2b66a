"""An instructor that is a function of the messages: through the engine, the ledger and the retries like any other."""

import subprocess
from collections import Counter
from dataclasses import dataclass, field

import pytest
from tests.instructor.engine_driver import requests

from errata.instructor.base import FailedCall
from errata.instructor.local import Local
from errata.ledger import Ledger
from errata.run_folder import RunFolder
from errata.stage.instruct import instruct


@dataclass
class Echo(Local):
    """Says the last message again, in its own tone."""

    model: str = "echo"
    tone: str = "plain"
    pauses: float = field(default=0.0, metadata={"neutral": True})
    max_retries: int = 1

    def __post_init__(self):
        super().__post_init__()
        self.heard = Counter()

    def answer(self, messages):
        asked = messages[-1]["content"]
        self.heard[asked] += 1
        if "1" in asked:
            raise FailedCall("it cannot say ones")
        if "2" in asked and self.heard[asked] == 1:
            raise subprocess.TimeoutExpired("echo", 1)
        return f"{self.tone}: {asked}"


def ask(folder, instructor):
    with RunFolder(folder / "run", {"tone": instructor.tone}) as run, Ledger(folder / "ledger.sqlite") as ledger:
        return instruct(run.stage("instruct", tone=instructor.tone), requests(4), instructor, ledger)


def test_what_it_says_is_stored_what_fails_in_passing_is_tried_again_and_the_rest_is_a_recorded_failure(tmp_path):
    echo = Echo()
    texts = {reply.request_id: (reply.text, reply.failure) for reply in ask(tmp_path, echo)}
    failed = [failure for text, failure in texts.values() if text is None]
    assert len(failed) == 1 and "it cannot say ones" in failed[0]
    assert sum(text is not None and text.startswith("plain: ") for text, _ in texts.values()) == 3
    assert sorted(echo.heard.values()) == [1, 1, 1, 2]


def test_a_reply_is_not_asked_for_again_and_another_setting_is_another_instructor(tmp_path):
    ask(tmp_path, Echo())
    again = Echo(pauses=1.0)
    calls = [one.call(({"role": "user", "content": "3"},), 0) for one in (Echo(), again, Echo(tone="stern"))]
    assert calls[0].key == calls[1].key != calls[2].key
    assert "tone='stern'" in calls[2].endpoint
    (tmp_path / "second").mkdir()
    with RunFolder(tmp_path / "second" / "run", {}) as run, Ledger(tmp_path / "ledger.sqlite") as ledger:
        instruct(run.stage("instruct"), requests(4)[3:], again, ledger)
    assert not again.heard


def test_it_needs_no_key_and_takes_no_batches(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert Echo().problems([]) == []
    assert Echo(mode="batch").problems([]) == [
        "instructor.mode is 'batch', and this instructor takes no batches: set instructor.mode=now"
    ]
    assert Echo().price(1000, 1000) == 0
    with pytest.raises(NotImplementedError):
        Local("nobody").answer([])
