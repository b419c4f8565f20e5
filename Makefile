# Everything a developer does here. `make` alone lists the targets.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PYTEST := $(BIN)/pytest -n 2 --dist loadgroup

.DEFAULT_GOAL := help
.PHONY: help setup setup-image setup-services demo test test-unit test-chaos test-postgresql test-image bench fmt lint types verify generate image lock clean

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-16s %s\n", $$1, $$2}'

setup: $(VENV)/.ready worker/flowworker/database/upstream/manifest.json  ## Create .venv, install everything, fetch pgmq's and pgflow's SQL

$(VENV)/.ready: requirements/uv.txt requirements/dev.txt pyproject.toml
	@$(PYTHON) tools/check_python.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	$(BIN)/uv pip install --quiet --require-hashes -r requirements/dev.txt
	$(BIN)/uv pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

worker/flowworker/database/upstream/manifest.json: $(VENV)/.ready tools/fetch_upstream.py requirements/pgmq.txt
	$(BIN)/python tools/fetch_upstream.py
	@touch $@

demo: setup  ## Start PostgreSQL, run 100 runs and a job queue through a worker, show what completed, clean up
	$(BIN)/python -m examples.demo

test: lint types verify test-unit test-chaos  ## All checks and all tests

test-unit: setup  ## Tests against real PostgreSQL, without the long chaos tests
	$(PYTEST) -m 'not chaos and not image and not bench' tests

test-chaos: setup  ## Tests that kill, freeze, block and cut real processes
	$(PYTEST) -m chaos tests

test-postgresql: setup  ## The database's tests on the system's PostgreSQL instead of the embedded one
	FLOWWORKER_TEST_POSTGRES_BIN="$$(tools/system_postgresql)" $(PYTEST) tests/contract tests/integration/database tests/integration/sources

test-image: setup  ## Build the worker image and run it, restricted (root on Debian, or docker)
	$(PYTEST) -m image tests

bench: setup  ## Measure against the bare floor; writes build/bench/
	$(BIN)/flowworker bench --output-directory build/bench

fmt: setup  ## Format and sort imports
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

lint: setup  ## Lint, formatting, layers, dependencies
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/deptry .

types: setup  ## Type check (pyright, strict)
	$(BIN)/pyright

generate: setup  ## Write the generated files
	$(BIN)/python tools/generate_reference.py
	$(BIN)/python tools/generate_crd.py

verify: setup  ## Fail when a generated file differs from its source
	$(BIN)/python tools/generate_reference.py --check
	$(BIN)/python tools/generate_crd.py --check

lock: setup  ## Resolve the hash-locked requirements anew
	$(BIN)/python tools/lock.py

image: setup  ## Build the worker image (docker, podman, or buildah without a registry)
	$(BIN)/python -m tools.build_image

setup-image: setup  ## Install what `make image` needs from the system's packages (root on Debian)
	$(BIN)/python -m tools.build_image --setup

setup-services:  ## Install PgBouncer and Debian's PostgreSQL, which a few tests use where they are found (root on Debian)
	@test "$$(id -u)" = 0 || { echo "run as root: apt-get install --no-install-recommends pgbouncer postgresql"; exit 1; }
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends pgbouncer postgresql

clean:  ## Remove everything that was built or installed here
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache worker/flowworker/database/upstream
