"""Whatever a user gets wrong ends in one clear message, before any model is loaded or anything is sent."""

import json
import socket
import sys

import pytest
from hydra.core.global_hydra import GlobalHydra

from errata.cli import main
from errata.version import __version__

GOOD = json.dumps({"question": "What is 3 + 4?", "answer": "3 + 4 = 7\n#### 7"})
GSM8K = ["dataset=gsm8k", "dataset.gsm8k.path={tmp}/data", "instructor=openai", "instructor.model=m"]
LOCAL = [*GSM8K, "instructor.base_url=http://127.0.0.1:{free}/v1"]


def errata(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["errata", *arguments])
    GlobalHydra.instance().clear()
    with pytest.raises(SystemExit) as end:
        main()
    return end.value.code, " ".join(capsys.readouterr().err.split())


@pytest.fixture
def place(tmp_path, monkeypatch, tiny_model):
    """A working folder with data, broken data and broken models; no key, and no model may be loaded."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))

    def never(*args, **kwargs):
        raise AssertionError("a model was loaded before the configuration was found good")

    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", never)
    for name, lines in {
        "data": [GOOD, GOOD], "broken": [GOOD, "{oops"], "fieldless": ['{"question": "?"}'], "empty": [], "goldless":
        ['{"question": "?", "answer": "seven"}'],
    }.items():  # fmt: skip
        (tmp_path / name).mkdir()
        for split in ("train", "test"):
            text = "\n".join(lines) if split == "train" else "\n".join(lines).replace("What is 3", "What is 5")
            (tmp_path / name / f"{split}.jsonl").write_text(text)
    (tmp_path / "no_weights").mkdir()
    (tmp_path / "no_weights" / "config.json").write_text("{}")
    (tmp_path / "no_tokenizer").mkdir()
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "no_tokenizer" / name).write_bytes((tiny_model / name).read_bytes())
    (tmp_path / "file").write_text("")
    (tmp_path / "prompts" / "le" / "arithmetic").mkdir(parents=True)
    (tmp_path / "prompts" / "le" / "arithmetic" / "user.txt").write_text("{qestion}")
    (tmp_path / "pairs.jsonl").write_text('{"prompt": "a"}')
    (tmp_path / "chat.json").write_text('[{"instruction": "Say hello.", "input": "", "output": "Hello."}]')
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "aqua_train.tsv").write_text("question\tanswer\twhy\nquestion\tanswer\n")
    (tmp_path / "junk.sqlite").write_bytes(b"this is not a ledger " * 99)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["imporve"], ["no command 'imporve'", "Did you mean improve?"]),
        (["improve", "strategy=lecc"], ["there is no strategy 'lecc'. Did you mean lec", "le", "le_informed"]),
        (["improve", "training=fulll"], ["there is no training 'fulll'. Did you mean full", "full", "lora"]),
        (["improve", "stratgy=le"], ["no option 'stratgy'", "Did you mean strategy?"]),
        (["improve", "sampel_size=3"], ["no option 'sampel_size'", "Did you mean sample_size?"]),
        (["improve", "+foo=1"], ["'foo' not in 'ImproveConfig'", "sample_size"]),
        (["improve", "experiments=alpaca_cot"], ["is for another command: errata revise experiments=alpaca_cot"]),
        (["revise", "corpus=alpacca"], ["there is no corpus 'alpacca'. Did you mean alpaca", "xp3"]),
        (["revise", "corpus=[alpacca,cot]"], ["there is no corpus 'alpacca'"]),
        (["revise", "corpus=[]", "reviser=none"], ["corpus is empty"]),
        (["revise", "reviser=none"], ["corpus.file is not at hand: set corpus.file.path"]),
        (
            ["revise", "corpus=[alpaca,file]", "mixture.shares={alpaca: 0.5, file: 0.3}", "corpus.file.path=chat.json"],
            ["mixture.shares are alpaca 0.5 + file 0.3 = 0.8: they must come to 1"],
        ),
        (["revise", "corpus.file.path=chat.json", "mixture.counts.cot=5"], ["mixture.counts.cot: there is no such corpus"]),
        (["revise", "corpus.file.path=chat.json", "reviser=coach"], ["reviser.folder is not set"]),
        (
            ["revise", "corpus.file.path=chat.json", "reviser=coach", "reviser.folder=no_weights"],
            ["no_weights holds no coach: no weights", "errata train revisions=FILE"],
        ),
        (
            ["revise", "corpus.file.path=chat.json", "reviser=coach", "reviser.folder=data"],
            ["data holds no coach: no adapter_config.json"],
        ),
        (["revise", "corpus.file.path=chat.json", "instructor=tutor"], ["tutor teaches the dataset arithmetic only"]),
        (["revise", "corpus.file.path=chat.json", "reviser.stages=[answer]"], ["reviser.stages is [answer]: choose"]),
        (["revise", "corpus=cot", "corpus.cot.path=tables", "reviser=none"], ["aqua_train.tsv", "line 2", "column"]),
        (["revise", "corpus=cot", "corpus.cot.sets=[aqau]"], ["aqau", "aqua"]),
        (["train", "revisions=chat.json", "data=pairs.jsonl"], ["data and revisions are both set"]),
        (["train", "revisions=chat.json", "alpha=2"], ["alpha is 2.0: choose a share above 0"]),
        (["train", "revisions=chat.json"], ["chat.json, row 1: 'Raw Instruction'"]),
        (["improve", "reviser=reflection"], ["tutor teaches the dataset arithmetic only, not reflection"]),
        (["judge", "testset=[]"], ["testset is empty", "against is not set"]),
        (["judge", "testset=[mt_bench]"], ["mt_bench asks in several turns", "judge=mt_bench"]),
        (["judge", "answers=chat.json", "against=nothing.json"], ["against is 'nothing.json': no such file"]),
        (["improve", "experiments=dmeo"], ["there is no experiment 'dmeo'. Did you mean demo", "demo"]),
        (["improve", "sweeps=sedes"], ["there is no sweep 'sedes'. Did you mean seeds", "seeds"]),
        (["improve", "seed=abc"], ["seed", "'abc'", "Integer"]),
        (["improve", "training.epochs=many"], ["training.epochs", "'many'", "Integer"]),
        (["improve", "training.epoch=2"], ["no option 'training.epoch'", "Did you mean epochs?"]),
        (["improve", "dataset.arithmetic.limit=few"], ["dataset.arithmetic.limit", "'few'", "Integer"]),
        (["improve", "dataset.arithmetic.limt=3"], ["no option 'dataset.arithmetic.limt'", "Did you mean limit?"]),
        (["improve", "instructor.flaw_rate=lots"], ["instructor.flaw_rate", "'lots'", "Float"]),
        (["improve", "instructr.flaw_rate=2"], ["no option 'instructr'", "Did you mean instructor?"]),
        (["improve", "instructor.flaw_rate=2"], ["flaw_rate is 2", "0 to 1"]),
        (["improve", "strategy.k=2"], ["no option 'strategy.k'", "prompts_dir"]),
        (["improve", "k=2"], ["no option 'k'"]),
        (["improve", "seed=[1"], ["seed=[1"]),
        (["improve", "sample_size=0"], ["sample_size is 0: it must be at least 1"]),
        (["improve", "sample_size=-5"], ["sample_size is -5"]),
        (["improve", "iterations=0", "sample_size=0"], ["2 problems", "iterations is 0", "sample_size is 0"]),
        (["improve", "training.learning_rate=0"], ["training.learning_rate is 0", "above 0"]),
        (["improve", "training.method=magic"], ["training.method is not chosen", "training=..."]),
        (["improve", "training.method.rank=3"], ["no option 'training.method.rank'"]),
        (["improve", "training.method.r=0", "training.method.dropout=1"], ["method.r is 0: it must be", "dropout is 1.0"]),
        (["improve", "training=adalora", "training.method.target_r=20"], ["target_r is 20: it cannot be above init_r (12)"]),
        (
            ["improve", "training=prefix", "iterations=2"],
            ["Prefix cannot train an adapter of its own further", "policy=restart"],
        ),
        (["improve", "training.strategy=zero9"], ["training.strategy is 'zero9'", "zero2_offload", "fsdp"]),
        (["improve", "training.strategy=one", "training.devices=2"], ["strategy=one trains on one device"]),
        (["improve", "training.devices=3"], ["training.batch_size is 8", "do not divide over training.devices=3"]),
        (["improve", "training.precision=fp8"], ["training.precision is 'fp8'", "bf16-mixed"]),
        (["improve", "training.too_long=split"], ["training.too_long is 'split'", "error, drop, cut"]),
        (["improve", "training.betas=[1]"], ["AdamW takes two numbers"]),
        (["improve", "training.packing=true", "training.group_by_length=true"], ["packing leaves none"]),
        (["improve", "training.keep=best"], ["go by a dev loss", "training.dev_share"]),
        (["train", "data=pairs.jsonl", "training.patience=1"], ["go by a dev loss", "dev=FILE"]),
        (["train", "data=pairs.jsonl", "preview=-1"], ["preview is -1"]),
        (["train", "data=pairs.jsonl", "dev=absent.jsonl"], ["dev is 'absent.jsonl'", "no such file"]),
        (["improve", "gate=[answer]"], ["gate.leak is left out"]),
        (["improve", "gate.duplicate.similarity=3"], ["similarity is 3"]),
        (["improve", "dataset=[]"], ["dataset is empty"]),
        (["improve", "strategy._target_=no.such.Class"], ["strategy._target_ is 'no.such.Class'"]),
        (["improve", "strategy=null"], ["a group needs an option, not null", "strategy=null"]),
        (["improve", "tracking=wandb"], ["wandb login", "tracking=offline"]),
        (["improve", "strategy.prompts_dir=nowhere"], ["no prompt for strategy le", "nowhere/le/arithmetic/user.txt"]),
        (["improve", "strategy.prompts_dir=prompts"], ["unknown placeholder {qestion}", "{question}"]),
        (["improve", "dataset=gsm8k", "dataset.gsm8k.path=data"], ["tutor teaches the dataset arithmetic only"]),
        (["improve", *LOCAL, "dataset.gsm8k.path={tmp}/absent"], ["absent", "no such file or folder"]),
        (["improve", *LOCAL, "dataset.gsm8k.path={tmp}/broken"], ["broken/test.jsonl, line 2", "one JSON object"]),
        (["improve", *LOCAL, "dataset.gsm8k.path={tmp}/fieldless"], ["fieldless/test.jsonl, line 1", "'answer'"]),
        (["improve", *LOCAL, "dataset.gsm8k.path={tmp}/goldless"], ["goldless/test.jsonl, line 1", "#### N"]),
        (["improve", *LOCAL, "dataset.gsm8k.path={tmp}/empty"], ["empty/test.jsonl", "the test split is empty"]),
        (["improve", *LOCAL, "dataset.gsm8k.limit=0"], ["dataset.gsm8k.limit is 0"]),
        (["improve", *GSM8K], ["no API key", "OPENAI_API_KEY", "instructor.api_key_env=NAME"]),
        (["improve", *GSM8K, "instructor.base_url=localhost:8000"], ["instructor.base_url", "http://"]),
        (["improve", *LOCAL], ["nothing answers at instructor.base_url=http://127.0.0.1:"]),
        (["improve", *LOCAL, "instructor.api_key_env=sk-123"], ["must be the NAME of an environment variable"]),
        (["improve", "name=a:b"], ["name is 'a:b'"]),
        (["improve", *LOCAL, "instructor.concurrency=0"], ["instructor.concurrency is 0"]),
        (["improve", *LOCAL, "budget.usd=-1"], ["budget.usd is -1.0", "0 or more", "cannot be kept without prices"]),
        (["improve", *LOCAL, "budget.usd=1", "instructor.usd_per_million_in=2"], ["give both prices, or none"]),
        (["improve", *LOCAL, "budget.tokens=9", "instructor.max_tokens=null"], ["set instructor.max_tokens"]),
        (["improve", "budget.tokens=x"], ["budget.tokens", "'x'", "Integer"]),
        (["improve", *LOCAL, "instructor.mode=later"], ["instructor.mode is 'later'", "now or batch"]),
        (["improve", *LOCAL, "instructor.api_key_file=none.txt"], ["api_key_file", "no such file"]),
        (["improve", *LOCAL, "+instructor.headers.X-Api-Key=abc"], ["looks like a secret", "headers_env"]),
        (["improve", *LOCAL, "+instructor.headers_env.X-Api-Key=NOT_SET_1"], ["NOT_SET_1 is not set"]),
        (["improve", *LOCAL, "instructor.tokenizer=none"], ["instructor.tokenizer", "no such folder"]),
        (["improve", *LOCAL, "instructor.requests_per_minute=0"], ["requests_per_minute is 0"]),
        (["ledger", "verify", "none.sqlite"], ["there is no ledger at none.sqlite"]),
        (["ledger", "prune", "{tmp}/none.sqlite", "--failures"], ["there is no ledger at"]),
        (["improve", *LOCAL[:3]], ["instructor.model is not set"]),
        (["improve", "instructor=replay", "ledger=none.sqlite"], ["there is no ledger at none.sqlite"]),
        (["improve", "ledger=junk.sqlite"], ["junk.sqlite", "ledger=FILE"]),
        (["improve", "model=hf"], ["model.path is not set"]),
        (["improve", "model=hf", "model.path=nowhere"], ["model.path is 'nowhere'", "no such folder"]),
        (["improve", "model=hf", "model.path=no_weights"], ["no_weights", "no weights"]),
        (["improve", "model=hf", "model.path=no_tokenizer"], ["no_tokenizer", "no tokenizer"]),
        (["improve", "model=hf", "model.path=data"], ["no config.json"]),
        (["improve", "model=hf", "model.path=data/train.jsonl"], ["is a file; expected a model folder", "model=recorded"]),
        (["improve", "model.adapter=nowhere"], ["model.adapter is 'nowhere'", "adapter_config.json"]),
        (["report", "data", "--to", "file/deeper"], ["--to file/deeper", "is a file; choose another folder"]),
        (["improve", "output_dir=file/deeper"], ["cannot write to the run folder file/deeper", "output_dir=FOLDER"]),
        (["improve", "strategy=lec", "retrieval=transformer"], ["retrieval.path is not set"]),
        (["improve", "strategy=le_lec", "strategy.shares={le: 0.5, lec: 0.6}"], ["0.5 + 0.6 does not add up to 1"]),
        (["improve", "strategy=le_lec", "+strategy.shares.lecc=0"], ["strategy.shares names 'lecc'", "lec_informed"]),
        (
            ["improve", "strategy=le_lec", "strategy.prompts_dir=prompts"],
            ["no prompt for strategy lec", "prompts/lec/arithmetic/user.txt"],
        ),
        (
            ["improve", "strategy=self_instruct", "strategy.prompts_dir=prompts"],
            ["write prompts/self_instruct/arithmetic/user.txt"],
        ),
        (["improve", "allocation.rule=often"], ["allocation.rule is 'often'", "first or paper"]),
        (["improve", "allocation=by_cluster", "allocation.clusters=0"], ["allocation.clusters is 0: it must be at least 1"]),
        (["improve", "allocation=by_difficulty", "allocation.nearest=1"], ["allocation.nearest is 1"]),
        (["improve", "allocation.clusters=3"], ["no option 'allocation.clusters'"]),
        (["improve", "policy.start=first"], ["policy.start is 'first'", "last or base"]),
        (["improve", "policy.data=some"], ["policy.data is 'some'", "latest or all"]),
        (["improve", "policy.replay_from=never"], ["policy.replay_from is 'never'", "earlier or original"]),
        (["improve", "policy.replay=1"], ["policy.replay is 1.0", "a share from 0 to 1"]),
        (["improve", "policy.patience=0"], ["policy.patience is 0", "at least 1, or null"]),
        (["improve", "errors.splits=[test]"], ["errors.splits names 'test'", "train, dev or both"]),
        (["improve", "errors.splits=[]"], ["errors.splits is empty"]),
        (["improve", "errors.splits=[train,train]"], ["errors.splits"]),
        (["improve", "errors.dev_share=1"], ["errors.dev_share is 1.0"]),
        (["improve", "equalise.requests=0"], ["equalise.requests is 0: it must be at least 1"]),
        (["improve", "equalise=requests"], ["equalise.requests is not set"]),
        (["improve", "equalise=train_tokens"], ["equalise.train_tokens is not set"]),
        (["improve", "+sizes.mmlu=5"], ["sizes.mmlu: there is no such dataset in this run"]),
        (["improve", "+sizes.arithmetic=0"], ["sizes.arithmetic is 0: it must be at least 1"]),
        (["improve", *LOCAL, "policy.patience=2"], ["dataset.gsm8k has no dev split", "errors.dev_share"]),
        (["improve", *LOCAL, "errors=dev", "errors.dev_share=0"], ["dataset.gsm8k has no dev split", "errors=train"]),
        (
            ["improve", "model=recorded", "model.path=pairs.jsonl", "iterations=2"],
            ["can only be asked, not trained", "iterations=1"],
        ),
        (["evaluate", "split=validation"], ["split is 'validation'", "train, dev or test"]),
        (["train"], ["data is not set"]),
        (["train", "data=absent.jsonl"], ["data is 'absent.jsonl'", "no such file"]),
        (["report", "data"], ["data is no run folder"]),
        (["why", "data", "1"], ["data is no run folder"]),
    ],
    ids=lambda value: "_".join(value)[:60] if isinstance(value, list) else None,
)
def test_one_clear_error(place, monkeypatch, capsys, arguments, said):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        free = listener.getsockname()[1]  # bound, so nobody else's, but nothing listens there
        code, error = errata(
            monkeypatch, capsys, *(a.replace("{tmp}", str(place)).replace("{free}", str(free)) for a in arguments)
        )
    assert code == 2, error
    assert error.count("error:") == 1
    assert "Traceback" not in error
    for words in said:
        assert words in error


def test_a_run_folder_of_another_version_is_refused(place, monkeypatch, capsys, tiny_model):
    train = ["train", "data=good.jsonl", "model=hf", f"model.path={tiny_model}", "tracking=off"]
    (place / "good.jsonl").write_text('{"prompt": "a", "response": "b"}\n')
    monkeypatch.setattr("errata.command.fine_tune", lambda *_: sys.exit(0))
    errata(monkeypatch, capsys, *train)
    (manifest,) = place.glob("outputs/train-*/run.json")
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"version": "0.0.1"}))
    code, error = errata(monkeypatch, capsys, *train)
    assert code == 2
    assert f"was written by Errata 0.0.1, this is {__version__}" in error
