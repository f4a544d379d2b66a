"""Every way to choose errors, spend requests and mix, through the whole loop with a tiny student that is really trained."""

import json

import pytest

from tests.test_loop import SMALL, errata

CHOICES = {
    "le_lec": ["strategy=le_lec", "retrieval=k1"],
    "lec_informed": ["strategy=lec_informed", "retrieval=k1", "retrieval.index=hnsw"],
    "llm2llm": ["experiments=llm2llm", "iterations=2"],
    "self_instruct": ["strategy=self_instruct", "gate=[length,leak,rouge,language,answer]"],
    "finetune": ["strategy=finetune", "policy=restart"],
    "duplicate_errors": ["strategy=duplicate_errors", "equalise=train_tokens", "equalise.train_tokens=1500"],
    "requests": ["equalise=requests", "equalise.requests=7", "errors=both"],
    "dev": ["errors=dev", "allocation=by_difficulty"],
    "clusters": ["allocation=by_cluster", "allocation.clusters=3", "gate.leak.similarity=0.99"],
    "patience": ["policy.patience=1", "policy.replay=0.3", "policy.replay_from=original", "iterations=2"],
    "walls": ["dataset@wall=[gsm_plus]"],
}


@pytest.mark.slow
@pytest.mark.parametrize("choice", CHOICES)
def test_it_runs_and_is_reported(choice, tiny_model, tmp_path, capsys):
    overrides = CHOICES[choice]
    if choice == "walls":
        item = {"question": "What is 4 + 4?", "solution": "4 + 4 = 8\n#### 8", "answer": "8", "perturbation_type": "digit"}
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "testmini.jsonl").write_text(
            json.dumps(item | {"seed_question": "", "seed_answer": "8"}) + "\n"
        )
        overrides = [*overrides, f"wall.gsm_plus.path={tmp_path / 'data'}"]
    rest = [item for item in SMALL if item.partition("=")[0] not in {one.partition("=")[0] for one in overrides}]
    place = ["model=hf", f"model.path={tiny_model}", f"output_dir={tmp_path}", "name=choice", "dataset.arithmetic.dev=10"]
    learnable = ["dataset.arithmetic.max_new_tokens=8"]
    assert errata("improve", *rest, *place, *learnable[1:], *overrides) == 0, capsys.readouterr().err
    (run,) = tmp_path.glob("choice-*")
    results = json.loads((run / "results.json").read_text())
    assert results["training"] and results["practice"][0]["kept"]
    assert errata("why", str(run), "1") == 0
    mixed = json.loads((run / "iteration_1/mix/stage.json").read_text())["counts"]
    if choice == "duplicate_errors":
        assert mixed["tokens"] == {"arithmetic": 1500}
    if choice == "requests":
        assert results["practice"][0]["requests"] == 7
    if choice == "patience":
        assert [part["iteration"] for part in results["dev"]] == [0, 1]  # no better, so it ended
    if choice == "walls":
        assert results["practice"][0]["wall"]["gsm_plus"] == 1
