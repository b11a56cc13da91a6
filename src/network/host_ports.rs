//! Host ports: ports of the node that lead to pods, in every network whose plugins do not open them themselves.

mod records;

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::PathBuf;

use ipnet::IpNet;
use pausa_netfilter::Netfilter;
use pausa_netlink::{Netlink, Request};
use pausa_sys::remove_leftovers;

use super::error::NetworkError;
use super::firewall::{Firewall, PortRule, Rules};
use super::types::{PodNetwork, Protocol};
use crate::error::chain;
use records::PortRecords;

pub(super) use records::HostPort;

#[derive(Debug)]
pub(super) struct HostPorts {
    records: PortRecords,
    firewall: Firewall,
}

/// Who opens the ports of a network's pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OpenedBy {
    Pausa,
    /// A plugin that takes port mappings.
    Plugin,
}

impl HostPorts {
    pub(super) fn new(dir: PathBuf, rules: Rules) -> Self {
        Self {
            records: PortRecords::new(dir),
            firewall: Firewall::new(rules),
        }
    }

    /// Gives a pod its ports, and opens them. A pod that has some already has these instead.
    ///
    /// # Errors
    /// Another pod has one of them, or they cannot be opened. [`Self::close`] undoes what was done.
    pub(super) fn open(
        &self,
        pod: &PodNetwork,
        addresses: &[IpNet],
        opened_by: OpenedBy,
    ) -> Result<(), NetworkError> {
        if pod.host_ports().next().is_none() {
            return Ok(());
        }
        let ports = records::wanted(pod, addresses)?;
        let by_plugin = opened_by == OpenedBy::Plugin;
        self.records.take(pod, &ports, by_plugin)?;
        if by_plugin {
            return Ok(());
        }
        let link = link_to(addresses)?;
        self.firewall
            .open(&pod.pod_id, link.as_deref(), &ports, || self.records.all())?;
        forget_connections(&pod.pod_id, &ports);
        Ok(())
    }

    /// Closes the ports of a pod. Another pod may have them at once.
    pub(super) fn close(&self, pod: &str) -> Result<(), NetworkError> {
        self.firewall.close(&self.records.opened(pod)?)?;
        self.records.remove(pod)
    }

    /// The recorded ports of a pod, with who opens them.
    pub(super) fn recorded(&self, pod: &str) -> Result<(OpenedBy, Vec<HostPort>), NetworkError> {
        self.records.recorded(pod)
    }

    /// Looks up what a port leads to. Changes nothing.
    pub(super) fn look_up(&self, port: &HostPort) -> Result<PortRule, NetworkError> {
        self.firewall.look_up(port)
    }

    /// Whether traffic of a subnet of the built-in network is masqueraded; none if it is not to be.
    pub(super) fn masquerades(&self, subnet: IpNet) -> Result<Option<bool>, NetworkError> {
        self.firewall.masquerades(subnet)
    }

    /// Installs the rules for a subnet of the built-in network, unless they are installed.
    pub(super) fn ensure_rules(&self, subnet: IpNet) -> Result<(), NetworkError> {
        self.firewall.ensure(subnet, || self.records.all())
    }

    /// Puts rules back that somebody has removed.
    pub(super) fn repair(&self) -> Result<(), NetworkError> {
        self.firewall.repair(&self.records.all()?)
    }

    /// Removes the rules and the bridge they are for. No pod may be left.
    pub(super) fn remove_all(&self) -> Result<(), NetworkError> {
        self.firewall.uninstall()?;
        let bridge = self.firewall.bridge();
        // Somebody else may have attached something to it.
        let ports = std::fs::read_dir(format!("/sys/class/net/{bridge}/brif"));
        if ports.is_ok_and(|mut ports| ports.next().is_none()) {
            let deleted = Netlink::open().and_then(|host| host.delete_link(bridge));
            deleted.map_err(|source| NetworkError::Link {
                step: "delete the built-in bridge",
                source,
            })?;
        }
        Ok(())
    }

    /// All pods that have ports.
    pub(super) fn owners(&self) -> Result<BTreeSet<String>, NetworkError> {
        let dir = &self.records.dir;
        // Temporary files of earlier daemons.
        let swept = match File::open(dir) {
            Ok(dir) => remove_leftovers(dir.as_fd()).map_err(io::Error::from),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error),
        };
        swept.map_err(|source| NetworkError::State {
            operation: "clean up",
            path: dir.clone(),
            source,
        })?;
        self.records.owners()
    }
}

/// The link over which the node reaches a pod, if it has an address of IPv4.
fn link_to(addresses: &[IpNet]) -> Result<Option<String>, NetworkError> {
    const STEP: &str = "find the route to the pod";
    let failed = |source| NetworkError::Link { step: STEP, source };
    let Some(address) = addresses.iter().map(IpNet::addr).find(IpAddr::is_ipv4) else {
        return Ok(None);
    };
    Netlink::open()
        .and_then(|mut host| host.link_to(address))
        .map_err(failed)
}

/// Lets the bridge send a pod's frames back to it. With br_netfilter, a pod that connects to itself through a host port needs
/// this; other pods do not get it.
pub(super) fn allow_hairpin(host_end: &str) -> Result<(), NetworkError> {
    const STEP: &str = "set the hairpin mode of the pod's bridge port";
    let failed = |source| NetworkError::Link { step: STEP, source };
    let mut host = Netlink::open().map_err(failed)?;
    let Some(index) = host.index_of(host_end).map_err(failed)? else {
        return Ok(());
    };
    let request = Request::SetPort {
        index,
        hairpin: true,
        isolated: false,
    };
    host.execute(&[request]).map_err(failed)
}

/// Datagrams of a connection that the kernel knows go on to the pod that had the port before.
fn forget_connections(pod: &str, ports: &[HostPort]) {
    for port in ports.iter().filter(|port| port.protocol == Protocol::Udp) {
        let family = match port.address {
            IpAddr::V4(_) => pausa_netfilter::Family::V4,
            IpAddr::V6(_) => pausa_netfilter::Family::V6,
        };
        let forgotten = Netfilter::with(|netfilter| netfilter.forget_udp(family, port.host_port));
        if let Err(error) = forgotten {
            tracing::warn!(
                pod,
                port = port.host_port,
                error = chain(&error),
                "cannot remove connections of this port from the kernel's table; its clients may not reach the pod until \
                 they have been silent for three minutes"
            );
        }
    }
}
