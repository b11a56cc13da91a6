//! The rules for iptables, for nodes without nft: two chains of our own in the nat table, and a rule per host port.
//! A rule is added only if it is missing and deleted until it is missing, so that both can be repeated.

use std::net::SocketAddr;
use std::path::Path;

use ipnet::IpNet;

use super::{Family, Rules};
use crate::network::error::NetworkError;
use crate::network::host_ports::HostPort;
use crate::tool;

/// A bound for the copies of one rule.
const MOST_COPIES: u32 = 16;

/// The program of a family.
pub(super) const fn program(family: Family) -> &'static str {
    match family {
        Family::V4 => "iptables",
        Family::V6 => "ip6tables",
    }
}

pub(super) fn install(
    iptables: &Path,
    rules: &Rules,
    family: Family,
    subnet: Option<IpNet>,
) -> Result<(), NetworkError> {
    let (ports, post) = chains(rules);
    for chain in [&ports, &post] {
        if run(iptables, &["-t", "nat", "-L", chain, "-n"]).is_err() {
            run(iptables, &["-t", "nat", "-N", chain])?;
        }
    }
    let local = ["-m", "addrtype", "--dst-type", "LOCAL", "-j", ports.as_str()];
    ensure(iptables, "nat", "PREROUTING", &local)?;
    ensure(iptables, "nat", "OUTPUT", &local)?;
    ensure(iptables, "nat", "POSTROUTING", &["-j", &post])?;
    let masquerade =
        |matches: &[&str]| ensure(iptables, "nat", &post, &[matches, &["-j", "MASQUERADE"]].concat());
    let forwarded = ["-m", "conntrack", "--ctstate", "DNAT"];
    if family == Family::V4 {
        masquerade(&[&["-s", "127.0.0.0/8"], &forwarded[..]].concat())?;
    }
    if let Some(subnet) = subnet {
        let (bridge, subnet) = (rules.instance.as_str(), subnet.to_string());
        masquerade(&[&["-o", bridge, "-s", &subnet], &forwarded[..]].concat())?;
        if rules.masquerade {
            masquerade(&outbound(bridge, &subnet, family))?;
        }
    }
    Ok(())
}

/// Removes our chains and the rules that lead to them, if there are any.
pub(super) fn uninstall(iptables: &Path, rules: &Rules) -> Result<(), NetworkError> {
    let (ports, post) = chains(rules);
    if run(iptables, &["-t", "nat", "-L", &ports, "-n"]).is_err() {
        return Ok(());
    }
    let local = ["-m", "addrtype", "--dst-type", "LOCAL", "-j", ports.as_str()];
    let guard = ["-i", &rules.instance, "-d", "127.0.0.0/8", "-j", "DROP"];
    delete(iptables, "nat", "PREROUTING", &local)?;
    delete(iptables, "nat", "OUTPUT", &local)?;
    delete(iptables, "nat", "POSTROUTING", &["-j", &post])?;
    delete(iptables, "raw", "PREROUTING", &guard)?;
    for chain in [&ports, &post] {
        if run(iptables, &["-t", "nat", "-L", chain, "-n"]).is_ok() {
            run(iptables, &["-t", "nat", "-F", chain])?;
            run(iptables, &["-t", "nat", "-X", chain])?;
        }
    }
    Ok(())
}

/// What leaves a subnet of the built-in network.
const fn outbound<'a>(bridge: &'a str, subnet: &'a str, family: Family) -> [&'a str; 8] {
    let multicast = match family {
        Family::V4 => "224.0.0.0/4",
        Family::V6 => "ff00::/8",
    };
    ["!", "-o", bridge, "-s", subnet, "!", "-d", multicast]
}

pub(super) fn masquerades(iptables: &Path, rules: &Rules, family: Family, subnet: IpNet) -> bool {
    let (_, post) = chains(rules);
    let subnet = subnet.to_string();
    let rule = outbound(&rules.instance, &subnet, family);
    let command = [
        &["-t", "nat", "-C", post.as_str()],
        &rule[..],
        &["-j", "MASQUERADE"],
    ]
    .concat();
    run(iptables, &command).is_ok()
}

pub(super) fn has_port(iptables: &Path, rules: &Rules, port: &HostPort) -> bool {
    let (chain, _) = chains(rules);
    let rule = rule(port);
    let command = [&["-t", "nat", "-C", chain.as_str()], as_strs(&rule).as_slice()].concat();
    run(iptables, &command).is_ok()
}

/// Takes nothing to the loopback's addresses in over a link.
pub(super) fn guard(iptables: &Path, link: &str) -> Result<(), NetworkError> {
    let rule = ["-i", link, "-d", "127.0.0.0/8", "-j", "DROP"];
    ensure(iptables, "raw", "PREROUTING", &rule)
}

pub(super) fn open(iptables: &Path, rules: &Rules, ports: &[HostPort]) -> Result<(), NetworkError> {
    let (chain, post) = chains(rules);
    for port in ports {
        ensure(iptables, "nat", &chain, &as_strs(&rule(port)))?;
    }
    if let Some(neighbours) = ports.first().and_then(neighbours) {
        ensure(iptables, "nat", &post, &as_strs(&neighbours))?;
    }
    Ok(())
}

pub(super) fn close(iptables: &Path, rules: &Rules, ports: &[HostPort]) -> Result<(), NetworkError> {
    let (chain, post) = chains(rules);
    let of_ports = ports.iter().map(|port| (&chain, rule(port)));
    let of_pod = ports.first().and_then(neighbours).map(|rule| (&post, rule));
    for (chain, rule) in of_ports.chain(of_pod) {
        delete(iptables, "nat", chain, &as_strs(&rule))?;
    }
    Ok(())
}

/// What comes from the pod's network through a host port has to return through the host.
fn neighbours(port: &HostPort) -> Option<Vec<String>> {
    let network = port.network?.to_string();
    let address = port.address.to_string();
    let matches = [
        "-s",
        &network,
        "-d",
        &address,
        "-m",
        "conntrack",
        "--ctstate",
        "DNAT",
    ];
    let words = matches.iter().chain(&["-j", "MASQUERADE"]);
    Some(words.map(|word| (*word).to_owned()).collect())
}

/// Names of our chains; at most 28 bytes, of which the instance has 15.
fn chains(rules: &Rules) -> (String, String) {
    (
        format!("PAUSA-DN-{}", rules.instance),
        format!("PAUSA-PO-{}", rules.instance),
    )
}

fn rule(port: &HostPort) -> Vec<String> {
    let protocol = port.protocol.as_str();
    let mut rule = vec!["-p".to_owned(), protocol.to_owned()];
    if let Some(ip) = port.host_ip {
        rule.extend(["-d".to_owned(), ip.to_string()]);
    }
    let target = SocketAddr::new(port.address, port.container_port).to_string();
    let host_port = port.host_port.to_string();
    rule.extend(
        [
            "-m",
            protocol,
            "--dport",
            &host_port,
            "-j",
            "DNAT",
            "--to-destination",
            &target,
        ]
        .map(str::to_owned),
    );
    rule
}

fn as_strs(rule: &[String]) -> Vec<&str> {
    rule.iter().map(String::as_str).collect()
}

fn ensure(iptables: &Path, table: &str, chain: &str, rule: &[&str]) -> Result<(), NetworkError> {
    let with = |verb| [&["-t", table, verb, chain], rule].concat();
    match run(iptables, &with("-C")) {
        Ok(()) => Ok(()),
        Err(_) => run(iptables, &with("-A")),
    }
}

/// Deletes all copies of a rule.
fn delete(iptables: &Path, table: &str, chain: &str, rule: &[&str]) -> Result<(), NetworkError> {
    let with = |verb| [&["-t", table, verb, chain], rule].concat();
    for _ in 0..MOST_COPIES {
        if run(iptables, &with("-C")).is_err() {
            break;
        }
        run(iptables, &with("-D"))?;
    }
    Ok(())
}

fn run(iptables: &Path, arguments: &[&str]) -> Result<(), NetworkError> {
    Ok(tool::run(iptables, &[&["-w", "5"], arguments].concat(), "")?)
}
