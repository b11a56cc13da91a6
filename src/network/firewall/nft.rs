//! The rules for nftables. The base rules are one transaction of nft(8); elements are changed over netlink. Adding an
//! existing element is not an error.
//!
//! See nft(8). Maps with concatenated keys need nft 0.9.4 and kernel 5.6.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use ipnet::IpNet;
use pausa_netfilter::{Chain, Change, Element, ErrorKind, Expression, Netfilter, Set};

use super::{Family, PortRule, Rules};
use crate::network::error::NetworkError;
use crate::network::host_ports::HostPort;
use crate::network::types::Protocol;
use crate::tool;

/// From host port to pod, for all addresses of the host.
const ANYWHERE: &str = "host_ports";
/// The same for one address of the host.
const AT_ADDRESS: &str = "host_ports_at";
/// A network, and the address of a pod in it that has host ports.
const NEIGHBOURS: &str = "neighbours";
/// Links with `route_localnet`.
const GUARDED: &str = "guarded";
/// `IFNAMSIZ`
const NAME_LENGTH: usize = 16;

impl Family {
    /// As nft(8) names it.
    const fn keyword(self) -> &'static str {
        match self {
            Self::V4 => "ip",
            Self::V6 => "ip6",
        }
    }

    const fn netfilter(self) -> pausa_netfilter::Family {
        match self {
            Self::V4 => pausa_netfilter::Family::V4,
            Self::V6 => pausa_netfilter::Family::V6,
        }
    }
}

pub(super) fn install(
    nft: &Path,
    rules: &Rules,
    family: Family,
    subnet: Option<IpNet>,
) -> Result<(), NetworkError> {
    let text = base_rules(rules, family, subnet);
    Ok(tool::run(nft, &["-f", "-"], &text)?)
}

/// Removes the table, if there is one.
pub(super) fn uninstall(nft: &Path, rules: &Rules, family: Family) -> Result<(), NetworkError> {
    let table = [family.keyword(), &table(rules)].join(" ");
    // Where the kernel has no nftables, there is no table.
    if tool::run(nft, &["list", "table", &table], "").is_err() {
        return Ok(());
    }
    Ok(tool::run(nft, &["delete", "table", &table], "")?)
}

/// The table's name: letters, digits and `_` only, different for different instances.
fn table(rules: &Rules) -> String {
    let mut name = String::from("pausa_");
    for byte in rules.instance.bytes() {
        if byte.is_ascii_alphanumeric() {
            name.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            write!(name, "_{byte:02x}").ok();
        }
    }
    name
}

fn base_rules(rules: &Rules, family: Family, subnet: Option<IpNet>) -> String {
    let table = format!("{} {}", family.keyword(), table(rules));
    let address = match family {
        Family::V4 => "ipv4_addr",
        Family::V6 => "ipv6_addr",
    };
    let mut lines = vec![
        format!("add table {table}"),
        format!(
            "add map {table} {ANYWHERE} {{ type inet_proto . inet_service : {address} . inet_service ; }}"
        ),
        format!(
            "add map {table} {AT_ADDRESS} {{ type {address} . inet_proto . inet_service : {address} . inet_service ; }}"
        ),
        format!("add set {table} {NEIGHBOURS} {{ type {address} . {address} ; flags interval ; }}"),
        format!("add set {table} {GUARDED} {{ type ifname ; }}"),
    ];
    let chains = [
        ("guard", "filter hook prerouting priority -300"),
        ("prerouting", "nat hook prerouting priority -100"),
        ("output", "nat hook output priority -100"),
        ("postrouting", "nat hook postrouting priority 100"),
    ];
    for (chain, hook) in chains {
        lines.push(format!(
            "add chain {table} {chain} {{ type {hook} ; policy accept ; }}"
        ));
        lines.push(format!("flush chain {table} {chain}"));
    }
    if family == Family::V4 {
        lines.push(format!(
            "add rule {table} guard iifname @{GUARDED} ip daddr 127.0.0.0/8 drop"
        ));
    }
    let ip = family.keyword();
    for chain in ["prerouting", "output"] {
        let rule = format!("add rule {table} {chain} fib daddr type local dnat {ip} to");
        lines.push(format!(
            "{rule} {ip} daddr . meta l4proto . th dport map @{AT_ADDRESS}"
        ));
        lines.push(format!("{rule} meta l4proto . th dport map @{ANYWHERE}"));
    }
    let rule = format!("add rule {table} postrouting");
    // For local clients, and for pods that reach a pod of their network through a host port: the answer has to return
    // through the host.
    if family == Family::V4 {
        lines.push(format!("{rule} ip saddr 127.0.0.0/8 ct status dnat masquerade"));
    }
    lines.push(format!(
        "{rule} {ip} saddr . {ip} daddr @{NEIGHBOURS} ct status dnat masquerade"
    ));
    if let Some(subnet) = subnet {
        let bridge = &rules.instance;
        if family == Family::V4 {
            // Ports that an older version opened have set `route_localnet` already.
            lines.push(format!("add element {table} {GUARDED} {{ \"{bridge}\" }}"));
        }
        lines.push(format!(
            "{rule} oifname \"{bridge}\" {ip} saddr {subnet} ct status dnat masquerade"
        ));
        if rules.masquerade {
            let multicast = match family {
                Family::V4 => "224.0.0.0/4",
                Family::V6 => "ff00::/8",
            };
            lines.push(format!(
                "{rule} oifname != \"{bridge}\" {ip} saddr {subnet} {ip} daddr != {multicast} masquerade"
            ));
        }
    }
    let mut text = lines.join("\n");
    text.push('\n');
    text
}

/// An element of one of our sets and maps. Fields are padded to four bytes.
#[derive(Debug)]
struct Entry {
    set: &'static str,
    family: Family,
    key: Vec<u8>,
    key_end: Option<Vec<u8>>,
    data: Option<Vec<u8>>,
}

impl Entry {
    /// From host port to pod.
    fn of(port: &HostPort) -> Self {
        let mut key = port.host_ip.map_or_else(Vec::new, octets);
        key.extend([protocol_number(port.protocol), 0, 0, 0]);
        key.extend(padded(port.host_port));
        let mut data = octets(port.address);
        data.extend(padded(port.container_port));
        Self {
            set: if port.host_ip.is_some() {
                AT_ADDRESS
            } else {
                ANYWHERE
            },
            family: Family::of(port.address),
            key,
            key_end: None,
            data: Some(data),
        }
    }

    /// From the pod's network to the pod.
    fn neighbours(port: &HostPort) -> Option<Self> {
        let network = port.network?;
        let pair = |first: IpAddr| [octets(first), octets(port.address)].concat();
        Some(Self {
            set: NEIGHBOURS,
            family: Family::of(port.address),
            key: pair(network.network()),
            key_end: Some(pair(network.broadcast())),
            data: None,
        })
    }

    const fn set<'a>(&self, table: &'a str) -> Set<'a> {
        Set {
            family: self.family.netfilter(),
            table,
            name: self.set,
        }
    }

    fn change<'a>(&'a self, table: &'a str, add: bool) -> Change<'a> {
        let set = self.set(table);
        let element = Element {
            key: &self.key,
            key_end: self.key_end.as_deref(),
            data: self.data.as_deref(),
        };
        if add {
            Change::AddElement { set, element }
        } else {
            Change::DeleteElement { set, element }
        }
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

const fn padded(port: u16) -> [u8; 4] {
    let [high, low] = port.to_be_bytes();
    [high, low, 0, 0]
}

const fn protocol_number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Sctp => 132,
    }
}

/// The ports of one pod, all of one family: together or none.
pub(super) fn open(rules: &Rules, ports: &[HostPort]) -> Result<(), NetworkError> {
    let table = table(rules);
    let entries: Vec<Entry> = ports
        .iter()
        .map(Entry::of)
        .chain(ports.first().and_then(Entry::neighbours))
        .collect();
    let changes: Vec<Change<'_>> = entries.iter().map(|entry| entry.change(&table, true)).collect();
    commit(&changes)
}

/// Adding first makes deleting succeed whether or not the element existed. Adding fails if it has another target; then it
/// is not ours to delete.
pub(super) fn close(rules: &Rules, ports: &[HostPort]) -> Result<(), NetworkError> {
    let table = table(rules);
    let of_ports = ports.iter().map(Entry::of);
    for entry in of_ports.chain(ports.first().and_then(Entry::neighbours)) {
        let outcome = commit(&[entry.change(&table, true), entry.change(&table, false)]);
        match outcome {
            Err(NetworkError::Netfilter { source, .. })
                if matches!(source.kind(), ErrorKind::Exists | ErrorKind::NotFound) => {}
            outcome => outcome?,
        }
    }
    Ok(())
}

pub(super) fn look_up(rules: &Rules, port: &HostPort) -> Result<PortRule, NetworkError> {
    let table = table(rules);
    let entry = Entry::of(port);
    let failed = |source| NetworkError::Netfilter { source };
    let found = Netfilter::open()
        .and_then(|mut netfilter| netfilter.element(entry.set(&table), &entry.key))
        .map_err(failed)?;
    Ok(match found {
        None => PortRule::Missing,
        Some(data) if Some(&data) == entry.data.as_ref() => PortRule::Opened,
        Some(data) => PortRule::Elsewhere(target(&data)),
    })
}

/// Address and port that an element has; see [`Entry::of`].
fn target(data: &[u8]) -> String {
    let address = data
        .first_chunk::<16>()
        .map(|octets| IpAddr::from(*octets))
        .or_else(|| data.first_chunk::<4>().map(|octets| IpAddr::from(*octets)));
    let port = data
        .last_chunk::<4>()
        .map(|[high, low, ..]| u16::from_be_bytes([*high, *low]));
    match (address, port) {
        (Some(address), Some(port)) => SocketAddr::new(address, port).to_string(),
        _ => "something else".to_owned(),
    }
}

/// Whether a rule of [`base_rules`] masquerades what leaves this subnet.
pub(super) fn masquerades(rules: &Rules, family: Family, subnet: IpNet) -> Result<bool, NetworkError> {
    let table = table(rules);
    let chain = Chain {
        family: family.netfilter(),
        table: &table,
        name: "postrouting",
    };
    let failed = |source| NetworkError::Netfilter { source };
    let found = Netfilter::open()
        .and_then(|mut netfilter| netfilter.rules(chain))
        .map_err(failed)?;
    let mut bridge = rules.instance.clone().into_bytes();
    bridge.resize(NAME_LENGTH, 0);
    let network = octets(subnet.network());
    let prefix = usize::from(subnet.prefix_len());
    // Of a whole number of bytes only these are compared.
    let is_network = |value: &[u8]| network.starts_with(value) && value.len().saturating_mul(8) >= prefix;
    let masquerades = |list: &[Expression]| {
        let compares = |negated: bool, is: &dyn Fn(&[u8]) -> bool| {
            list.iter().any(|expression| match expression {
                Expression::Compare {
                    negated: is_negated,
                    value,
                } => *is_negated == negated && is(value),
                _ => false,
            })
        };
        // One that was not written by us may have flags.
        let is_masquerade = |expression: &Expression| match expression {
            Expression::Masquerade => true,
            Expression::Other(name) => name == "masq",
            _ => false,
        };
        list.iter().any(is_masquerade)
            && compares(true, &|value| value == bridge)
            && compares(false, &is_network)
    };
    Ok(found.iter().any(|rule| masquerades(&rule.expressions)))
}

/// Takes nothing to the loopback's addresses in over a link.
pub(super) fn guard(rules: &Rules, link: &str) -> Result<(), NetworkError> {
    let mut name = link.as_bytes().to_vec();
    name.resize(NAME_LENGTH, 0);
    let entry = Entry {
        set: GUARDED,
        family: Family::V4,
        key: name,
        key_end: None,
        data: None,
    };
    commit(&[entry.change(&table(rules), true)])
}

fn commit(changes: &[Change<'_>]) -> Result<(), NetworkError> {
    Netfilter::with(|netfilter| netfilter.commit(changes, None).map(drop))
        .map_err(|source| NetworkError::Netfilter { source })
}
