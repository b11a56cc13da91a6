#!/bin/bash
# Checks the dependencies' licences, duplicates, sources and advisories (deny.toml).
# The advisory database is a git repository: without a network the advisories are left out, and a line says so.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! cargo deny --version >/dev/null 2>&1; then
    echo "deny: make setup installs cargo-deny" >&2
    exit 1
fi
checks=(bans licenses sources)
if timeout 120 cargo deny --locked fetch db >/dev/null 2>&1; then
    checks+=(advisories)
else
    echo "deny: the advisory database cannot be fetched; advisories are not checked"
fi
exec cargo deny --locked --log-level error check --hide-inclusion-graph "${checks[@]}"
