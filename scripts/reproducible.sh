#!/bin/bash
# Builds a release twice, from two clones in directories with different names, and compares the bytes.
# Takes twice the time of a release build.
set -euo pipefail
cd "$(dirname "$0")/.."

export PAUSA_TOOLS=$PWD/target/tools
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
for place in one another/place; do
    git clone --quiet . "$dir/$place/pausa"
    CARGO_TARGET_DIR=$dir/$place/target "$dir/$place/pausa/scripts/release.sh" "$dir/$place/out"
done
diff "$dir/one/out/SHA256SUMS" "$dir/another/place/out/SHA256SUMS"
echo "Both builds have the same bytes."
