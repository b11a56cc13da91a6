#!/bin/bash
# Fuzz targets for some seconds and documentation tests first, then everything else, so that the summary of all tests is
# the last thing on the screen.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/sbin:/sbin

if [ "$(id -u)" != 0 ]; then
    echo "test: not root: tests that need namespaces, mounts and cgroups are skipped (sudo -E make test runs them)"
fi

scripts/fuzz.sh "${FUZZ_SECONDS:-5}"
cargo test --workspace --locked --doc --quiet
if cargo nextest --version >/dev/null 2>&1; then
    exec cargo nextest run --workspace --locked
fi
exec cargo test --workspace --exclude pausa-fuzz --locked --lib --bins --tests --no-fail-fast
