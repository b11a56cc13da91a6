//! The rules for iptables, for nodes without nft: two chains of our own in the nat table, and a rule per host port.
//! A rule is added only if it is missing and deleted until it is missing, so that both can be repeated.

use std::path::Path;

use ipnet::Ipv4Net;

use super::super::NetworkError;
use super::super::ports::HostPort;
use super::Rules;
use crate::tool;

/// A bound for the copies of one rule.
const MOST_COPIES: u32 = 16;

pub(super) fn install(iptables: &Path, rules: &Rules, subnet: Ipv4Net) -> Result<(), NetworkError> {
    let (ports, post) = chains(rules);
    let (bridge, subnet) = (rules.bridge.as_str(), subnet.to_string());
    for chain in [&ports, &post] {
        if run(iptables, &["-t", "nat", "-L", chain, "-n"]).is_err() {
            run(iptables, &["-t", "nat", "-N", chain])?;
        }
    }
    run(iptables, &["-t", "nat", "-F", &post])?;
    let local = ["-m", "addrtype", "--dst-type", "LOCAL", "-j", ports.as_str()];
    ensure(
        iptables,
        "raw",
        "PREROUTING",
        &["-i", bridge, "-d", "127.0.0.0/8", "-j", "DROP"],
    )?;
    ensure(iptables, "nat", "PREROUTING", &local)?;
    ensure(iptables, "nat", "OUTPUT", &local)?;
    ensure(iptables, "nat", "POSTROUTING", &["-j", &post])?;
    let masquerade =
        |matches: &[&str]| ensure(iptables, "nat", &post, &[matches, &["-j", "MASQUERADE"]].concat());
    masquerade(&["-o", bridge, "-s", "127.0.0.0/8"])?;
    masquerade(&[
        "-o",
        bridge,
        "-s",
        &subnet,
        "-m",
        "conntrack",
        "--ctstate",
        "DNAT",
    ])?;
    if rules.masquerade {
        masquerade(&["!", "-o", bridge, "-s", &subnet, "!", "-d", "224.0.0.0/4"])?;
    }
    Ok(())
}

pub(super) fn open(iptables: &Path, rules: &Rules, ports: &[HostPort]) -> Result<(), NetworkError> {
    let (chain, _) = chains(rules);
    for port in ports {
        ensure(iptables, "nat", &chain, &as_strs(&rule(port)))?;
    }
    Ok(())
}

pub(super) fn close(iptables: &Path, rules: &Rules, ports: &[HostPort]) -> Result<(), NetworkError> {
    let (chain, _) = chains(rules);
    for port in ports {
        let rule = rule(port);
        let with = |verb| [&["-t", "nat", verb, chain.as_str()], as_strs(&rule).as_slice()].concat();
        for _ in 0..MOST_COPIES {
            if run(iptables, &with("-C")).is_err() {
                break;
            }
            run(iptables, &with("-D"))?;
        }
    }
    Ok(())
}

/// Names of our chains; at most 28 bytes, of which the bridge has 15.
fn chains(rules: &Rules) -> (String, String) {
    (
        format!("PAUSA-DN-{}", rules.bridge),
        format!("PAUSA-PO-{}", rules.bridge),
    )
}

fn rule(port: &HostPort) -> Vec<String> {
    let protocol = port.protocol.as_str();
    let mut rule = vec!["-p".to_owned(), protocol.to_owned()];
    if let Some(ip) = port.host_ip {
        rule.extend(["-d".to_owned(), ip.to_string()]);
    }
    let target = format!("{}:{}", port.address, port.container_port);
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

fn run(iptables: &Path, arguments: &[&str]) -> Result<(), NetworkError> {
    Ok(tool::run(iptables, &[&["-w", "5"], arguments].concat(), "")?)
}
