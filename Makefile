# Every command sets up what it needs first, so each works from a fresh clone. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
# One step after the other whatever -j says: a check's output is read from the top.
.NOTPARALLEL:
.PHONY: help setup node run demo test test-long check style types imports contracts format bench attacks concurrency crash faults growth load plan \
  placement fair-share soak fuzz-http many-functions proto-baseline lock clean

PYTHON_IN_VENV := .venv/bin/python
TYPED := $(wildcard services cli sdk loadtest tests tools)
# Tests that measure or exhaust the machine: one at a time. The others run two by two.
WHOLE_MACHINE := tests/e2e/test_concurrency.py tests/faults tests/attacks
BUF := npx --yes @bufbuild/buf@1.75.0
BASELINE := protos/baseline.binpb

help: ## list these commands
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | while IFS=$$'\t' read -r name what; do \
	  printf '  make %-15s %s\n' "$$name" "$$what"; done

setup: ## make .venv with evenflow in it (PYTHON=python3.12 chooses the Python)
	@tools/setup.sh

node: ## install AWS's runtime client for the Node.js that is here, so that hosts offer nodejs runtimes
	@tools/node_client.sh

run: setup ## start the whole fleet here, send a real file through it, stay up until Ctrl-C
	@$(PYTHON_IN_VENV) -m cli.demo --stay

demo: setup ## the same, and stop when the file is through
	@$(PYTHON_IN_VENV) -m cli.demo

test: ## run the tests (ARGS='-k shard -x' goes to pytest)
	@tools/setup.sh load test
	@tools/node_client.sh
ifdef ARGS
	@$(PYTHON_IN_VENV) -m pytest $(ARGS)
else
	@$(PYTHON_IN_VENV) -m pytest -n 2 --dist loadfile $(addprefix --ignore=,$(WHOLE_MACHINE))
	@$(PYTHON_IN_VENV) -m pytest $(WHOLE_MACHINE)
endif

test-long: ## run the tests that take too long for every change: theory, a whole plan, mutants, whole fleets that are moved, loaded or soaked
	@tools/setup.sh load test
	@$(PYTHON_IN_VENV) -m pytest -m long $(ARGS)

check: style types imports contracts test ## lint, types, imports, contracts, tests: what CI runs

style:
	@tools/setup.sh load test
	$(PYTHON_IN_VENV) -m ruff check .
	$(PYTHON_IN_VENV) -m ruff format --check .

types:
	@tools/setup.sh load test
	$(PYTHON_IN_VENV) -m mypy $(TYPED)

imports:
	@tools/setup.sh load test
	.venv/bin/lint-imports --no-logo

contracts:
	@if ! command -v npx >/dev/null; then \
	  echo "contracts: skipped, buf needs npx (Node.js), which is not here"; \
	elif [ ! -f $(BASELINE) ]; then \
	  echo "contracts: $(BASELINE) is missing; make proto-baseline writes it"; exit 1; \
	else \
	  set -x; $(BUF) lint; $(BUF) breaking --against $(BASELINE); \
	fi

format: ## put the code in the one format, fix what can be fixed
	@tools/setup.sh load test
	$(PYTHON_IN_VENV) -m ruff check --fix .
	$(PYTHON_IN_VENV) -m ruff format .

bench: ## measure Evenflow on this machine beside Huey, taskiq, Celery and JetStream (QUICK=1; SAVE=1 keeps it; fails on a regression)
	@tools/setup.sh bench
	@$(PYTHON_IN_VENV) -m loadtest.bench $(ARGS)

growth: ## measure 10 million queued events beside 10,000 (SAVE=1 keeps the page; ARGS=functions: 10,000 functions beside 10)
	@tools/setup.sh
	@$(PYTHON_IN_VENV) -m loadtest.growth $(ARGS)

attacks: ## try every attack of a hostile function on every isolation tier; writes docs/isolation.md (ARGS='--columns c --dry')
	@tools/setup.sh load test
	@$(PYTHON_IN_VENV) -m tests.attacks $(ARGS)

concurrency: ## reserved concurrency over three hosts while hosts and control come and go, five times over
	@tools/setup.sh load test
	@CONCURRENCY_ROUNDS=5 $(PYTHON_IN_VENV) -m pytest -q --timeout 600 tests/e2e/test_concurrency.py

crash: ## cut the power at 10,000 points of recorded queue nodes (ARGS='--only healthy'; SAVE=1 publishes)
	@tools/setup.sh load test
	@$(PYTHON_IN_VENV) -m tests.faults.power_loss $(ARGS)

faults: ## break a fleet under load in every way of the fault matrix (CELL=name SEED=3 SEEDS=5 EVENTS=10000 JOBS=2; MUTANTS=1; SAVE=1 publishes)
	@tools/setup.sh load test
	@$(PYTHON_IN_VENV) -m tests.faults.matrix $(if $(CELL),--cell $(CELL)) $(if $(SEED),--seed $(SEED)) \
	  $(if $(SEEDS),--seeds $(SEEDS)) $(if $(EVENTS),--events $(EVENTS)) $(if $(JOBS),--jobs $(JOBS)) $(if $(MUTANTS),--mutants) \
	  $(if $(SAVE),--save) $(if $(AGAIN),--again) $(ARGS)

plan: ## measure what a fleet carries here: plan.html, plan.json (ARGS='--sleep-ms 0 --quick --out /tmp/plan.html')
	@tools/setup.sh load
	@.venv/bin/evenflow plan $(ARGS)

load: ## run Locust against both doors of a fleet of its own, open loop, 30 s (ARGS='--processes 2' opens the web interface)
	@tools/setup.sh load
	@$(PYTHON_IN_VENV) -m loadtest.locust_users.session $(ARGS)

placement: ## compare where events land on real shards with what the simulator says of each policy (ARGS='--seeds 40 --save')
	@tools/setup.sh load
	@$(PYTHON_IN_VENV) -m loadtest.placement $(ARGS)

fair-share: setup ## flood a fleet with one tenant and measure another one's dwell (ARGS='--save')
	@$(PYTHON_IN_VENV) -m loadtest.fair_share $(ARGS)

soak: ## steady load for half an hour: memory, fds, disk, rows and latency must stay flat (MINUTES=30 SAVE=1 publishes)
	@tools/setup.sh load
	@$(PYTHON_IN_VENV) -m loadtest.soak $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SAVE),--save) $(ARGS)

many-functions: setup ## invoke 1,000 functions in turn on memory for 50 sandboxes (SAVE=1 keeps the page)
	@$(PYTHON_IN_VENV) -m loadtest.many_functions $(ARGS)

fuzz-http: ## send 100,000 requests that nobody would send to the HTTP door of a whole fleet (ARGS='--requests 1000 --seed 7')
	@tools/setup.sh load test
	@$(PYTHON_IN_VENV) -m tests.fuzz $(ARGS)

proto-baseline: ## make today's protos what the breaking-change check compares with
	$(BUF) build --output $(BASELINE)

lock: setup ## compile requirements/*.in to hashed .txt (ARGS=--upgrade takes newer versions)
	tools/lock.sh $(ARGS)

clean: ## remove .venv, generated code and caches; never data
	rm -rf .venv gen gen.new gen.old build dist *.egg-info
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
