#!/bin/bash
# Runs the tests inside the virtual machine of scripts/vm-test.sh, which copies this file to the second disk beside the
# file `runs`. Output goes to the terminal that is standard output, results to the third serial port: a line for each run,
# and at the end the exit status.
set -uo pipefail
results=/dev/ttyS2
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=/root TMPDIR=/var/tmp RUST_BACKTRACE=0 CI=true
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
output=$(mktemp)
while read -r driver directory binary filters; do
    cd "$directory" || exit
    read -ra filters <<< "$filters"
    name="$(basename "$binary" | sed 's/-[0-9a-f]*$//') ${filters[*]}"
    [ "$driver" = - ] || name="$name with $driver"
    echo "--- $name"
    if [ "$("$binary" --list --ignored "${filters[@]}" | grep -c ': test$')" = 0 ]; then
        say "  FAILED $name: no such test"
        failed=1
        continue
    fi
    PAUSA_CRITEST_CGROUP_DRIVER=$driver "$binary" --ignored --show-output --test-threads "$(nproc)" "${filters[@]}" \
        < /dev/null 2>&1 | tee "$output"
    status=${PIPESTATUS[0]}
    outcome=ok
    if [ "$status" != 0 ]; then
        outcome=FAILED
        failed=1
    fi
    say "  $outcome $name: $(sed -n 's/^test result: [a-zA-Z]*\. //p' "$output" | tail -n 1)"
    # A test that cannot run here passes; whoever reads the summary has to know.
    grep -a '^skipped: ' "$output" | sort | uniq -c | while read -r count why; do say "    $count $why"; done
    sed -n 's/^test \(.*\) \.\.\. FAILED$/\1/p' "$output" | while read -r test; do say "    failed: $test"; done
done < /payload/runs
echo "$failed" > "$results"
