//! Reading results of every version and rewriting them for another one.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::config::tests::any_json;

#[test]
fn results_of_go_plugins_are_read() {
    let result = AddResult::from_value(&json!({
        "cniVersion": "0.4.0",
        "interfaces": [
            {"name": "cni0", "mac": "0a:00:00:00:00:01"},
            {"name": "eth0", "mac": "0a:00:00:00:00:02", "sandbox": "/var/run/netns/x"},
        ],
        "ips": [
            {"version": "4", "interface": 1, "address": "10.1.0.5/16", "gateway": ""},
            {"version": "6", "interface": 1, "address": "fd00::5/64", "gateway": "fd00::1"},
            {"version": "4", "interface": 0, "address": "10.1.0.1/16"},
            {"version": "4", "interface": 7, "address": "10.9.0.1/16"},
            {"version": "4", "interface": -1, "address": "10.9.0.2/16"},
        ],
        "routes": null,
        "dns": {"nameservers": null},
    }))
    .unwrap();
    let addresses: Vec<String> = result
        .addresses_of("eth0")
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(addresses, ["10.1.0.5/16", "fd00::5/64"]);
    assert_eq!(result.ips[0].gateway, None);
    assert!(result.routes.is_empty() && result.dns == Dns::default());
}

#[test]
fn an_address_that_is_none_is_refused() {
    assert!(AddResult::from_value(&json!({"ips": [{"address": "10.1.0.5"}]})).is_err());
    assert!(AddResult::from_value(&json!("x")).is_err());
}

#[test]
fn older_results_carry_the_family_and_newer_ones_do_not() {
    let new =
        json!({"cniVersion": "1.0.0", "ips": [{"address": "10.0.0.2/8"}, {"address": "fd00::2/64"}], "x": 1});
    let old = at_version(new.clone(), Version::V0_4_0);
    assert_eq!(old["cniVersion"], "0.4.0");
    assert_eq!(
        (&old["ips"][0]["version"], &old["ips"][1]["version"]),
        (&json!("4"), &json!("6"))
    );
    assert_eq!(old["x"], 1, "fields we do not know survive");
    assert_eq!(at_version(old, Version::V1_0_0), new);
}

proptest! {
    #[test]
    fn hostile_results_do_not_panic(value in any_json()) {
        if let Ok(result) = AddResult::from_value(&value) {
            prop_assert!(result.addresses_of("eth0").len() <= result.ips.len());
        }
        let version = at_version(value.clone(), Version::V0_4_0);
        prop_assert_eq!(version.is_object(), value.is_object());
    }
}
