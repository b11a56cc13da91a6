//! Names: the node's resolver, what pods get of it, and whether the hosts of registries are found.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::time::Duration;

use futures_util::future::join_all;

use super::finding::{Check, Finding, Verdict};

/// glibc and musl take no more (resolv.conf(5), MAXNS).
const SERVERS: usize = 3;
/// glibc before 2.26 and kubelet before 1.28 take no more.
const DOMAINS: usize = 6;
/// A lookup goes on for so long where no server answers: twice five seconds for each is the resolver's own limit.
const PATIENCE: Duration = Duration::from_secs(6);

/// What a resolv.conf says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Resolver {
    pub(super) servers: Vec<IpAddr>,
    /// Values of `nameserver` that are no addresses.
    pub(super) invalid: Vec<String>,
    pub(super) domains: usize,
}

/// resolv.conf(5); of several `search` lines the last one counts.
pub(super) fn parse(text: &str) -> Resolver {
    let mut resolver = Resolver::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => {
                let value = words.next().unwrap_or_default();
                // `fe80::1%eth0`
                let address = value.split('%').next().unwrap_or_default();
                match address.parse() {
                    Ok(address) => resolver.servers.push(address),
                    Err(_) => resolver.invalid.push(value.to_owned()),
                }
            }
            Some("search" | "domain") => resolver.domains = words.count(),
            _ => {}
        }
    }
    resolver
}

#[derive(Debug)]
pub(super) struct Facts {
    /// `/etc/resolv.conf`, or why it cannot be read.
    pub(super) node: Result<Resolver, String>,
    /// What kubelet gives pods: the file, and what is in it; none if it cannot be read.
    pub(super) pods: (String, Option<Resolver>),
    /// Whether kubelet's configuration is known.
    pub(super) has_kubelet: bool,
    /// Hosts without which images are pulled as well.
    pub(super) spare: BTreeSet<String>,
    /// Hosts, and why they have no address.
    pub(super) lookups: BTreeMap<String, Result<usize, String>>,
}

pub(super) fn read(of_pods: &str, has_kubelet: bool) -> Facts {
    let read = |path: &str| fs::read_to_string(path).map(|text| parse(&text));
    Facts {
        node: read("/etc/resolv.conf").map_err(|error| error.to_string()),
        pods: (of_pods.to_owned(), read(of_pods).ok()),
        has_kubelet,
        spare: BTreeSet::new(),
        lookups: BTreeMap::new(),
    }
}

/// Looks hosts (`host` or `host:port`) up with the resolver of the system, all at once.
pub(super) async fn look_up(
    hosts: impl IntoIterator<Item = String>,
) -> BTreeMap<String, Result<usize, String>> {
    let names = hosts.into_iter().filter_map(|host| name(&host));
    let lookups = names.map(async |name| {
        let found = tokio::time::timeout(PATIENCE, tokio::net::lookup_host((name.clone(), 443))).await;
        let found = match found.map(|found| found.map(Iterator::count)) {
            Ok(Ok(addresses)) => Ok(addresses),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
        };
        (name, found)
    });
    join_all(lookups).await.into_iter().collect()
}

/// The name of a host; none if it is an address.
pub(super) fn name(host: &str) -> Option<String> {
    if host.starts_with('[') {
        return None;
    }
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    name.parse::<IpAddr>().is_err().then(|| name.to_owned())
}

pub(super) fn decide(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut add = |check, verdict, found: String| findings.push(Finding::new(check, verdict, found));
    match &facts.node {
        Err(error) => add(
            Check::DnsServers,
            Verdict::Problem,
            format!("/etc/resolv.conf cannot be read: {error}"),
        ),
        Ok(resolver) => {
            let (verdict, found) = judge(resolver);
            add(Check::DnsServers, verdict, format!("/etc/resolv.conf {found}"));
        }
    }
    if let (file, Some(resolver)) = &facts.pods
        && !resolver.servers.is_empty()
    {
        let local = resolver.servers.iter().all(IpAddr::is_loopback);
        let verdict = match (local, facts.has_kubelet) {
            (false, _) => Verdict::Ok,
            (true, true) => Verdict::Problem,
            // Nobody may be there to give pods this file.
            (true, false) => Verdict::Warning,
        };
        let servers: Vec<String> = resolver.servers.iter().map(ToString::to_string).collect();
        let found = match local {
            true => format!(
                "{file} has only {}, which in a pod is the pod itself",
                servers.join(", ")
            ),
            false => format!("{file} has {}", servers.join(", ")),
        };
        add(Check::DnsPods, verdict, found);
    }
    for (host, found) in &facts.lookups {
        match found {
            Ok(count) => add(
                Check::DnsLookup,
                Verdict::Ok,
                format!("{host} has {count} addresses"),
            ),
            Err(error) => {
                let verdict = match facts.spare.contains(host) {
                    true => Verdict::Warning,
                    false => Verdict::Problem,
                };
                add(Check::DnsLookup, verdict, format!("{host} is not found: {error}"));
            }
        }
    }
    findings
}

fn judge(resolver: &Resolver) -> (Verdict, String) {
    let servers = resolver.servers.len();
    if !resolver.invalid.is_empty() {
        let invalid = resolver.invalid.join(", ");
        let verdict = match servers {
            0 => Verdict::Problem,
            _ => Verdict::Warning,
        };
        return (
            verdict,
            format!("has name servers that are no addresses: {invalid}"),
        );
    }
    match (servers, resolver.domains) {
        (0, _) => (Verdict::Problem, "has no name server".to_owned()),
        (4.., _) => (
            Verdict::Warning,
            format!("has {servers} name servers, of which resolvers use the first {SERVERS}"),
        ),
        (_, 7..) => (
            Verdict::Warning,
            format!(
                "has {} search domains; older resolvers use the first {DOMAINS}",
                resolver.domains
            ),
        ),
        _ => (
            Verdict::Ok,
            format!(
                "has {servers} name servers and {} search domains",
                resolver.domains
            ),
        ),
    }
}
