# Everything that is done with this repository. `make help` lists it.

CARGO   ?= cargo
PROFILE ?= release
ARGS    ?=
PREFIX  ?= /usr/local

ifeq ($(PROFILE),dev)
OUT := target/debug
else
OUT := target/$(PROFILE)
endif

# What is measured from inside.
INSIDE := --package sojourn-engine --package sojourn-web --lib \
	--features sojourn-engine/bench,sojourn-web/bench
BENCH_SIZE ?= small

# Sandboxes are made as root.
SUDO := $(shell [ "$$(id -u)" = 0 ] || command -v sudo)

# Where rustup puts cargo, which is not on every path.
export PATH := $(PATH):$(HOME)/.cargo/bin

.DEFAULT_GOAL := help
.PHONY: help run build install page types screenshots test test-long test-v2 test-agents chaos fuzz bench lint fmt packages

help: ## Shows this list
	@printf '\n  Sojourn: come in by ssh or a browser, get a sandbox, be recorded, be shown out on time.\n\n'
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "    make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@printf '\n    PROFILE=dev builds faster and runs slower; ARGS="--config my.toml" goes to the gateway.\n\n'

run: packages page ## Installs what is missing, builds, and starts the gateway here
	@scripts/host-check
	$(CARGO) build --locked --profile $(PROFILE) --package sojourn
	@exec $(SUDO) $(OUT)/sojourn serve $(ARGS)

build: packages page ## Builds the program with its page: target/release/sojourn
	$(CARGO) build --locked --profile $(PROFILE) --package sojourn
	@! grep -q SOJOURN_TEST_CLOCK $(OUT)/sojourn || { echo 'the clock of the tests is in the program' >&2; exit 1; }

install: build ## Copies the program to PREFIX/bin (default /usr/local)
	install -D -m 755 $(OUT)/sojourn $(DESTDIR)$(PREFIX)/bin/sojourn

page: ## Builds the page where it changed (needs Node.js; SOJOURN_PAGE=no does without)
	@scripts/page build

types: ## Writes the page's types anew after the API changed
	SOJOURN_WRITE=1 $(CARGO) test --locked --package sojourn-web --lib the_page_knows_the_shapes
	cd web-ui && npm run --silent types

screenshots: page ## Takes the pictures in docs/screenshots anew (needs root and Chromium)
	SOJOURN_SHOTS=$(CURDIR)/docs/screenshots $(CARGO) test --locked --package sojourn --test it pictures_are_taken

test: ## Installs what the tests need and runs all of them
	@CARGO='$(CARGO)' scripts/test

test-long: test ## The same, then properties with many more cases and the loops at full length
	PROPTEST_CASES=20000 $(CARGO) test --locked --workspace --lib
	SOJOURN_TEST_LONG=1 $(CARGO) test --locked --package sojourn --test it
	SOJOURN_FUZZ_SEED=1 SECONDS_EACH=60 CARGO='$(CARGO)' scripts/fuzz

test-v2: ## Runs the sandbox tests under cgroup v2, in a virtual machine (needs QEMU)
	@scripts/test-v2

test-agents: ## Drives four real agents against a scripted model (npm, Node, 1.4 GB in target/agents)
	@CARGO='$(CARGO)' scripts/test-agents

chaos: export SOJOURN_CHAOS_SEEDS := $(or $(SOJOURN_CHAOS_SEEDS),100)
chaos: page ## Lets things go wrong by chance, SOJOURN_CHAOS_SEEDS=100 rounds from SOJOURN_CHAOS_FIRST=1 on
	@scripts/packages test
	$(CARGO) test --locked --workspace --all-targets --no-run
	$(CARGO) test --locked --workspace --test it -- --nocapture --exact chaos::rounds_that_are_asked_for_go_well

fuzz: ## Fuzzes every decoder, or ARGS="sftp config", SECONDS_EACH=60 each (docs/fuzzing.md)
	@CARGO='$(CARGO)' scripts/fuzz $(ARGS)

bench: packages page ## Measures it beside sshd, one table of ratios (root; BENCH_SIZE=full takes an hour)
	$(CARGO) build --locked --release --package sojourn
	$(CARGO) test --locked --release $(INSIDE) -- --nocapture --test-threads 1 bench >target/bench-inside.txt
	@$(SUDO) env BENCH_SIZE='$(BENCH_SIZE)' bench/bench.py --inside target/bench-inside.txt $(ARGS)

lint: ## Format, clippy, house rules, and dependencies where cargo-deny is installed
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	$(CARGO) run --locked --quiet --package xtask -- tidy
	@if $(CARGO) deny --version >/dev/null 2>&1; then \
		$(CARGO) deny --log-level error check bans licenses sources; \
	else \
		echo 'cargo-deny is not installed: dependencies were not checked'; \
	fi

fmt: ## Formats the source
	$(CARGO) fmt --all

packages:
	@scripts/packages build
