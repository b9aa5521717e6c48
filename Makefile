# Needs Python 3.11 or newer and a package registry; everything else is set up here.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
SOURCES := src tests benchmarks tools

.PHONY: setup demo test check full sandbox lab lock docs test-transformers-4 clean

setup: $(STAMP)

# The lock file is the only constraint: it also replaces machine-wide pip constraints.
$(STAMP): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	PIP_CONSTRAINT=requirements.lock $(PIP) -r requirements.lock
	PIP_CONSTRAINT=requirements.lock $(PIP) --no-deps --editable .
	touch $(STAMP)

demo: setup
	$(BIN)/clip-unlearn demo

test: setup
	$(BIN)/python -m pytest -n 2 -W error -m "not slow and not golden and not gpu and not network"

check: setup
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/check_docs.py

full: check
	$(BIN)/python -m pytest -n 2 -W error -m "not gpu and not network"

# The model doors under the oldest supported transformers: an overlay beside .venv, without a second torch.
test-transformers-4: .overlay/.installed
	PYTHONPATH=.overlay $(BIN)/python -m pytest -n 2 -W error tests/unit/models

.overlay/.installed: $(STAMP) requirements-transformers-4.lock
	rm -rf .overlay
	$(PIP) --no-deps --target .overlay -r requirements-transformers-4.lock
	touch $@

# Retrain the embedded models and oracles from seeds.
sandbox: setup
	$(BIN)/python -m clip_unlearn.sandbox.train

# Train the population that audits are tried on (once, kept in the cache) and measure what each audit is worth.
lab: setup
	$(BIN)/python benchmarks/lab.py

docs: setup
	$(BIN)/python tools/generate_docs.py

clean:
	rm -rf $(VENV) .overlay out build dist .pytest_cache .mypy_cache .ruff_cache
