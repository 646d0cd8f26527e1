# Two commands are all there is to set up: `make demo` and `make test`. Each builds .venv when it is missing or when what
# it was built from has changed. Works wherever there are Python 3.11 or newer, pip and a package index.

PYTHON ?= python3
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
CORE := $(VENV)/.installed-core
DEV := $(VENV)/.installed-dev
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check --constraint requirements.lock
CODE := src tests examples benchmarks scripts

.PHONY: help demo test test-all check format index docs bench lock packages clean
.DEFAULT_GOAL := help

help:
	@echo 'make demo      train on the embedded digits, judge beside simple baselines, write a report'
	@echo 'make test      all tests but the long ones'
	@echo 'make test-all  the long ones too'
	@echo 'make check     format, lint, types, import directions: what needs no tests'
	@echo 'make format    put the format right'
	@echo 'make index     regenerate the index of registered things'
	@echo 'make docs      the documentation as HTML in site/'
	@echo 'make bench     speed beside other tools (each in an environment of its own)'
	@echo 'make lock      pin the newest versions of everything in requirements.lock'
	@echo 'make packages  count what the core installs in a fresh environment'

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Lamina needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1)."; \
	  echo "Name another one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(CORE): requirements.lock pyproject.toml | $(BIN)/python
	@echo 'Installing Lamina into $(VENV) (torch is large: a few minutes the first time)'
	@$(PIP) --editable .
	@touch $@

$(DEV): requirements.lock pyproject.toml | $(CORE)
	@echo 'Installing what the checks need into $(VENV)'
	@$(PIP) --editable '.[dev]'
	@touch $@

demo: $(CORE)
	@$(BIN)/python examples/demo.py

test: $(DEV)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m 'not slow'

test-all: $(DEV)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

check: $(DEV)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/unit/test_import_directions.py tests/unit/test_repository.py

format: $(DEV)
	$(BIN)/ruff format $(CODE)
	$(BIN)/ruff check --fix $(CODE)

index: $(CORE)
	$(BIN)/python -m lamina.core.registry

docs: $(CORE)
	$(BIN)/python scripts/build_docs.py

bench: $(CORE)
	$(BIN)/python benchmarks/run.py

lock:
	$(PYTHON) scripts/lock.py

packages:
	$(PYTHON) scripts/count_packages.py

clean:
	rm -rf site build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
