//! For tests of plugins that come after another one in the chain: nodes with one pod each.

use std::os::fd::AsFd;

use pausa_cni::{Call, Command};
use pausa_netlink::{LinkChange, Netlink, Request, Veth};
use serde_json::{Value, json};

use crate::reference::{self, Netns, in_new_netns, json_of};

/// The host's end of the pod's veth pair.
pub(crate) const HOST: &str = "veth1";
/// The pod's end.
pub(crate) const POD: &str = "eth0";
/// Its address.
pub(crate) const POD_MAC: &str = "02:00:00:00:00:01";

pub(crate) struct Node {
    pod: Netns,
}

/// Does something on a node of its own.
pub(crate) fn on_node<T: Send>(work: impl FnOnce(&Node) -> T + Send) -> T {
    in_new_netns(|| work(&Node::new()))
}

impl Node {
    fn new() -> Self {
        let pod = Netns::new();
        let mut netlink = Netlink::open().unwrap();
        let veth = Veth {
            name: HOST,
            mac: None,
            master: None,
            peer_name: POD,
            peer_netns: pod.as_fd(),
            peer_mac: Some([2, 0, 0, 0, 0, 1]),
            mtu: Some(1450),
        };
        netlink.execute(&[Request::CreateVeth(veth)]).unwrap();
        let index = netlink.index_of(HOST).unwrap().unwrap();
        let change = LinkChange {
            mac: Some([2, 0, 0, 0, 0, 2]),
            ..LinkChange::default()
        };
        netlink.execute(&[Request::ChangeLink { index, change }]).unwrap();
        Self { pod }
    }

    pub(crate) fn in_pod<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.pod.run(work)
    }

    /// A call of a plugin that comes after one that made the veth pair.
    pub(crate) fn call(&self, command: Command, config: &Value) -> Call {
        let mut call = reference::call(command, "pod-1", config);
        call.netns = self.pod.path();
        let previous = json!({
            "cniVersion": "1.0.0",
            "interfaces": [{"name": HOST}, {"name": POD, "mac": POD_MAC, "sandbox": call.netns}],
            "ips": [{"interface": 1, "address": "10.62.0.2/24"}],
        });
        for (key, value) in [
            ("cniVersion", json!("1.0.0")),
            ("name", json!("net")),
            ("prevResult", previous),
        ] {
            call.config.insert(key.to_owned(), value);
        }
        call.args = vec![("IgnoreUnknown".to_owned(), "1".to_owned())];
        call
    }

    /// What iproute2 says about the node and the pod, without what differs every time.
    pub(crate) fn state(&self) -> Value {
        let links = || json_of("ip -j -d link");
        let mut state = json!({
            "host": links(),
            "pod": self.in_pod(links),
            "qdiscs": json_of("tc -j qdisc"),
            "filters": json_of(&format!("tc -j filter show dev {HOST} parent ffff:")),
        });
        for side in ["host", "pod"] {
            for link in state[side].as_array_mut().unwrap() {
                let ifb = link["ifname"].as_str().unwrap().starts_with("bwp");
                let link = link.as_object_mut().unwrap();
                // The kernel works these out later.
                link.remove("operstate");
                link["flags"]
                    .as_array_mut()
                    .unwrap()
                    .retain(|flag| flag != "NO-CARRIER");
                if ifb {
                    link.remove("address");
                }
            }
        }
        state
    }
}

/// The interfaces of a result, without the namespace's path and the random addresses of ifb devices.
pub(crate) fn interfaces(result: &Value) -> Value {
    let mut interfaces = result["interfaces"].clone();
    for interface in interfaces.as_array_mut().unwrap() {
        let ifb = interface["name"].as_str().unwrap().starts_with("bwp");
        let interface = interface.as_object_mut().unwrap();
        interface.entry("sandbox").and_modify(|path| *path = json!("pod"));
        if ifb {
            let mac = interface["mac"].as_str().unwrap().len();
            interface.insert("mac".to_owned(), mac.into());
        }
    }
    interfaces
}
