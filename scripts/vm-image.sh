#!/bin/bash
# Builds the root image of the virtual machine of `make vm-test` in the directory given: root.ext4, vmlinuz, initrd.
# Done already if this file and the suite are those of the last time. Mounts nothing itself: mmdebstrap mounts in a mount
# namespace of its own, and mke2fs fills an image from a directory.
set -euo pipefail

# Debian 13: kernel 6.12, systemd 257. Binaries built on a newer distribution need a newer suite (VM_SUITE).
suite=${VM_SUITE:-trixie}
mirror=${VM_MIRROR:-http://deb.debian.org/debian}
size=4G

# What boots, then what the tests call.
packages=(
    linux-image-cloud-amd64 initramfs-tools zstd
    systemd-sysv udev dbus kmod apparmor selinux-policy-default
    util-linux procps iproute2 nftables iptables containernetworking-plugins busybox-static
    docker-registry skopeo umoci buildah
    e2fsprogs xfsprogs
)

dir=${1:?directory}
mkdir -p "$dir"
exec 9> "$dir/lock"
flock 9
key=$(sha256sum "$0" | cut -d ' ' -f 1)-$suite-$mirror
[ "$(cat "$dir/key" 2>/dev/null)" != "$key" ] || exit 0
rm -f "$dir/key"

root=$dir/root
finish() {
    rm -rf "$root" "$dir/root.ext4.new"
}
trap finish EXIT
finish

echo "vm-image: installing Debian $suite; this takes some minutes, once"
setpriv --pdeathsig TERM -- mmdebstrap --mode=root --variant=minbase --quiet \
    --aptopt='Acquire::Languages "none"' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    --include="$(IFS=, && echo "${packages[*]}")" "$suite" "$root" "$mirror"

echo pausa-vm > "$root/etc/hostname"
echo '127.0.0.1 localhost pausa-vm' > "$root/etc/hosts"
echo '/dev/vda / ext4 defaults 0 0' > "$root/etc/fstab"
# For the area whose kernel has SELinux on: systemd loads the policy at boot. Files stay unlabelled.
printf 'SELINUX=permissive\nSELINUXTYPE=default\n' > "$root/etc/selinux/config"
units=$root/etc/systemd/system
# No login, no jobs that compete with the tests, and files of tests on the disk, as on a node.
for unit in getty.target tmp.mount docker-registry.service \
    apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer; do
    ln -sf /dev/null "$units/$unit"
done
# The second disk has the tests and says what to do with them. OOM kills are part of some tests.
cat > "$units/vm-test.service" <<'UNIT'
[Unit]
Description=The tests on the second disk
Wants=dbus.service
After=multi-user.target apparmor.service dbus.service systemd-udev-settle.service
SuccessAction=poweroff-force
FailureAction=poweroff-force

[Service]
Type=oneshot
ExecStartPre=mkdir -p /payload
ExecStartPre=mount /dev/vdb /payload
ExecStart=/payload/vm-guest.sh
OOMPolicy=continue
TasksMax=infinity
LimitNOFILE=1048576
Delegate=yes

[Install]
WantedBy=default.target
UNIT
mkdir -p "$units/default.target.wants"
ln -sf ../vm-test.service "$units/default.target.wants/"

cp "$root"/boot/vmlinuz-* "$dir/vmlinuz"
cp "$root"/boot/initrd.img-* "$dir/initrd"
truncate -s "$size" "$dir/root.ext4.new"
mke2fs -q -t ext4 -d "$root" "$dir/root.ext4.new"
mv "$dir/root.ext4.new" "$dir/root.ext4"
echo "$key" > "$dir/key"
