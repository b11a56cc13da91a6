//! `bridge`, `ptp` and `loopback`.

use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};

use super::node::{Node, Plugins};
use super::snapshot::stable;
use crate::reference::Netns;
use crate::tables::plugin_has;

fn host_local() -> Value {
    json!({"type": "host-local", "dataDir": "{dir}/ipam", "ranges": [[{"subnet": "10.61.0.0/24"}]],
           "routes": [{"dst": "0.0.0.0/0"}]})
}

fn dual_stack() -> Value {
    json!({"type": "host-local", "dataDir": "{dir}/ipam",
           "ranges": [[{"subnet": "10.61.0.0/24"}], [{"subnet": "fd00:61::/64"}]],
           "routes": [{"dst": "192.0.2.0/24", "gw": "10.61.0.7"}, {"dst": "fd00:62::/64", "gw": "fd00:61::7"}]})
}

fn bridge(keys: &Value) -> Value {
    let mut plugin = json!({"type": "bridge", "bridge": "br0"});
    plugin
        .as_object_mut()
        .unwrap()
        .extend(keys.as_object().unwrap().clone());
    conflist(&plugin)
}

fn conflist(plugin: &Value) -> Value {
    json!({"cniVersion": "1.0.0", "name": "net", "plugins": [plugin]})
}

/// Adds two pods on two nodes, one in process and one by binaries, and compares; then each side checks and deletes the
/// other's.
pub(super) fn compare(config: &Value) {
    let none = Value::Null;
    let mut ours = Node::new(config);
    let mut theirs = Node::new(config);
    for pod in ["one", "two"] {
        let result = ours.add(Plugins::InProcess, pod, &none).unwrap();
        let expected = theirs.add(Plugins::Binaries, pod, &none).unwrap();
        let dir = |netns: &Netns| netns.path().display().to_string();
        let result = result.to_string().replace(&dir(ours.pod(pod)), "NETNS");
        let expected = expected.to_string().replace(&dir(theirs.pod(pod)), "NETNS");
        assert_eq!(without_macs(&result), without_macs(&expected), "result of {pod}");
    }
    assert_same(&theirs, &ours, "after ADD");

    for pod in ["one", "two"] {
        ours.check(Plugins::InProcess, pod, &none).unwrap();
        ours.check(Plugins::Binaries, pod, &none).unwrap();
        // The hardware address of a bridge that has no address of its own follows its ports, which the binary minds, too.
        let by_binaries = theirs.check(Plugins::Binaries, pod, &none);
        let in_process = theirs.check(Plugins::InProcess, pod, &none);
        assert_eq!(
            in_process.is_ok(),
            by_binaries.is_ok(),
            "{in_process:?}, {by_binaries:?}"
        );
    }
    for pod in ["one", "two"] {
        ours.del(Plugins::Binaries, pod).unwrap();
        theirs.del(Plugins::InProcess, pod).unwrap();
        assert_same(&ours, &theirs, "after DEL");
    }
    // DEL of what is gone.
    theirs.del(Plugins::InProcess, "one").unwrap();
    theirs.end("one");
    theirs.del(Plugins::InProcess, "one").unwrap();
}

/// The kernel finishes some of it later: duplicate address detection, deleted links.
fn assert_same(by_binaries: &Node, in_process: &Node, when: &str) {
    let mut difference = String::new();
    for _ in 0..50 {
        difference = by_binaries.snapshot().difference(&in_process.snapshot());
        if difference.is_empty() {
            return;
        }
        sleep(Duration::from_millis(100));
    }
    panic!("{when}, - binaries, + in process:\n{difference}");
}

fn without_macs(result: &str) -> Value {
    let mut value: Value = serde_json::from_str(result).unwrap();
    if value["dns"] == json!({}) {
        // Older plugins write it where there is nothing to say.
        value.as_object_mut().unwrap().remove("dns");
    }
    for interface in value["interfaces"].as_array_mut().unwrap() {
        let mac = interface["mac"].as_str().unwrap().len();
        interface["mac"] = mac.into();
        let name = stable(interface["name"].as_str().unwrap());
        interface["name"] = name.into();
    }
    value
}

#[test]
#[ignore = "needs root"]
fn a_bridge_that_is_the_gateway() {
    compare(&bridge(&json!({"isGateway": true, "ipam": host_local()})));
}

#[test]
#[ignore = "needs root"]
fn a_bridge_that_masquerades() {
    compare(&bridge(
        &json!({"isGateway": true, "ipMasq": true, "hairpinMode": true, "ipam": host_local()}),
    ));
}

#[test]
#[ignore = "needs root"]
fn a_bridge_of_both_families_as_default_gateway() {
    compare(&bridge(
        &json!({"isDefaultGateway": true, "ipMasq": true, "mtu": 1400, "forceAddress": true, "ipam": dual_stack()}),
    ));
}

#[test]
#[ignore = "needs root"]
fn a_bridge_with_duplicate_address_detection() {
    compare(&bridge(
        &json!({"isGateway": true, "enabledad": true, "ipam": dual_stack()}),
    ));
}

#[test]
#[ignore = "needs root"]
fn a_promiscuous_bridge() {
    compare(&bridge(
        &json!({"promiscMode": true, "isGateway": true, "ipam": host_local()}),
    ));
}

/// Where the kernel has no VLANs on bridges, both fail.
#[test]
#[ignore = "needs root"]
fn a_bridge_with_a_vlan() {
    // Older releases do as if this were set.
    let preserve = !plugin_has("bridge", "preserveDefaultVlan");
    let config = bridge(&json!({"vlan": 100, "preserveDefaultVlan": preserve, "ipam": host_local()}));
    let (mut ours, mut theirs) = (Node::new(&config), Node::new(&config));
    if theirs.add(Plugins::Binaries, "one", &Value::Null).is_err() {
        ours.add(Plugins::InProcess, "one", &Value::Null).unwrap_err();
        return;
    }
    compare(&config);
    compare(&bridge(
        &json!({"vlan": 100, "preserveDefaultVlan": preserve, "isGateway": true, "ipam": host_local()}),
    ));
}

#[test]
#[ignore = "needs root"]
fn a_bridge_without_addresses() {
    let config = bridge(&json!({}));
    let (mut ours, mut theirs) = (Node::new(&config), Node::new(&config));
    ours.add(Plugins::InProcess, "one", &Value::Null).unwrap();
    theirs.add(Plugins::Binaries, "one", &Value::Null).unwrap();
    assert_same(&theirs, &ours, "after ADD");
    ours.del(Plugins::Binaries, "one").unwrap();
    theirs.del(Plugins::InProcess, "one").unwrap();
}

#[test]
#[ignore = "needs root"]
fn a_bridge_that_filters_forged_addresses() {
    compare(&bridge(
        &json!({"macspoofchk": true, "isGateway": true, "ipam": host_local()}),
    ));
}

#[test]
#[ignore = "needs root"]
fn point_to_point() {
    compare(&conflist(
        &json!({"type": "ptp", "mtu": 1400, "ipam": host_local()}),
    ));
    compare(&conflist(
        &json!({"type": "ptp", "ipMasq": true, "ipam": dual_stack()}),
    ));
}

/// The reference plugin's own example: a pod's name server settings win over those of the IPAM plugin.
#[test]
#[ignore = "needs root"]
fn name_servers_of_the_configuration() {
    compare(&bridge(
        &json!({"isGateway": true, "ipam": host_local(), "dns": {"nameservers": ["10.61.0.1"], "search": ["a.example"]}}),
    ));
}
