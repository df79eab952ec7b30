# Everything people and CI run. Targets are one or two lines; anything longer is a Python module.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest
EXTRAS := gateway,scheduler,modelserver,ratelimiter,cli,test

.PHONY: help setup run test test/unit test/slow test/gpu check lint fmt verify verify/proto verify/breaking verify/envoy \
	proto proto/baseline envoy bench bench/engine bench/residency bench/eta bench/takeover bench/preemption bench/mesh bench/accept bench/queues bench/usage \
	bench/queue bench/fairness bench/estimates bench/limiter bench/gpu clean

help:  ## Print this list
	@grep -hE '^[a-z/]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 18

# The environment is made once, and again when what it depends on changes.
.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS)]'
	$(BIN)/python protos/plugins/googleapis.py .venv/googleapis
	touch $@

setup: .venv/ready  ## Create .venv with everything (every other target does this by itself)

run: setup  ## Start the whole mesh with the default model; Ctrl-C stops everything
	@exec $(BIN)/darkroom up

test: setup  ## Run the whole suite except test/slow
	$(PYTEST) -n 2 --dist loadgroup -m "not slow and not gpu"

test/unit: setup  ## Run the tests to have beside you while typing
	$(PYTEST) tests/unit tests/contract tests/architecture -m "not slow and not gpu"

test/slow: setup  ## Run the long seeds and fault matrices
	$(PYTEST) -n 2 --dist loadgroup -m slow

test/gpu: setup  ## Run the tests that need an accelerator
	$(PYTEST) -m gpu

check: lint verify  ## What a change must pass, without the tests

lint: setup  ## ruff, mypy --strict, import contracts, buf lint
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(BIN)/mypy && $(BIN)/mypy tests
	$(BIN)/lint-imports && $(BIN)/buf lint

fmt: setup  ## Format everything
	$(BIN)/ruff format . && $(BIN)/ruff check --fix . && $(BIN)/buf format -w protos/darkroom

verify: verify/proto verify/breaking verify/envoy  ## Generated files are current

verify/proto: setup
	$(BIN)/python -m tests.architecture.drift proto

verify/breaking: setup
	$(BIN)/buf build -o .venv/protos.binpb && $(BIN)/buf breaking .venv/protos.binpb --against protos/baseline.binpb

verify/envoy: setup
	$(BIN)/python -m tests.architecture.drift envoy
	DARKROOM_MESH_TOKEN=unused $(BIN)/envoy --mode validate -c k8s/envoy/envoy.yaml --log-level error

proto: setup  ## Regenerate protos/gen
	$(BIN)/buf generate --path protos/darkroom

proto/baseline: setup  ## Accept the protos as they are as the baseline for breaking changes
	$(BIN)/buf build -o protos/baseline.binpb

envoy: setup  ## Render k8s/envoy/envoy.yaml
	$(BIN)/python -m services.gateway.envoy > k8s/envoy/envoy.yaml

bench: setup  ## Measure submitting against bare gRPC and a bare transcoded echo
	$(BIN)/python -m tests.bench.submit

bench/engine: setup  ## Measure the engine against the bare pipeline and LitServe
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	$(BIN)/python -m tests.bench.throughput

bench/residency: setup  ## Count loads of models against LRU and the clairvoyant optimum
	$(BIN)/python -m tests.bench.residency

bench/eta: setup  ## Count the told waits that held, on mixed traces and a virtual clock
	$(BIN)/python -m tests.bench.eta

bench/placement: setup  ## Count jobs that wait for a load, on a virtual clock
	$(BIN)/python -m tests.bench.placement

bench/preemption: setup  ## Measure what making room costs, and how soon a higher tier draws
	$(BIN)/python -m tests.bench.preemption
	$(BIN)/python -m tests.bench.park_wait

bench/queue: setup  ## Measure the order and memory with 1,000 to 1,000,000 jobs, and rebuilding after a restart
	$(BIN)/python -m tests.bench.queue

bench/estimates: setup  ## Measure how true estimates are after 500 mixed jobs of the default model
	$(BIN)/python -m tests.bench.estimates

bench/fairness: setup  ## Print waits of tenants under skew against the ideal fluid share, on a virtual clock
	$(BIN)/python -m tests.bench.fairness

bench/takeover: setup  ## Measure how long dispatch stands still when the leading scheduler dies
	$(BIN)/python -m tests.bench.takeover

bench/mesh: setup  ## Measure the highest rate that 10, 100 and 1,000 simulated workers are kept at
	$(BIN)/python -m tests.bench.mesh

bench/accept: setup  ## Measure accepting against bare group commit, and how it grows to a million jobs
	$(BIN)/python -m tests.bench.accept

bench/usage: setup  ## Measure adding usage up by day against adding up a million rows
	$(BIN)/python -m tests.bench.usage

bench/queues: setup  ## Measure jobs that do nothing against Celery, dramatiq and procrastinate
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	$(BIN)/python -m tests.bench.queues

bench/limiter: setup  ## Measure decisions of the rate limiter against a bare echo and a plain INCR, to 100,000 tenants
	$(BIN)/python -m tests.bench.limiter

bench/gpu: setup  ## Measure models of SDXL's and Flux's size on a CUDA GPU
	$(BIN)/python -m tests.bench.gpu

clean:  ## Remove what the build made; never protos/gen
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache build dist
