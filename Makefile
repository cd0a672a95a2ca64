# The two commands: `make run` serves on http://127.0.0.1:8000, `make test` checks everything.
# Both install what they need: Python packages into .venv, Node packages into node_modules.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Processes that run the tests of Python, of which some always wait.
PROCESSES := 3
TOOLS := redis-server:redis-server tmux:tmux cc:gcc /usr/include/stdio.h:libc6-dev ps:procps \
	curl:curl openssl:openssl
PYTEST := $(BIN)/python -m pytest --numprocesses $(PROCESSES) --dist worksteal
# A test that failed beside others runs once more by itself, as machines are shared and busy: it has
# failed when it fails again.
AGAIN := $(BIN)/python -m pytest --last-failed --last-failed-no-failures none

.PHONY: run run-cluster test check test-python test-other-python test-web suites bench soak picture clean

run: $(VENV)/run
	$(BIN)/python -m server

# Redis and three servers on it, on ports 8001 to 8003, for a look.
run-cluster: $(VENV)/run
	scripts/need.sh redis-server:redis-server
	$(BIN)/python scripts/cluster.py

# The quick ones side by side, each with what it says in one piece.
test: $(VENV)/dev node_modules/installed
	$(MAKE) --no-print-directory --jobs 2 --output-sync=target check test-web
	$(MAKE) --no-print-directory test-python

# Linters, types and the import contract.
check: $(VENV)/dev node_modules/installed
	$(BIN)/ruff format --check --quiet
	$(BIN)/ruff check --quiet
	$(BIN)/mypy
	$(BIN)/lint-imports
	npm run --silent lint
	npm run --silent types

test-web: $(VENV)/dev node_modules/installed
	scripts/need.sh redis-server:redis-server
	npm test --silent

test-python: $(VENV)/dev node_modules/installed
	scripts/need.sh chromium:chromium $(TOOLS)
	$(PYTEST) || $(AGAIN)

# All that depends on Python, on another one: make test-other-python PYTHON=python3.13 VENV=.venv-3.13
test-other-python: $(VENV)/dev node_modules/installed
	scripts/need.sh $(TOOLS)
	$(PYTEST) -m "not elsewhere" || $(AGAIN)

# The protocol suites in a checkout of socketio/socket.io: make suites SUITES=…
suites: $(VENV)/dev
	$(BIN)/python scripts/protocol_suites.py $(SUITES)

bench: $(VENV)/dev node_modules/installed
	scripts/need.sh chromium:chromium
	$(BIN)/python -m bench

# The long runs: many more rounds of what `make test` does in few.
soak: $(VENV)/dev node_modules/installed
	HOURGLASS_SOAK=1 $(BIN)/python -m pytest --timeout 0 tests/store/test_crash.py tests/core/test_races.py tests/core/test_convergence.py \
		tests/cluster/test_chaos.py tests/doors/test_fuzz.py tests/store/test_power_cut.py

# The pictures in the documents, from the real page.
picture: $(VENV)/dev node_modules/installed
	PYTHONPATH=. $(BIN)/python scripts/picture.py docs

clean:
	rm -rf .venv .venv-3.* .venv-bench node_modules bench/peers/node_modules
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
