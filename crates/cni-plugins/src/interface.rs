//! A pod's interface, as `bridge` and `ptp` make it: a veth pair, addresses and routes.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::thread;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use pausa_cni::{AddResult, Call, Failure, Interface};
use pausa_netlink::{
    AddressState, ErrorKind, Family, KnownRoute, Link, Netlink, Request, Route, Veth, sysctl,
};
use rustix::rand::{GetRandomFlags, getrandom};

use crate::common::{chain, failed, netlink, netlink_of_pod, netns_if_any, previous};

/// How often another name is tried for the host's end.
const ATTEMPTS: u32 = 10;
/// How long duplicate address detection may take.
const SETTLE: Duration = Duration::from_secs(5);
const SETTLE_POLL: Duration = Duration::from_millis(5);
/// `RT_TABLE_MAIN`
const MAIN_TABLE: u32 = 254;

/// The properties of a veth pair.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pair<'a> {
    /// Bridge that the end on the host is attached to.
    pub(crate) master: Option<u32>,
    /// Name of the pod's end.
    pub(crate) name: &'a str,
    pub(crate) netns: BorrowedFd<'a>,
    pub(crate) mac: Option<[u8; 6]>,
    /// MTU of both ends; the kernel's default if missing.
    pub(crate) mtu: Option<u32>,
}

/// Creates a pair and returns the name of the host's end, which is up.
pub(crate) fn create(host: &mut Netlink, pair: Pair<'_>) -> Result<String, Failure> {
    let failed_pair = || failed(format!("cannot create the veth pair of {}", pair.name));
    for _ in 0..ATTEMPTS {
        let name = random_name()?;
        let request = Request::CreateVeth(Veth {
            name: &name,
            master: pair.master,
            mac: Some(random_mac()?),
            peer_name: pair.name,
            peer_netns: pair.netns,
            peer_mac: pair.mac,
            mtu: pair.mtu,
        });
        match host.execute(&[request]) {
            Ok(()) => return Ok(name),
            Err(error) if error.kind() == ErrorKind::Exists => {
                if host.index_of(&name).map_err(failed_pair())?.is_none() {
                    return Err(Failure::internal(format!(
                        "the network namespace has an interface {} already",
                        pair.name
                    )));
                }
            }
            Err(error) => return Err(failed_pair()(error)),
        }
    }
    Err(Failure::internal(format!(
        "{ATTEMPTS} random names for the host's end of {} are taken",
        pair.name
    )))
}

/// How the names of the host's ends begin; eight hexadecimal digits follow. NetworkManager leaves such interfaces alone.
const PREFIX: &str = "veth";

fn random_name() -> Result<String, Failure> {
    Ok(format!("{PREFIX}{}", hex::encode(random::<4>()?)))
}

/// A locally administered hardware address. The kernel would choose one, too; but that one udev replaces some time later
/// (`MACAddressPolicy` in systemd.link(5)), when the result of ADD has it already.
pub(crate) fn random_mac() -> Result<[u8; 6], Failure> {
    let [first, b, c, d, e, f] = random()?;
    Ok([first & 0xfc | 0x02, b, c, d, e, f])
}

fn random<const LENGTH: usize>() -> Result<[u8; LENGTH], Failure> {
    let mut bytes = [0; LENGTH];
    getrandom(&mut bytes, GetRandomFlags::empty()).map_err(failed("getrandom failed"))?;
    Ok(bytes)
}

/// Whether a name may be one of [`random_name`].
fn is_random(name: &str) -> bool {
    let digits = name.strip_prefix(PREFIX).unwrap_or_default();
    digits.len() == 8 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Gives the interface the addresses and routes of a result, and sets it up. Runs in the pod's network namespace.
pub(crate) fn configure(pod: &mut Netlink, link: &Link, result: &AddResult) -> Result<(), Failure> {
    let step = || format!("cannot configure {}", link.name);
    let has_v6 = result.ips.iter().any(|ip| ip.address.addr().is_ipv6());
    if has_v6 {
        enable_ipv6(&link.name)?;
    }
    let mut requests: Vec<Request<'_>> = result
        .ips
        .iter()
        .map(|ip| Request::AddAddress {
            index: link.index,
            address: ip.address.addr(),
            prefix: ip.address.prefix_len(),
        })
        .collect();
    requests.push(Request::SetUp { index: link.index });
    if has_v6 {
        pod.execute(&requests).map_err(failed(step()))?;
        requests.clear();
        // A route through a gateway cannot be used while the address is not.
        settle(pod, link)?;
    }
    let gateway_of = |family: fn(&IpAddr) -> bool| {
        let mut gateways = result.ips.iter().filter_map(|ip| ip.gateway);
        gateways.find(family)
    };
    let (v4, v6) = (gateway_of(IpAddr::is_ipv4), gateway_of(IpAddr::is_ipv6));
    requests.extend(result.routes.iter().map(|route| {
        let destination = route.dst.trunc();
        let default = if destination.addr().is_ipv4() { v4 } else { v6 };
        Request::AddRoute(Route {
            gateway: route.gw.or(default),
            scope: route.scope.unwrap_or_default(),
            table: route.table,
            priority: route.priority,
            mtu: route.mtu,
            advmss: route.advmss,
            ..Route::new(link.index, (destination.addr(), destination.prefix_len()))
        })
    }));
    pod.execute(&requests).map_err(failed(step()))
}

/// An interface that must be there.
pub(crate) fn find(netlink: &mut Netlink, name: &str) -> Result<Link, Failure> {
    netlink
        .link_by_name(name)
        .map_err(failed(format!("cannot look {name} up")))?
        .ok_or_else(|| Failure::internal(format!("there is no interface {name}")))
}

/// An interface of the host in a result.
pub(crate) fn entry(link: &Link) -> Interface {
    Interface {
        name: link.name.clone(),
        mac: link.mac.map(mac_text).unwrap_or_default(),
        ..Interface::default()
    }
}

/// The pod's interface in a result.
pub(crate) fn entry_of_pod(call: &Call, link: &Link) -> Interface {
    Interface {
        sandbox: call.netns.to_string_lossy().into_owned(),
        ..entry(link)
    }
}

/// Runtimes may turn IPv6 off in a pod's namespace; a pod that gets an address of it needs it.
fn enable_ipv6(name: &str) -> Result<(), Failure> {
    for interface in ["lo", name] {
        set(&format!("ipv6/conf/{interface}/disable_ipv6"), "0")?;
    }
    set(&format!("ipv6/conf/{name}/keep_addr_on_down"), "1")
}

/// Waits until no address is being probed for.
fn settle(pod: &mut Netlink, link: &Link) -> Result<(), Failure> {
    let until = Instant::now().checked_add(SETTLE);
    loop {
        let addresses = pod
            .addresses(link.index)
            .map_err(failed(format!("cannot list the addresses of {}", link.name)))?;
        if let Some(taken) = addresses
            .iter()
            .find(|known| known.state == AddressState::Duplicate)
        {
            return Err(Failure::internal(format!(
                "somebody else has the address {} of {}",
                taken.address, link.name
            )));
        }
        if addresses
            .iter()
            .all(|known| known.state == AddressState::Preferred)
        {
            return Ok(());
        }
        if until.is_none_or(|until| Instant::now() >= until) {
            return Err(Failure::internal(format!(
                "duplicate address detection of {} did not end within {SETTLE:?}",
                link.name
            )));
        }
        thread::sleep(SETTLE_POLL);
    }
}

/// Deletes the interface of a call of DEL, if there is one. Returns the addresses it had, and those of ADD's result.
///
/// Without the namespace's file the namespace may still live, in a process: then the host's end is deleted.
pub(crate) fn delete(call: &Call) -> Result<BTreeSet<IpNet>, Failure> {
    let (result, _) = previous(call).ok().flatten().unzip();
    let result: AddResult = result.unwrap_or_default();
    let mut addresses: BTreeSet<IpNet> = result.ips.iter().map(|ip| ip.address).collect();
    let step = || failed(format!("cannot delete {}", call.if_name));
    let Some(netns) = netns_if_any(call)? else {
        let mut host_ends = result
            .interfaces
            .iter()
            .filter(|interface| interface.sandbox.is_empty() && is_random(&interface.name));
        if let Some(host_end) = host_ends.next() {
            netlink()?.delete_link(&host_end.name).map_err(step())?;
        }
        return Ok(addresses);
    };
    let mut pod = netlink_of_pod(netns)?;
    let Some(index) = pod.index_of(&call.if_name).map_err(step())? else {
        return Ok(addresses);
    };
    let known = pod.addresses(index).map_err(step())?;
    let global = known.iter().filter(|known| is_global(&known.address));
    addresses.extend(global.filter_map(|known| IpNet::new(known.address, known.prefix).ok()));
    pod.delete_link(&call.if_name).map_err(step())?;
    Ok(addresses)
}

fn is_global(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !address.is_loopback() && !address.is_link_local(),
        IpAddr::V6(address) => !address.is_loopback() && !address.is_unicast_link_local(),
    }
}

/// The pod's interface in the result that CHECK is called with.
pub(crate) fn of_result<'a>(call: &Call, result: &'a AddResult) -> Result<&'a Interface, Failure> {
    let sandbox = call.netns.to_string_lossy();
    let found = result
        .interfaces
        .iter()
        .find(|interface| interface.name == call.if_name && interface.sandbox == sandbox);
    found.ok_or_else(|| {
        Failure::internal(format!(
            "prevResult has no interface {} in {sandbox}",
            call.if_name
        ))
    })
}

/// Checks the pod's end of a pair against the result, in the pod's network namespace, and returns it.
pub(crate) fn check(pod: &mut Netlink, wanted: &Interface, result: &AddResult) -> Result<Link, Failure> {
    let step = || failed(format!("cannot look {} up", wanted.name));
    let link = find(pod, &wanted.name)?;
    if link.kind != "veth" {
        return Err(Failure::internal(format!(
            "{} is of kind {:?}, not one end of a veth pair",
            wanted.name, link.kind
        )));
    }
    check_mac(&link, &wanted.mac)?;
    let known = pod.addresses(link.index).map_err(step())?;
    let mut routes = Vec::new();
    for family in [Family::V4, Family::V6] {
        routes.extend(pod.routes(family).map_err(step())?);
    }
    routes.retain(|route| route.table == MAIN_TABLE);
    for ip in &result.ips {
        let has = |known: &pausa_netlink::Address| {
            known.address == ip.address.addr() && known.prefix == ip.address.prefix_len()
        };
        if !known.iter().any(has) {
            return Err(Failure::internal(format!(
                "{} does not have the address {}",
                wanted.name, ip.address
            )));
        }
        // An address of its own has a route in the local table only.
        if ip.address.prefix_len() < ip.address.max_prefix_len() {
            check_route(&routes, ip.address, None)?;
        }
    }
    for route in result.routes.iter().filter(|route| route.table.is_none()) {
        // As in the reference, any default route will do.
        let gateway = route.gw.filter(|_| route.dst.prefix_len() > 0);
        check_route(&routes, route.dst, gateway)?;
    }
    Ok(link)
}

fn check_route(routes: &[KnownRoute], destination: IpNet, gateway: Option<IpAddr>) -> Result<(), Failure> {
    let destination = destination.trunc();
    let wanted = (destination.addr(), destination.prefix_len());
    let found = routes
        .iter()
        .any(|route| route.destination == wanted && (gateway.is_none() || route.gateway == gateway));
    if found {
        return Ok(());
    }
    let through = gateway.map_or_else(String::new, |gateway| format!(" via {gateway}"));
    Err(Failure::internal(format!(
        "the pod has no route to {destination}{through}"
    )))
}

/// Checks a link's hardware address, if the result has one.
pub(crate) fn check_mac(link: &Link, wanted: &str) -> Result<(), Failure> {
    let found = link.mac.map(mac_text).unwrap_or_default();
    if wanted.is_empty() || wanted == found {
        return Ok(());
    }
    Err(Failure::internal(format!(
        "{} has the hardware address {found:?}, not {wanted}",
        link.name
    )))
}

fn set(path: &str, value: &str) -> Result<(), Failure> {
    sysctl::exchange(path, value)
        .map(drop)
        .map_err(failed(format!("cannot set net/{path} to {value}")))
}

/// Sets a sysctl that the interface works without, as far as the kernel has it.
pub(crate) fn try_set(path: &str, value: &str) {
    match sysctl::exchange(path, value) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            let error = chain(&error);
            tracing::warn!(
                sysctl = format!("net/{path}"),
                value,
                error,
                "cannot set this sysctl; it stays as it is"
            );
        }
        _ => {}
    }
}

/// Lets the node forward packets of this family.
pub(crate) fn enable_forwarding(address: IpAddr) -> Result<(), Failure> {
    let path = match address {
        IpAddr::V4(_) => "ipv4/ip_forward",
        IpAddr::V6(_) => "ipv6/conf/all/forwarding",
    };
    set(path, "1")
}

/// Lets the administrator decide about routes, not who is behind an interface of the node.
pub(crate) fn ignore_advertisements(name: &str) {
    try_set(&format!("ipv6/conf/{name}/accept_ra"), "0");
}

pub(crate) fn turn_ipv6_off(name: &str) {
    try_set(&format!("ipv6/conf/{name}/disable_ipv6"), "1");
}

/// `02:42:…`
pub(crate) fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// The forms of an address of six bytes that Go reads: `02:42:…`, `02-42-…`, `0242.…`.
pub(crate) fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let (separator, width) = match text.as_bytes().get(2)? {
        b':' => (':', 2),
        b'-' => ('-', 2),
        _ => ('.', 4),
    };
    if text.split(separator).any(|group| group.len() != width) {
        return None;
    }
    hex::decode(text.replace(separator, "")).ok()?.try_into().ok()
}
