"""errata export: the merged model answers as base and adapter do, and the cards say what the run measured."""

import base64
import json
import os
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from huggingface_hub import ModelCard

from errata.model.hf import HF
from errata.records import Prompt
from errata.trained import trained_models
from tests.stored_run import SYSTEM, write_run
from tests.test_loop import SMALL, errata

TOKEN = "hf_secret-3e1c"


@pytest.fixture(scope="module")
def run(tiny_model, tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("runs") / "small-0123abcd", tiny_model, system=SYSTEM)


@pytest.fixture(scope="module")
def exported(run):
    assert errata("export", str(run), "--licence", "cc-by-4.0") == 0
    return run / "export/iteration_2"


def greedy(model, text="What is 4 + 4?", count=24):
    ((_, answer),) = model.load().answers([Prompt("1", text)], count)
    return answer.text


def test_the_merged_folder_answers_as_base_and_adapter_do(exported, run, tiny_model):
    adapter = trained_models(run)[2].weights.adapter
    apart = greedy(HF(str(tiny_model), adapter, system=SYSTEM))
    assert greedy(HF(str(exported / "model"), system=SYSTEM)) == apart
    assert greedy(HF(str(tiny_model), system=SYSTEM)) != apart
    names = {path.name for path in (exported / "model").iterdir()}
    assert {"model.safetensors", "tokenizer.json", "chat_template.jinja", "generation_config.json", "README.md"} <= names
    assert not any("adapter" in name for name in names)


def test_transformers_alone_ends_answers_where_we_do(exported):
    from transformers import AutoTokenizer, GenerationConfig

    settings = GenerationConfig.from_pretrained(exported / "model")
    tokenizer = AutoTokenizer.from_pretrained(exported / "model")
    assert settings.eos_token_id == [tokenizer.convert_tokens_to_ids("<|end|>")]
    assert not settings.do_sample


def test_the_model_card_has_the_scores(exported):
    card = ModelCard.load(exported / "model/README.md")
    (score,) = card.data.eval_results
    assert (score.metric_value, score.metric_args["n"]) == (0.7, 10)
    assert (round(score.metric_args["low"], 3), round(score.metric_args["high"], 3)) == (0.397, 0.892)  # Wilson's, by hand
    assert "n = 10, 95 % interval 39.7 to 89.2 %" in score.metric_name
    assert card.data.license == "cc-by-4.0" and card.data.library_name == "transformers"
    for words in (
        "| arithmetic | test | corrected | 10 | 30.0 % [10.8 %, 60.3 %] | 70.0 % [39.7 %, 89.2 %] | 0.125 |",
        "last iteration", "gpt-4.1-mini", "temperature 0.7", "Method: Lora (r 4)", SYSTEM, "not measured",
        "| 2 | arithmetic | 6 | 4 | 8 | 3 | 5 |", "Iteration 1: 5 rows", "seed 4",
    ):  # fmt: skip
        assert words in card.text, words


def test_the_dataset_holds_what_the_weights_saw_and_where_from(exported):
    rows = [json.loads(line) for line in (exported / "dataset/train.jsonl").read_text().splitlines()]
    assert [row["trained_in"] for row in rows] == [1] * 5 + [2] * 5  # iteration 2 went on from 1
    assert rows[5]["messages"] == [
        {"role": "user", "content": "What is 0 + 2?"}, {"role": "assistant", "content": "2"},
    ]  # fmt: skip
    assert rows[5]["error_id"] == "arithmetic/train/0" and rows[5]["request_id"] == "2/arithmetic/train/0"
    card = (exported / "dataset/README.md").read_text()
    for words in (
        "10 rows", "Strategy: le, with prompts of the user's own", "leak (ngram 13, short 8)", "| leak | 4 |", "arithmetic (10 questions)",
        "4 problems were cut", "Paraphrases of test questions were not looked for", "Whether the answers are right", "license: cc-by-4.0",
        "8 requests", "Seed: 4",
    ):  # fmt: skip
        assert words in card, words


def test_no_path_of_this_machine_is_in_it(exported, tiny_model):
    for path in exported.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            for told in (str(tiny_model), str(tiny_model.parent), "/home/someone"):
                assert told.encode() not in content, path


def test_best_by_dev_and_a_named_iteration(run, tmp_path, capsys):
    assert errata("export", str(run), "--iteration", "best", "--to", str(tmp_path / "best"), "--dtype", "bfloat16") == 0
    card = (tmp_path / "best/model/README.md").read_text()
    assert "iteration 1 of the run" in card and "chosen by accuracy on a dev split" in card and "saved as bfloat16" in card
    assert len((tmp_path / "best/dataset/train.jsonl").read_text().splitlines()) == 5
    assert "bfloat16" in (tmp_path / "best/model/config.json").read_text()
    assert errata("export", str(run), "--iteration", "7") == 2
    assert "no trained model of iteration 7; there are 1, 2" in capsys.readouterr().err


def test_it_overwrites_nothing_unasked(exported, run, tmp_path, capsys):
    assert errata("export", str(run)) == 2
    assert "holds an export already: --force" in capsys.readouterr().err
    assert errata("export", str(run), "--adapter", "--force") == 0
    assert (exported / "model/adapter_model.safetensors").exists() and not (exported / "model/model.safetensors").exists()
    assert errata("export", str(run), "--licence", "cc-by-4.0", "--force") == 0
    assert (exported / "model/model.safetensors").exists()
    assert sorted(path.name for path in exported.parent.iterdir()) == ["iteration_2"]
    (tmp_path / "letter.txt").write_text("dear")
    assert errata("export", str(run), "--to", str(tmp_path), "--force") == 2
    assert "is no former export" in capsys.readouterr().err and (tmp_path / "letter.txt").exists()


def test_what_cannot_be_merged_is_exported_as_an_adapter(tiny_model, tmp_path, capsys):
    run = write_run(tmp_path / "prompts-1", tiny_model, "Prompt", patience=None)
    assert errata("export", str(run), "--base-model", "org/tiny") == 0
    assert "cannot be merged" in capsys.readouterr().out
    settings = json.loads((run / "export/iteration_2/model/adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == "org/tiny"
    card = ModelCard.load(run / "export/iteration_2/model/README.md")
    assert card.data.base_model == "org/tiny" and card.data.library_name == "peft"
    for option, words in (
        (["--dtype", "float32"], "--dtype float32: this is exported as an adapter"),
        (["--iteration", "best"], "this run measured no dev"),
    ):
        assert errata("export", str(run), "--to", str(tmp_path / "other"), *option) == 2
        assert words in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "other").exists() and not (tmp_path / "other.partial").exists()


def test_a_whole_model_and_a_fresh_start_each_iteration(tiny_model, tmp_path, capsys):
    run = write_run(tmp_path / "full-1", tiny_model, "Full", start="base")
    assert errata("export", str(run), "--adapter") == 2
    assert "all weights were trained" in capsys.readouterr().err
    assert errata("export", str(run)) == 0
    folder = run / "export/iteration_2"
    assert greedy(HF(str(folder / "model"))) == greedy(HF(str(run / "iteration_2/train/model")))
    assert len((folder / "dataset/train.jsonl").read_text().splitlines()) == 5  # iteration 1's set was not seen by it
    assert "began with the base model again" in (folder / "model/README.md").read_text()


def test_a_run_of_errata_train_has_a_model_and_no_dataset(run, tmp_path, capsys):
    place = tmp_path / "train-1"
    shutil.copytree(run / "iteration_1/train", place / "train")
    manifest = json.loads((run / "run.json").read_text())
    kept = {name: manifest["config"][name] for name in ("seed", "model", "training")}
    (place / "run.json").write_text(json.dumps(manifest | {"config": kept}))
    assert errata("export", str(place), "--iteration", "1") == 2
    assert "with one model" in capsys.readouterr().err
    assert errata("export", str(place)) == 0
    assert "measured no benchmark" in (place / "export/train/model/README.md").read_text()
    assert not (place / "export/train/dataset").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--private"], "--private says how to push"),
        (["--push", "org/name"], "set HF_TOKEN"),
        (["--push", "name"], "give a hub id, ORG/NAME"),
        (["--iteration", "first"], "give a number, last or best"),
    ],
)
def test_options_that_mean_nothing(options, words, run, capsys, monkeypatch):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    assert errata("export", str(run), *options) == 2
    assert words in capsys.readouterr().err


def test_folders_that_are_no_runs(run, tmp_path, capsys):
    assert errata("export", str(tmp_path)) == 2
    assert "is no run folder" in capsys.readouterr().err
    (tmp_path / "run.json").write_text((run / "run.json").read_text())
    assert errata("export", str(tmp_path)) == 2
    assert "holds no trained model" in capsys.readouterr().err


class Hub:
    """As much of the hub as a push needs, on this machine: repositories, and files in commits."""

    def __init__(self):
        hub = self
        self.made, self.files, self.tokens, self.refuse = [], {}, set(), None

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                length = int(self.headers.get("Content-Length") or 0)
                content = self.rfile.read(length) if length else self._chunks()
                hub.tokens.add(self.headers.get("Authorization"))
                code, reply = hub.post(self.path, content)
                self._say(code, reply)

            def do_GET(self):
                self._say(200, hub.get(self.path))

            def _chunks(self):
                content = b""
                while self.headers.get("Transfer-Encoding") == "chunked" and (size := int(self.rfile.readline(), 16)):
                    content += self.rfile.read(size)
                    self.rfile.readline()
                return content

            def _say(self, code, reply):
                body = json.dumps(reply).encode()
                self.send_response(code)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def post(self, path, content):
        if path == "/api/repos/create":
            if self.refuse:
                return self.refuse, {"error": "no"}
            asked = json.loads(content)
            self.made.append(asked)
            return 200, {"url": f"{self.url}/{asked['organization']}/{asked['name']}"}
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if "/preupload/" in path:
            names = [file["path"] for file in json.loads(content)["files"]]
            return 200, {"files": [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]}
        kind = path.split("/")[2]
        for line in map(json.loads, content.splitlines()):
            if line["key"] == "file":
                self.files[kind, line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        return 200, {"commitUrl": f"{self.url}/org/name/commit/{'a' * 40}", "commitOid": "a" * 40, "success": True}

    def get(self, path):
        return {"id": "org/name", "sha": "a" * 40, "private": True, "siblings": []}


@pytest.mark.parametrize("refuse", [None, 403])
def test_a_push_sends_both_and_shows_no_token(refuse, exported):
    hub = Hub()
    hub.refuse = refuse
    code = f"from pathlib import Path; from errata.hub import push; print(push(Path({str(exported)!r}), 'org/name', True, False))"
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    environment |= {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    hub.server.shutdown()
    assert TOKEN not in done.stdout and hub.tokens == {f"Bearer {TOKEN}"}
    assert TOKEN not in done.stderr
    if refuse:
        assert "the push to org/name failed" in done.stderr and not hub.files
        return
    assert done.returncode == 0, done.stderr[-2000:]
    assert [(made.get("type", "model"), made["name"]) for made in hub.made] == [("model", "name"), ("dataset", "name")]
    assert all(made.get("private") or made.get("visibility") == "private" for made in hub.made)
    sent = {("models", path.name): path for path in (exported / "model").iterdir()}
    sent |= {("datasets", path.name): path for path in (exported / "dataset").iterdir()}
    assert {key: path.read_bytes() for key, path in sent.items()} == hub.files


@pytest.mark.slow
def test_a_real_run_is_exported_and_measures_the_same(tiny_model, tmp_path):
    place = ["model=hf", f"output_dir={tmp_path}", "tracking=off"]
    assert errata("improve", *SMALL, *place, f"model.path={tiny_model}", "name=small", "iterations=2") == 0
    (run,) = tmp_path.glob("small-*")
    assert errata("export", str(run), "--to", str(tmp_path / "out")) == 0
    kept = [item for item in SMALL if item.startswith("dataset.arithmetic.") and "train" not in item]
    assert errata("evaluate", *kept, *place, f"model.path={tmp_path / 'out/model'}", "name=again") == 0
    (again,) = tmp_path.glob("again-*")
    first = (run / "iteration_2/arithmetic/test/attempts.jsonl").read_bytes()
    assert (again / "iteration_0/arithmetic/test/attempts.jsonl").read_bytes() == first
    messages = [json.loads(line) for line in (tmp_path / "out/dataset/train.jsonl").read_text().splitlines()]
    mixed = (run / "iteration_2/mix/train.messages.jsonl").read_text().splitlines()
    assert [{"id": row["id"], "messages": row["messages"]} for row in messages[30:]] == [json.loads(line) for line in mixed]
