#!/bin/bash
# Builds every fuzz target and runs each one for some seconds: fuzz.sh [SECONDS [TARGET...]]
#
# libFuzzer's instrumentation is an LLVM pass that stable rustc can run; only the sanitizers would need nightly.
# A run starts from fuzz/seeds and from what earlier runs found (target/fuzz/corpus). An input that fails is written
# to target/fuzz/artifacts.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-60}
shift || true
targets=("$@")
if [ "${#targets[@]}" = 0 ]; then
    for file in fuzz/fuzz_targets/*.rs; do
        targets+=("$(basename "$file" .rs)")
    done
fi

build=${CARGO_TARGET_DIR:-target}
fuzz=$build/fuzz
RUSTC_WORKSPACE_WRAPPER=$PWD/fuzz/rustc-instrumented "${CARGO:-cargo}" build --quiet --locked --package pausa-fuzz

run() {
    local name=$1 seconds=$2 fuzz=$3 program=$4
    local log=$fuzz/$name.log
    local corpus=("$fuzz/corpus/$name")
    mkdir -p "${corpus[0]}" "$fuzz/artifacts/$name"
    [ ! -d "fuzz/seeds/$name" ] || corpus+=("fuzz/seeds/$name")
    if "$program" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 \
        -artifact_prefix="$fuzz/artifacts/$name/" "${corpus[@]}" > "$log" 2>&1; then
        echo "fuzz: $name: $(grep '^Done' "$log")"
    else
        echo "fuzz: $name failed; the end of $log:" >&2
        tail -n 30 "$log" >&2
        echo "fuzz: to repeat it: $program FILE, with the file named above" >&2
        return 1
    fi
}
export -f run

# An exit code of xargs other than 0 means that at least one target failed.
printf '%s\n' "${targets[@]}" |
    xargs -P "$(nproc)" -I TARGET bash -c 'run "$@"' run TARGET "$seconds" "$fuzz" "$build/debug/TARGET"
