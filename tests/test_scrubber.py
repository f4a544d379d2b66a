"""What is taken for a secret, and what is left as it is."""

import pickle

import pytest
import yaml

from errata.cell import one_line
from errata.endpoint import Endpoint
from errata.records import Example
from errata.run_folder import Stage
from errata.secrets import Scrubber, known_by
from errata.tracking.tracker import Tracker, Tracking
from tests.tracking.wandb_file import read_whole


def test_a_login_in_a_url_and_headers_are_hidden(monkeypatch):
    monkeypatch.setenv("SOME_API_KEY", "abcdef123456")
    scrub = Scrubber({})
    assert scrub.text("see http://a:b@host and abcdef123456") == "see http://(hidden)@host and (hidden)"
    assert scrub.plain({"x": [{"headers": {"A": "b"}}]}) == {"x": [{"headers": {"A": "(hidden)"}}]}


@pytest.mark.parametrize("name", ["MY_KEY", "MY_KEY_2", "OPENAI_API_KEYS", "db_password", "X_PASSWD", "ERRATA_HEADER_0"])
def test_variables_are_known_by_their_names(name, monkeypatch):
    monkeypatch.setenv(name, " a value/9\n")  # as it is sent: without the line's end
    assert Scrubber({}).text("it was a value/9, or a%20value%2F9") == "it was (hidden), or (hidden)"


def test_what_the_config_points_to_is_hidden(monkeypatch, tmp_path):
    file = tmp_path / "key"
    file.write_text("\n  from-a-file  \n")
    monkeypatch.setenv("TEACHER", "from-a-variable")
    config = {
        "gate": [{"instructor": {"api_key_file": str(file), "api_key_env": None}}],
        "b": {"headers_env": {"X": "TEACHER"}},
    }
    assert Scrubber(config).text("from-a-file from-a-variable") == "(hidden) (hidden)"
    (tmp_path / "large").write_text("ordinary text\n" * 2000)
    for other in ("nowhere", "large", ""):
        scrub = Scrubber({"api_key_file": str(tmp_path / other)})  # a folder, too
        assert scrub.text("ordinary text") == "ordinary text"


def test_an_error_takes_its_configs_along_wherever_it_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("BY", "by-environment")
    (tmp_path / "key").write_text("from-a-file")
    with (
        pytest.raises(ValueError, match="from-a-file") as crash,
        known_by({"instructor": {"headers": {"X-Who": "from-a-header", "X-By": "${oc.env:BY}", "X-Title": "said-of"}}}),
        known_by({"api_key_file": str(tmp_path / "key")}),
    ):
        raise ValueError("said-of from-a-file, from-a-header, by-environment")
    told = "ValueError: said-of (hidden), (hidden), (hidden)"
    assert one_line(crash.value) == told
    assert one_line(pickle.loads(pickle.dumps(crash.value))) == told  # as a launcher carries it home


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("https://u:p@ss@host/v1", "https://(hidden)@host/v1"),
        ("GET https://host/v1?api_key=abc&model=m failed", "GET https://host/v1?api_key=(hidden)&model=m failed"),
        ("url='https://h/x?a=1&access_token=abc'", "url='https://h/x?a=1&access_token=(hidden)'"),
        ("{'Authorization': 'Bearer eyJhbGciOi.J9-x_y1234'}", "{'Authorization': 'Bearer (hidden)'}"),
        ("Incorrect API key provided: sk-proj-abcd1234efgh5678ijkl.", "Incorrect API key provided: (hidden)."),
        ("org/model@hf_AbCdEfGhIjKlMnOpQrSt", "org/model@(hidden)"),
        ("token=ghp_0123456789abcdefghij", "token=(hidden)"),
    ],
)
def test_keys_that_nobody_named_are_known_by_their_look(text, left):
    assert Scrubber({}).text(text) == left


@pytest.mark.parametrize(
    "text",
    [
        "hf-internal-testing/tiny-random-LlamaForCausalLM", "hf_hub_download(repo)", "sk-learn and scikit-learn-1.2",
        "the bearer of good news in 2024", "basic arithmetic problems", "Is 3 @ 4 = 12? See https://host/a@b?key", "a?b:c&token",
        "the key=value form, tokens=12, risk-averse-investors-2024-and-others", "org/Mistral-7B-Instruct-v0.2",
        "hf_hub_download_with_retries(repo)", "basic 123+456+789+1000+2000 = ?", pytest.param("sk-" * 20_000, id="many"),
    ],
)  # fmt: skip
def test_ordinary_text_stays(text):
    assert Scrubber({}).text(text) == text


def test_fields_that_hold_keys_are_hidden_and_those_that_only_sound_so_stay():
    given = {
        "api_key": "x",
        "instructor_api_key": "abc",
        "password": "",
        "api_key_env": "NAME",
        "pad_token": "<pad>",
        "token_budget": 9,
    }
    kept = {"api_key": "(hidden)", "instructor_api_key": "(hidden)"}
    assert Scrubber({}).plain(given) == given | kept


def test_a_key_that_only_the_whole_config_points_to_does_not_reach_wandb(tmp_path, monkeypatch):
    """Where a key is found cannot change a result: what a run tells W&B of its config does not say it."""
    run = tmp_path / "run-12345678"
    run.mkdir()
    (tmp_path / "key").write_text("from-a-file")
    monkeypatch.setenv("TEACHER", "from-a-variable")
    settings = {"instructor": {"api_key_file": str(tmp_path / "key"), "headers_env": {"X": "TEACHER"}}}
    (run / "config.yaml").write_text(yaml.safe_dump(settings))
    rows = [Example("1/1", "sums", "from-a-file", "from-a-variable, plainly", "a", "e", "r", 1)]
    with Tracker(Tracking(), run, {"said": "from-a-file"}, "improve") as tracker:
        stage = Stage(run / "iteration_1/mix", "iteration_1/mix", {"given": "from-a-variable"})
        stage.finish({"rows": 1}, None, train=rows)
        tracker.stage(stage)
    files = list(run.glob("wandb/offline-run-*/*.wandb"))
    assert len(files) == 2  # the run's, and its stage's
    assert all(read_whole(file) for file in files)
    content = b"\n".join(path.read_bytes() for path in (run / "wandb").rglob("*") if path.is_file())
    assert b"(hidden), plainly" in content
    assert b"from-a-" not in content


def test_keys_in_an_address_or_in_place_of_a_variable_are_refused_and_not_repeated(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "a-good-key")
    for given in ({"base_url": "https://host/v1?key=a-bad-key"}, {"api_key_env": "hf_abcdefgh12345678bad"}):
        (said,) = Endpoint(**given).address_problems("instructor")
        assert "bad" not in said
        assert "NAME" in said
    assert Endpoint(base_url="https://host/v1", api_key_env="OPENAI_API_KEY").address_problems("instructor") == []


def test_what_is_written_down_of_a_failed_cell_holds_no_key_of_a_file(tmp_path):
    (tmp_path / "key").write_text("from-a-file\n")
    config = {"instructor": {"api_key_file": str(tmp_path / "key")}}
    assert one_line(RuntimeError("401 for from-a-file"), config) == "RuntimeError: 401 for (hidden)"
