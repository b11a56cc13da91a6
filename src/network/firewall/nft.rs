//! The rules for nftables. Each call of nft is one transaction; adding an existing element is not an error.
//!
//! See nft(8). Maps with concatenated keys need nft 0.9.4 and kernel 5.6.

use std::fmt::Write as _;
use std::path::Path;

use ipnet::Ipv4Net;

use super::super::NetworkError;
use super::super::ports::HostPort;
use super::Rules;
use crate::tool::{self, ToolError};

/// From host port to pod, for all addresses of the host.
const ANYWHERE: &str = "host_ports";
/// The same for one address of the host.
const AT_ADDRESS: &str = "host_ports_at";

pub(super) fn install(nft: &Path, rules: &Rules, subnet: Ipv4Net) -> Result<(), NetworkError> {
    let mut text = declarations(rules);
    base_rules(&mut text, rules, subnet);
    run(nft, &text)
}

pub(super) fn open(nft: &Path, rules: &Rules, ports: &[HostPort]) -> Result<(), NetworkError> {
    let mut text = String::new();
    for port in ports {
        element(&mut text, "add", rules, port);
    }
    match run(nft, &text) {
        Err(error) if is_foreign(&error) => Err(taken(nft, rules, ports).unwrap_or(error)),
        outcome => outcome,
    }
}

/// Whether the key exists with another target.
fn is_foreign(error: &NetworkError) -> bool {
    matches!(error, NetworkError::Firewall(ToolError::Refused { stderr, .. }) if stderr.contains("File exists"))
}

/// Finds the taken one of several ports.
fn taken(nft: &Path, rules: &Rules, ports: &[HostPort]) -> Option<NetworkError> {
    let is_taken = |port: &&HostPort| {
        let mut text = String::new();
        element(&mut text, "add", rules, port);
        // `-c` only checks: the elements are added together or not at all.
        tool::run(nft, &["-c", "-f", "-"], &text).is_err_and(|error| is_foreign(&error.into()))
    };
    ports.iter().find(is_taken).map(|port| NetworkError::PortTaken {
        port: port.host_port,
        protocol: port.protocol.as_str(),
        address: port.address,
    })
}

pub(super) fn close(nft: &Path, rules: &Rules, ports: &[HostPort]) -> Result<(), NetworkError> {
    // Adding first makes deleting succeed whether or not the element existed. Adding fails if it has another target;
    // then it is not ours to delete.
    let close = |ports: &[HostPort]| {
        let mut text = declarations(rules);
        for port in ports {
            element(&mut text, "add", rules, port);
            element(&mut text, "delete", rules, port);
        }
        run(nft, &text)
    };
    match close(ports) {
        Err(error) if is_foreign(&error) => {}
        outcome => return outcome,
    }
    for port in ports {
        match close(std::slice::from_ref(port)) {
            Err(error) if is_foreign(&error) => {}
            outcome => outcome?,
        }
    }
    Ok(())
}

fn run(nft: &Path, text: &str) -> Result<(), NetworkError> {
    Ok(tool::run(nft, &["-f", "-"], text)?)
}

/// The table's name: letters, digits and `_` only, different for different bridges.
fn table(rules: &Rules) -> String {
    let mut name = String::from("pausa_");
    for byte in rules.bridge.bytes() {
        if byte.is_ascii_alphanumeric() {
            name.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            write!(name, "_{byte:02x}").ok();
        }
    }
    name
}

fn declarations(rules: &Rules) -> String {
    let table = table(rules);
    format!(
        "add table ip {table}\n\
         add map ip {table} {ANYWHERE} {{ type inet_proto . inet_service : ipv4_addr . inet_service ; }}\n\
         add map ip {table} {AT_ADDRESS} \
         {{ type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service ; }}\n"
    )
}

fn base_rules(text: &mut String, rules: &Rules, subnet: Ipv4Net) {
    let table = table(rules);
    let bridge = &rules.bridge;
    let chains = [
        ("guard", "filter hook prerouting priority -300"),
        ("prerouting", "nat hook prerouting priority -100"),
        ("output", "nat hook output priority -100"),
        ("postrouting", "nat hook postrouting priority 100"),
    ];
    let mut lines = Vec::new();
    for (chain, hook) in chains {
        lines.push(format!(
            "add chain ip {table} {chain} {{ type {hook} ; policy accept ; }}"
        ));
        lines.push(format!("flush chain ip {table} {chain}"));
    }
    lines.push(format!(
        "add rule ip {table} guard iifname \"{bridge}\" ip daddr 127.0.0.0/8 drop"
    ));
    for chain in ["prerouting", "output"] {
        let rule = format!("add rule ip {table} {chain} fib daddr type local dnat ip to");
        lines.push(format!(
            "{rule} ip daddr . meta l4proto . th dport map @{AT_ADDRESS}"
        ));
        lines.push(format!("{rule} meta l4proto . th dport map @{ANYWHERE}"));
    }
    let rule = format!("add rule ip {table} postrouting");
    // For local clients and pods that reach a pod through a host port: the answer has to return through the host.
    lines.push(format!(
        "{rule} oifname \"{bridge}\" ip saddr 127.0.0.0/8 masquerade"
    ));
    lines.push(format!(
        "{rule} oifname \"{bridge}\" ip saddr {subnet} ct status dnat masquerade"
    ));
    if rules.masquerade {
        lines.push(format!(
            "{rule} oifname != \"{bridge}\" ip saddr {subnet} ip daddr != 224.0.0.0/4 masquerade"
        ));
    }
    text.push_str(&lines.join("\n"));
    text.push('\n');
}

fn element(text: &mut String, verb: &str, rules: &Rules, port: &HostPort) {
    let table = table(rules);
    let (map, ip) = match port.host_ip {
        Some(ip) => (AT_ADDRESS, format!("{ip} . ")),
        None => (ANYWHERE, String::new()),
    };
    let (protocol, host_port) = (port.protocol.as_str(), port.host_port);
    let target = format!("{} . {}", port.address, port.container_port);
    // Writing to a String cannot fail.
    writeln!(
        text,
        "{verb} element ip {table} {map} {{ {ip}{protocol} . {host_port} : {target} }}"
    )
    .ok();
}
