use pausa_cni::Command;
use serde_json::{Value, json};

use super::*;
use crate::common::{configuration, parse};
use crate::ipam_config::tests::with_args;
use crate::reference::call;

fn understood(config: &Value) -> Result<(), String> {
    parse::<Config>(config.as_object().unwrap())?.check()
}

#[test]
fn what_is_not_known_is_not_understood() {
    for known in [
        json!({}),
        json!({"vlan": 4094, "vlanTrunk": [{"minID": 1, "maxID": 4094}, {"id": 7}, {"minID": 5, "maxID": 5, "id": 9}]}),
        json!({"args": {"cni": {"mac": "", "ips": ["10.0.0.1"]}}, "runtimeConfig": {"mac": "", "ips": [], "ipRanges": []}}),
    ] {
        understood(&known).unwrap();
    }
    for unknown in [
        json!({"new": 1}),
        json!({"ipMasqBackend": "ipfw"}),
        json!({"mtu": -1}),
        json!({"isgateway": true}),
        json!({"vlan": 4095}),
        json!({"vlan": -1}),
        json!({"vlanTrunk": [{"id": 0}]}),
        json!({"vlanTrunk": [{"minID": 5}]}),
        json!({"vlanTrunk": [{"maxID": 5}]}),
        json!({"vlanTrunk": [{"minID": 5, "maxID": 4}]}),
        json!({"vlanTrunk": [{"minID": 5, "maxID": 4095}]}),
        json!({"vlanTrunk": [{"id": 1, "new": 2}]}),
        json!({"args": {"cni": {"new": 1}}}),
        json!({"args": {"new": {}}}),
        json!({"runtimeConfig": {"portMappings": []}}),
    ] {
        understood(&unknown).unwrap_err();
    }
}

/// The binary sets VLANs up on the bridge and none on the port.
#[test]
fn a_trunk_without_vlans_is_left_to_the_binary() {
    understood(&json!({"vlanTrunk": []})).unwrap_err();
    understood(&json!({"vlanTrunk": [{}]})).unwrap_err();
}

#[test]
fn the_hardware_address_of_the_runtime_counts_most() {
    let mac = |config: &Value, args: &[(&str, &str)]| {
        let call = with_args(call(Command::Add, "pod", config), args);
        let config: Config = configuration(&call)?;
        config.mac(&call).map(|mac| mac.map(|mac| mac[5]))
    };
    let mut config = json!({});
    assert_eq!(mac(&config, &[]), Ok(None));
    let of_args = [("MAC", "02:00:00:00:00:01"), ("MAC", "02:00:00:00:00:02")];
    assert_eq!(mac(&config, &of_args), Ok(Some(2)));
    config["args"] = json!({"cni": {"mac": "02:00:00:00:00:03"}});
    assert_eq!(mac(&config, &of_args), Ok(Some(3)));
    config["runtimeConfig"] = json!({"mac": "02:00:00:00:00:04"});
    assert_eq!(mac(&config, &of_args), Ok(Some(4)));
    config["runtimeConfig"] = json!({"mac": "4"});
    mac(&config, &of_args).unwrap_err();
}

#[test]
fn arguments_for_others_need_a_word() {
    let read = |args: &[(&str, &str)]| {
        let call = with_args(call(Command::Add, "pod", &json!({})), args);
        configuration::<Config>(&call)?.mac(&call)
    };
    read(&[("K8S_POD_NAME", "web"), ("IgnoreUnknown", "1")]).unwrap();
    read(&[("K8S_POD_NAME", "web")]).unwrap_err();
}
