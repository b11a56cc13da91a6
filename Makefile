# Everything a person or CI does with this repository. `make help` lists it.

CARGO ?= cargo
PREFIX ?= /usr/local
DESTDIR ?=
FUZZ_SECONDS ?= 60
FUZZ_TARGETS ?=
AREAS ?=
PROGRAM = $(or $(CARGO_TARGET_DIR),target)/release/pausa

# Where `make setup` puts the lint programs.
export PATH := $(CURDIR)/target/tools/bin:$(PATH)

.DEFAULT_GOAL := help
.PHONY: help setup packages build demo test vm-test lint deny fuzz bench bench-crowd bench-pull bench-stream install deb rpm aarch64 release reproducible clean

help: ## List what can be done
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: packages ## Install what lints, tests and demo need (Debian, Ubuntu); says what it does
	@scripts/lint-tools.sh

packages:
	@scripts/setup.sh

build: ## Build the release binary, target/release/pausa
	$(CARGO) build --release --locked

demo: packages ## Show pausa at work in temporary directories, and remove it all again (root)
	@scripts/demo.sh

lint: deny ## Formatting, scripts, spelling, links, systemd unit, dependencies, clippy, documentation; warnings are errors
	@command -v shellcheck typos >/dev/null || { echo "lint: make setup installs shellcheck and typos" >&2; exit 1; }
	$(CARGO) fmt --all --check
	shellcheck scripts/*.sh packaging/scripts/*.sh .ci/run fuzz/rustc-instrumented
	typos
	scripts/links.py
	scripts/unit.sh
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --document-private-items --locked

deny: ## Licences, duplicates, sources and, with a network, advisories of all dependencies
	@scripts/deny.sh

fuzz: packages ## Run every fuzz target FUZZ_SECONDS (60) long, or those named in FUZZ_TARGETS
	@scripts/fuzz.sh $(FUZZ_SECONDS) $(FUZZ_TARGETS)

test: setup lint ## Lints, fuzz targets for seconds, documentation tests, every test; without root some are skipped
	@scripts/test.sh

vm-test: ## Run tests that differ with cgroup v2, systemd and AppArmor in a virtual machine; AREAS="resources stats" (root)
	@scripts/vm-test.sh $(AREAS)

bench: packages ## Measure pausa; BENCH_ARGS="--socket NAME=unix:///path" adds another runtime (root)
	$(CARGO) bench --locked --bench cri -- $(BENCH_ARGS)

bench-crowd: packages ## Measure pausa beside up to 500 pods; BENCH_ARGS as above (root)
	$(CARGO) bench --locked --bench crowd -- $(BENCH_ARGS)

bench-pull: packages ## Measure pulling and removing an image; BENCH_ARGS as above (root)
	$(CARGO) bench --locked --bench pull -- $(BENCH_ARGS)

bench-stream: packages ## Measure exec and port-forward; BENCH_ARGS as above (root)
	$(CARGO) bench --locked --bench stream -- $(BENCH_ARGS)

install: build ## Install binary, systemd unit, manual pages and completions below $(DESTDIR)$(PREFIX)
	@scripts/install.sh $(PROGRAM) $(PREFIX) $(DESTDIR)

deb: setup build ## Build a Debian package into target/packages
	@scripts/package.sh $(PROGRAM) target/packages deb

rpm: setup build ## Build an RPM package into target/packages
	@scripts/package.sh $(PROGRAM) target/packages rpm

aarch64: ## Compile everything for aarch64, and run the unit tests that work under qemu-user
	@scripts/aarch64.sh

release: setup ## Build the files of a release into target/release-files: archive, packages, SBOM, licences, sums
	@scripts/release.sh target/release-files

reproducible: setup ## Build a release twice, in two directories, and compare the bytes
	@scripts/reproducible.sh

clean: ## Remove everything that was built
	$(CARGO) clean
