# Each of `make demo` and `make test` does its own set-up in a fresh clone.
#
# On Linux, PyPI's torch brings its GPU libraries along, some gigabytes. For the CPU build alone:
#     make demo PIP_FLAGS="--extra-index-url https://download.pytorch.org/whl/cpu"

PYTHON ?= python3
PIP_FLAGS ?=
BIN := .venv/bin

.DELETE_ON_ERROR:
.PHONY: help demo test test-faults test-docs test-packaging test-browser fuzz coverage docs install words

help: ## show these lines
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-15s %s\n", $$1, $$2}' Makefile

# Waiting threads that spin cost most where something else uses a core.
demo test test-faults: export OMP_WAIT_POLICY = PASSIVE
demo: install ## train on words of eight languages with few labels, and show what came out
	rm -rf runs/demo
	$(BIN)/seqssvae demo

test test-faults: export OMP_NUM_THREADS = 1
test: install ## lint, types, tests and doctests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2 --dist worksteal

fuzz: export OMP_NUM_THREADS = 1
fuzz: install ## 10,000 malformed inputs, new ones each time
	HYPOTHESIS_PROFILE=nightly $(BIN)/python -m pytest $$(find tests -name "test_fuzz_*.py")

coverage: export OMP_NUM_THREADS = 1
coverage: install ## which lines and branches the tests run; below 95 % is an error
	$(BIN)/python -m pytest -n 2 --cov

test-faults: install ## many kills, signals, flipped bits and stops at every step
	$(BIN)/python -m pytest -n 2 --dist worksteal -m faults

# Chromium is Debian's; elsewhere, CHROMIUM names one.
test-browser: export OMP_NUM_THREADS = 1
test-browser: install ## the pages in Chromium, which is installed by apt where it is missing
	@test -n "$$CHROMIUM" || command -v chromium >/dev/null || \
		{ apt-get update -qq && apt-get install -qq -y chromium >/dev/null; }
	$(BIN)/python -m pytest -m browser tests

test-docs test-packaging: export OMP_NUM_THREADS = 1
test-docs: install ## build the pages and run every cell of docs/notebooks
	$(BIN)/python -m pytest -n 2 -m docs tests/test_docs.py

test-packaging: install ## build wheel and sdist and use them in a new environment
	$(BIN)/python -m pytest -m packaging tests/test_packaging.py

docs: install ## build the pages under docs/_build/html; a warning is an error
	$(BIN)/python -m sphinx -b html -W --keep-going -n -q docs docs/_build/html

install: .venv/installed ## make .venv with the versions in constraints.txt
words: data/words/test.jsonl ## prepare data/words

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install $(PIP_FLAGS) --constraint constraints.txt --editable '.[dev]'
	touch $@

# The script writes test.jsonl last.
data/words/test.jsonl: data/prepare_words.py | .venv/installed
	$(BIN)/python data/prepare_words.py --out data/words
