#!/bin/bash
# Compiles the whole workspace, tests included, for aarch64, and runs the unit tests that need neither root nor a kernel of
# that architecture under qemu-user. `--check` only compiles, and builds no machine code of our own.
# Needs Debian's gcc-aarch64-linux-gnu, g++-aarch64-linux-gnu and qemu-user-static, and rustup's target.
set -euo pipefail
cd "$(dirname "$0")/.."

target=aarch64-unknown-linux-gnu
for program in aarch64-linux-gnu-gcc aarch64-linux-gnu-g++ qemu-aarch64-static; do
    command -v "$program" > /dev/null || {
        echo "aarch64: no $program; on Debian: apt install gcc-aarch64-linux-gnu g++-aarch64-linux-gnu qemu-user-static" >&2
        exit 1
    }
done
rustc --print target-libdir --target "$target" | xargs test -d || rustup target add "$target"
# Also for the monitor, which the build script links.
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64-static -L /usr/aarch64-linux-gnu"

cargo check --locked --workspace --all-targets --exclude pausa-fuzz --target "$target"
[ "${1-}" != --check ] || exit 0

# qemu-user has no seccomp filters, mount API and namespaces to test, and lacks system calls of late; what needs them is tested
# where the kernel is. These crates and modules are about bytes, numbers and text, which an architecture can get wrong.
packages=(cdi cni distribution layer monitor-protocol netfilter nri seccomp spdy yaml)
cargo test --locked --target "$target" --lib "${packages[@]/#/--package=pausa-}"
