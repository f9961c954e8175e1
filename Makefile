# make demo    four real queue bugs found on a real server, and their fixes pass
# make test    the whole suite, on the newest Python, oldest client and two server images that are there
# make nightly what takes longer: every interpreter and server image that is there, the examples, the longest tests
# make check   format, lint, types, imports, fast tests and doctests; no Docker needed
# make bench   the benchmarks, beside bare scripts and the peers
# make clean   forget all that was built

PYTHON ?= python3
BIN := .venv/bin
# Ends all that a command has started when it is interrupted: tox leaves pytest running after SIGTERM.
SUPERVISE := $(if $(wildcard /proc/self/environ),.ci/supervise)

.PHONY: help demo test nightly check bench clean

help:
	@sed -n 's/^# //p' Makefile

demo: .venv/installed
	@$(BIN)/redisq demo

test: .venv/installed
	@$(if $(shell command -v redis-server || command -v valkey-server),,REDISQ_EMBEDDED_TESTS="not docker and not nightly and not typing") $(SUPERVISE) $(BIN)/tox run -q

nightly: .venv/installed
	@$(SUPERVISE) $(BIN)/tox run -q -m nightly

check: .venv/installed
	@echo "== format (cured by: $(BIN)/ruff format)"
	@$(BIN)/ruff format --check
	@echo "== lint (cured by: $(BIN)/ruff check --fix)"
	@$(BIN)/ruff check
	@echo "== types"
	@$(BIN)/mypy
	@echo "== imports run downhill"
	@$(BIN)/lint-imports
	@echo "== doctests"
	@$(BIN)/pytest -q --doctest-modules pytest_redisq
	@echo "== fast tests"
	@$(BIN)/pytest -q -n 3 --dist worksteal -m "not docker and not slow and not nightly"

bench: .venv/installed
	@for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script || exit; done

clean:
	rm -rf .venv .tox .mypy_cache .ruff_cache .pytest_cache .import_linter_cache build dist

.venv/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.13 …")'
	@echo "Installing into .venv (once, a minute or so)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -qq --upgrade 'pip>=25.1'  # --group is that new
	@$(BIN)/python -m pip install -qq --editable '.[all]' --group dev
	@touch $@
