#!/bin/bash
# Runs the tests inside the virtual machine of scripts/vm-test.sh, which copies this file to the second disk beside the
# file `runs`. Output goes to the second serial port, results to the third: a line for each run, and at the end the exit
# status.
set -uo pipefail
results=/dev/ttyS2
exec > /dev/ttyS1 2>&1
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=/root TMPDIR=/var/tmp RUST_BACKTRACE=0 CI=true
# A test may take a CPU of this machine offline.
export PAUSA_CRITEST_HOTPLUG=1
# The machine may be changed, and is thrown away.
[ ! -d /payload/packages ] || export PAUSA_PACKAGES=/payload/packages
stty -F "$results" raw -echo

say() {
    echo "$1"
    echo "$1" > "$results"
}

# Where the tests were built, so that the paths they were compiled with exist.
while read -r place; do
    mkdir -p "$place"
    mount --bind "/payload/tree$place" "$place"
done < /payload/places

if [ "$(stat -f -c %T /sys/fs/cgroup)" != cgroup2fs ] || [ ! -d /run/systemd/system ]; then
    say "this machine has no unified cgroup v2 or no systemd"
    echo 1 > "$results"
    exit 1
fi
echo "$(uname -sr), $(systemctl --version | head -n 1), security modules $(cat /sys/kernel/security/lsm)," \
    "cgroup v2 with $(cat /sys/fs/cgroup/cgroup.controllers)"

failed=0
# With a single one, libtest splits the lines that are counted below.
threads=$(($(nproc) > 2 ? $(nproc) : 2))
output=$(mktemp)
while read -r driver directory binary words; do
    cd "$directory" || exit
    read -ra filters <<< "$words"
    name=$(basename "$binary" | sed 's/-[0-9a-f]*$//')
    [ -z "$words" ] || name="$name $words"
    [ "$driver" = - ] || name="$name with $driver"
    echo "--- $name"
    there=$("$binary" --list --ignored "${filters[@]}" | grep -c ': test$')
    # Uncaptured, a failure is seen even if another test hangs.
    PAUSA_CRITEST_CGROUP_DRIVER=$driver "$binary" --ignored --nocapture "--test-threads=$threads" "${filters[@]}" \
        < /dev/null 2>&1 | tee "$output"
    status=${PIPESTATUS[0]}
    passed=$(grep -ac '^test .* \.\.\. ok$' "$output")
    outcome=ok
    if [ "$status" != 0 ] || [ "$there" = 0 ]; then
        outcome=FAILED
        failed=1
    fi
    say "  $outcome: $name: $passed of $there passed"
    # A test that cannot run here passes; whoever reads the summary has to know.
    grep -aE '^skipped: |^test .* \.\.\. skipped: ' "$output" | sed 's/.*skipped: /skipped: /' | sort | uniq -c |
        while read -r count why; do say "    $count $why"; done
    sed -n 's/^test \(.*\) \.\.\. FAILED$/\1/p' "$output" | while read -r test; do say "    failed: $test"; done
done < /payload/runs
echo "$failed" > "$results"
