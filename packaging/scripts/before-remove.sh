# Runs when the package goes, with the daemon stopped; not for an upgrade. Without the program nobody could end the pods.
# If that fails, the package stays.
# shellcheck shell=sh

if [ -d /run/pausa/pods ]; then
    pausa reset --force
fi
[ "$(cat /etc/crictl.yaml 2> /dev/null)" != "$(cat /usr/share/pausa/crictl.yaml)" ] || rm -f /etc/crictl.yaml
# The mount that `ip netns add` makes as well; in use as long as it has an entry.
[ -n "$(ls -A /run/netns 2> /dev/null)" ] || umount /run/netns 2> /dev/null || true
