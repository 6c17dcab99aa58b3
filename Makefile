# make audit   set everything up and audit the reference service
# make test    set everything up and run the tests
# make check   format, lint, import contracts, types
# make help    the rest
#
# Needs make and Python >= 3.11 with venv; PYTHON=python3.13 chooses another one.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# A stamp per set of packages: it is older than the files that name them when one changed.
READY := $(VENV)/.ready
BENCH_READY := $(VENV)/.bench-ready
LOCK := pyproject.toml constraints.txt
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

ALONE := tests/e2e/test_multi_user_websocket_isolation_e2e.py tests/e2e/test_sound_service.py

CHAOS := --users 100 --faults all --fault-seconds 60 --report reports/chaos

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help audit test check bench soak chaos docs matrix compose-up compose-audit compose-down clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

audit: $(READY) ## audit the reference service with 100 users on real Postgres and Redis
	@$(BIN)/isolation-audit run $(ARGS)

# Most tests wait for processes that they start, so three at a time suit two cores.
# Audits of a hundred users come last and have the machine to themselves: they judge
# latencies, which the small ones of the sabotaged services do not.
test: $(READY) ## run all tests but the long ones; ARGS=... goes to one pytest instead
ifeq ($(strip $(ARGS)),)
	@status=0; \
	$(BIN)/python -m pytest --numprocesses=3 $(ALONE:%=--ignore=%) || status=$$?; \
	$(BIN)/python -m pytest $(ALONE) || status=$$?; \
	exit $$status
else
	@$(BIN)/python -m pytest $(ARGS)
endif

check: $(READY) ## format, lint, import contracts, types
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/lint-imports --no-logo
	$(BIN)/mypy

bench: $(BENCH_READY) ## measure what benchmarks/README.md states
	@$(BIN)/python -m benchmarks $(ARGS)

soak: $(READY) ## the long suites: every sabotaged service, 20 audits in a row
	@$(BIN)/python -m pytest -m long $(ARGS)

# The page is filled also when the verdict is bad: what broke must be seen there.
chaos: $(READY) ## 100 users for a minute under every fault, then the table in docs/chaos.md
	@status=0; $(BIN)/isolation-audit run $(CHAOS) $(ARGS) || status=$$?; \
	$(BIN)/python -m test_framework.report.faults_page reports/chaos/audit.json docs/chaos.md; \
	exit $$status

docs: $(READY) ## draw the interleavings and write the pages of docs/patterns
	@$(BIN)/python -m test_framework.catalogue

matrix: $(READY) ## measure which detector finds which pattern, then as docs
	@$(BIN)/python -m test_framework.catalogue --measure

compose-up: ## Postgres, Redis, a model and two replicas of the service in containers
	docker compose up --detach --build --wait

compose-audit: $(READY) ## audit what compose-up started
	@set -a; eval "$$(docker compose exec -T service cat /run/keys/audit.env)"; set +a; \
	$(BIN)/python -m pytest tests/e2e -m 'not power and not long' $(ARGS)

compose-down: ## stop the containers and remove their data and keys
	docker compose down --volumes

clean: ## remove the environment and all that the other targets made
	rm -rf $(VENV) build dist reports *.egg-info .mypy_cache .ruff_cache .pytest_cache \
		.hypothesis .import_linter_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

# pip that came with Python may be older than --group (25.1), so the locked one comes first.
$(READY): $(LOCK)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo "$(PYTHON) is missing or older than Python 3.11: install Python 3.11 or newer, or name one with 'make PYTHON=python3.13 ...'." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) has no venv: install it (Debian: apt-get install python3-venv), or name another one with 'make PYTHON=...'." >&2; exit 1; }
	@echo "Setting up $(VENV), about half a minute ..."
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --constraint constraints.txt pip
	@$(PIP) install --editable '.[services,app,sat]' --group dev \
		--constraint constraints.txt --build-constraint constraints.txt
	@touch $@

$(BENCH_READY): $(READY)
	@$(PIP) install --group bench --constraint constraints.txt
	@touch $@
