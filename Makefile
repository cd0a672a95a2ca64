# `make` lists what there is. The two that matter: `make run` and `make test`.
# Each installs what it needs: Python packages into .venv, Node packages into node_modules.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TOOLS := redis-server:redis-server tmux:tmux cc:gcc /usr/include/stdio.h:libc6-dev ps:procps \
	curl:curl openssl:openssl
# Four processes, as some tests always wait. What fails beside others runs once more by itself.
TESTS := PYTHON=$(BIN)/python PROCESSES=4 scripts/run_tests.sh

.DEFAULT_GOAL := help
.PHONY: help run run-cluster test fast check test-python test-other-python test-web coverage suites \
	bench soak picture clean

help: ## List what make can do
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-18s %s\n", $$1, $$2 }' Makefile

run: $(VENV)/run ## Serve on http://127.0.0.1:8000
	$(BIN)/python -m server

run-cluster: $(VENV)/run ## Start Redis and three servers on it, on ports 8001 to 8003, for a look
	scripts/need.sh redis-server:redis-server
	$(BIN)/python scripts/cluster.py

# The quick ones side by side, each with what it says in one piece.
test: $(VENV)/dev node_modules/installed ## Check and test everything, in under ten minutes
	$(MAKE) --no-print-directory --jobs 2 --output-sync=target check test-web
	$(MAKE) --no-print-directory test-python

fast: $(VENV)/dev node_modules/installed ## Run the tests that take a moment: no browser, no Redis, no long ones
	env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest --numprocesses 2 --dist worksteal \
		-m "not elsewhere and not redis and not slow"

check: $(VENV)/dev node_modules/installed ## Check format, types and imports
	$(BIN)/ruff format --check --quiet
	$(BIN)/ruff check --quiet
	$(BIN)/mypy
	$(BIN)/lint-imports
	npm run --silent lint
	npm run --silent types

test-web: $(VENV)/dev node_modules/installed ## Test the modules of the page in Node
	scripts/need.sh redis-server:redis-server
	npm test --silent

test-python: $(VENV)/dev node_modules/installed ## Run all tests in Python
	scripts/need.sh chromium:chromium $(TOOLS)
	$(TESTS)

# On another Python: make test-other-python PYTHON=python3.13 VENV=.venv-3.13
test-other-python: $(VENV)/dev node_modules/installed ## Run the tests that depend on Python
	scripts/need.sh $(TOOLS)
	$(TESTS) -m "not elsewhere"

coverage: $(VENV)/dev node_modules/installed ## Show which lines the tests do not reach
	scripts/need.sh chromium:chromium $(TOOLS)
	$(BIN)/python -m pytest --numprocesses 4 --dist worksteal --cov --cov-report term:skip-covered

# The protocol suites in a checkout of socketio/socket.io: make suites SUITES=…
suites: $(VENV)/dev ## Run the protocol suites of Socket.IO that are in the folder SUITES
	$(BIN)/python scripts/protocol_suites.py $(SUITES)

bench: $(VENV)/dev node_modules/installed ## Measure, and write docs/benchmarks.md
	scripts/need.sh chromium:chromium
	$(BIN)/python -m bench

soak: $(VENV)/dev node_modules/installed ## Run many more rounds of what `make test` does in few
	HOURGLASS_SOAK=1 $(BIN)/python -m pytest --timeout 0 tests/store/test_crash.py tests/core/test_races.py tests/core/test_convergence.py tests/core/test_model.py \
		tests/transport/test_transport.py::test_many_who_come_and_go_leave_nothing \
		tests/cluster/test_chaos.py tests/doors/test_fuzz.py tests/cli/test_cli_ways.py tests/store/test_power_cut.py tests/cli/test_tools.py tests/library/test_random_kills.py

picture: $(VENV)/dev node_modules/installed ## Take the pictures in the documents from the real page
	PYTHONPATH=. $(BIN)/python scripts/picture.py docs

clean: ## Remove all that was installed or built
	rm -rf .venv .venv-3.* .venv-bench node_modules bench/peers/node_modules .coverage
	rm -rf examples/*/build examples/*/target examples/*/node_modules
	rm -rf tests/returning/*/build tests/returning/*/target
	rm -rf tests/generated/build tests/generated/*/build tests/generated/*/node_modules

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; name one with PYTHON=…" >&2; exit 1; }
	scripts/need.sh python3-ensurepip:python3-venv
	$(PYTHON) -m venv $(VENV)

$(VENV)/run: requirements.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

$(VENV)/dev: requirements.txt requirements-dev.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

node_modules/installed: package.json package-lock.json
	npm ci --silent
	@touch $@
