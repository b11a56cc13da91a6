#!/bin/bash
# Builds the files of a release from this source tree into a directory: archive, packages, SBOM, licences and their sums.
# The bytes depend on the commit, toolchain, C compiler and linker, and on nothing else: not on directories, time or user.
set -euo pipefail
cd "$(dirname "$0")/.."

out=$(realpath -m "${1:?usage: scripts/release.sh DIRECTORY}")
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
name=pausa-$version
architecture=$(uname -m)
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export PAUSA_REVISION=${PAUSA_REVISION:-$(git rev-parse HEAD)}
cargo_home=${CARGO_HOME:-$HOME/.cargo}
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")

# Messages of panics and assertions contain the paths of their sources; these become the same everywhere.
# The last of the options that applies wins.
remap=("$PWD=/pausa" "$target=/target" "$cargo_home/registry/src=/registry")
export RUSTFLAGS="${remap[*]/#/--remap-path-prefix=}"
export CFLAGS="${remap[*]/#/-ffile-prefix-map=}" CXXFLAGS="${remap[*]/#/-ffile-prefix-map=}"

tools=${PAUSA_TOOLS:-$PWD/target/tools}
PATH=$tools/bin:$PATH
cyclonedx=0.5.9
if [[ $(cargo cyclonedx --version 2>/dev/null) != *" $cyclonedx" ]]; then
    env -u RUSTFLAGS cargo install --quiet --locked --root "$tools" "cargo-cyclonedx@$cyclonedx"
fi

mkdir -p "$out"
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
make --no-print-directory install DESTDIR="$stage" PREFIX=/usr CARGO_TARGET_DIR="$target"
scripts/package.sh "$target/release/pausa" "$out"
tar --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner -C "$stage" -cf - usr |
    gzip -n -9 > "$out/$name-$architecture-linux.tar.gz"

cargo deny --log-level error list --format human --layout crate > "$out/$name-licenses.txt"
# What is linked in and what runs while it is built, of the program and of the monitor that is embedded in it. It writes
# beside every Cargo.toml, with the directory in the references.
cargo cyclonedx --quiet --format json --target "$architecture-unknown-linux-gnu" --override-filename "$name.cdx"
sed "s|file://$PWD|file:///pausa|g" "$name.cdx.json" > "$out/$name.cdx.json"
sed "s|file://$PWD|file:///pausa|g" "crates/monitor/$name.cdx.json" > "$out/$name-monitor.cdx.json"
git ls-files -z '*Cargo.toml' | xargs -0 dirname -z | xargs -0 -I DIRECTORY rm -f "DIRECTORY/$name.cdx.json"
(cd "$out" && sha256sum -- *.tar.gz *.deb *.rpm *.txt *.json > SHA256SUMS)
cat "$out/SHA256SUMS"
