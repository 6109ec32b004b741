# `make demo` and `make test` set up everything they need; a second call installs nothing again.
VENV := .venv
PYTHON ?= python3
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
BROWSER := $(VENV)/.browser
RAY := $(VENV)/.ray
AXE := axe-core@4.14.1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore

.PHONY: help install test test-quick slow-test sb3-suite lint format demo results-small docs benchmarks clean

help:            ## Show the targets.
	@grep -E '^[a-z0-9-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 18

install: $(STAMP)  ## Create .venv and install lipsrl with the tested versions.

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(STAMP)

# What the tests of the HTML report read it with; without it (no Debian, no root, no network) they say why they are
# skipped.
$(BROWSER): Makefile | $(STAMP)
	command -v chromium >/dev/null || (apt-get update && apt-get install --yes --no-install-recommends chromium) \
	    >$(VENV)/browser.log 2>&1 || echo "no Chromium could be installed ($(VENV)/browser.log)"
	npm install --silent --no-audit --no-fund --prefix $(VENV) $(AXE) >>$(VENV)/browser.log 2>&1 \
	    || echo "no axe-core could be fetched ($(VENV)/browser.log)"
	touch $@

# The cluster that loses a worker and a node; without it that test is skipped.
$(RAY): Makefile constraints.txt | $(STAMP)
	$(BIN)/pip install --quiet --constraint constraints.txt ray >$(VENV)/ray.log 2>&1 \
	    || echo "Ray could not be installed ($(VENV)/ray.log)"
	touch $@

PYTEST :=

test: $(STAMP) $(BROWSER) $(RAY)  ## Run the tests.
	$(BIN)/python -m pytest -q -n 2 --dist worksteal $(PYTEST)

test-quick: $(STAMP) $(BROWSER)  ## Run nine of ten tests, those that take a moment (tests/durations.py).
	$(BIN)/python -m pytest -q -n 2 --dist worksteal --quick $(PYTEST)

slow-test: $(STAMP) ## Run the long studies marked `slow`.
	$(BIN)/python -m pytest -q -m slow

sb3-suite: $(STAMP) ## Stable-Baselines3's own tests, fetched now, on our policies (5 minutes).
	$(BIN)/pip install --quiet --constraint constraints.txt matplotlib  # one of SB3's test files imports it
	$(BIN)/python -m tests.sb3_suite

lint: $(STAMP)     ## Ruff (check, format), mypy strict, import floors.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)   ## Format the code.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

demo: $(STAMP)     ## Train a plain and a Lipschitz agent on Pendulum-v1, certify, disturb, compare: a page (72 s on two idle cores).
	$(BIN)/python -m experiments.demo

results-small: $(STAMP) ## Pendulum's teacher and window student of seed 0 again, beside docs/results.md (15 minutes on two cores at most).
	$(BIN)/python -m experiments.memory --task pendulum --seeds 0 --agents teacher window --output runs/results-small --only
	$(BIN)/python -m experiments.results --compare runs/results-small --study memory

docs: $(STAMP)     ## Build the documentation site into site/ (strict: a broken link fails).
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --site-dir site
	@echo "site/index.html; with search: python -m http.server --directory site"

benchmarks: $(STAMP) ## What each layer costs, beside its peers (10 minutes; nothing else should run).
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[peers]'
	$(BIN)/python -m benchmarks.layers

clean:           ## Remove caches (the environment and runs/ stay).
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist *.egg-info
