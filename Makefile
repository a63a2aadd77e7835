# What a developer does here. The first `make run` or `make test` builds .venv from the lock file; later ones
# only when the lock has changed. ARGS= passes options on: make run ARGS="--port 9999".

.DEFAULT_GOAL := help
.PHONY: help run test check bench bench-gate faults docs lock venv clean

# Tried in this order; the first that runs and is new enough is taken.
PYTHON ?= python3 python3.14 python3.13 python3.12 python3.11
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
ARGS ?=

help: ## list what can be made
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 16

run: $(VENV)/.runtime ## start the service on 127.0.0.1:8888, data in ./data
	@exec $(BIN)/sukkal serve --data-dir ./data $(ARGS)

test: $(VENV)/.dev ## run every test in parallel and show what the tests cover
	$(BIN)/python -m pytest -n auto --cov --cov-report=term $(ARGS)

check: $(VENV)/.dev ## lint, formatting, types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

bench: $(VENV)/.dev ## measure speed beside a bare echo app
	$(BIN)/python bench/run.py $(ARGS)

bench-gate: $(VENV)/.dev ## compare the speed of this tree with that of the commit it is based on
	$(BIN)/python bench/gate.py $(ARGS)

faults: $(VENV)/.dev ## kill, fill, cut power, hang up: the long way
	SUKKAL_LONG=1 $(BIN)/python -m pytest -m faults -o faulthandler_timeout=3600 $(ARGS)

docs: $(VENV)/.dev ## regenerate the generated pages
	$(BIN)/python docs/generate.py $(ARGS)

# Keeps the versions that still fit; `make lock ARGS=--upgrade` takes the newest.
LOCK := $(VENV)/lock/bin/uv --no-config pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"

lock: $(VENV)/.made ## pin the dependencies anew
	@test -x $(VENV)/lock/bin/uv || { $(BIN)/python -m venv $(VENV)/lock && $(VENV)/lock/bin/python -m pip install -q uv; }
	@$(LOCK) pyproject.toml --group build -o requirements.lock $(ARGS)
	@$(LOCK) pyproject.toml --group dev -c requirements.lock -o requirements-dev.lock $(ARGS)

clean: ## remove what was made, except ./data
	rm -rf $(VENV) build dist .coverage .coverage.* .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -path ./.git -prune -o -name __pycache__ -prune -exec rm -rf {} +

venv: $(VENV)/.made

$(VENV)/.made:
	@for name in $(PYTHON); do \
	    if "$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then python=$$name; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	    echo "Sukkal needs Python 3.11 or newer, and none of these is: $(PYTHON)." >&2; exit 1; \
	fi; \
	if ! "$$python" -c 'import ensurepip, venv' 2>/dev/null; then \
	    echo "$$python cannot create environments here. On Debian or Ubuntu: apt-get install python3-venv" >&2; exit 1; \
	fi; \
	echo "Creating $(VENV) with $$("$$python" --version) ..."; \
	"$$python" -m venv --clear $(VENV)
	@touch $@

# The locks are whole, so nothing is resolved here: a resolver could meet releases that came after them. The package
# itself is built with what the lock brought, so that nothing unpinned is fetched.
$(VENV)/.runtime: $(VENV)/.made requirements.lock pyproject.toml
	@echo "Installing what Sukkal needs ..."
	@$(PIP) install -q --require-hashes --no-deps -r requirements.lock
	@$(PIP) install -q --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.made requirements-dev.lock pyproject.toml
	@echo "Installing what Sukkal and its tests need ..."
	@$(PIP) install -q --require-hashes --no-deps -r requirements-dev.lock
	@$(PIP) install -q --no-deps --no-build-isolation -e .
	@touch $@ $(VENV)/.runtime
