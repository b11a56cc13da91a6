# Runs at the end of every installation and upgrade; scripts/package.sh puts it into the scripts of both packages.
# shellcheck shell=sh

mkdir -p /etc/pausa/config.d /etc/pausa/certs.d
# crictl asks pausa, unless somebody has told it whom to ask.
[ -e /etc/crictl.yaml ] || cp /usr/share/pausa/crictl.yaml /etc/crictl.yaml

# kubelet goes on with the runtime that it has. Its pods are no concern of pausa's, which does not take them over.
endpoint=$(sed -n 's|.*container-\{0,1\}[rR]untime-\{0,1\}[eE]ndpoint["=: ]*\([^", ]*\).*|\1|p' \
    /var/lib/kubelet/config.yaml /var/lib/kubelet/instance-config.yaml /var/lib/kubelet/kubeadm-flags.env \
    /etc/default/kubelet /etc/sysconfig/kubelet 2> /dev/null | tail -n 1) || true
case $endpoint in
'' | *pausa*) ;;
*)
    echo "pausa: kubelet uses $endpoint. To change that, drain the node, stop kubelet, and set its" >&2
    echo "pausa: containerRuntimeEndpoint to unix:///run/pausa/pausa.sock" >&2
    ;;
esac
