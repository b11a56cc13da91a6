use serde_json::json;

use super::*;

#[test]
fn what_is_not_known_is_not_understood() {
    let understood = |config: &Value| Ptp.understands(config.as_object().unwrap());
    for known in [
        json!({"ipMasq": true, "ipMasqBackend": "nftables", "mtu": 1400, "ipam": {"type": "host-local"}, "dns": {}}),
        json!({"args": {"cni": {"ips": ["10.0.0.1"]}}, "runtimeConfig": {"ips": [], "ipRanges": [], "dns": {}}}),
    ] {
        understood(&known).unwrap();
    }
    for unknown in [
        json!({"new": 1}),
        json!({"ipmasq": true}),
        json!({"mtu": "1400"}),
        json!({"args": {"new": {}}}),
        json!({"args": {"cni": {"mac": "02:00:00:00:00:01"}}}),
        json!({"args": {"cni": {"ipRanges": []}}}),
        json!({"args": {"cni": {"dns": {}}}}),
        json!({"runtimeConfig": {"mac": "02:00:00:00:00:01"}}),
    ] {
        understood(&unknown).unwrap_err();
    }
}
