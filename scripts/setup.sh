#!/bin/bash
# Installs the packages that lints, tests, benchmarks and demo need and the machine lacks, on Debian and Ubuntu.
# With the argument `vm`, also what `make vm-test` needs. Quiet when nothing is missing. Starts nothing, leaves nothing
# running.
set -euo pipefail

# program : package that has it
needed="
busybox:busybox-static
docker-registry:docker-registry
skopeo:skopeo
prometheus:prometheus
umoci:umoci
buildah:buildah
nft:nftables
iptables:iptables
ip:iproute2
setpriv:util-linux
runc:runc
mkfs.ext4:e2fsprogs
mkfs.xfs:xfsprogs
gcc:gcc
g++:g++
shellcheck:shellcheck
"
[ "${1-}" != vm ] || needed+="
qemu-system-x86_64:qemu-system-x86
mmdebstrap:mmdebstrap
mke2fs:e2fsprogs
python3:python3
"

PATH=$PATH:/usr/sbin:/sbin:$HOME/.cargo/bin

if ! command -v cargo >/dev/null; then
    cat >&2 <<'TEXT'
No Rust toolchain found. The usual way to get one (see https://rustup.rs):
  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh
TEXT
    exit 1
fi

missing=()
for entry in $needed; do
    command -v "${entry%%:*}" >/dev/null || missing+=("${entry##*:}")
done
# A busybox with shared libraries is of no use inside an image.
if command -v busybox >/dev/null && ldd "$(command -v busybox)" >/dev/null 2>&1; then
    missing+=(busybox-static)
fi
# Compared with the plugins in process.
[ -x /usr/lib/cni/bridge ] || missing+=(containernetworking-plugins)
[ "${#missing[@]}" -gt 0 ] || exit 0

if [ "$(id -u)" = 0 ]; then
    as_root=()
elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
    as_root=(sudo)
else
    echo "setup: missing ${missing[*]}; as root: apt-get install ${missing[*]}" >&2
    echo "setup: going on; what needs them is skipped" >&2
    exit 0
fi
if ! command -v apt-get >/dev/null; then
    echo "setup: missing ${missing[*]} (names of Debian packages); going on without" >&2
    exit 0
fi

# The packages of docker-registry and Prometheus start services. Say no, as policy-rc.d(8) is for, unless somebody has a policy
# already.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
    "${as_root[@]}" chmod +x "$policy"
    trap '"${as_root[@]}" rm -f "$policy"' EXIT
fi
echo "setup: installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null

# Nor are they to start with the machine. One that was there before is somebody's.
for service in docker-registry prometheus; do
    if [[ " ${missing[*]} " == *" $service "* ]] && command -v systemctl >/dev/null; then
        "${as_root[@]}" systemctl disable "$service" >/dev/null 2>&1 ||
            echo "setup: cannot disable $service.service" >&2
    fi
done
