"""Gets replies to N requests in a process of its own: `python -m tests.instructor.engine_driver PORT FOLDER N [SETTING=VALUE ...]`."""

import json
import signal
import sys
from pathlib import Path

from errata.errors import ErrataError
from errata.instructor.openai import OpenAI
from errata.ledger import Ledger, Purse
from errata.records import Request
from errata.run_folder import RunFolder
from errata.stage.instruct import instruct


def requests(count):
    """Requests with texts of their own."""
    return [
        Request(f"1/toy/{n}", "toy", f"toy/{n}", ({"role": "user", "content": f"question {n}"},), 2) for n in range(count)
    ]


def instructor(port, **settings):
    """One that gives up late and tries often: the faults are many. A slow machine is no fault, so it waits long."""
    quick = {
        "timeout_s": 120.0,
        "max_retries": 12,
        "deadline_s": 600.0,
        "give_up_s": 60.0,
        "concurrency": 64,
        "max_tokens": 100,
    }
    return OpenAI("m", f"http://127.0.0.1:{port}/v1", **{"api_key_env": None, **quick, **settings})


def main():
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where whoever started the tests ignores it
    port, folder, count = int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    settings = {name: json.loads(value) for name, _, value in (word.partition("=") for word in sys.argv[4:])}
    purse = Purse("a", "r", "s", settings.pop("usd", None), settings.pop("tokens", None))
    ledger_path = Path(settings.pop("ledger", folder / "ledger.sqlite"))
    with RunFolder(folder / "run", {}) as run, Ledger(ledger_path) as ledger:
        stage = run.stage("instruct", n=count)
        try:
            replies = instruct(stage, requests(count), instructor(port, **settings), ledger, purse)
        except ErrataError as error:
            print(f"stopped: {error}")
            return
        print(json.dumps({"replies": len(replies), "good": sum(reply.text is not None for reply in replies)}))


if __name__ == "__main__":
    main()
