//! `bandwidth` and `tuning`, after a plugin that makes an interface.

use serde_json::json;

use super::interfaces::compare;

#[test]
#[ignore = "needs root"]
fn a_limited_and_tuned_interface() {
    let ipam =
        json!({"type": "host-local", "dataDir": "{dir}/ipam", "ranges": [[{"subnet": "10.63.0.0/24"}]]});
    compare(&json!({"cniVersion": "1.0.0", "name": "net", "plugins": [
        {"type": "bridge", "bridge": "br0", "isGateway": true, "ipam": ipam},
        {"type": "bandwidth", "ingressRate": 80_000_000, "ingressBurst": 8_000_000,
         "egressRate": 160_000_000, "egressBurst": 16_000_000},
        {"type": "tuning", "dataDir": "{dir}/tuning", "mtu": 1400, "allmulti": true, "promisc": true,
         "sysctl": {"net.ipv4.conf.eth0.accept_redirects": "0", "net.ipv4.conf.eth0.arp_notify": "1"}},
    ]}));
}
