//! What iproute2, nftables and `/proc/sys` say about network namespaces, without what is different every time.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::reference::{Netns, json_of};
use crate::tables::tables;

/// Sections by namespace and name. The `Debug` form is made for reading the difference of two.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Snapshot(BTreeMap<String, Vec<String>>);

/// Numbers of interfaces, times, identifiers that derive from random hardware addresses, and the length of queues,
/// which older plugins set to zero.
const VARYING: [&str; 29] = [
    "txqlen",
    "tentative",
    "address",
    "bridge_id",
    "designated_bridge",
    "designated_root",
    "age",
    "fdb_n_learned",
    "gc_timer",
    "handle",
    "hello_timer",
    "hold_timer",
    "ifindex",
    "link_index",
    "link_netnsid",
    "message_age_timer",
    "tcn_timer",
    "topology_change_timer",
    "root_id",
    "port_id",
    "id",
    "no",
    "rmt_dev",
    "forward_delay_timer",
    "topology_change",
    "lladdr",
    "preferred_life_time",
    "valid_life_time",
    "link_netns",
];

impl Snapshot {
    pub(super) fn add(&mut self, name: &str, netns: &Netns) {
        netns.run(|| {
            for arguments in [
                "ip -j -d addr",
                "ip -j -d -4 route show table all",
                "ip -j -d -6 route show table all",
                "ip -j rule",
                "bridge -j -d link",
                "bridge -j vlan",
                "tc -j qdisc",
            ] {
                let value = json_of(arguments);
                let mut lines = Vec::new();
                flatten(&value, "", &mut lines);
                // Where random names and addresses decide about the order.
                lines.sort();
                self.0.insert(format!("{name}: {arguments}"), lines);
            }
            let rules = tables().iter().map(|line| stable(line)).collect();
            self.0.insert(format!("{name}: rules"), rules);
            self.0.insert(format!("{name}: sysctl"), sysctls());
        });
    }

    /// Gives random hardware addresses the name of the pod whose interface has them.
    pub(super) fn rename_macs(&mut self, name: &str, netns: &Netns) {
        for link in netns
            .run(|| json_of("ip -j link"))
            .as_array()
            .into_iter()
            .flatten()
        {
            let (interface, mac) = (
                link["ifname"].as_str().unwrap(),
                link["address"].as_str().unwrap(),
            );
            if interface == "lo" {
                continue;
            }
            for line in self.0.values_mut().flatten() {
                *line = line.replace(mac, &format!("address of {interface} of {name}"));
            }
        }
    }

    /// The names and contents of a node's files, except for results, which have random names in them.
    pub(super) fn add_files(&mut self, dir: &Path) {
        let mut lines = Vec::new();
        files(dir, dir, &mut lines);
        lines.sort();
        self.0.insert("files".to_owned(), lines);
    }

    /// The sections that differ, for a message.
    pub(super) fn difference(&self, other: &Self) -> String {
        let mut text = String::new();
        for (section, lines) in &self.0 {
            let others = other.0.get(section).map_or(&[][..], Vec::as_slice);
            let only = |these: &[String], those: &[String], sign: char| {
                let mut rest = those.to_vec();
                let mut text = String::new();
                for line in these {
                    match rest.iter().position(|other| other == line) {
                        Some(at) => drop(rest.remove(at)),
                        None => text.push_str(&format!("  {sign} {line}\n")),
                    }
                }
                text
            };
            if lines != others {
                let changes = only(lines, others, '-') + &only(others, lines, '+');
                let order = if changes.is_empty() {
                    "  another order\n"
                } else {
                    ""
                };
                text.push_str(&format!("{section}\n{changes}{order}"));
            }
        }
        text
    }
}

/// One line for each value: where it is, and what it is.
fn flatten(value: &Value, path: &str, lines: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            let name = ["ifname", "dev", "dst"]
                .iter()
                .find_map(|key| object.get(*key).and_then(Value::as_str));
            let path = name.map_or_else(|| path.to_owned(), |name| format!("{path}[{}]", stable(name)));
            for (key, value) in object {
                let is_identity = key == "address" && value.as_str().is_some_and(|text| text.contains('/'));
                if !VARYING.contains(&key.as_str()) || is_identity {
                    flatten(value, &format!("{path}.{key}"), lines);
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                flatten(item, path, lines);
            }
        }
        Value::String(text) => lines.push(format!("{path} = {}", stable(text))),
        other => lines.push(format!("{path} = {other}")),
    }
}

/// A text without random names and what derives from random hardware addresses.
pub(super) fn stable(text: &str) -> String {
    let text = text.trim();
    if text.starts_with("fe80:") || text.starts_with("ff02::1:ff") {
        return "from the hardware address".to_owned();
    }
    let mut stable = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("veth") {
        let (before, from) = rest.split_at(at + 4);
        stable.push_str(before);
        let digits = from.bytes().take_while(u8::is_ascii_hexdigit).count();
        stable.push_str(if digits >= 8 { "*" } else { "" });
        rest = if digits >= 8 { &from[8..] } else { from };
    }
    stable.push_str(rest);
    stable
}

/// The sysctls that plugins set.
fn sysctls() -> Vec<String> {
    let mut lines = Vec::new();
    for path in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        let value = fs::read_to_string(format!("/proc/sys/net/{path}")).unwrap_or_default();
        lines.push(format!("{path} = {}", value.trim()));
    }
    for (protocol, keys) in [
        (
            "ipv4",
            &["arp_notify", "route_localnet", "proxy_arp", "accept_redirects"][..],
        ),
        (
            "ipv6",
            &["accept_ra", "accept_dad", "enhanced_dad", "disable_ipv6"][..],
        ),
    ] {
        let dir = format!("/proc/sys/net/{protocol}/conf");
        for entry in fs::read_dir(&dir).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().to_string_lossy().into_owned();
            for key in keys {
                let value = fs::read_to_string(entry.path().join(key)).unwrap_or_default();
                lines.push(format!("{protocol}/{}/{key} = {}", stable(&name), value.trim()));
            }
        }
    }
    lines.sort();
    lines
}

fn files(base: &Path, dir: &Path, lines: &mut Vec<String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(base, &path, lines);
        } else {
            let name = path.strip_prefix(base).unwrap().display().to_string();
            let content = if name.starts_with("cni/results") {
                String::new()
            } else {
                fs::read_to_string(&path).unwrap_or_default()
            };
            lines.push(format!("{name}: {content:?}"));
        }
    }
}
