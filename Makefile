# Everything runs in .venv, made from requirements-dev.txt: hashes checked, nothing else needed
# than python3 (3.11 or newer), make and git.

.DEFAULT_GOAL := help
.PHONY: help setup demo up test test-localstack test-sam check lint layers engines bench bench-peers soak audit fuzz \
	lock clean

PYTHON := .venv/bin/python
FAST := -m "not slow and not localstack and not sam"
# Files of tests share the processors; WORKERS=0 runs them one after another, in this process.
WORKERS := auto
PYTEST := $(PYTHON) -m pytest --numprocesses $(WORKERS) --maxprocesses 4 --dist loadfile \
	--doctest-modules tests layers/headrace/headrace

# The first of these that is new enough; `make setup PYTHON3=/path/to/python` chooses another.
PYTHON3 = $(shell for candidate in python3 python3.13 python3.12 python3.11; do \
	if $$candidate -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; \
	then command -v $$candidate; break; fi; done)

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-15s  %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/installed ## make .venv from the locked requirements; quick when nothing changed

demo: setup ## the whole story in two minutes, on this machine
	@.venv/bin/headrace demo

up: setup ## local AWS with stream, endpoint and schedule, until Ctrl-C
	@.venv/bin/headrace up

test: lint ## everything that CI runs: lint, and all tests that this file does not name apart
	$(PYTEST) -m "not sam and not parameters"

test-localstack: setup ## template.yaml on LocalStack, also with other parameters than in `make test`
	$(PYTHON) -m pytest -m localstack tests/integration

test-sam: setup ## sam validate, build, local invoke and local start-api; the latter want Docker
	$(PYTHON) -m pytest -m sam tests/sam

check: lint ## lint and the fast tests
	$(PYTEST) $(FAST)

lint: setup ## format, lint, types, imports, template
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	.venv/bin/cfn-lint template.yaml infra/backfill.yaml

layers: setup ## build the Lambda layers into dist/layers/ and check them; ARCH=arm64 for one
	$(PYTHON) infra/layers.py $(ARCH)

engines: setup ## obtain DynamoDB Local and kinesis-mock into .engines (tests do it by themselves)
	$(PYTHON) -m tests.engines

bench: setup ## measure speed, memory and size against their bars; ONLY="request cold" for some
	$(PYTHON) tests/benchmarks/run.py $(ONLY)

bench-peers: setup ## the same work by Feast, River, Bytewax and plain boto3, beside it
	$(PYTHON) tests/benchmarks/run.py peers_bench

soak: setup ## 100 replays with disorder, duplicates and all faults; SEEDS=n for more
	@$(PYTHON) tests/benchmarks/soak.py --seeds $(or $(SEEDS),100)

# Tools with environments of their own: what they need and what the project locks need not agree.
TOOLS := .tools
CHECKOV := checkov==3.3.30
PIP_AUDIT := pip-audit==2.10.1
SCHEMATHESIS := schemathesis==4.32.5 botocore

audit: $(TOOLS)/checkov/installed $(TOOLS)/pip-audit/installed ## checkov on the templates, pip-audit on what is locked
	$(TOOLS)/checkov/bin/checkov --file template.yaml infra/backfill.yaml --framework cloudformation --compact --quiet --skip-download
	@$(PYTHON) infra/audit.py $(TOOLS)/pip-audit/bin/pip-audit

fuzz: $(TOOLS)/schemathesis/installed ## try the endpoint of local AWS with schemathesis, for a minute
	$(PYTHON) infra/fuzz.py $(TOOLS)/schemathesis/bin/schemathesis

$(TOOLS)/checkov/installed: WANTED = $(CHECKOV)
$(TOOLS)/pip-audit/installed: WANTED = $(PIP_AUDIT)
$(TOOLS)/schemathesis/installed: WANTED = $(SCHEMATHESIS)
$(TOOLS)/%/installed: Makefile | setup
	@echo "Installing $(WANTED) into $(@D)"
	@$(PYTHON) -m venv --clear $(@D)
	@.venv/bin/uv pip install --quiet --python $(@D)/bin/python $(WANTED)
	@touch $@

COMPILE := .venv/bin/uv pip compile --quiet --generate-hashes --no-emit-index-url \
	--custom-compile-command "make lock"
# One version of each package for every Python, so that a model scores alike on all of them.
EVERYWHERE := --universal --python-version 3.11 --fork-strategy fewest
LAMBDA := --python-version 3.13 --python-platform x86_64-manylinux_2_28

LOCALSTACK_DAY := 2026-03-15

lock: setup ## lock requirements again; UPGRADE=--upgrade takes newer versions
	$(COMPILE) $(EVERYWHERE) $(UPGRADE) --extra local --extra train --extra dev pyproject.toml -o requirements-dev.txt
	$(COMPILE) $(EVERYWHERE) -c requirements-dev.txt --extra local --extra train pyproject.toml -o requirements.txt
	for name in requirements tables backfill image; do $(COMPILE) $(LAMBDA) -c requirements-dev.txt \
		layers/runtime/$$name.in -o layers/runtime/$$name.txt || exit 1; done
	$(COMPILE) $(EVERYWHERE) layers/headrace/compiler.in -o layers/headrace/compiler.txt
	$(COMPILE) $(EVERYWHERE) tests/benchmarks/peers/requirements.in -o tests/benchmarks/peers/requirements.txt
	$(COMPILE) $(LAMBDA) --exclude-newer $(LOCALSTACK_DAY) \
		infra/localstack/requirements.in -o infra/localstack/requirements.txt
	$(COMPILE) --universal --python-version 3.11 tests/sam/requirements.in -o tests/sam/requirements.txt

clean: ## remove what these targets made, .venv included
	rm -rf .venv .aws-sam build dist headrace.egg-info .mypy_cache .pytest_cache .ruff_cache
	rm -rf .import_linter_cache .hypothesis .engines .tools .schemathesis tests/benchmarks/results
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Two stamps: a change of pyproject.toml alone does not look at the locked packages again.
.venv/installed: .venv/locked pyproject.toml $(wildcard layers/headrace/fold/* layers/headrace/program/*)
	@echo "Installing headrace itself"
	@$(PYTHON) -m pip install --quiet --no-deps --no-build-isolation -e .
	@$(PYTHON) -c 'from headrace import compiled_fold, program; \
		compiled_fold.AVAILABLE and program.COMPILED or print("No C compiler, or no headers of \
	Python, here: Python itself folds events and runs models, which is slower.")'
	@touch $@

.venv/locked: requirements-dev.txt
	@test -n "$(PYTHON3)" || { \
		echo "Headrace needs Python 3.11 or newer, and found: $$(python3 --version 2>&1)."; \
		echo "Install one, or name it: make setup PYTHON3=/path/to/python3.13"; exit 1; }
	@$(PYTHON3) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON3) cannot make virtual environments: its venv and ensurepip are missing."; \
		echo "On Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	@$(PYTHON) -m pip --version >/dev/null 2>&1 || { \
		echo "Making .venv with $(PYTHON3)"; $(PYTHON3) -m venv --clear .venv; }
	@echo "Installing the locked requirements into .venv (a minute or two, the first time)"
	@$(PYTHON) -m pip install --quiet --require-hashes -r requirements-dev.txt
	@touch $@
