#!/bin/bash
# Checks the systemd units: every line is understood, and the exposure of the service (systemd-analyze security) has not
# grown. Why it cannot be much smaller is in the unit.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v systemd-analyze > /dev/null; then
    echo "unit: no systemd-analyze here; packaging/pausa.{service,socket} are not checked"
    exit 0
fi
# It wants the program to exist.
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
sed -E 's|^(Exec[A-Za-z]+)=/usr/bin/pausa |\1=/bin/true |' packaging/pausa.service > "$dir/pausa.service"
# It complains about the units of this machine as well, and takes what it does not understand for a warning.
cp packaging/pausa.socket "$dir"
systemd-analyze --man=no verify "$dir/pausa.service" "$dir/pausa.socket" > "$dir/out" 2>&1 || true
if grep -E 'pausa\.(service|socket)' "$dir/out" >&2; then
    exit 1
fi
systemd-analyze --no-pager security --offline=true --threshold=97 "$dir/pausa.service" > "$dir/out" ||
    { cat "$dir/out" >&2; exit 1; }
