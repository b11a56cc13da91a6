# Everything a person or CI does with this repository. `make help` lists it.

CARGO ?= cargo
PREFIX ?= /usr/local
DESTDIR ?=

.DEFAULT_GOAL := help
.PHONY: help setup build demo test lint bench bench-pull bench-stream install clean

help: ## List what can be done
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Install what tests and demo need (Debian, Ubuntu); says what it does
	@scripts/setup.sh

build: ## Build the release binary, target/release/pausa
	$(CARGO) build --release --locked

demo: setup ## Show pausa at work in temporary directories, and remove it all again (root)
	@scripts/demo.sh

lint: ## Formatting and clippy, warnings denied
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

test: setup lint ## Lints, documentation tests, then every test; conformance needs root and says so without
	@scripts/test.sh

bench: setup ## Measure pausa; BENCH_ARGS="--socket NAME=unix:///path" adds another runtime (root)
	$(CARGO) bench --locked --bench cri -- $(BENCH_ARGS)

bench-pull: setup ## Measure pulling and removing an image; BENCH_ARGS as above (root)
	$(CARGO) bench --locked --bench pull -- $(BENCH_ARGS)

bench-stream: setup ## Measure exec and port-forward; BENCH_ARGS as above (root)
	$(CARGO) bench --locked --bench stream -- $(BENCH_ARGS)

install: build ## Install binary and systemd unit below $(DESTDIR)$(PREFIX)
	install -D -m 0755 target/release/pausa $(DESTDIR)$(PREFIX)/bin/pausa
	install -d $(DESTDIR)$(PREFIX)/lib/systemd/system
	sed 's|/usr/bin/pausa|$(PREFIX)/bin/pausa|' packaging/pausa.service \
	  > $(DESTDIR)$(PREFIX)/lib/systemd/system/pausa.service

clean: ## Remove everything that was built
	$(CARGO) clean
