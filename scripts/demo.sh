#!/bin/bash
# A tour of pausa on this machine: nothing installed, no internet, everything in temporary directories and gone after.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/sbin:/sbin

if [ "$(id -u)" != 0 ]; then
    echo "The demo makes namespaces, mounts and cgroups, and needs root: sudo -E make demo" >&2
    exit 1
fi
busybox=$(command -v busybox) || { echo "The demo needs busybox: apt-get install busybox-static" >&2; exit 1; }

echo "Building pausa, quickly and without optimization (the first time takes a few minutes) ..."
PAUSA_MONITOR_PROFILE=demo cargo build --profile demo --locked --quiet --package pausa --bin pausa --package pausa-demo --bin pausa-demo
programs=${CARGO_TARGET_DIR:-target}/demo

dir=$(mktemp -d /tmp/pausa-demo.XXXXXX)
bridge=pausademo0
daemon=
finish() {
    status=$?
    if [ -n "$daemon" ]; then
        kill -TERM "$daemon" 2>/dev/null || true
        wait "$daemon" || true
    fi
    ip link delete "$bridge" 2>/dev/null || true
    nft delete table inet "pausa_$bridge" 2>/dev/null || true
    nft delete table ip "pausa_$bridge" 2>/dev/null || true
    for cgroup in /sys/fs/cgroup/pausa-demo /sys/fs/cgroup/*/pausa-demo; do
        if [ -d "$cgroup" ]; then
            find "$cgroup" -depth -type d -exec rmdir {} + 2>/dev/null || true
        fi
    done
    left=$(grep -c "$dir" /proc/mounts || true)
    if [ "$status" = 0 ] && [ "$left" = 0 ]; then
        rm -rf "$dir"
        echo "Removed: daemon, pod, bridge $bridge, cgroups, $dir. Nothing is left."
    else
        echo "The demo failed ($status), $left mounts are left; the daemon's log is $dir/log" >&2
        tail -n 20 "$dir/log" >&2 || true
        exit 1
    fi
}
trap finish EXIT

cat > "$dir/config.toml" <<TOML
[network.bridge]
name = "$bridge"
subnet = "10.98.76.0/24"
TOML
"$programs/pausa" serve --config "$dir/config.toml" --listen "unix://$dir/pausa.sock" --root "$dir/root" \
    --state "$dir/state" --network bridge --cgroup-driver cgroupfs > "$dir/log" 2>&1 &
daemon=$!

"$programs/pausa-demo" --socket "$dir/pausa.sock" --pausa "$programs/pausa" --busybox "$busybox" \
    --directory "$dir" --cgroup /pausa-demo
