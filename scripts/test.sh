#!/bin/bash
# Fuzz targets for some seconds and documentation tests first, then everything else, so that the summary of all tests is
# the last thing on the screen.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/sbin:/sbin

# Tests that need root are marked #[ignore = "needs root"].
nextest=()
libtest=()
if [ "$(id -u)" = 0 ]; then
    nextest=(--run-ignored all)
    libtest=(-- --include-ignored)
else
    echo "test: not root: tests that need namespaces, mounts and cgroups are skipped (sudo -E make test runs them)"
fi

scripts/fuzz.sh "${FUZZ_SECONDS:-5}"
cargo test --workspace --locked --doc --quiet
if cargo nextest --version >/dev/null 2>&1; then
    exec cargo nextest run --workspace --locked "${nextest[@]}"
fi
exec cargo test --workspace --exclude pausa-fuzz --locked --lib --bins --tests --no-fail-fast "${libtest[@]}"
