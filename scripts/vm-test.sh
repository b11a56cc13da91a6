#!/bin/bash
# Runs areas of the tests (scripts/vm-areas.txt) in a virtual machine: a Debian cloud kernel with systemd, cgroup v2 alone
# and AppArmor, under KVM if it works here, else emulated. Each area gets a machine of its own. What it builds stays in
# target/vm; processes, mounts and loop devices it leaves none.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/sbin:/sbin

usage() {
    cat <<'TEXT'
make vm-test AREAS="AREA ..."     run these areas; all of them without AREAS
scripts/vm-test.sh [AREA ...]     the same
scripts/vm-test.sh --list         areas, and why each differs in the virtual machine

VM_ACCEL=kvm|tcg      do not try out whether KVM works
VM_CPUS, VM_MEMORY    processors (2), memory in MiB (3072)
VM_TIMEOUT            seconds that an area may take (3600)
VM_SUITE, VM_MIRROR   Debian release of the machine (trixie), and where it comes from
TEXT
}

table=$(sed 's/#.*//' scripts/vm-areas.txt)
mapfile -t all < <(sed -n 's/^\([a-z_]*\):.*/\1/p' <<< "$table")
# The lines below an area's first.
runs_of() { awk -v area="$1:" '/^[a-z_]+:/{here = $1 == area; next} here && NF' <<< "$table"; }

areas=()
for word in "$@"; do
    case $word in
    -h | --help) usage && exit 0 ;;
    --list) grep '^[a-z_]*:' <<< "$table" | sed 's/:/: /' | awk -F ':  *' '{printf "%-16s  %s\n", $1, $2}' && exit 0 ;;
    esac
    [[ " ${all[*]} " == *" $word "* ]] || { echo "vm-test: no area $word; there are: ${all[*]}" >&2; exit 2; }
    areas+=("$word")
done
[ "${#areas[@]}" -gt 0 ] || areas=("${all[@]}")

[ "$(uname -m)" = x86_64 ] || { echo "vm-test: needs an x86_64 machine, whose binaries it takes along" >&2; exit 1; }
[ "$(id -u)" = 0 ] || { echo "vm-test: installs a Debian for the machine, and needs root: sudo -E make vm-test" >&2; exit 1; }
scripts/setup.sh vm
for program in qemu-system-x86_64 mmdebstrap mke2fs; do
    command -v "$program" > /dev/null || { echo "vm-test: needs $program" >&2; exit 1; }
done

vm=$PWD/target/vm
setpriv --pdeathsig TERM -- scripts/vm-image.sh "$vm"

run=$(mktemp -d "$vm/run.XXXXXX")
child=
finish() {
    [ -z "$child" ] || kill -KILL "$child" 2> /dev/null || true
    rm -rf "$run"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# Test programs with the directory of their package, and the programs that they start. Of single areas only what they need.
echo "vm-test: building the tests"
what=(--workspace --lib --bins --tests)
if [ "$#" -gt 0 ]; then
    what=(--bins)
    while read -r driver test _; do
        [ "$driver" != kernel ] || continue
        what+=(--package "${test%/*}")
        if [ "${test#*/}" = lib ]; then what+=(--lib); else what+=(--test "${test#*/}"); fi
    done < <(for area in "${areas[@]}"; do runs_of "$area"; done | sort -u -k 2,2)
    # cargo takes this flag once.
    mapfile -t what < <(printf '%s\n' "${what[@]}" | awk '$0 != "--lib" || !seen++')
fi
cargo test "${what[@]}" --locked --no-run --message-format=json > "$run/build.json"
programs=$(python3 - "$run/build.json" <<'PYTHON'
import json, os, re, sys
for line in open(sys.argv[1]):
    made = json.loads(line)
    if made["reason"] != "compiler-artifact" or not made["executable"]:
        continue
    directory = os.path.dirname(made["manifest_path"])
    # …/crates/monitor#pausa-monitor@0.1.0, or …/crates/pausa-spdy#0.1.0
    package = re.search(r"([^/#@]+)(#[0-9.]+)?(@[^#]*)?$", made["package_id"])[1]
    kind = made["target"]["kind"][0]
    if not made["profile"]["test"]:
        print("program", "-", "-", made["executable"])
    elif kind == "lib":
        print("test", package + "/lib", directory, made["executable"])
    elif kind == "test":
        print("test", package + "/" + made["target"]["name"], directory, made["executable"])
PYTHON
)

# Boots a machine and waits until it is off, SECONDS at most. TMPDIR is where qemu keeps what the machine writes.
boot() {
    local seconds=$1
    shift
    TMPDIR=$run setpriv --pdeathsig KILL -- qemu-system-x86_64 -machine q35 -smp "${VM_CPUS:-2}" -m "${VM_MEMORY:-3072}" \
        -nodefaults -no-user-config -display none -no-reboot -kernel "$vm/vmlinuz" "$@" < /dev/null &
    child=$!
    local status=0 end=$((SECONDS + seconds))
    while kill -0 "$child" 2> /dev/null; do
        if [ "$SECONDS" -ge "$end" ]; then
            kill -KILL "$child"
            status=124
        fi
        sleep 0.5 &
        wait $! || true
    done
    wait "$child" 2> /dev/null || status=$((status ? status : $?))
    child=
    return "$status"
}

# There are machines where /dev/kvm makes processors, and none of them ever gets anywhere. Only a kernel's word counts.
kvm_works() {
    [ -w /dev/kvm ] || return
    boot 10 -accel kvm -cpu host -serial "file:$run/probe" -append 'console=ttyS0 earlyprintk=ttyS0 panic=-1' \
        2> /dev/null || true
    grep -q 'Linux version' "$run/probe" 2> /dev/null
}

accel=${VM_ACCEL:-}
if [ -z "$accel" ]; then
    accel=tcg
    ! kvm_works || accel=kvm
fi
cpu=max
[ "$accel" = tcg ] || cpu=host

# The second disk: the repository's sources and the programs, each at its own place below `tree`.
payload=$run/payload
mkdir -p "$payload/tree$PWD"
cp -r Cargo.toml src crates tests "$payload/tree$PWD/"
target=$PWD/target
while read -r kind test _ program; do
    [ "$kind" = program ] || grep -q " $test\( \|$\)" <<< "$table" || continue
    target=${program%/debug/*}
    mkdir -p "$payload/tree$(dirname "$program")"
    cp "$program" "$payload/tree$program"
done <<< "$programs"
mkdir -p "$payload/tree$target/tmp"
# Programs that tests run in containers; the machine has no compiler.
for source in tests/critest/attacks/*.rs; do
    rustc --edition 2024 -O -C target-feature=+crt-static "$source" \
        -o "$payload/tree$target/tmp/attack-$(basename "$source" .rs)"
done
# Packages of two versions of the program as the tests have it; its debug information would fill the disk.
if [[ " ${areas[*]} " == *" install "* ]]; then
    echo "vm-test: making packages"
    strip -o "$run/pausa" "$target/debug/pausa"
    mkdir -p "$payload/packages"
    for version in 0.0.1:first 0.0.2:second; do
        PACKAGE_FAST=1 VERSION=${version%:*} scripts/package.sh "$run/pausa" "$run/package" deb
        mv "$run"/package/*.deb "$payload/packages/${version#*:}.deb"
    done
fi
printf '%s\n' "$PWD" > "$payload/places"
[[ $target == "$PWD"/* ]] || printf '%s\n' "$target" >> "$payload/places"
cp scripts/vm-guest.sh "$payload/"

kernel="root=/dev/vda rw console=ttyS0 quiet panic=-1 systemd.unified_cgroup_hierarchy=1 apparmor=1 security=apparmor"
# An emulated machine on a busy host hardly moves: the kernel would find that its timer does not tick and wait for ever,
# and systemd would give up on its own services.
kernel+=" no_timer_check systemd.service_watchdogs=no"
kernel+=" systemd.default_timeout_start_sec=15min systemd.default_device_timeout_sec=15min"

echo "vm-test: $accel; output and consoles are kept in target/vm/logs"
mkdir -p "$vm/logs"
summary=
failed=0
for area in "${areas[@]}"; do
    begin=$SECONDS
    log=$vm/logs/$area
    rm -f "$log".*
    parameters=
    while read -r driver test filters; do
        if [ "$driver" = kernel ]; then
            parameters="$test $filters"
            continue
        fi
        read -r _ _ directory program < <(grep "^test $test " <<< "$programs") ||
            { echo "vm-test: $area: there is no test program $test" >&2; exit 1; }
        echo "$driver $directory $program $filters"
    done < <(runs_of "$area") > "$payload/runs"
    rm -f "$run/payload.ext4"
    truncate -s "$(($(du -sm "$payload" | cut -f 1) * 5 / 4 + 1024))M" "$run/payload.ext4"
    mke2fs -q -t ext4 -d "$payload" "$run/payload.ext4"
    echo "=== $area"
    status=0
    boot "${VM_TIMEOUT:-3600}" -accel "$accel" -cpu "$cpu" -initrd "$vm/initrd" -snapshot \
        -drive "file=$vm/root.ext4,format=raw,if=virtio" -drive "file=$run/payload.ext4,format=raw,if=virtio" \
        -device virtio-rng-pci \
        -serial "file:$log.console" -chardev "stdio,id=tests,signal=off,logfile=$log.out" -serial chardev:tests \
        -serial "file:$log.results" \
        -append "$kernel $parameters" ||
        status=$?
    took=$((SECONDS - begin))
    results=$(tr -d '\r' < "$log.results" 2> /dev/null || true)
    case $(tail -n 1 <<< "$results") in
    0) outcome=ok ;;
    1) outcome=FAILED ;;
    *)
        outcome="FAILED: the machine ended before the tests"
        [ "$status" != 124 ] || outcome="FAILED: not done in ${VM_TIMEOUT:-3600} seconds"
        tail -n 20 "$log.console" >&2 || true
        ;;
    esac
    [ "$outcome" = ok ] || failed=1
    summary+="$area: $outcome, $took seconds"$'\n'"$(sed '/^[01]$/d' <<< "$results")"$'\n'
done
printf '\n=== in the virtual machine (%s)\n%s' "$accel" "$summary"
[ "$failed" = 0 ]
