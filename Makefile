.DEFAULT_GOAL := help
SHELL := /bin/bash

PYTEST_ARGS ?=
RUN_ARGS ?=
BENCH_ARGS ?=
QUICK ?=
FULL ?=
RELEASE ?=
TEST_ARGS ?=
RELEASE_BASE ?=
KEEP ?=
FRESH ?=

.PHONY: help
help: ## Say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: run
run: ## Run the server with its embedded databases (RUN_ARGS="--port 8080")
	@scripts/bootstrap run
	@exec .venv/bin/iredapi serve $(RUN_ARGS)

.PHONY: test
test: check ## The whole gate: checks, servers, tests (PYTEST_ARGS="-k domain")
	@scripts/install-test-servers
	.venv/bin/pytest -n 2 --dist loadgroup $(PYTEST_ARGS)

.PHONY: check
check: ## Linter, formatting, types, import layers, size of modules
	@scripts/bootstrap dev
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	.venv/bin/python scripts/check-module-size

.PHONY: package
package: ## The Debian package of this machine's release, or of RELEASE=bookworm|trixie|noble, in dist/
	@$(if $(RELEASE),scripts/package-test $(RELEASE) --build-only,scripts/build-package)

.PHONY: package-test
package-test: ## Install, upgrade and purge the package under systemd in a bare RELEASE=bookworm
	@scripts/package-test $(RELEASE)

.PHONY: test-pythons
test-pythons: ## The checks and the unit tests on every Python from 3.11 to 3.14 of this machine
	@scripts/test-pythons $(PYTEST_ARGS)

.PHONY: fuzz
fuzz: ## schemathesis over the whole API: 100 requests to each operation (FUZZ_EXAMPLES=20)
	@scripts/bootstrap dev
	@scripts/install-test-servers
	FUZZ_EXAMPLES=$${FUZZ_EXAMPLES:-100} FOREIGN_HISTORIES=$${FOREIGN_HISTORIES:-1250} \
		DRY_RUNS=$${DRY_RUNS:-500} .venv/bin/pytest -q -s -n 0 -o faulthandler_timeout=0 \
		tests/integration/test_fuzz.py tests/contract/test_foreign_histories.py \
		tests/contract/test_dry_runs.py

.PHONY: walk-test
walk-test: ## Walks 100,000 users by cursor while others come and go, with each collation (WALK_USERS=10000)
	@scripts/bootstrap dev
	@scripts/install-test-servers
	WALK_USERS=$${WALK_USERS:-100000} .venv/bin/pytest -q -s -n 0 -o faulthandler_timeout=0 $(PYTEST_ARGS) \
		-k everybody tests/contract/test_long_walks.py tests/contract/test_mysql_collations.py

.PHONY: import-test
import-test: ## Imports 20,000 users on each storage: speed, memory, kills (IMPORT_USERS=2000)
	@scripts/bootstrap dev
	@scripts/install-test-servers
	IMPORT_USERS=$${IMPORT_USERS:-20000} .venv/bin/pytest -q -s -n 0 -o faulthandler_timeout=0 \
		$(PYTEST_ARGS) tests/integration/test_import_speed.py

.PHONY: try-it-out
try-it-out: ## Every operation of the page /docs as it is filled in, in Chromium (three minutes)
	@scripts/bootstrap dev
	@scripts/install-test-servers
	TRY_EVERY_OPERATION=1 .venv/bin/pytest -q -s -n 0 -o faulthandler_timeout=0 \
		tests/integration/test_try_it_out.py

.PHONY: torture
torture: ## Thousands of writes among kills, restarts and clients that hang up (TORTURE_WRITES=1000)
	@scripts/bootstrap dev
	@scripts/install-test-servers
	TORTURE_WRITES=$${TORTURE_WRITES:-4000} LIST_CHANGES=$${LIST_CHANGES:-1000} \
		IDEMPOTENT_WRITES=$${IDEMPOTENT_WRITES:-1000} WEBHOOK_KILLS=$${WEBHOOK_KILLS:-20} \
		SYNC_CHANGES=$${SYNC_CHANGES:-10000} EVENT_KILLS=$${EVENT_KILLS:-24} \
		.venv/bin/pytest -q -s -n 0 -o faulthandler_timeout=0 \
		tests/integration/test_torture.py tests/integration/test_torture_hang_ups.py \
		tests/integration/test_slow_clients.py tests/integration/test_idempotent_replicas.py \
		tests/integration/test_webhook_kills.py \
		tests/integration/test_sync_by_events.py tests/integration/test_killed_events.py \
		tests/lists/test_concurrent_subscriptions.py

.PHONY: integrations-test
integrations-test: ## The Ansible collection and the module for WHMCS in full, on every storage (five minutes)
	@scripts/bootstrap dev
	@scripts/install-test-servers
	INTEGRATIONS=1 .venv/bin/pytest -q -n 0 -o faulthandler_timeout=0 $(PYTEST_ARGS) \
		--require=ansible,php tests/integration/test_ansible.py tests/integration/test_whmcs.py

.PHONY: cluster-test
cluster-test: ## Servers of clusters are killed under load (CLUSTER_CHANGES=20000 CLUSTER_FAULTS=20)
	@scripts/bootstrap dev
	@TEST_CLUSTER=1 scripts/install-test-servers
	CLUSTER_CHANGES=$${CLUSTER_CHANGES:-2000} CLUSTER_FAULTS=$${CLUSTER_FAULTS:-5} \
		CLUSTER_ROUNDS=$${CLUSTER_ROUNDS:-20} \
		.venv/bin/pytest -q -s -n 0 -o faulthandler_timeout=0 $(PYTEST_ARGS) tests/cluster

.PHONY: bench
bench: ## The service's speed as a share of a bare program's (QUICK=1, FULL=1; BENCH_ARGS="--prometheus postgresql")
	@scripts/bootstrap dev
	@scripts/install-test-servers
	QUICK=$(QUICK) FULL=$(FULL) .venv/bin/python -m bench $(BENCH_ARGS)

.PHONY: bench-instructions
bench-instructions: ## Instructions per request beside another revision, under valgrind (REV=HEAD~1; BENCH_ARGS=sqlite)
	@scripts/bootstrap dev
	@scripts/install-test-servers
	.venv/bin/python -m bench.instructions $(if $(REV),--against $(REV)) $(BENCH_ARGS)

.PHONY: test-release
test-release: ## The README's two commands on a bare Debian, by debootstrap (RELEASE=trixie|bookworm|sid)
	@scripts/test-release $(RELEASE) --tests="$(TEST_ARGS)" $(if $(RELEASE_BASE),--base="$(RELEASE_BASE)") \
		$(if $(KEEP),--keep) $(if $(FRESH),--fresh)

.PHONY: openapi
openapi: ## Print the OpenAPI description to openapi.json
	@scripts/bootstrap run
	.venv/bin/iredapi openapi > openapi.json.new
	@mv openapi.json.new openapi.json

.PHONY: clean
clean: ## Remove what can be made again
	rm -rf .venv .venv-3.* .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	rm -rf build dist src/*.egg-info openapi.json.new
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
