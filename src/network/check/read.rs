//! What the kernel and the files have, without an opinion.
//!
//! A pod decides what is in its namespace: only what is looked for by name is read, and texts of files have limits.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use ipnet::IpNet;
use pausa_cni::{AddResult, ResultCache};
use pausa_netlink::{Address, Family, KnownRoute, Link, Neighbour, Netlink, sysctl};

use super::{Expected, Owner, Surroundings, decide};
use crate::error::chain;
use crate::network::firewall::PortRule;
use crate::network::host_ports::{HostPort, HostPorts, OpenedBy};
use crate::network::types::Protocol;

/// Bytes of a `resolv.conf` at most.
const LONGEST_FILE: u64 = 64 << 10;
/// Sockets of a protocol that are looked at.
const MOST_SOCKETS: usize = 100_000;

/// What there is of a pod's network.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) namespace: Namespace,
    pub(super) inside: Inside,
    pub(super) host: Host,
    /// Who opens the host ports, each with what was found; or why that is not known.
    pub(super) ports: Result<Vec<(HostPort, Port)>, String>,
    /// The subnets that are to be masqueraded, with whether they are.
    pub(super) masqueraded: Vec<(IpNet, Result<bool, String>)>,
    /// The text of the file, or why there is none.
    pub(super) resolv_conf: Result<String, String>,
}

/// The file that the network namespace is bound to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Namespace {
    #[default]
    Entered,
    Missing,
    /// It is no network namespace, or it cannot be entered; why.
    Unusable(String),
    /// It is not that of the pod's monitor.
    Another,
}

/// What is in the pod's namespace.
#[derive(Debug, Default)]
pub(super) struct Inside {
    pub(super) links: BTreeMap<String, Link>,
    pub(super) addresses: Vec<Address>,
    pub(super) routes: Vec<KnownRoute>,
    pub(super) neighbours: Vec<Neighbour>,
    /// Name servers that a route leads to.
    pub(super) reachable: BTreeSet<IpAddr>,
}

/// What is in the node's namespace.
#[derive(Debug, Default)]
pub(super) struct Host {
    pub(super) links: BTreeMap<String, Link>,
    /// Of the bridges.
    pub(super) addresses: Vec<Address>,
    /// Sysctls below `net`; none where there is none.
    pub(super) sysctls: BTreeMap<String, Option<String>>,
    /// Why the rest is not known.
    pub(super) error: Option<String>,
}

/// What was found of a host port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Port {
    ByPlugin,
    ByPausa(Result<PortRule, String>),
}

pub(super) fn seen(expected: &Expected, monitor: i32, host_ports: &HostPorts, masquerades: bool) -> Seen {
    let resolv_conf = text_of(&expected.resolv_conf).map_err(|error| error.to_string());
    let servers: Vec<IpAddr> = decide::name_servers(resolv_conf.as_deref().unwrap_or_default())
        .into_iter()
        .filter_map(Result::ok)
        .collect();
    let (namespace, inside) = namespace(expected, monitor, &servers);
    Seen {
        namespace,
        inside,
        host: host(expected),
        ports: ports(expected, host_ports),
        masqueraded: match masquerades {
            true => masqueraded(expected, host_ports),
            false => Vec::new(),
        },
        resolv_conf,
    }
}

fn text_of(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(LONGEST_FILE).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn namespace(expected: &Expected, monitor: i32, servers: &[IpAddr]) -> (Namespace, Inside) {
    let file = match File::open(&expected.netns) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return (Namespace::Missing, Inside::default());
        }
        Err(error) => return (Namespace::Unusable(error.to_string()), Inside::default()),
    };
    let inside = match inside(file.as_fd(), expected, servers) {
        Ok(inside) => inside,
        Err(error) => return (Namespace::Unusable(chain(&error)), Inside::default()),
    };
    let own = file.metadata().map(|meta| (meta.dev(), meta.ino()));
    let of_monitor = fs::metadata(format!("/proc/{monitor}/ns/net")).map(|meta| (meta.dev(), meta.ino()));
    // A monitor that has just ended says nothing about the file; the pod is not ready in a moment.
    match (own, of_monitor) {
        (Ok(own), Ok(of_monitor)) if own != of_monitor => (Namespace::Another, inside),
        _ => (Namespace::Entered, inside),
    }
}

fn inside(
    netns: BorrowedFd<'_>,
    expected: &Expected,
    servers: &[IpAddr],
) -> Result<Inside, pausa_netlink::Error> {
    let mut pod = Netlink::open_in(netns)?;
    let mut inside = Inside::default();
    for name in expected.attachments.iter().flat_map(super::Attached::names) {
        if let Some(link) = pod.link_by_name(name)? {
            inside.addresses.extend(pod.addresses(link.index)?);
            inside.links.insert(name.to_owned(), link);
        }
    }
    for family in [Family::V4, Family::V6] {
        inside.routes.extend(pod.routes(family)?);
    }
    inside.neighbours = pod.neighbours()?;
    // An error is the kernel's word for a route that leads nowhere.
    let reachable = servers
        .iter()
        .filter(|server| matches!(pod.link_to(**server), Ok(Some(_))));
    inside.reachable = reachable.copied().collect();
    Ok(inside)
}

fn host(expected: &Expected) -> Host {
    let mut host = Host::default();
    if let Err(error) = links_of_host(expected, &mut host) {
        host.error = Some(chain(&error));
    }
    for path in expected.attachments.iter().flat_map(decide::forwarding_sysctls) {
        let value = sysctl::read(&path).ok();
        host.sysctls.insert(path, value);
    }
    host
}

fn links_of_host(expected: &Expected, host: &mut Host) -> Result<(), pausa_netlink::Error> {
    let mut netlink = Netlink::open()?;
    for attached in &expected.attachments {
        let bridge = attached.bridge.as_ref().map(|bridge| bridge.name.as_str());
        let ends = attached.host_ends().map(|interface| interface.name.as_str());
        for name in ends.chain(bridge) {
            let Some(link) = netlink.link_by_name(name)? else {
                continue;
            };
            if Some(name) == bridge {
                host.addresses.extend(netlink.addresses(link.index)?);
            }
            host.links.insert(name.to_owned(), link);
        }
    }
    Ok(())
}

fn ports(expected: &Expected, host_ports: &HostPorts) -> Result<Vec<(HostPort, Port)>, String> {
    let (opened_by, ports) = host_ports
        .recorded(&expected.pod_id)
        .map_err(|error| chain(&error))?;
    let found = ports.into_iter().map(|port| {
        let found = match opened_by {
            OpenedBy::Plugin => Port::ByPlugin,
            OpenedBy::Pausa => Port::ByPausa(host_ports.look_up(&port).map_err(|error| chain(&error))),
        };
        (port, found)
    });
    Ok(found.collect())
}

fn masqueraded(expected: &Expected, host_ports: &HostPorts) -> Vec<(IpNet, Result<bool, String>)> {
    let addresses = expected
        .attachments
        .iter()
        .flat_map(|attached| &attached.result.ips);
    let subnets: BTreeSet<IpNet> = addresses.map(|ip| ip.address.trunc()).collect();
    let found = subnets.into_iter().filter_map(|subnet| {
        let found = host_ports.masquerades(subnet).map_err(|error| chain(&error));
        Some((subnet, found.transpose()?))
    });
    found.collect()
}

pub(super) fn surroundings(cache: &ResultCache) -> Surroundings {
    let mut owners: BTreeMap<IpAddr, Vec<Owner>> = BTreeMap::new();
    let entries = cache.entries().map_err(|error| chain(&error));
    for entry in entries.iter().flatten() {
        let result = entry.result.as_ref().map(AddResult::from_value);
        for ip in result.into_iter().flatten().flat_map(|result| result.ips) {
            owners.entry(ip.address.addr()).or_default().push(Owner {
                container: entry.container_id.clone(),
                network: entry.network_name.clone(),
                interface: entry.if_name.clone(),
            });
        }
    }
    Surroundings {
        // Without a default route there is nothing to compare with, as without an answer.
        uplinks: uplinks().unwrap_or_default(),
        owners: entries.map(|_| owners),
        listeners: listeners(),
    }
}

/// The links of the node's default routes, with their MTU.
fn uplinks() -> Result<Vec<(String, u32)>, pausa_netlink::Error> {
    let mut host = Netlink::open()?;
    let mut uplinks = Vec::new();
    for family in [Family::V4, Family::V6] {
        let routes = host.routes(family)?;
        // The kernel lists the best one first.
        let default = routes
            .iter()
            .find(|route| decide::is_default(route) && route.gateway.is_some());
        let Some(index) = default.and_then(|route| route.index) else {
            continue;
        };
        uplinks.extend(host.link_by_index(index)?.map(|link| (link.name, link.mtu)));
    }
    uplinks.dedup();
    Ok(uplinks)
}

/// Sockets of the node that wait for clients.
fn listeners() -> BTreeSet<(Protocol, IpAddr, u16)> {
    let mut listeners = BTreeSet::new();
    // `TCP_LISTEN` and, of sockets that are not connected, `TCP_CLOSE`.
    for (protocol, names, state) in [
        (Protocol::Tcp, ["tcp", "tcp6"], "0A"),
        (Protocol::Udp, ["udp", "udp6"], "07"),
    ] {
        for name in names {
            let Ok(file) = File::open(format!("/proc/thread-self/net/{name}")) else {
                continue;
            };
            let lines = BufReader::new(file).lines().skip(1).take(MOST_SOCKETS);
            let sockets = lines.map_while(Result::ok).map_while(|line| {
                let mut words = line.split_ascii_whitespace().skip(1);
                let local = words.next()?.to_owned();
                let is_waiting = words.nth(1)? == state;
                // Those of TCP that listen come first, and the others can be many.
                (is_waiting || protocol == Protocol::Udp).then_some((local, is_waiting))
            });
            let waiting = sockets.filter(|(_, is_waiting)| *is_waiting);
            listeners.extend(waiting.filter_map(|(local, _)| {
                let (address, port) = socket_address(&local)?;
                Some((protocol, address, port))
            }));
        }
    }
    listeners
}

/// An address as in proc_net(5): words of four bytes in the machine's order, and a port.
pub(super) fn socket_address(text: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut bytes = Vec::with_capacity(16);
    for at in (0..address.len()).step_by(8) {
        let word = u32::from_str_radix(address.get(at..at.saturating_add(8))?, 16).ok()?;
        bytes.extend(word.to_ne_bytes());
    }
    let address = match *bytes.as_slice() {
        [a, b, c, d] => IpAddr::V4(Ipv4Addr::new(a, b, c, d)),
        ref sixteen => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(sixteen).ok()?)),
    };
    Some((address, port))
}
