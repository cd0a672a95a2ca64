# The two commands: `make run` serves on http://127.0.0.1:8000, `make test` checks everything.
# Both install what they need: Python packages into .venv, Node packages into node_modules.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: run run-cluster test check test-python test-web bench soak picture clean

run: .venv/run
	$(BIN)/python -m server

# Redis and three servers on it, on ports 8001 to 8003, for a look.
run-cluster: .venv/run
	scripts/need.sh redis-server:redis-server
	$(BIN)/python scripts/cluster.py

test: check test-web test-python

# Linters, types and the import contract.
check: .venv/dev node_modules/installed
	$(BIN)/ruff format --check --quiet
	$(BIN)/ruff check --quiet
	$(BIN)/mypy
	$(BIN)/lint-imports
	npm run --silent lint
	npm run --silent types

test-web: .venv/run node_modules/installed
	scripts/need.sh redis-server:redis-server
	npm test --silent

test-python: .venv/dev node_modules/installed
	scripts/need.sh chromium:chromium redis-server:redis-server tmux:tmux
	$(BIN)/python -m pytest

bench: .venv/dev node_modules/installed
	scripts/need.sh chromium:chromium
	$(BIN)/python -m bench

# The long runs: many more rounds of what `make test` does in few.
soak: .venv/dev node_modules/installed
	HOURGLASS_SOAK=1 $(BIN)/python -m pytest --timeout 0 tests/test_crash.py tests/test_races.py tests/test_convergence.py \
		tests/test_chaos.py tests/test_fuzz.py

# The pictures of the README, from the real page.
picture: .venv/dev node_modules/installed
	PYTHONPATH=. $(BIN)/python scripts/picture.py docs

clean:
	rm -rf .venv .venv-bench node_modules bench/peers/node_modules
	rm -rf examples/*/build examples/*/target examples/*/node_modules
	rm -rf tests/generated/build tests/generated/*/build tests/generated/*/node_modules

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; name one with PYTHON=…" >&2; exit 1; }
	scripts/need.sh python3-ensurepip:python3-venv
	$(PYTHON) -m venv .venv

.venv/run: requirements.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

.venv/dev: requirements.txt requirements-dev.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

node_modules/installed: package.json package-lock.json
	npm ci --silent
	@touch $@
