PYTHON ?= python3
BIN := .venv/bin

.PHONY: help setup demo test test-all chaos lint bench

help:  ## this list
	@awk -F ':.*  ## ' '/^[a-z-]+:.*  ## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: .venv/ready  ## .venv with uniface and all it needs, at the tested versions

.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "uniface needs Python 3.11 or newer, and '$(PYTHON)' is not: make $(MAKECMDGOALS) PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --no-compile -c constraints.txt -e '.[test,dev]'
	@# All at once and on all cores: a run starts some ten processes, and each would compile what it imports for itself.
	@$(BIN)/python -m compileall -qq -j 0 .venv/lib || true
	@touch $@

demo: setup  ## caption the portraits that ship with the package, into out/demo/
	$(BIN)/uniface caption source=demo sink.path=out/demo

test: setup  ## the tests that take seconds, in two processes
	$(BIN)/pytest -m 'not slow' -n 2 --dist loadfile --no-loadscope-reorder

test-all: setup  ## all tests
	$(BIN)/pytest

chaos: setup  ## kill, stop and starve runs at random moments, and count their rows; a minute or two a seed, 30 seeds
	$(BIN)/python -m tests.chaos

lint: setup  ## style, types and import rules
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup  ## measure the engine, some ten minutes; a table, and a plot in benchmarks/results/
	$(BIN)/python -m benchmarks.engine
