# Each target sets itself up: a virtual environment in .venv, made once and again only when a lock or the build changes.
# Nothing outside this directory is written, except the caches of pip, Go and Maven.
#   PYTHON=python3.12 make demo     another Python (3.11 or newer; if .venv exists, `make clean` first)
#   make demo ARGS="--seconds 30"   flags for the command behind the target

SHELL := /bin/bash
PYTHON ?= python3
ARGS ?=
# The Apache Kafka of test-kafka, bench and chaos: make test-kafka KAFKA=4.1.1
KAFKA := 4.4.0
BIN := .venv/bin
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip
PYTEST := $(BIN)/python -m pytest
ON_KAFKA := HARDPARTS_TEST_KAFKA=$(KAFKA)
FAST := not kafka and not chaos and not bench and not slow
# Many of the fast tests wait for processes of their own: four at a time keep two cores busy.
PARALLEL := -n 4 --dist worksteal
BROKER_SOURCES := pipeline/broker/build_hook.py $(wildcard pipeline/broker/go/*)
STEPS := awk '/^(Collecting|Installing)/ { sub(/ \(from.*/, ""); print "  " substr($$0, 1, 100); fflush() }'

.DEFAULT_GOAL := help
.PHONY: help demo test test-pythons check test-kafka bench chaos soak lock clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: .venv/runtime ## the whole pipeline on the embedded broker, live, with a verdict at the end
	@$(BIN)/hardparts demo $(ARGS)

test: .venv/tests ## the tests that need no Java and no Docker
	@echo "not run here: tests of a real Kafka (make test-kafka: Java, Maven) and slow ones (make check)"
	@$(PYTEST) -m "$(FAST)" $(PARALLEL) $(ARGS)

test-pythons: .venv/tests ## a part of those tests on Python 3.12 and 3.13, where they are installed
	@$(BIN)/python -m tests.pythons $(ARGS)

check: .venv/tests ## format, lint, types, import contracts, slow tests (the fast ones: make test)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(PYTEST) -m "slow and not kafka and not chaos" -q $(PARALLEL)

# They wait for time limits of groups and brokers: two modules at a time, each with clusters of its own, the longest first.
#   make test-kafka KAFKA=4.1.1 ARGS="-m versions"    on another version, only what may differ between them
test-kafka: .venv/tests .cache/kafka/$(KAFKA)/complete ## the tests on a real Apache Kafka (Java 17 or newer, and Maven)
	@$(ON_KAFKA) $(PYTEST) -m "kafka and not chaos and not bench" -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

bench: .venv/tests .cache/kafka/$(KAFKA)/complete ## speed beside Faust's own idiom and others, on a real Apache Kafka
	@$(ON_KAFKA) $(BIN)/python -m tests.bench $(ARGS)

chaos: .venv/tests .cache/kafka/$(KAFKA)/complete ## workers and brokers killed under load, judged by an independent count, on a real Apache Kafka
	@$(ON_KAFKA) $(BIN)/python -m tests.chaos $(ARGS)

soak: .venv/tests $(if $(ARGS),.cache/kafka/$(KAFKA)/complete) ## the long acceptance runs, on a real Apache Kafka; without ARGS=name: which there are
	@$(ON_KAFKA) $(BIN)/python -m tests.soak $(ARGS)

# --- set-up ---------------------------------------------------------------------------------------------------------------

.venv/created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "hardparts needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>&1)." >&2; \
		echo "Name another one: PYTHON=python3.12 make $(MAKECMDGOALS)" >&2; exit 1; }
	@echo "set-up 1/3: virtual environment in .venv with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv .venv || { echo "On Debian and Ubuntu: apt install python3-venv" >&2; rm -rf .venv; exit 1; }
	@touch $@

.venv/packages: .venv/created requirements.lock
	@echo "set-up 2/3: packages that run the product (hashes checked)"
	@set -o pipefail; $(PIP) install --require-hashes -r requirements.lock | $(STEPS)
	@touch $@

.venv/runtime: .venv/packages pyproject.toml pipeline/__init__.py $(BROKER_SOURCES)
	@echo "set-up 3/3: hardparts itself, with its embedded broker"
	@set -o pipefail; $(PIP) install -v --no-deps -e . > >(tee .venv/install.log | awk '/hardparts-broker:/ { print; fflush() }') 2>&1 \
		|| { tail -n 30 .venv/install.log >&2; exit 1; }
	@touch $@

.venv/tests: .venv/runtime tests/requirements.lock
	@echo "set-up for tests: tools (hashes checked)"
	@set -o pipefail; $(PIP) install --require-hashes -r tests/requirements.lock | $(STEPS)
	@touch $@

.cache/kafka/%/complete: tests/kafka/pom.xml
	@for program in java mvn; do command -v $$program > /dev/null || { \
		echo "$$program is missing: a Java runtime (17 or newer) and Maven are needed for a real Kafka" >&2; exit 1; }; done
	@echo "set-up of Kafka $*: jars into .cache/kafka/$* (about 55 MB)"
	@mvn -q -B -Dstyle.color=never -f tests/kafka/pom.xml dependency:copy-dependencies \
		-Dkafka.version="$*" -DoutputDirectory="$(CURDIR)/$(@D)"
	@touch $@

# --- upkeep ---------------------------------------------------------------------------------------------------------------

PIP_COMPILE := env -u PIP_FIND_LINKS $(BIN)/pip-compile -q --generate-hashes --allow-unsafe --strip-extras --no-header --no-annotate \
	--no-emit-index-url --no-emit-find-links --no-emit-trusted-host

lock: .venv/tests ## both lock files anew from pyproject.toml
	@mkdir -p .cache/lock
	@$(BIN)/python -c 'import tomllib; d = tomllib.load(open("pyproject.toml", "rb")); \
		open(".cache/lock/run.in", "w").write("\n".join(d["project"]["dependencies"]) + "\n"); \
		open(".cache/lock/all.in", "w").write("\n".join(["-r run.in", *d["dependency-groups"]["dev"]]) + "\n")'
	$(PIP_COMPILE) -o tests/requirements.lock .cache/lock/all.in
	@(sed -e '/--hash/d' -e 's/ *\\$$//' tests/requirements.lock) > .cache/lock/pins.txt
	@(echo "-c pins.txt"; cat .cache/lock/run.in) > .cache/lock/pinned.in
	$(PIP_COMPILE) -o requirements.lock .cache/lock/pinned.in

clean: ## remove what make made here
	rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis pipeline/broker/bin build dist
