//! Links of the built-in network: the bridge and one veth pair per pod.
//!
//! A pod costs few round trips to the kernel: look the bridge up, create the pair (in the pod's namespace, attached and
//! up), restrict what its end on the host takes from the pod ([`source_filter`]), set address and routes. The pod's end comes up last, so that nothing passes before it is restricted. Hardware
//! addresses derive from the IP addresses, so that neighbours' ARP entries from an earlier pod with the same address stay
//! right.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::BorrowedFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Once;
use pausa_netlink::{ErrorKind, LOOPBACK, Link, Netlink, Request, Route, Veth, in_netns};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use super::super::INTERFACE;
use super::source_filter::{self, SourceFilter};
use super::{NetworkError, sysctl};
use crate::error::chain;

/// How the names of the host's ends begin.
const PREFIX: &str = "pv";
/// How much of an id is in a name, which has at most 15 bytes (IFNAMSIZ).
const ID_PART: usize = 11;

#[derive(Debug)]
pub(super) struct Links {
    bridge: String,
    mtu: Option<u32>,
    /// What all pods' packets pass, or why there is nothing.
    filter: OnceLock<Result<SourceFilter, Errno>>,
    /// Warns once that pods can forge their addresses.
    unfiltered: Once,
    /// Whether this daemon has set the bridge's sysctls.
    hardened: AtomicBool,
}

/// The configuration of a pod's interface.
#[derive(Debug, Clone, Copy)]
pub(super) struct Addressing {
    pub(super) address: Ipv4Addr,
    pub(super) gateway: Ipv4Addr,
    pub(super) prefix: u8,
}

/// A created pair.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) host_name: String,
    pub(super) bridge_mac: [u8; 6],
    pub(super) pod_mac: [u8; 6],
}

impl Links {
    pub(super) fn new(bridge: &str, mtu: Option<u32>) -> Self {
        Self {
            bridge: bridge.to_owned(),
            mtu,
            filter: OnceLock::new(),
            unfiltered: Once::new(),
            hardened: AtomicBool::new(false),
        }
    }

    /// Creates a pod's interface. `others` returns the pods that are already attached; it is called only if the bridge
    /// was created and they have to be attached to it again.
    pub(super) fn attach(
        &self,
        pod: &str,
        netns: BorrowedFd<'_>,
        addressing: &Addressing,
        others: impl FnOnce() -> Result<BTreeSet<String>, NetworkError>,
    ) -> Result<Made, NetworkError> {
        let mut host = Netlink::open().map_err(failed("open a netlink socket"))?;
        let bridge = self.ensure_bridge(&mut host, addressing, others)?;
        let host_name = host_name(pod);
        let pod_mac = mac_of(addressing.address);
        let veth = Veth {
            name: &host_name,
            master: Some(bridge.index),
            peer_name: INTERFACE,
            peer_netns: netns,
            peer_mac: Some(pod_mac),
            mtu: self.mtu,
        };
        let configure = || {
            let mut pod = Netlink::open().map_err(failed("open a netlink socket in the pod"))?;
            // The interface begins without IPv6: see `without_ipv6`. Others of the pod, which are not ours, may have it.
            sysctl::during("ipv6/conf/default/disable_ipv6", "1", WITH_IPV6, || {
                create(&mut host, veth)
            })?;
            self.restrict(&mut host, &host_name, pod_mac, addressing.address)?;
            configure_pod(&mut pod, addressing)
        };
        in_netns(netns, configure).map_err(failed("enter the pod's network namespace"))??;
        Ok(Made {
            host_name,
            bridge_mac: bridge.mac.unwrap_or_default(),
            pod_mac,
        })
    }

    /// Takes from a pod only what it may send. Where the kernel cannot do that, pods can forge their addresses as on any
    /// plain bridge.
    fn restrict(
        &self,
        host: &mut Netlink,
        name: &str,
        mac: [u8; 6],
        address: Ipv4Addr,
    ) -> Result<(), NetworkError> {
        const STEP: &str = "look the host's end of the pod's veth pair up";
        let index = index_of(host, name, STEP)?;
        let filter = self.filter.get_or_init(SourceFilter::load);
        let attached = filter.as_ref().map_err(|errno| chain(errno)).and_then(|filter| {
            filter.allow(index, mac, address).map_err(|errno| chain(&errno))?;
            let requests = [
                Request::AddClassifier { index },
                Request::AddIngressProgram {
                    index,
                    name: source_filter::NAME,
                    program: filter.program(),
                },
            ];
            host.execute(&requests).map_err(|error| chain(&error))
        });
        if let Err(error) = attached {
            self.unfiltered.call_once(|| {
                tracing::warn!(
                    bridge = self.bridge,
                    error,
                    "cannot filter what pods send; pods with CAP_NET_RAW can take over each other's traffic"
                );
            });
        }
        Ok(())
    }

    /// Lets the bridge send a pod's frames back to it. With br_netfilter, a pod that connects to itself through a host
    /// port needs this; other pods do not get it.
    pub(super) fn allow_hairpin(&self, pod: &str) -> Result<(), NetworkError> {
        const STEP: &str = "set the hairpin mode of the pod's bridge port";
        let mut host = Netlink::open().map_err(failed("open a netlink socket"))?;
        let index = index_of(&host, &host_name(pod), STEP)?;
        host.execute(&[Request::SetPort {
            index,
            hairpin: true,
            isolated: false,
        }])
        .map_err(failed(STEP))
    }

    /// Deletes a pod's veth pair; a missing one is not an error (it is deleted with the pod's namespace).
    pub(super) fn detach(&self, pod: &str) -> Result<(), NetworkError> {
        let mut host = Netlink::open().map_err(failed("open a netlink socket"))?;
        let name = host_name(pod);
        if let Some(Ok(filter)) = self.filter.get()
            && let Ok(Some(index)) = host.index_of(&name)
            && let Err(errno) = filter.forget(index)
        {
            let error = chain(&errno);
            tracing::warn!(
                pod,
                error,
                "cannot remove a pod's entry from the filter of sources; it stays until the daemon is restarted"
            );
        }
        delete(&mut host, &name)
    }

    fn ensure_bridge(
        &self,
        host: &mut Netlink,
        addressing: &Addressing,
        others: impl FnOnce() -> Result<BTreeSet<String>, NetworkError>,
    ) -> Result<Link, NetworkError> {
        const STEP: &str = "set up the bridge";
        let mut bridge = host.link_by_name(&self.bridge).map_err(failed(STEP))?;
        let is_new = bridge.is_none();
        if is_new {
            let mac = Some(mac_of(addressing.gateway));
            match host.execute(&[Request::CreateBridge {
                name: &self.bridge,
                mac,
                mtu: self.mtu,
                vlan_filtering: false,
            }]) {
                // Another pod created it at the same moment.
                Err(error) if error.kind() == ErrorKind::Exists => Ok(()),
                outcome => outcome,
            }
            .map_err(failed(STEP))?;
            bridge = host.link_by_name(&self.bridge).map_err(failed(STEP))?;
        }
        let bridge = bridge.ok_or_else(|| NetworkError::LinkVanished {
            name: self.bridge.clone(),
        })?;
        if bridge.kind != "bridge" {
            return Err(NetworkError::NotABridge {
                name: bridge.name,
                kind: bridge.kind,
            });
        }
        if !self.hardened.swap(true, Ordering::Relaxed) || is_new {
            without_ipv6(&bridge.name);
            // Routes are the administrator's. Has an effect only while the node forwards, which it does for pods.
            let redirects = format!("ipv4/conf/{}/accept_redirects", bridge.name);
            sysctl::set(&redirects, "0", "pods can redirect the node's packets");
        }
        if !bridge.up {
            host.execute(&[Request::SetUp { index: bridge.index }])
                .map_err(failed(STEP))?;
        }
        ensure_gateway(host, &bridge, addressing)?;
        if is_new {
            attach_again(host, &bridge, &others()?)?;
        }
        Ok(bridge)
    }
}

fn ensure_gateway(host: &mut Netlink, bridge: &Link, addressing: &Addressing) -> Result<(), NetworkError> {
    const STEP: &str = "give the bridge its address";
    let (address, prefix) = (IpAddr::V4(addressing.gateway), addressing.prefix);
    let present = host.addresses(bridge.index).map_err(failed(STEP))?;
    if present
        .iter()
        .any(|known| known.address == address && known.prefix == prefix)
    {
        return Ok(());
    }
    match host.execute(&[Request::AddAddress {
        index: bridge.index,
        address,
        prefix,
    }]) {
        Err(error) if error.kind() == ErrorKind::Exists => Ok(()),
        outcome => outcome.map_err(failed(STEP)),
    }
}

/// Attaches pods whose bridge was deleted to the new one.
fn attach_again(host: &mut Netlink, bridge: &Link, pods: &BTreeSet<String>) -> Result<(), NetworkError> {
    const STEP: &str = "attach running pods to the new bridge";
    let names: BTreeSet<String> = pods.iter().map(|pod| host_name(pod)).collect();
    let links = host.links().map_err(failed(STEP))?;
    let orphans = links
        .iter()
        .filter(|link| names.contains(&link.name) && link.master.is_none());
    let requests: Vec<_> = orphans
        .map(|link| Request::SetMaster {
            index: link.index,
            master: bridge.index,
        })
        .collect();
    match host.execute(&requests) {
        // One of the pods was deleted meanwhile.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        outcome => outcome.map_err(failed(STEP)),
    }
}

fn create(host: &mut Netlink, veth: Veth<'_>) -> Result<(), NetworkError> {
    let name = veth.name;
    let create = [Request::CreateVeth(veth)];
    match host.execute(&create) {
        Err(error) if error.kind() == ErrorKind::Exists => {
            // Left by an attempt that did not finish, on the host or in the pod.
            delete(host, name)?;
            host.execute(&create)
        }
        outcome => outcome,
    }
    .map_err(failed("create the pod's veth pair"))
}

fn configure_pod(pod: &mut Netlink, addressing: &Addressing) -> Result<(), NetworkError> {
    const STEP: &str = "configure eth0 in the pod";
    let index = index_of(pod, INTERFACE, STEP)?;
    let gateway = Some(IpAddr::V4(addressing.gateway));
    pod.execute(&[
        Request::SetUp { index: LOOPBACK },
        Request::SetUp { index },
        Request::AddAddress {
            index,
            address: IpAddr::V4(addressing.address),
            prefix: addressing.prefix,
        },
        Request::AddRoute(Route {
            gateway,
            ..Route::new(index, (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0))
        }),
    ])
    .map_err(failed(STEP))
}

fn index_of(netlink: &Netlink, name: &str, step: &'static str) -> Result<u32, NetworkError> {
    let index = netlink.index_of(name).map_err(failed(step))?;
    index.ok_or_else(|| NetworkError::LinkVanished {
        name: name.to_owned(),
    })
}

const WITH_IPV6: &str = "pods may get routes from each other over IPv6";

/// Turns IPv6 off at the bridge of this network, which is IPv4 only: no address or route of a router advertisement, no
/// neighbour discovery, and no services of the node at link-local addresses. Advertisements stay refused if somebody
/// turns IPv6 on again. The host's ends of the pairs need nothing: a port of a bridge keeps no frame for itself.
fn without_ipv6(bridge: &str) {
    for (name, value) in [("accept_ra", "0"), ("disable_ipv6", "1")] {
        sysctl::set(&format!("ipv6/conf/{bridge}/{name}"), value, WITH_IPV6);
    }
}

fn delete(host: &mut Netlink, name: &str) -> Result<(), NetworkError> {
    match host.execute(&[Request::DeleteLink { name }]) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        outcome => outcome.map_err(failed("delete the pod's veth pair")),
    }
}

/// Name of the host's end: the beginning of the pod's id, so that people find it. Ids that are not hexadecimal digits are
/// hashed, because their first characters may be the same for all pods.
pub(super) fn host_name(pod: &str) -> String {
    let is_random = pod.len() >= 32 && pod.bytes().all(|byte| byte.is_ascii_hexdigit());
    match pod.get(..ID_PART) {
        Some(part) if is_random => format!("{PREFIX}{part}"),
        _ => {
            let digest = hex::encode(Sha256::digest(pod.as_bytes()));
            format!("{PREFIX}{}", digest.get(..ID_PART).unwrap_or(&digest))
        }
    }
}

/// A locally administered hardware address derived from an IP address.
const fn mac_of(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [0x0a, 0x58, a, b, c, d]
}

/// `02:42:…`
pub(super) fn text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

fn failed(step: &'static str) -> impl FnOnce(pausa_netlink::Error) -> NetworkError {
    move |source| NetworkError::Link { step, source }
}
