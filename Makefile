# Every command of a developer and of a user; CI calls the same ones. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
FETCHED := $(VENV)/.fetched
SOURCES := operators plugins serving benchmarks dags tests examples
EXAMPLE_GROUPS := transform training inference
PYTEST := $(BIN)/python -m pytest

.PHONY: help install check format quick test benchmarks trial clean-trial trial-docker clean-trial-docker constraints clean

help: ## List the commands
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-18s %s\n", $$1, $$2}' Makefile

install: $(READY) ## Make .venv from the constraints file, when it is missing or out of date

# One environment serves the trial, the tests and the checks: leaving the checks out saves a tenth of its size.
$(READY): pyproject.toml serving/pyproject.toml constraints.txt
	@command -v git >/dev/null || { echo "Taxiway needs git: install it with your system's package manager" >&2; exit 1; }
	@command -v "$(PYTHON)" >/dev/null || { echo "Taxiway needs Python 3.11, 3.12 or 3.13 as $(PYTHON); or say make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { echo "Taxiway needs Python 3.11, 3.12 or 3.13, found $$($(PYTHON) -V); say make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { echo "Taxiway needs Python's venv module: install your system's python3-venv package" >&2; exit 1; }
	@echo "Making $(VENV) from constraints.txt (a minute or a few, once)"
	@test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep '^uv==' constraints.txt | cut -d';' -f1)"
	@env -u PYTHONDONTWRITEBYTECODE $(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode -c constraints.txt -e serving -e '.[dev]'
	@touch $@

# The trial's code packages have environments of their own. Fetching now what they hold is part of the installation: the
# trial itself then needs no network. uv keeps the packages in its cache; the folder is thrown away.
$(FETCHED): $(READY) examples/visual_recognition/pyproject.toml
	@echo "Fetching what the example's components need"
	@scratch=$$(mktemp -d) && trap 'rm -rf "$$scratch"' EXIT && \
	  $(BIN)/uv pip install --quiet --python $(BIN)/python --target "$$scratch" -c constraints.txt \
	  $(EXAMPLE_GROUPS:%=--group examples/visual_recognition/pyproject.toml:%)
	@touch $@

check: $(READY) ## Lint, types, import rules, dependencies, spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/deptry operators plugins
	cd serving && ../$(BIN)/deptry taxiway_serving
	$(BIN)/codespell $(SOURCES) docs *.md Makefile .ci

format: $(READY) ## Put the code in form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

quick: $(READY) ## The tests that need no servers, on every core, under two minutes
	$(PYTEST) -n auto -m "not slow and not docker"

# Tests wait for servers more than they compute: two workers end in two thirds of the time of one. What wants the machine
# for itself runs afterwards, whatever failed before: one run tells all that is wrong.
test: $(READY) ## All tests
	@failed=0; $(PYTEST) -n 2 --dist loadscope --no-loadscope-reorder -m "not alone" || failed=1; \
	  $(PYTEST) -m alone || failed=1; exit $$failed

benchmarks: $(READY) ## What it costs and what it keeps: a table of figures and bars for each; about two hours
	@missed=0; for name in imports statistics switch rollback crashes tuning path lineage datasets scale; do \
	  echo "== $$name"; $(BIN)/python -m benchmarks.$$name || missed=1; done; exit $$missed

trial: $(FETCHED) ## The whole path on this machine, with a real Airflow; EXIT=1 stops by itself
	@$(BIN)/python -m taxiway.trial $(if $(EXIT),--exit)

clean-trial: ## Forget what earlier trials left
	@test ! -x $(BIN)/python || $(BIN)/python -m taxiway.trial --clean
	rm -rf .trial

trial-docker: $(READY) ## The same in containers, by docker-compose.yml; EXIT=1 stops by itself, CELERY=1 with workers
	@$(BIN)/python -m taxiway.trial --docker $(if $(EXIT),--exit) $(if $(CELERY),--celery)

clean-trial-docker: ## Forget what trials in containers left, images too; KEEP_IMAGES=1 keeps those
	@test ! -x $(BIN)/python || $(BIN)/python -m taxiway.trial --docker --clean $(if $(KEEP_IMAGES),--keep-images)

constraints: $(READY) ## Resolve constraints.txt anew: the platform, its checks, and the example's components
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 \
	  --no-emit-index-url --no-annotate --no-header --no-emit-package taxiway-serving \
	  --extra dev pyproject.toml serving/pyproject.toml \
	  $(EXAMPLE_GROUPS:%=--group examples/visual_recognition/pyproject.toml:%) --output-file constraints.txt

clean: clean-trial clean-trial-docker ## Forget the environment and every cache as well
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
