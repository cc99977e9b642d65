# Everything here sets itself up: git, make and a python3 (3.11 or later, with venv) are enough.
#   make demo    the main job, from a signing ceremony to a verified npm signature
#   make test    the tests
#   make help    the rest

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PEERS  := .peers

.DEFAULT_GOAL := help
.PHONY: help demo test lint format build peers clean

help: ## show this
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 16

demo: $(VENV)/.installed ## run the main job in a temporary folder, without a network
	@$(BIN)/kedge demo $(ARGS)

test: $(VENV)/.developing ## run the tests (ARGS="-k name" for some of them)
	$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/.developing ## ruff, mypy and the import contracts
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.developing ## let ruff lay the code out
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

build: $(VENV)/.developing ## make dist/*.whl and dist/*.tar.gz
	$(BIN)/python -m build

# The tuf-js that still runs on the node that is here. Nothing is written outside $(PEERS), and no install script is run.
peers: ## install tuf-js, with which some tests read our repositories (needs npm)
	@mkdir -p $(PEERS)
	@version=5.0.1; node -e 'process.exit(parseInt(process.versions.node) >= 20 ? 0 : 1)' || version=3.1.0; \
	npm install --prefix $(PEERS) --no-save --no-package-lock --ignore-scripts --no-audit --no-fund --loglevel=error "tuf-js@$$version"
	@rm -f $(PEERS)/node_modules/.package-lock.json

clean: ## remove what was made here
	rm -rf $(VENV) $(PEERS) dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

# pip 25.1 is the first that reads dependency groups. The stamps are renewed when pyproject.toml changes.
$(VENV)/.pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "kedge needs Python 3.11 or later; say which: make PYTHON=python3.12 ...")'
	@$(PYTHON) -m venv $(VENV)
	@echo "setting up $(VENV) ..." >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	@touch $@

$(VENV)/.installed: $(VENV)/.pip pyproject.toml
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[cli]'
	@touch $@

$(VENV)/.developing: $(VENV)/.installed pyproject.toml
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --group dev
	@touch $@
