# Every target sets up what it needs; `make` alone lists them.
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
CONFIG ?= configs/digits_ppo.yaml
BENCHMARKS ?= benchmarks/learning.py
ARGS ?=

# Threads that wait must sleep: spinning ones slow every other process down a hundredfold on a small machine.
export OMP_WAIT_POLICY := PASSIVE

# The first of these that is Python 3.11 or newer; `make PYTHON=/path/to/python setup` uses another.
PYTHON ?= $(shell for p in python3.11 python3 python; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo "$$p"; break; }; done)

.DEFAULT_GOAL := help
.PHONY: help setup train test format format-check lint types imports static check bench clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "  ARGS=... is handed on, as in: make train ARGS='--evaluations=50'   make test ARGS='-k digits'"

setup: $(READY)  ## install rlnas and what it needs into .venv

$(READY): pyproject.toml constraints.txt
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 || { \
		echo "rlnas needs Python 3.11 or newer, and $(if $(PYTHON),$(PYTHON) is not,there is none on the PATH): install it," \
		"or name one: make PYTHON=/path/to/python3.11 setup" >&2; exit 1; }
	@[ -x $(BIN)/python ] && $(BIN)/python -m pip --version >/dev/null 2>&1 || "$(PYTHON)" -m venv --clear $(VENV) || { \
		echo "Python could not make a virtual environment (on Debian and Ubuntu: apt install python3-venv)" >&2; exit 1; }
	@echo "Installing rlnas and what it needs into $(VENV); the first time this takes a few minutes ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev,plot]"
	@touch $@

train: setup  ## search networks for handwritten digits with a PPO controller, and report what was found
	@$(BIN)/train-controller --config $(CONFIG) $(ARGS)

test: setup  ## run the tests, on four cores at most
	@$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal $(ARGS)

format: setup  ## bring the code into its form
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

format-check: setup
	@$(BIN)/ruff format --check .

lint: setup
	@$(BIN)/ruff check .

types: setup
	@$(BIN)/mypy -p rlnas

imports: setup
	@$(BIN)/lint-imports

static: format-check lint types imports  ## everything in check but the tests

check: static test  ## format, lint, types, import layers and tests

bench: setup  ## measure what the project claims (takes long)
	@set -e; for script in $(BENCHMARKS); do echo "== $$script"; $(BIN)/python "$$script" $(ARGS); done

clean:  ## remove the environment and every cache; runs stay
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
