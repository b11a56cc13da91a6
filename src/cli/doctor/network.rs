//! The network of pods, tried dry, and what the node's kernel does with their packets.
//!
//! Must never: attach anything. Plugins are run with VERSION only.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use ipnet::{IpNet, Ipv4Net};
use pausa_cni::Resolution;

use super::finding::{Check, Finding, Verdict};
use crate::cli::services::network_config;
use crate::config::{Config, NetworkMode};
use crate::error::chain;
use crate::network;
use crate::tool;

/// From so many percent of the table on, connections are about to be dropped.
const CROWDED: u64 = 90;

#[derive(Debug)]
pub(super) struct Facts {
    /// Name and file; or why there is no network.
    pub(super) network: Result<(String, String), String>,
    pub(super) rejected: Vec<String>,
    pub(super) plugins: Vec<Plugin>,
    /// The version of the configuration, as a plugin has to speak it.
    pub(super) version: String,
    /// With the built-in bridge: the ranges of pods, and where they are from.
    pub(super) subnet: Option<(Ipv4Net, String)>,
    pub(super) bridge: String,
    pub(super) is_bridge: bool,
    /// Programs that rules can be made with.
    pub(super) firewalls: Vec<&'static str>,
    /// Destination and interface.
    pub(super) routes: Vec<(Ipv4Net, String)>,
    pub(super) ip_forward: Option<u64>,
    pub(super) bridge_netfilter: Option<u64>,
    pub(super) reverse_path: Option<u64>,
    pub(super) connections: Option<u64>,
    pub(super) most_connections: Option<u64>,
}

#[derive(Debug)]
pub(super) struct Plugin {
    pub(super) name: String,
    pub(super) resolution: Result<Resolution, String>,
}

pub(super) async fn read(config: &Config) -> Facts {
    let tried = network::Network::new(network_config(config)).dry_run().await;
    let is_bridge = config.network.mode == NetworkMode::Bridge;
    let version = tried
        .network
        .as_ref()
        .map(|network| network.version().to_string());
    Facts {
        network: match (&tried.network, tried.unusable) {
            (Some(network), _) => Ok((network.name().to_owned(), network.origin().display().to_string())),
            (None, why) => Err(why.unwrap_or_default()),
        },
        rejected: tried.rejected,
        plugins: tried
            .plugins
            .into_iter()
            .map(|plugin| Plugin {
                name: plugin.plugin,
                resolution: plugin.outcome.map_err(|error| chain(&error)),
            })
            .collect(),
        version: version.unwrap_or_default(),
        subnet: is_bridge.then(|| subnet(config)),
        bridge: config.bridge_name(),
        is_bridge,
        firewalls: ["nft", "iptables"]
            .into_iter()
            .filter(|name| tool::find(name).is_some())
            .collect(),
        routes: routes(&fs::read_to_string("/proc/net/route").unwrap_or_default()),
        ip_forward: super::number("/proc/sys/net/ipv4/ip_forward"),
        bridge_netfilter: super::number("/proc/sys/net/bridge/bridge-nf-call-iptables"),
        reverse_path: super::number("/proc/sys/net/ipv4/conf/all/rp_filter"),
        connections: super::number("/proc/sys/net/netfilter/nf_conntrack_count"),
        most_connections: super::number("/proc/sys/net/netfilter/nf_conntrack_max"),
    }
}

/// What the built-in bridge gives addresses of: what kubelet has assigned, or what is configured.
fn subnet(config: &Config) -> (Ipv4Net, String) {
    let file = network_config(config).bridge.state_dir.join("pod_cidr");
    let saved = fs::read_to_string(&file).unwrap_or_default();
    let assigned = saved.split(',').find_map(|range| match range.trim().parse() {
        Ok(IpNet::V4(range)) => Some(range),
        _ => None,
    });
    match assigned {
        Some(range) => (range, format!("the pod CIDR {range} from kubelet")),
        None => {
            let range = config.network.bridge.subnet;
            (range, format!("subnet {range} of [network.bridge]"))
        }
    }
}

/// Addresses that pods can have: not the network's, the bridge's and that of broadcasts.
pub(super) fn addresses(range: Ipv4Net) -> u64 {
    (1_u64 << (32 - range.prefix_len())).saturating_sub(3)
}

/// `/proc/net/route`: numbers are the bytes of an address in the order of the network, read as a number of this machine.
pub(super) fn routes(text: &str) -> Vec<(Ipv4Net, String)> {
    let lines = text.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let number = |at: usize| u32::from_str_radix(fields.get(at)?, 16).ok();
        let address = |value: u32| Ipv4Addr::from(value.to_ne_bytes());
        let range = Ipv4Net::with_netmask(address(number(1)?), address(number(7)?)).ok()?;
        Some((range, (*fields.first()?).to_owned()))
    });
    lines.collect()
}

pub(super) fn decide(facts: &Facts) -> Vec<Finding> {
    use Verdict::{Info, Ok, Problem, Unknown, Warning};
    let mut findings = Vec::new();
    let mut add = |check, verdict, found: String| findings.push(Finding::new(check, verdict, found));

    match &facts.network {
        Result::Ok((name, origin)) => add(
            Check::NetworkConfig,
            Ok,
            format!("network {name} of CNI {} from {origin}", facts.version),
        ),
        Err(why) => add(Check::NetworkConfig, Problem, why.clone()),
    }
    if facts.network.is_ok() {
        for rejected in &facts.rejected {
            add(Check::NetworkConfig, Warning, format!("skipped: {rejected}"));
        }
    }
    for plugin in &facts.plugins {
        let name = &plugin.name;
        let (verdict, found) = match &plugin.resolution {
            Err(error) => (Problem, error.clone()),
            Result::Ok(Resolution::InProcess) => (Ok, format!("{name} runs in process")),
            Result::Ok(Resolution::Binary { path, versions }) => {
                let path = path.display();
                match versions {
                    Some(versions) if versions.contains(&facts.version) => (
                        Ok,
                        format!("{name} is {path}, which speaks CNI {}", facts.version),
                    ),
                    Some(versions) => (
                        Problem,
                        format!(
                            "{path} speaks CNI {}, the configuration has cniVersion {}",
                            versions.join(", "),
                            facts.version
                        ),
                    ),
                    None => (
                        Warning,
                        format!(
                            "{path} answers VERSION without supportedVersions; cniVersion is {}",
                            facts.version
                        ),
                    ),
                }
            }
        };
        add(Check::NetworkPlugins, verdict, found);
    }
    match (facts.firewalls.is_empty(), facts.is_bridge) {
        (false, _) => add(
            Check::NetworkFirewall,
            Ok,
            format!("found {}", facts.firewalls.join(" and ")),
        ),
        (true, true) => add(
            Check::NetworkFirewall,
            Problem,
            "neither nft nor iptables is there".to_owned(),
        ),
        (true, false) => add(
            Check::NetworkFirewall,
            Warning,
            "neither nft nor iptables is there: host ports that no plugin opens are refused".to_owned(),
        ),
    }
    if let Some((range, of)) = &facts.subnet {
        let others = facts.routes.iter().filter(|(to, interface)| {
            let overlap = to.contains(range) || range.contains(to);
            overlap && to.prefix_len() > 0 && *interface != facts.bridge
        });
        let others: Vec<String> = others
            .map(|(to, interface)| format!("{to} by {interface}"))
            .collect();
        match others.is_empty() {
            true => add(Check::NetworkSubnet, Ok, format!("{of} has no other route")),
            false => add(
                Check::NetworkSubnet,
                Problem,
                format!("{of} overlaps with the routes to {}", others.join(", ")),
            ),
        }
    }
    match (facts.ip_forward, facts.is_bridge) {
        (Some(1), _) => add(
            Check::NetworkForwarding,
            Ok,
            "net.ipv4.ip_forward is 1".to_owned(),
        ),
        (Some(value), true) => add(
            Check::NetworkForwarding,
            Info,
            format!("net.ipv4.ip_forward is {value}; the built-in bridge turns it on with the first pod"),
        ),
        (Some(value), false) => add(
            Check::NetworkForwarding,
            Warning,
            format!("net.ipv4.ip_forward is {value}"),
        ),
        (None, _) => add(
            Check::NetworkForwarding,
            Unknown,
            "/proc/sys/net/ipv4/ip_forward cannot be read".to_owned(),
        ),
    }
    match facts.bridge_netfilter {
        None => add(
            Check::NetworkBridgeNetfilter,
            Ok,
            "br_netfilter is not loaded".to_owned(),
        ),
        Some(1) => add(
            Check::NetworkBridgeNetfilter,
            Ok,
            "net.bridge.bridge-nf-call-iptables is 1".to_owned(),
        ),
        Some(value) => add(
            Check::NetworkBridgeNetfilter,
            Warning,
            format!("net.bridge.bridge-nf-call-iptables is {value}"),
        ),
    }
    match facts.reverse_path {
        Some(1) => add(
            Check::NetworkReversePath,
            Info,
            "net.ipv4.conf.all.rp_filter is 1 (strict)".to_owned(),
        ),
        Some(value) => add(
            Check::NetworkReversePath,
            Ok,
            format!("net.ipv4.conf.all.rp_filter is {value}"),
        ),
        None => {}
    }
    if let (Some(count), Some(most @ 1..)) = (facts.connections, facts.most_connections) {
        let verdict = match count {
            count if count >= most => Problem,
            count if count >= most / 100 * CROWDED => Warning,
            _ => Ok,
        };
        add(
            Check::NetworkConntrack,
            verdict,
            format!("{count} of {most} connections are tracked"),
        );
    }
    findings
}

/// The conflists in the directory of configurations, for the support bundle.
pub(super) fn conflists(dir: &Path) -> Vec<(String, String)> {
    let entries = fs::read_dir(dir).into_iter().flatten();
    let files = entries.filter_map(|entry| {
        let path = entry.ok()?.path();
        let ends = path.extension()?.to_str()?;
        let name = path.file_name()?.to_str()?.to_owned();
        matches!(ends, "conf" | "conflist" | "json")
            .then(|| fs::read_to_string(&path).ok().map(|text| (name, text)))?
    });
    files.take(64).collect()
}
