# Everything a developer does here. `make` alone lists the targets.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PYTEST := $(BIN)/pytest -n 2 --dist loadgroup

# What depends most on what a cluster is made of. `make e2e-kind E2E=e2e/scenarios` has all of the rest as well.
KIND_TESTS := e2e/test_kind_life.py e2e/test_cluster.py e2e/test_demo.py e2e/scenarios/test_node.py

.DEFAULT_GOAL := help
.PHONY: help setup setup-image setup-services setup-cluster demo demo-down demo-local cluster-up cluster-down cluster-status \
	test test-unit test-chaos matrix test-control-plane test-postgresql test-image e2e e2e-kind bench bench-operator fmt lint types verify docs scan audit dist sbom licences generate \
	image lock clean

help:  ## Show this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-18s %s\n", $$1, $$2}'

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

demo: setup setup-image setup-cluster  ## A real cluster: install the chart, apply a FlowWorker, watch 300 runs scale it 0 -> N -> 0
	$(BIN)/python -m examples.demo_cluster

demo-down: setup  ## Remove the demo's cluster and all that is in it; what was built stays for the next time
	$(BIN)/python -m examples.demo_cluster down

demo-local: setup  ## Without a cluster: 100 runs and a job queue through one worker on an embedded PostgreSQL
	$(BIN)/python -m examples.demo

cluster-up: setup setup-cluster  ## Start a real Kubernetes: kind where a container engine works (NODES=2), else our own build
	$(BIN)/python -m testkit.cluster up --nodes $(or $(NODES),1)

cluster-down: setup  ## Stop it; nothing is left behind
	$(BIN)/python -m testkit.cluster down

cluster-status: setup  ## Show what runs, and how to use it
	$(BIN)/python -m testkit.cluster status

test:  ## All checks, and all tests that need no node, to the end whatever fails
	@$(MAKE) --keep-going lint types verify test-unit test-chaos test-control-plane

test-unit: setup  ## Tests against real PostgreSQL, without the long chaos tests
	$(PYTEST) -m 'not chaos and not control_plane and not image and not bench' tests

test-control-plane: setup  ## Tests of the operator against a real API server (needs Go to build it once)
	$(BIN)/python -m testkit.cluster.binaries control-plane kstatus
	$(PYTEST) -m control_plane tests

e2e: setup setup-image  ## Tests on a real node, with real pods
	$(BIN)/python -m testkit.cluster setup --tests
	$(BIN)/pytest -m e2e e2e $(E2E)

e2e-kind: export FLOWWORKER_CLUSTER := kind
e2e-kind: setup setup-image  ## Clusters by kind, nodes that vanish, the demo; in a docker of its own where none runs (root on Debian)
	$(BIN)/python -m testkit.cluster setup --tests
	$(BIN)/pytest -m e2e $(KIND_TESTS) $(E2E)
	$(BIN)/python -m examples.demo_cluster
	$(BIN)/python -m examples.demo_cluster down

test-chaos: setup  ## Tests that kill, freeze, block and cut real processes
	$(PYTEST) -m 'chaos and not control_plane' tests

matrix: setup  ## The whole fault matrix, 60 s a fault, again and again for an hour (MINUTES=…, HOURS=…, SEED=…)
	$(BIN)/python -m tests.chaos.matrix --minutes $(or $(MINUTES),$(if $(HOURS),$$(($(HOURS) * 60)),60)) $(if $(SEED),--seed $(SEED))

test-postgresql: setup  ## The database's tests on the system's PostgreSQL instead of the embedded one
	FLOWWORKER_TEST_POSTGRES_BIN="$${POSTGRES_BIN:-$$(tools/system_postgresql)}" $(PYTEST) tests/contract tests/integration/database tests/integration/sources

test-image: setup  ## Build the images and run them, restricted (root on Debian, or docker)
	$(PYTEST) -m image tests

bench: setup  ## Measure against the bare floor; writes build/bench/
	$(BIN)/flowworker bench --output-directory build/bench

bench-operator: setup  ## Measure the operator on a real control plane; writes build/bench-operator/
	$(BIN)/python -m testkit.cluster.binaries control-plane
	$(BIN)/python -m tests.bench.operator --output-directory build/bench-operator

fmt: setup  ## Format and sort imports
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

lint: setup  ## Lint, formatting, layers, dependencies, words
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/deptry .
	$(BIN)/python -m tools.words

types: setup  ## Type check (pyright, strict)
	$(BIN)/pyright

generate: setup  ## Write the generated files
	$(BIN)/python -m tools.reference
	$(BIN)/python -m tools.docs_site.llms
	$(BIN)/python tools/generate_crd.py
	$(BIN)/python -m tools.render_manifests

verify: setup  ## Fail when a generated file differs from its source
	$(BIN)/python -m tools.reference --check
	$(BIN)/python -m tools.docs_site.llms --check
	$(BIN)/python tools/generate_crd.py --check
	$(BIN)/python -m tools.render_manifests --check

docs: setup  ## Build the documentation's site into build/docs; a broken link fails (Sphinx, in an environment of its own)
	$(BIN)/python -m tools.docs_site

scan: setup  ## Scan the rendered chart for weak security settings (checkov, in an environment of its own)
	$(BIN)/python -m tools.scan

dist: setup  ## Build wheel and sdist into dist/, and write the wheel's bill of materials
	rm -rf dist
	$(BIN)/python -m hatchling build --directory dist
	$(BIN)/python -m tools.sbom dist/*.whl

sbom: setup  ## Write the bills of materials (CycloneDX) of a new wheel and of the images that were built, into build/sbom/
	$(BIN)/python -m tools.sbom

licences: setup  ## Check the licences of what the images bring from PyPI
	$(BIN)/python -m tools.sbom --licences

audit: setup  ## Look for advisories about the locked packages (pip-audit, in an environment of its own; asks PyPI)
	$(BIN)/python -m tools.audit

lock: setup  ## Resolve the hash-locked requirements anew
	$(BIN)/python tools/lock.py

image: setup  ## Build the images of worker and operator (docker, podman, or buildah without a registry)
	$(BIN)/python -m tools.build_image worker operator

setup-image: setup  ## Install what `make image` needs from the system's packages (root on Debian)
	$(BIN)/python -m tools.build_image --setup

setup-cluster: setup  ## Install what a cluster needs from the system's packages, where there is no container engine (root on Debian)
	$(BIN)/python -m testkit.cluster setup

setup-services:  ## Install PgBouncer and Debian's PostgreSQL, which a few tests use where they are found (root on Debian)
	@test "$$(id -u)" = 0 || { echo "run as root: apt-get install --no-install-recommends pgbouncer postgresql"; exit 1; }
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends pgbouncer postgresql

clean:  ## Remove everything that was built or installed here
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache worker/flowworker/database/upstream
